// The pages of web/docs: every block of JavaScript runs as it stands, with the shipped story model
// and stand-ins for what a page or a host has.
//
// A block is a function body of its own; what it declares is not seen by the next one, but for the
// names that a page's row in `pages` hands on. Blocks of bundlers.md are run by the hosts' tests,
// those of doors.md by the clients'.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { startHub } from './hub-stand-in.mjs';
import { PageContext } from './page-context.mjs';
import { MapStore, bertFile, goldenFolder, root, withKeys } from './support.mjs';
import { run } from '../../wasm/toolchain/shell.mjs';

const limit = { timeout: 300_000 };
const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const template = `{% for m in messages %}{{ '<' + m.role + '> ' + m.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}`;
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

let hub;
let model;
let thinker;
let encoder;
before(async () => {
  hub = await startHub();
  const file = readFileSync(path);
  hub.site.files = { 'm-Q4_K_M.gguf': file, 'm-Q5_K_M.gguf': file, 'folder/file.gguf': file };
  model = await OneKV.load(withKeys(path, [['tokenizer.chat_template', 'string', template]]),
    { threads: 1 });
  thinker = await OneKV.load(withKeys(path, [['tokenizer.chat_template', 'string',
    `${template}{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}`]]),
  { threads: 1 });
  encoder = await OneKV.load(bertFile(), { threads: 1 });
});
after(async () => {
  hub.close();
  await Promise.all([model.unload(), thinker.unload(), encoder.unload()]);
});

const textual = () => model.createSession({ chat: false });

/** The library as the page about sources sees it: its hub, its address and its store are the
 * test's, and what was loaded is unloaded. */
function ofHub() {
  const store = new MapStore();
  const load = async (source, options = {}) => {
    const named = String(source).replace('org/repo', 'org/model');
    const loaded = await OneKV.load(named, { hub: hub.origin, store, threads: 1, ...options });
    assert.equal(loaded.description.projection, 'Q-K=V');
    await loaded.unload();
  };
  return { load };
}

/** Names that a page's blocks use, names that its blocks hand on, and what they say. */
const pages = {
  'chat.md': { names: () => {
    const shown = [];
    const load = async (source, { monitor }) => {
      const events = new EventTarget();
      monitor(events);
      events.dispatchEvent(Object.assign(new Event('downloadprogress'), { loaded: 1, total: 2 }));
      return model;
    };
    return { OneKV: { load }, document: { shown, body: { append: (text) => shown.push(text) } } };
  }, handsOn: ['chat', 'model'],
    check: (said, { document: { title, shown } }) => {
      assert.equal(title, '50 % of the model');
      assert.ok(shown.length > 1 && !shown.join('').includes('No answer'), shown.join(''));
      assert.ok(said.includes('5'), said.join('\n'));
      assert.match(said.at(-1), /^true \d+$/);
      assert.ok(said.some((line) => /^\w+: \d+ tokens, read in \d+ ms, .* seed \d+$/.test(line)));
      assert.ok(said.length < 10, 'no line for each token');
    } },
  'constraints.md': { names: async () => ({ session: await textual() }), handsOn: ['child'],
    check: (_, { child }) => assert.ok(['Tim', 'Lily'].includes(child.name)) },
  'families.md': { names: () => ({ url: path }),
    check: (said) => {
      assert.equal(said[0], 'llama, Q-K=V MQA');
      assert.match(said[1], /^6033664 parameters, \d+ bytes, and 512 per token$/);
    } },
  'embeddings.md': { names: () => ({ model: encoder }), handsOn: ['vectors'],
    check: (said, { vectors }) => {
      assert.match(said[0], /\. -?\d\S* \[\d+,\d+,\d+\]$/);
      assert.equal(said[1], `50 ${encoder.description.embedding} ${vectors[0].byteLength}`);
    } },
  'memory.md': { names: async () => ({ url: path, show: (...bytes) => bytes,
    OneKV: { estimate: OneKV.estimate, models: { list: async () => [{ key: 'a' }],
      delete: async (key) => assert.equal(key, 'a') } } }), handsOn: ['estimate'],
  check: (_, { estimate }) => assert.ok(estimate.fullContext.used > 0) },
  'performance.md': { names: () => ({ url: `${root}models/stories-qkv.q8_0.gguf`, smallUrl: path }),
    check: (said) => {
      assert.ok(said.some((line) => /^\d+\.\d tokens per second$/.test(line)), said.join('\n'));
      // How often it guesses is for the clock to say.
      assert.ok(said.some((line) => /^\d+ of \d+ guesses were right$/.test(line)));
      assert.match(said.at(-1), /^[1-9]\d{6,} bytes are the small one's$/);
    } },
  'snapshots.md': { names: async () => {
    const files = new Map();
    return { session: await textual(), prompt: 'Once upon a time', Buffer,
      document: { visibilityState: 'hidden', addEventListener: (_, save) => save() },
      keep: (name, blob) => assert.ok(name === 'talk' && blob.size > 0),
      writeFile: async (name, bytes) => files.set(name, bytes),
      fetch: async (name) => new Response(files.get(name)) };
  }, handsOn: ['again', 'base'],
  check: (_, { again, base }) => assert.ok(again.contextUsage >= 0 && base.contextUsage > 0) },
  'sources.md': { names: () => {
    const signedUrl = `${hub.origin}/org/model/resolve/main/m-Q4_K_M.gguf?signature=1`;
    return { OneKV: ofHub(), signedUrl, token: 'secret', newSignedUrl: () => signedUrl };
  }, check: () => assert.ok(hub.site.asked.length > 3) },
  'thinking.md': { names: () => ({ model: thinker }),
    check: (_, { process: { stdout } }) =>
      assert.match(stdout.pieces.join(''), /^thinks: [^]+\nsays: [^]*\n$/) },
  'threads-and-headers.md': { without: /onekv\/engine/, handsOn: ['threads'],
    check: (_, { threads }) => assert.ok(threads.value >= 1) },
  'tools.md': {
    names: () => ({ document: { modelContext: new PageContext() } }), handsOn: ['agent'],
    check: (said, { agent }) => {
      assert.equal(said.length, 2);
      assert.match(said[1], /^get_weather /);
      assert.deepEqual(agent.messages[0], { role: 'user', content: 'How late is it?' });
    } },
};
const elsewhere = ['bundlers.md', 'converting.md', 'doors.md', 'README.md'];

const blocksOf = (page) => [...readFileSync(`${root}web/docs/${page}`, 'utf8')
  .matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code]) => code);

/** Standard output that is kept. */
function streamed() {
  const pieces = [];
  return { stdout: { pieces, write: (text) => pieces.push(text) } };
}

/** Runs a page's blocks one after the other; gives lines that they logged and what they hand on. */
async function read(page, { names = () => ({}), handsOn = [], without }) {
  const said = [];
  const log = (...values) => said.push(values.map((value) =>
    (typeof value === 'object' ? JSON.stringify(value) : String(value))).join(' '));
  const scope = { OneKV, model, console: { log }, process: streamed(), ...(await names()) };
  for (const block of blocksOf(page)) {
    const code = block.replace(/^import { OneKV } from 'onekv';$/m, '');
    if (without?.test(code)) continue;
    const declared = handsOn.filter((name) => new RegExp(`const.*\\b${name}\\b`).test(code));
    const given = Object.keys(scope).filter((name) =>
      !new RegExp(`^const .*\\b${name}\\b.*=`, 'm').test(code));
    const work = new AsyncFunction(...given, `${code}\nreturn { ${declared.join(', ')} };`);
    Object.assign(scope, await work(...given.map((name) => scope[name])));
  }
  return { said, scope };
}

for (const [page, row] of Object.entries(pages)) {
  test(`${page}: its code runs`, limit, async () => {
    const { said, scope } = await read(page, row);
    row.check(said, scope);
  });
}

test('tables that say what is tested name tests that exist', () => {
  const rows = ['bundlers.md', 'sources.md'].flatMap((page) =>
    [...readFileSync(`${root}web/docs/${page}`, 'utf8').matchAll(/^\|.*\| ([^|]*) \|$/gm)])
    .map(([row, last]) => [row, /^`(tests\/[\w./-]+)`$/.exec(last)?.[1], last])
    .filter(([, , last]) => !/^(test|-+)$/.test(last));
  assert.ok(rows.length > 20);
  for (const [row, file, last] of rows) {
    assert.ok(file === undefined ? last === 'none' : existsSync(root + file), row);
  }
});

test('a stream is not written as a line for each token', () => {
  for (const page of readdirSync(`${root}web/docs`).filter((name) => name.endsWith('.md'))) {
    assert.doesNotMatch(blocksOf(page).join('\n'), /^for await [^;{]*console\.log/m, page);
  }
});

test('no page is left out', () => {
  const names = readdirSync(`${root}web/docs`).filter((name) => name.endsWith('.md'));
  const code = names.filter((name) => blocksOf(name).length > 0);
  assert.deepEqual(code.filter((name) => !(name in pages) && !elsewhere.includes(name)), []);
});

test('the first page has the README’s program, and leads to all pages', () => {
  const text = readFileSync(`${root}web/docs/README.md`, 'utf8');
  // The tests of the package run it.
  const [, program] = /^```js\n([^]*?)^```$/m.exec(readFileSync(`${root}README.md`, 'utf8'));
  assert.deepEqual(blocksOf('README.md'), [program]);
  const linked = [...text.matchAll(/\]\(([a-z-]+\.md)\)/g)].map(([, name]) => name);
  assert.deepEqual(linked.sort(), readdirSync(`${root}web/docs`)
    .filter((name) => /^[a-z-]+\.md$/.test(name)).sort());
});

test('what runs is what core has rows for, and types it has a name for', async () => {
  const text = readFileSync(`${root}web/docs/families.md`, 'utf8');
  const [, table] = /^## Architectures$([^]*?)^Not in the table/m.exec(text);
  const named = [...table.matchAll(/^\| `([a-z0-9-]+)` \|/gm)].map(([, name]) => name);
  const unknown = readFileSync(path);
  unknown.write('other', unknown.indexOf('llama', unknown.indexOf('general.architecture')));
  const { message } = await OneKV.estimate(unknown).then(assert.fail, (error) => error);
  const [, expected] = /found "other", expected (.*)/.exec(message);
  assert.deepEqual(named.sort(), expected.split(/, | or /).sort());
  const golden = new Set(readdirSync(goldenFolder).map((file) => file.split('-')[0]));
  const tiny = { 'onekv-encoder': 'encoder', 'onekv-vit': 'vit', 'mistral3': 'ministral3',
    'hunyuan-dense': 'hunyuan' };
  for (const name of named) assert.ok(golden.has(tiny[name] ?? name), name);
  const [, types] = /^## Element types$([^]*?)in any mixture/m.exec(text);
  const list = readFileSync(`${root}core/base/tensor.h`, 'utf8');
  const known = [...list.matchAll(/^ +X\((\w+),/gm)].map(([, name]) => name);
  assert.deepEqual(types.match(/\b[A-Z]+\d[A-Z0-9_]*\b/g).sort(), known.sort());
});

test('tables of figures are those of the committed results', async () => {
  const { status, output } = await run(process.execPath,
    [`${root}tests/bench/readme.mjs`, '--check']);
  assert.equal(status, 0, output);
  assert.match(output,
    /README\.md: its tables .*\n.*memory\.md: its .*\n.*families\.md: its .*\n.*performance\.md/);
});
