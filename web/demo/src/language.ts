// The browser's language, as formatters take it. Must be imported before uPlot, which makes a
// formatter while it loads: WebKitGTK says 'C' where the system has no locale, and none takes that.
function understood(name: string): boolean {
  try {
    return Intl.getCanonicalLocales(name).length > 0;
  } catch {
    return false;
  }
}

if (!understood(navigator.language)) {
  Object.defineProperty(navigator, 'language', { value: 'en', configurable: true });
}

export const { language } = navigator;
