// The command line and models of the network: pulled, listed, used without the hub, removed.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { named } from '../../models/fetch/fetch.mjs';
import { sha256, startHub } from './hub-stand-in.mjs';
import { splitFile } from './split-file.mjs';
import { root, runOneKV } from './support.mjs';

const limit = { timeout: 120_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const cache = mkdtempSync(join(tmpdir(), 'onekv-pull-'));
const name = 'hf:org/model/m-Q4_K_M.gguf';
const size = `${(file.length / 1e6).toFixed(2)} MB`;

let hub;

before(async () => {
  hub = await startHub();
});
beforeEach(() => {
  Object.assign(hub.site, { files: { 'm-Q4_K_M.gguf': file }, token: 'secret', isDown: false });
  hub.site.asked.length = 0;
});
after(() => {
  hub.close();
  rmSync(cache, { recursive: true });
});

const onekv = (args, env = {}) => runOneKV(args, { ONEKV_CACHE: cache, HF_ENDPOINT: hub.origin,
  HF_TOKEN: 'secret', ...env });

async function succeeds(...args) {
  const result = await onekv(args);
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}

test('pull keeps a model, which every command finds again', limit, async () => {
  assert.equal(await succeeds('pull', 'hf:org/model'), `${name}: ${size}\n`);
  const [model, ...others] = JSON.parse(await succeeds('list', '--json'));
  assert.deepEqual(others, []);
  assert.deepEqual([model.from, model.complete, model.sha256], [name, true, sha256(file)]);
  assert.match(await succeeds('list'), new RegExp(`${name} +${size} +complete +20`));
  assert.equal(await succeeds('pull', 'hf:org/model'), `${name}: stored already, ${size}\n`);
  hub.site.isDown = true;
  const { stdout, stderr, status } = await onekv(['pull', 'hf:org/model']);
  assert.deepEqual([status, stdout], [0, `${name}: stored already, ${size}\n`], stderr);
  assert.match(stderr, /^hub: .*; what is stored is used$/m);
  const args = ['-p', 'Once', '--max-tokens', '4', '--temperature', '0', '--quiet'];
  const pulled = await succeeds('generate', 'hf:org/model', ...args);
  const own = await succeeds('generate', `${root}models/stories-q-mqa.q8_0.gguf`, ...args);
  assert.equal(pulled, own);
  assert.match(await succeeds('inspect', name), /cache per token, bytes/);
  const text = join(cache, 'text.txt');
  writeFileSync(text, 'Once upon a time there was a cat.');
  assert.match(await succeeds('eval', 'hf:org/model', '--text', text), /perplexityPerToken +\d/);
});

test('remove gives the room back', limit, async () => {
  const removed = await succeeds('remove', 'hf:org/model:Q4_K_M');
  assert.match(removed, new RegExp(`deleted, ${size}`));
  assert.deepEqual(readdirSync(join(cache, 'downloads')), []);
  const again = await onekv(['remove', 'hf:org/model']);
  assert.equal(again.status, 2);
  assert.match(again.stderr, /is not in the cache folder; onekv list shows/);
  const { stderr } = await onekv(['list']);
  assert.equal(stderr, 'the cache folder has no models yet; onekv pull --help\n');
});

const chatName = 'smollm2-135m-instruct';

test('a known name is pulled from its hub, and found again', limit, async () => {
  const { file: own, sources: [{ url }] } = named[chatName];
  hub.site.files = { [own]: file };
  const from = (await succeeds('pull', chatName)).split(`: ${size}`)[0];
  const [, repo, revision, path] = /huggingface\.co\/(.*)\/resolve\/(\w+)\/(.*)$/.exec(url);
  assert.equal(from, `hf:${repo}/${path}@${revision}`, 'it is the file of models/named.json');
  hub.site.isDown = true;
  assert.match(await succeeds('inspect', chatName), /cache per token, bytes/);
  assert.match(await succeeds('rm', chatName), new RegExp(`deleted, ${size}`));
});

test('what models/fetch has fetched is listed, found and removed, too', limit, async () => {
  const paths = [named[chatName].file, 'mine.gguf'].map((own) => join(cache, 'models', own));
  mkdirSync(join(cache, 'models'));
  for (const path of paths) writeFileSync(path, file);
  const list = await succeeds('ls');
  for (const shown of [chatName, paths[1]]) {
    assert.ok(new RegExp(`^${shown} +${size} +complete +20`, 'm').test(list), list);
  }
  const pulled = await succeeds('pull', chatName);
  assert.equal(pulled, `${paths[0]}: stored already, ${size}\n`);
  assert.deepEqual(hub.site.asked, []);
  assert.match(await succeeds('inspect', chatName), /cache per token, bytes/);
  for (const shown of [chatName, paths[1]]) await succeeds('remove', shown);
  assert.deepEqual(JSON.parse(await succeeds('list', '--json')), []);
});

test('generate downloads what is not there, split files too', limit, async () => {
  const [one, two] = splitFile(file, 2);
  hub.site.files = { 'm-00001-of-00002.gguf': one, 'm-00002-of-00002.gguf': two };
  await succeeds('generate', 'hf:org/model', '-p', 'Once', '--max-tokens', '2', '--quiet');
  const models = JSON.parse(await succeeds('list', '--json'));
  assert.deepEqual(models.map(({ complete }) => complete), [true, true]);
  await succeeds('remove', 'hf:org/model');
  assert.deepEqual(JSON.parse(await succeeds('list', '--json')), []);
});

test('what cannot be pulled is said, and nothing is kept of it', limit, async () => {
  const fails = async (args, status, pattern, env) => {
    const result = await onekv(args, env);
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr, pattern);
  };
  await fails(['pull', 'model.gguf'], 2, /model\.gguf: expected hf:org\/repo/);
  await fails(['pull', 'stories-q-mqa'], 2, /need not be pulled: it is the file .*\.gguf$/m);
  await fails(['list', 'all'], 2, /unexpected argument: all/);
  assert.equal(await succeeds('help', 'list'), await succeeds('ls', '--help'));
  await fails(['pull', 'hf:org'], 1, /expected hf:org\/repo/);
  await fails(['pull', 'hf:org/model'], 1, /to nobody without a token/, { HF_TOKEN: '' });
  await fails(['pull', 'hf:org/model'], 1, new RegExp('no connection to no\\.such\\.invalid \\(' +
    'fetch failed: .*; a file on disk needs no hub, .*HF_ENDPOINT'),
  { HF_ENDPOINT: 'http://no.such.invalid' });
  hub.site.files = { 'm.gguf': file.subarray(0, 2_500_000) };
  await fails(['pull', 'hf:org/model'], 1, /the file ends after 2500000 of/);
  hub.site.files = { 'm.gguf': Buffer.from('<!doctype html>'.padEnd(2000)) };
  await fails(['pull', 'hf:org/model'], 1, /found an HTML page/);
  assert.deepEqual(JSON.parse(await succeeds('list', '--json')), []);
});
