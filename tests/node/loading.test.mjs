// Loading: sources, progress, aborts, metadata, and every way in which a file or an argument can
// be wrong.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Engine, hasRelaxedSimd, loadModel, openSource, readHeader } from
  '../../dist/src/engine-entry-node.js';
import { ggufHeader, goldenPath, loadSync, tinyLlama, withEngine } from './support.mjs';

let engine;
const path = goldenPath('llama-keqv-mqa');
const file = readFileSync(path);

before(async () => {
  engine = await Engine.open({ threads: 1 });
});
after(() => engine.destroy());

async function serve(answer, use) {
  const server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  try {
    return await use(`http://127.0.0.1:${server.address().port}/model.gguf`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const streamOf = (bytes) => new Blob([bytes]).stream();

test('every kind of source gives the same model', async () => {
  const expected = loadSync(engine, path).hash;
  async function* generated() {
    yield file.subarray(0, 1000);
    yield file.subarray(1000);
  }
  const sources = [path, pathToFileURL(path), String(pathToFileURL(path)), file, file.buffer.slice(
    file.byteOffset, file.byteOffset + file.length), new Blob([file]), streamOf(file),
  generated(), await openSource(file)];
  for (const source of sources) {
    const model = await loadModel(engine, source);
    assert.equal(model.hash, expected);
    model.destroy();
  }
  await serve((_, response) => response.end(file), async (url) => {
    for (const source of [url, new URL(url)]) {
      assert.equal((await loadModel(engine, source)).hash, expected);
    }
  });
});

test('progress: bytes so far, and of how many', async () => {
  const seen = [];
  const onProgress = ({ loaded, total }) => seen.push([loaded, total]);
  await loadModel(engine, path, { onProgress });
  assert.deepEqual(seen.at(-1), [file.length, file.length]);
  // A stream has no length; the header tells it.
  await loadModel(engine, streamOf(file), { onProgress });
  assert.deepEqual(seen.at(-1), [file.length, file.length]);
});

test('sources that fail say where and why', async () => {
  const fails = (source, message) => assert.rejects(loadModel(engine, source),
    { name: 'OneKVError', code: 'SOURCE_FAILED', message });
  await fails('stories-q-mqa',
    /no such file in .*; the model of that name is .*stories-q-mqa.*gguf/);
  await fails('/models/stories-q-mqa.q8_0.gguf', /; the model of that name is .*q-mqa\.q8_0\.gguf/);
  await fails('/no/such.gguf', /^\/no\/such\.gguf: there is no such file$/);
  const here = process.cwd();
  for (const [path, where] of [['nix.gguf', ` in ${here}, the working directory`],
    ['tests/nix.gguf', existsSync('tests') ? ` in ${here}/tests` : `, and no folder ${here}/tests`],
    ['nowhere/nix.gguf', `, and no folder ${here}/nowhere`]]) {
    await assert.rejects(loadModel(engine, path),
      { message: `${path}: there is no such file${where}` });
  }
  await fails('tests', /^tests: (it is not a file|there is no)/);
  await fails('http://127.0.0.1:1/x.gguf', /^http:\/\/127\.0\.0\.1:1\/x\.gguf: /);
  const notFound = (_, response) => { response.statusCode = 404; response.end(); };
  await serve(notFound, (url) => fails(url, /model\.gguf: found HTTP status 404, expected 200/));
  const torn = (_, response) => {
    response.setHeader('content-length', file.length);
    response.write(file.subarray(0, 5000));
    setTimeout(() => response.destroy(), 20);
  };
  await serve(torn, (url) => fails(url, /model\.gguf: /));
  await assert.rejects(loadModel(engine, 42), { code: 'INVALID_ARGUMENT', message: /found 42/ });
  await assert.rejects(loadModel(engine, null), { code: 'INVALID_ARGUMENT' });
  async function* texts() {
    yield 'text';
  }
  await assert.rejects(loadModel(engine, texts()), { code: 'INVALID_ARGUMENT' });
});

test('aborting throws the reason, ends the source and gives the memory back', async () => {
  const reason = new Error('enough');
  await assert.rejects(loadModel(engine, path, { signal: AbortSignal.abort(reason) }), reason);
  let closed = false;
  const controller = new AbortController();
  async function* slow() {
    try {
      yield file.subarray(0, 9000);
      controller.abort(reason);
      yield file.subarray(9000);
    } finally {
      closed = true;
    }
  }
  await assert.rejects(loadModel(engine, slow(), { signal: controller.signal }), reason);
  assert.ok(closed);
  const before = engine.memoryBytes;
  for (let i = 0; i < 50; i++) {
    await assert.rejects(loadModel(engine, streamOf(file.subarray(0, 30000))),
      { code: 'TRUNCATED', message: /a stream: the file ends after 30000 of/ });
  }
  assert.equal(engine.memoryBytes, before);
});

test('a header is read without the rest; the rest does not need to be there', async () => {
  const { keys, tensors } = tinyLlama({ vocabulary: 16_000_000 });
  const { header, dataBytes } = ggufHeader(keys, tensors);
  const before = engine.memoryBytes;
  const found = await readHeader(engine, header, {}, (loader) => ({
    description: loader.describe(), estimate: loader.estimate(), bytes: loader.fileBytes,
  }));
  assert.equal(found.description.vocabulary, 16_000_000);
  assert.ok(found.estimate.weightBytes > 2e9);
  assert.equal(found.bytes, header.length + dataBytes);
  assert.equal(engine.memoryBytes, before);
});

test('metadata: every type, arrays, strings in UTF-8', async () => {
  const values = [
    ['x.u8', 'u8', 255], ['x.i8', 'i8', -128], ['x.u16', 'u16', 65535], ['x.i16', 'i16', -1],
    ['x.u32', 'u32', 4294967295], ['x.i32', 'i32', -2147483648], ['x.f32', 'f32', 1.5],
    ['x.bool', 'bool', true], ['x.string', 'string', 'Grüße 🦆'], ['x.u64', 'u64', 2 ** 40],
    ['x.i64', 'i64', -5], ['x.f64', 'f64', Math.PI], ['x.empty', 'string', ''],
    ['x.strings', 'string[]', ['a', '', 'é']], ['x.numbers', 'i32[]', [1, -2, 3]],
    ['x.bools', 'bool[]', [true, false]], ['x.none', 'u8[]', []],
  ];
  const { keys, tensors } = tinyLlama({ vocabulary: 64 });
  const big = ['x.big', 'u64', (1n << 63n) + 1n];
  const { header } = ggufHeader([...keys, ...values, big], tensors);
  await readHeader(engine, header, {}, ({ metadata }) => {
    for (const [key, , value] of values) assert.deepEqual(metadata.get(key), value, key);
    assert.equal(metadata.get('x.big'), big[2]);
    assert.equal(metadata.get('x.missing'), undefined);
    assert.equal(metadata.string('x.missing'), undefined);
    assert.equal(metadata.string('x.string'), 'Grüße 🦆');
    assert.equal(metadata.number('x.i32'), -2147483648);
    assert.equal(metadata.boolean('x.bool'), true);
    assert.deepEqual(metadata.strings('x.strings'), ['a', '', 'é']);
    assert.deepEqual(metadata.numbers('x.numbers'), [1, -2, 3]);
    const wrong = (use, message) => assert.throws(use, { code: 'BAD_KEY', message });
    wrong(() => metadata.number('x.string'), /^x\.string: found a string, expected a number/);
    wrong(() => metadata.string('x.strings'), /found an array of string, expected a string/);
    wrong(() => metadata.strings('x.numbers'), /expected an array of strings/);
    wrong(() => metadata.number('x.big'), /found a bigint/);
  });
});

test('files that are wrong: code and message of core, with the name in front', async () => {
  const fails = (bytes, code, message = /^a buffer: ./) =>
    assert.rejects(loadModel(engine, bytes), { name: 'OneKVError', code, message });
  await fails(Buffer.from('GGML....'), 'NOT_GGUF', /^a buffer: /);
  await fails(new Uint8Array(0), 'TRUNCATED', /^a buffer: the file ends inside its header/);
  await fails(file.subarray(0, 100), 'TRUNCATED');
  const { keys, tensors } = tinyLlama({ vocabulary: 64 });
  const without = (name) => ggufHeader(keys.filter(([key]) => key !== name), tensors).header;
  await fails(without('llama.block_count'), 'MISSING_KEY', /llama\.block_count/);
  const changed = (name, type, value) => ggufHeader(keys.map((entry) =>
    (entry[0] === name ? [name, type, value] : entry)), tensors).header;
  await fails(changed('general.architecture', 'string', 'mamba'), 'UNSUPPORTED_MODEL', /mamba/);
  await fails(changed('llama.block_count', 'string', 'one'), 'BAD_KEY', /llama\.block_count/);
  await fails(ggufHeader(keys, tensors.slice(0, -1)).header, 'MISSING_TENSOR', /ffn_down/);
  await fails(ggufHeader([...keys, keys[0]], tensors).header, 'CORRUPT');
});

test('memory that is not there is an error, and the engine goes on', async () => {
  const { keys, tensors } = tinyLlama({ vocabulary: 16_776_800, width: 64 });
  const { header } = ggufHeader(keys, tensors);
  const bytes = Buffer.concat([header, Buffer.alloc(64)]);
  await assert.rejects(loadModel(engine, bytes), { code: 'OUT_OF_MEMORY' });
  assert.equal(loadSync(engine, path).openSession().length, 0);
});

test('arguments are checked before core sees them', async () => {
  const model = loadSync(engine, path);
  const session = model.openSession();
  const wrong = (use, message) => assert.throws(use, { code: 'INVALID_ARGUMENT', message });
  wrong(() => model.openSession({ contextWindow: -1 }), /^contextWindow: found -1, expected an/);
  wrong(() => model.openSession({ contextWindow: 1e6 }), /context_window: found 1000000/);
  wrong(() => model.openSession({ overflow: 'explode' }), /^overflow: found "explode"/);
  wrong(() => model.openSession({ temperature: Number.NaN }), /^temperature: found NaN/);
  wrong(() => model.openSession({ temperature: -1 }), /temperature/);
  wrong(() => model.openSession({ topK: 1.5 }), /^topK: found 1.5/);
  wrong(() => model.openSession({ seed: -1 }), /^seed: found -1/);
  wrong(() => model.openSession({ seed: 1n << 64n }), /^seed/);
  wrong(() => model.openSession({ logitBias: { x: 1 } }), /logitBias/);
  wrong(() => model.openSession({ logitBias: new Map(Array.from({ length: 65 }, (_, i) =>
    [i, 1])) }), /at most 64/);
  wrong(() => session.append([1.5]), /^token 0: found 1.5/);
  wrong(() => session.append(['1']), /^token 0: found "1"/);
  wrong(() => session.truncate(1), /^count: found 1, expected an integer from 0 to 0/);
  wrong(() => session.tokens(0, 1), /^count/);
  wrong(() => model.advance([session, session]), /a session twice/);
  wrong(() => model.encode(new Float32Array(4)), /^input: found "features", expected token/);
  wrong(() => model.restoreSession([1, 2, 3]), /^bytes/);
  wrong(() => engine.openLoader({ cacheType: 'f8' }),
    /^cacheType: found "f8", expected f16, f32, i8, i4/);
  wrong(() => engine.openLoader({ batch: 65 }), /^batch/);
  for (const token of [-1, 2 ** 31, 2 ** 32 + 1, model.description.vocabulary]) {
    assert.throws(() => session.append([token]), { code: 'TOKEN_OUT_OF_RANGE' });
  }
  assert.throws(() => session.next(), { code: 'WRONG_STATE' });
  assert.throws(() => session.append(new Int32Array(10_000)), { code: 'CONTEXT_FULL' });
  assert.equal(session.length, 0);
  assert.throws(() => model.encode([1, 2]), { code: 'WRONG_STATE' });
  const encoder = loadSync(engine, goldenPath('encoder-qkv-gqa'));
  assert.throws(() => encoder.openSession(), { code: 'WRONG_STATE' });
  assert.throws(() => encoder.tokenizer, { code: 'UNSUPPORTED_TOKENIZER' });
  assert.throws(() => encoder.chatTemplate, { code: 'NO_CHAT_TEMPLATE' });
  assert.throws(() => model.openSession({ temperature: 1, logitBias: { 0: Number.NaN } }),
    { code: 'INVALID_ARGUMENT' });
});

test('loaders: state is an error, not a crash', () => {
  const loader = engine.openLoader();
  assert.equal(loader.hasHeader, false);
  assert.equal(loader.fileBytes, 0);
  assert.equal(loader.metadata.get('general.architecture'), undefined);
  assert.throws(() => loader.describe(), { code: 'WRONG_STATE' });
  assert.throws(() => loader.estimate(), { code: 'WRONG_STATE' });
  assert.throws(() => loader.finish(), { code: 'TRUNCATED' });
  assert.throws(() => loader.feed('text'), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => loader.feed(Buffer.from('nonsense')), { code: 'NOT_GGUF' });
  assert.throws(() => loader.feed(file), { code: 'WRONG_STATE' });
  loader.destroy();
  loader.destroy();
  for (const use of [() => loader.feed(file), () => loader.finish(), () => loader.hasHeader,
    () => loader.metadata.get('x')]) {
    assert.throws(use, { code: 'DESTROYED' });
  }
});

test('engines: options that do not fit, modules that are not there', async () => {
  await assert.rejects(Engine.open({ threads: 0 }), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(Engine.open({ threads: 33 }), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(Engine.open({ simd: 'avx' }), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(Engine.open({ wasmUrl: 'file:///no/such/folder' }),
    { code: 'WASM_FAILED', message: /no\/such\/folder\/onekv-/ });
  if (!hasRelaxedSimd()) {
    await assert.rejects(Engine.open({ simd: 'relaxed' }), { code: 'UNSUPPORTED_ENGINE' });
  }
  const wasmUrl = new URL('../../dist/wasm', import.meta.url);
  await withEngine({ wasmUrl }, (other) => assert.equal(other.threads, 1));
  const other = await Engine.open({ threads: 2 });
  const model = loadSync(other, path);
  other.destroy();
  other.destroy();
  assert.throws(() => other.openLoader(), { code: 'DESTROYED' });
  assert.throws(() => model.memory(), { code: 'DESTROYED' });
});

test('a module that traps is an error, the same from then on, and can still be destroyed',
  async () => {
    const other = await Engine.open({ threads: 2 });
    const model = loadSync(other, path);
    const session = model.openSession();
    const lost = { name: 'OneKVError', code: 'WASM_FAILED', message: /broke down: .*lost$/ };
    assert.throws(() => other.bindings.exports._onekv_session_n_tokens(0xfffffff0), lost);
    assert.throws(() => session.append([1, 2]), lost);
    assert.throws(() => other.openLoader(), lost);
    session.destroy();
    other.destroy();
    assert.throws(() => model.memory(), { code: 'DESTROYED' });
  });
