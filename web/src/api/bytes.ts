// Bytes whose buffer is nobody else's.

/** What Uint8Array.slice gives: since TypeScript 5.7 that is Uint8Array<ArrayBuffer>, which earlier
 * versions have no words for. */
export type OwnBytes = ReturnType<Uint8Array['slice']>;
