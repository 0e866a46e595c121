// Workers whose script is of another origin, as that of a package on a CDN. Browsers start none of
// such a script, but one of the page's own that imports it: its server has to allow that by CORS,
// and the page's Content-Security-Policy by `worker-src blob:`.

const isWeb = ({ protocol }: URL) => protocol === 'http:' || protocol === 'https:';

/** Whether a script of this address needs another one that imports it. */
export function isForeign(script: string | URL): boolean {
  const here = globalThis.location?.href as string | undefined;
  if (here === undefined) return false;
  const address = new URL(script, here);
  // A page that lies in a file has no origin that could have workers.
  return isWeb(address) && isWeb(new URL(here.replace(/^blob:/, ''))) &&
    address.origin !== globalThis.origin;
}

/** By script. They are small, and stay: a thread may ask for one at any time. */
const made = new Map<string, string>();

/** The address of a script of this origin that imports that one. */
export function importing(script: string | URL): string {
  const { href } = new URL(script);
  const text = `import ${JSON.stringify(href)};`;
  const address = made.get(href) ??
    URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  made.set(href, address);
  return address;
}
