// How a URL is asked for, from what a caller says of it.
import { checkNumber, invalidArgument } from '../api/errors.js';
import type { FreshAddress } from '../api/source.js';
import type { Access, Address } from './request.js';
import { crossOriginFiles } from '../store/cross-origin.js';
import type { SourceOptions } from './source.js';
import type { UrlOptions } from './url.js';

function checkHeaders(found: unknown): Record<string, string> {
  const isRecord = typeof found === 'object' && found !== null && !(found instanceof Headers) &&
    Object.values(found).every((value) => typeof value === 'string');
  if (!isRecord) throw invalidArgument('headers', found, 'an object of names and strings');
  return found as Record<string, string>;
}

function checkFunction(name: string, found: unknown): void {
  if (found !== undefined && typeof found !== 'function') {
    throw invalidArgument(name, found, 'a function');
  }
}

/** Of a refresh. Error: INVALID_ARGUMENT. */
function checkFresh(found: string | URL | FreshAddress | undefined,
  address: Address): Address | undefined {
  if (found === undefined || found === null) return undefined;
  const { url, headers = address.headers } = typeof found === 'string' || found instanceof URL
    ? { url: found } : found;
  try {
    return { url: new URL(url, address.url), headers: checkHeaders(headers) };
  } catch {
    throw invalidArgument('refresh', url, 'a function that gives a URL, { url, headers }, or ' +
      'undefined');
  }
}

/** Error: INVALID_ARGUMENT. */
export function accessOf(url: URL, options: SourceOptions): Access {
  const { signal, refresh, fetch, token } = options;
  const headers = checkHeaders(options.headers ?? {});
  if (token !== undefined && (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))) {
    throw invalidArgument('token', typeof token, 'a text without blanks');
  }
  checkFunction('fetch', fetch);
  checkFunction('refresh', refresh);
  const access: Access = {
    address: { url, headers: token === undefined ? headers
      : { ...headers, authorization: `Bearer ${token}` } },
    signal,
    fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
    stallSeconds: checkNumber('stallSeconds', options.stallSeconds ?? 60, 0.001,
      Number.POSITIVE_INFINITY),
    cache: undefined,
    retryDelay: 500,
    refresh: refresh && (async (status, offset) => checkFresh(
      await refresh({ url: access.address.url.href, status, offset }), access.address)),
  };
  return access;
}

/** What needed a key, or may need one, is not shared with other sites. */
export function sharing(options: SourceOptions, url: URL): Pick<UrlOptions, 'shared' | 'isPublic'> {
  const { headers, token, fetch, refresh } = options;
  const isPublic = [headers, token, fetch, refresh].every((option) => option === undefined);
  return { shared: options.shared ?? crossOriginFiles(), isPublic: isPublic && url.search === '' };
}
