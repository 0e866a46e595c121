// Files of every published family with one tensor missing, of another shape, or too many, and files
// of experts: each is refused with the name of what is wrong.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { readGguf } from '../../dist/src/bench/gguf-reader.js';
import { goldenFolder, goldenPath, loadSync, withEngine, withKeys } from './support.mjs';

const names = Object.keys(JSON.parse(readFileSync(`${goldenFolder}families.json`, 'utf8')));
const bytesOf = (name) => new Uint8Array(readFileSync(goldenPath(name)));

function u64(value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

const u32 = (value) => u64(value).subarray(0, 4);
const text = (value) => [u64(value.length), new TextEncoder().encode(value)];
const join = (...parts) => new Uint8Array(Buffer.concat(parts.flat()));
const padded = (bytes, to = 32) => join(bytes, new Uint8Array(-bytes.length & (to - 1)));

/** The file with a change to the bytes of a tensor's entry, which `change` gets as a view. */
function changed(bytes, tensor, change) {
  const copy = bytes.slice();
  const dimensionsAt = tensor.typeAt - 8 * tensor.dimensions.length;
  change(new DataView(copy.buffer), dimensionsAt, dimensionsAt - 4 - tensor.name.length);
  return copy;
}

/** One column less; of a single number two. */
function narrower(view, dimensionsAt) {
  const columns = view.getBigUint64(dimensionsAt, true);
  view.setBigUint64(dimensionsAt, columns === 1n ? 2n : columns - 1n, true);
}
/** Another name. */
const renamed = (view, _, nameAt) => view.setUint8(nameAt, 'x'.charCodeAt(0));

/** The file with a vector of 8 more. */
function withTensor(bytes, name) {
  const { tensors, headerBytes } = readGguf(bytes);
  const behind = Math.max(...tensors.map(({ typeAt }) => typeAt)) + 12;
  const data = padded(bytes.subarray(headerBytes));
  const head = join(bytes.subarray(0, 8), u64(tensors.length + 1), bytes.subarray(16, behind),
    text(name), u32(1), u64(8), u32(0), u64(data.length));
  return join(padded(head), data, new Uint8Array(32));
}

function architectureOf(bytes) {
  const file = Buffer.from(bytes);
  const at = file.indexOf('general.architecture') + 'general.architecture'.length + 4;
  return file.toString('utf8', at + 8, at + 8 + Number(file.readBigUInt64LE(at)));
}

test('there are files of each family', () => {
  assert.ok(names.length >= 16);
});

// OLMo 3 says that it is an olmo2, with a window: without it the text would be another.
test('a window where the architecture has none is refused; one of the whole context is not',
  () => withEngine({}, (engine) => {
    for (const [name, key] of [['olmo2-gqa', 'olmo2'], ['smollm3-tied', 'smollm3']]) {
      const windowed = (positions) =>
        withKeys(goldenPath(name), [[`${key}.attention.sliding_window`, 'u32', positions]]);
      const message = new RegExp(`key ${key}\\.attention\\.sliding_window: found 8, expected none`);
      assert.throws(() => engine.openLoader({}).feed(windowed(8)),
        { code: 'UNSUPPORTED_MODEL', message });
      loadSync(engine, windowed(4096)).destroy();
    }
  }));

/** A golden file in which other numbers stand for a key, an integer or an array of them. */
function withNumbers(name, key, numbers) {
  const file = readFileSync(goldenPath(name));
  const at = file.indexOf(key) + key.length;
  const isArray = file.readUInt32LE(at) === 9;
  numbers.forEach((number, i) => file.writeUInt32LE(number, at + (isArray ? 16 : 4) + 4 * i));
  return file;
}

test('convolutions: their taps, and some layer that attends', () => withEngine({}, (engine) => {
  const refused = (key, numbers, code, message) => {
    const file = withNumbers('lfm2-tied', `lfm2.${key}`, numbers);
    assert.throws(() => engine.openLoader({}).feed(file), { code, message });
  };
  for (const taps of [0, 1, 33]) {
    refused('shortconv.l_cache', [taps], 'BAD_KEY',
      new RegExp(`shortconv\\.l_cache: found ${taps}, expected 2 to 32`));
  }
  refused('shortconv.l_cache', [4], 'BAD_TENSOR',
    /blk\.0\.shortconv\.conv\.weight: found shape \[32, 3\], expected \[32, 4\]/);
  const heads = 'attention.head_count_kv';
  refused(heads, [0, 0, 0, 0, 0], 'BAD_KEY', /leaves no layer that attends/);
  refused(heads, [0, 0, 2, 0, 3], 'BAD_KEY', /must be a multiple of attention\.head_count_kv/);
  refused(heads, [0, 2, 2, 0, 2], 'MISSING_TENSOR', /blk\.1\.attn_q/);
  refused(heads, [0, 0, 2, 0, 0], 'MISSING_TENSOR', /blk\.4\.shortconv\.in_proj/);
  // Elsewhere a layer without KV heads is none.
  assert.throws(() => engine.openLoader({}).feed(
    withNumbers('olmo2-gqa', 'olmo2.attention.head_count_kv', [0])),
  { code: 'BAD_KEY', message: /head_count_kv.*found 0, expected 1 to 4/ });
}));

test('a temperature of long texts without RoPE counts lengths of the context', () =>
  withEngine({}, (engine) => {
    const file = withKeys(goldenPath('ministral3-short'),
      [['onekv.position.encoding', 'string', 'none']]);
    const model = loadSync(engine, file);
    const session = model.openSession();
    session.append([1, 2, 3]);
    assert.ok(session.logits().every(Number.isFinite));
    session.destroy();
    model.destroy();
  }));

test('an encoder has all its tensors, biases too', () => withEngine({}, (engine) => {
  const bytes = bytesOf('bert-mean');
  for (const tensor of readGguf(bytes).tensors) {
    assert.throws(() => engine.openLoader({}).feed(changed(bytes, tensor, renamed)),
      { code: 'MISSING_TENSOR', message: new RegExp(`tensor ${tensor.name} is missing`) });
  }
}));

for (const name of names) {
  test(`${name}: a tensor too few, narrow, too many; experts`, () => withEngine({}, (engine) => {
    const bytes = bytesOf(name);
    const refused = (file, code, message) => {
      const loader = engine.openLoader({});
      assert.throws(() => loader.feed(file), { code, message });
      loader.destroy?.();
    };
    const isOfInterest = (tensor) => /^(blk\.0\.|[^b])/.test(tensor.name);
    const tensors = readGguf(bytes).tensors.filter(isOfInterest);
    assert.ok(tensors.length >= 9);
    for (const tensor of tensors) {
      // Of a matrix that stands for several, the first of these is said to be missing.
      refused(changed(bytes, tensor, renamed), /^(MISSING_TENSOR|UNKNOWN_TENSOR|BAD_KEY)$/,
        /tensor (x?\w+|[bx]lk\.0\.[\w.]+)\.(weight|bias) is (missing|not used)/);
      refused(changed(bytes, tensor, narrower), /^BAD_TENSOR$/, new RegExp(tensor.name));
    }
    refused(withTensor(bytes, 'blk.0.attn_sinks.weight'), /^UNKNOWN_TENSOR$/, /blk\.0\.attn_sinks/);
    // A file that says that all its layers are dense may name experts, which none of them has.
    if (Buffer.from(bytes).includes('leading_dense_block_count')) return;
    const experts = [`${architectureOf(bytes)}.expert_count`, 'u32', 4];
    refused(withKeys(goldenPath(name), [experts]), /^UNSUPPORTED_MODEL$/,
      /found 4 experts.*mixtures of experts \(MoE\) are not supported/);
  }));
}
