// What a stored file is called. An address names a file by what is left of it when everything is
// gone that changes from one visit to the next: fragment, user, and the query, in which signatures
// and tokens come.

/** How a file is asked for. */
export interface FileName {
  /** The name that it is stored under. */
  key: string;
  /** Where it comes from, for people: an address without its query, or a name of a hub. */
  from: string;
  /** What the query says besides signatures. Files of one key and another query are one only if
   * the server says so. */
  query: string;
  /** Chosen by the caller (options.key). */
  isOwn: boolean;
}

/** What clouds and hubs add to an address for one visit. */
const passing = new RegExp('^(x-(amz|goog|oss|cos|bce)-.*|signature|sign?|sig|se|sp|sv|sr|st|spr|' +
  'ske|skoid|sks|skt|sktid|skv|expires?|expiry|exp|key-pair-id|policy|awsaccesskeyid|' +
  'googleaccessid|token|access_token|auth.*|hash|hmac|hdnts|hdnea|verify|download|ts|nonce|' +
  'response-content-.*)$', 'i');

/** The address without what must not be kept or shown. */
export function bareAddress({ protocol, host, pathname, href }: URL): string {
  if (!/^https?:$/.test(protocol)) return href.slice(0, 200);
  return `${protocol}//${host}${pathname}`;
}

/** The name of a URL's file. `sha256`: its digest, if it is known; `key`: the caller's own; `from`:
 * where it comes from, if that is not the address. */
export function nameOf(url: URL, sha256: string | undefined, key: string | undefined,
  from = bareAddress(url)): FileName {
  const query = [...url.searchParams].filter(([name]) => !passing.test(name))
    .map(([name, value]) => `${name}=${value}`).sort().join('&');
  if (key !== undefined) return { key, from, query: '', isOwn: true };
  // With a digest the address no longer matters.
  if (sha256 !== undefined) return { key: `sha256-${sha256}`, from, query: '', isOwn: false };
  return { key: from, from, query, isOwn: false };
}
