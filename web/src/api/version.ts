/** Of the package. Tabs with pages of different versions share no model. */
export const version = '0.1.0';
