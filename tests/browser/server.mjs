// A small static server on loopback for the browser tests and the demo page: files, MIME types,
// byte ranges, and the headers that decide what a page may do.
//
// Which headers a response carries is chosen per site, and each site has a port of its own: a
// worker's script is under the policy of its own response, so page and scripts must agree.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
};

const isolation = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

/** The same for one document, in Chromium. */
const documentIsolation = { 'Document-Isolation-Policy': 'isolate-and-credentialless' };

/** What the README says to be enough for a page that uses the library. */
export const strictPolicy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; " +
  "worker-src 'self'; connect-src 'self'";

/** The file under one of the mounts, { '/dist/': folder, … }; undefined when there is none. */
function fileOf(mounts, path) {
  const prefix = Object.keys(mounts).filter((known) => path.startsWith(known))
    .sort((a, b) => b.length - a.length)[0];
  if (prefix === undefined || path.includes('\0')) return undefined;
  const folder = normalize(mounts[prefix] + sep);
  const file = join(folder, path.slice(prefix.length));
  if (!file.startsWith(folder)) return undefined;
  const found = statSync(file, { throwIfNoEntry: false });
  return found?.isFile() ? { file, size: found.size } : undefined;
}

/** First and last byte of the only range asked for; null when it lies outside the file. */
export function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const start = match[1] === '' ? Math.max(size - Number(match[2]), 0) : Number(match[1]);
  const end = match[1] === '' || match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1);
  return start <= end ? { start, end } : null;
}

function answer(request, response, { mounts, headers, alone, seen }) {
  let path;
  try {
    path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
  } catch {
    return response.writeHead(400).end();
  }
  seen(path);
  // Every browser asks for it; a 404 would be one more line on its console.
  if (path === '/favicon.ico') return response.writeHead(204, headers).end();
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return response.writeHead(405, { ...headers, Allow: 'GET, HEAD' }).end();
  }
  const found = fileOf(mounts, path.endsWith('/') ? `${path}index.html` : path);
  if (!found) return response.writeHead(404, headers).end();
  const { file, size } = found;
  const range = parseRange(request.headers.range, size);
  if (range === null) {
    return response.writeHead(416, { ...headers, 'Content-Range': `bytes */${size}` }).end();
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  response.writeHead(range ? 206 : 200, {
    ...headers,
    ...(path.startsWith(alone) ? { 'Content-Security-Policy': "worker-src 'none'" } : {}),
    'Content-Type': types[extname(file)] ?? 'application/octet-stream',
    'Content-Length': end - start + 1,
    'Accept-Ranges': 'bytes',
    ...(range ? { 'Content-Range': `bytes ${start}-${end}/${size}` } : {}),
  });
  if (request.method === 'HEAD' || size === 0) return response.end();
  // A page that goes away in the middle of a model is not the server's fault.
  return createReadStream(file, { start, end }).on('error', () => response.destroy())
    .pipe(response);
}

/**
 * Serves until close() is called. Options: mounts, isolated (COOP and COEP; or
 * 'document': Document-Isolation-Policy), strict (the content
 * security policy above, or that of the string), alone (scripts under this path may start no
 * worker), port (default: any that is free), seen (hears every path that is asked for). Gives
 * { origin, close }.
 */
export async function serve({
  mounts, isolated = false, strict = false, alone, port = 0, seen = () => {},
}) {
  const headers = {
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...(isolated === 'document' ? documentIsolation : isolated ? isolation : {}),
    ...(strict ? { 'Content-Security-Policy': strict === true ? strictPolicy : strict } : {}),
  };
  const server = createServer((request, response) =>
    answer(request, response, { mounts, headers, alone, seen }));
  await new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', resolve);
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
