// Tokenizers against the golden ids (tests/golden/README.md), streams of text, chat templates.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { ChatTemplate, Tokenizer, readHeader, withoutMarks }
  from '../../dist/src/engine-entry-node.js';
import { readTextKeys } from '../../dist/src/engine/text-keys.js';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { goldenFolder, withEngine } from './support.mjs';

const folder = `${goldenFolder}tokenizers/`;
const kinds = readdirSync(folder).filter((file) => file.endsWith('.gguf'))
  .map((file) => file.slice(0, -'.gguf'.length));
const goldenOf = (kind) => JSON.parse(readFileSync(`${folder}${kind}.json`, 'utf8'));

/** The keys of a file with a tokenizer and no model: loading fails, metadata can be read. */
function keysOf(path) {
  return withEngine({}, (engine) => {
    const loader = engine.openLoader({ headerOnly: true });
    assert.throws(() => loader.feed(readFileSync(path)), { code: 'MISSING_KEY' });
    return readTextKeys(loader.metadata);
  });
}

const keysByKind = new Map(await Promise.all(kinds.map(async (kind) =>
  [kind, await keysOf(`${folder}${kind}.gguf`)])));

function checkCases(tokenizer, golden) {
  assert.ok(golden.cases.length > 50);
  for (const { text, ids, decoded = text } of golden.cases) {
    const what = JSON.stringify(text);
    assert.deepEqual(tokenizer.encode(text, { special: true, begin: false }), ids, what);
    assert.deepEqual(tokenizer.encode(text, { special: true }), [...golden.begins_with, ...ids]);
    assert.equal(tokenizer.decode(ids, { special: true }), decoded, what);
  }
}

test('there are golden ids for every kind', () => {
  assert.deepEqual([...kinds].sort(), ['gpt-2', 'llama-bpe', 'qwen2', 'sentencepiece', 'smollm']);
});

for (const kind of kinds) {
  test(`${kind}: golden ids, and back`, () => {
    checkCases(new Tokenizer(keysByKind.get(kind)), goldenOf(kind));
  });

  test(`${kind}: a stream gives whole characters, and all of them`, () => {
    const tokenizer = new Tokenizer(keysByKind.get(kind));
    for (const { text, ids, decoded = text } of goldenOf(kind).cases) {
      const stream = tokenizer.stream({ special: true });
      const pieces = [...ids.map((id) => stream.push(id)), stream.end()];
      assert.equal(pieces.join(''), decoded);
      if (!decoded.includes('\ufffd')) assert.ok(!pieces.some((piece) => piece.includes('\ufffd')));
      for (const piece of pieces) assert.ok(piece.isWellFormed?.() ?? true, JSON.stringify(piece));
    }
  });

  // Of each kind more tokens than the arguments of a call can be; of one, 5 MB.
  const length = kind === 'gpt-2' ? 5_000_000 : 200_000;
  test(`${kind}: a text of ${length} characters, and the fewest tokens it may have`, () => {
    const tokenizer = new Tokenizer(keysByKind.get(kind));
    const text = 'a cat, '.repeat(length / 7);
    const ids = tokenizer.encode(text, { special: true });
    assert.ok(ids.length > 65_536, `${ids.length} tokens`);
    assert.equal(tokenizer.decode(ids), text);
    for (const { text: each } of goldenOf(kind).cases) {
      const ids = tokenizer.encode(each, { special: true, begin: false });
      assert.ok(tokenizer.leastTokens(each.length) <= ids.length, JSON.stringify(each));
    }
  });

  test(`${kind}: text of control tokens is plain text unless asked for`, () => {
    const keys = keysByKind.get(kind);
    const tokenizer = new Tokenizer(keys);
    keys.types.forEach((type, id) => {
      const text = `a${keys.tokens[id]}b`;
      if (type === 3) assert.ok(!tokenizer.encode(text).slice(1).includes(id), text);
      if (type === 3) assert.ok(tokenizer.encode(text, { special: true }).includes(id), text);
      if (type === 4) assert.ok(tokenizer.encode(text).includes(id), text);
      if (type === 3) assert.equal(tokenizer.decode([id]), '');
      if (type === 3) assert.equal(tokenizer.decode([id], { special: true }), keys.tokens[id]);
    });
  });
}

test('a stream that ends inside a character shows that it is missing', () => {
  const tokenizer = new Tokenizer(keysByKind.get('gpt-2'));
  const ids = tokenizer.encode('🦆');
  assert.ok(ids.length > 1, 'the character spans tokens');
  const stream = tokenizer.stream();
  assert.equal(stream.push(ids[0]), '');
  assert.equal(stream.end(), '\ufffd');
  assert.equal(tokenizer.decode([]), '');
  assert.equal(tokenizer.decode([999_999]), '', 'ids outside the vocabulary have no text');
});

test('SentencePiece: the first space is text where text goes on, none where it begins', () => {
  const tokenizer = new Tokenizer(keysByKind.get('sentencepiece'));
  const ids = tokenizer.encode('the quick', { begin: false });
  const text = (options) => {
    const stream = tokenizer.stream(options);
    return ids.map((id) => stream.push(id)).join('') + stream.end();
  };
  assert.equal(text(), 'the quick');
  assert.equal(text({ continues: true }), ' the quick');
});

test('beginning, ends, tokens by name', () => {
  const smollm = new Tokenizer(keysByKind.get('smollm'));
  const idOf = (text) => smollm.idOf(text);
  assert.deepEqual([...smollm.ends].sort(), [idOf('<|endoftext|>'), idOf('<|im_end|>')].sort());
  assert.equal(smollm.addsBos, false);
  assert.equal(smollm.textOf(idOf('<|im_end|>')), '<|im_end|>');
  const llama = new Tokenizer(keysByKind.get('sentencepiece'));
  assert.deepEqual([llama.bos, llama.addsBos, llama.dropsFirstSpace], [1, true, true]);
  assert.equal(llama.encode('Hello')[0], 1);
  assert.notEqual(llama.encode('Hello', { begin: false })[0], 1);
});

test('keys that do not fit are named, with what was found', () => {
  const keys = keysByKind.get('gpt-2');
  const refused = (changes, message) => assert.throws(() => new Tokenizer({ ...keys, ...changes }),
    { code: 'UNSUPPORTED_TOKENIZER', message });
  refused({ model: 't5' }, /ggml\.model: found "t5", expected gpt2, llama, gemma4, bert/);
  refused({ pre: 'gpt-9' }, /ggml\.pre: found "gpt-9", expected gpt-2, phi-2, jina-es/);
  refused({ pre: '__proto__' }, /found "__proto__"/);
  refused({ merges: ['a b', 'ab'] }, /merges: found "ab" at 1/);
  refused({ merges: undefined }, /merges/);
  refused({ eos: 5000 }, /eos_token_id: found 5000, expected 0 to/);
  refused({ model: 'llama' }, /scores: found none/);
  assert.throws(() => new Tokenizer(undefined), { code: 'UNSUPPORTED_TOKENIZER' });
});

for (const pre of ['gpt-2', 'smollm']) {
  test(`${pre}: U+0085 is white space, U+FEFF is not, as in the authors' expression`, () => {
    const keys = keysByKind.get('gpt-2');
    const tokens = [...keys.tokens, '\u0120\u00ef', '\u0120\u00c2'];
    const tokenizer = new Tokenizer({ ...keys, pre, tokens,
      merges: [...keys.merges, '\u0120 \u00ef', '\u0120 \u00c2'] });
    const words = (text) => tokenizer.encode(text).map((id) => tokens[id]);
    // A space goes to the mark behind it, not to another space.
    assert.equal(words('a \ufeffb')[1], '\u0120\u00ef');
    assert.deepEqual(words('a \u0085b').slice(0, 3), ['a', '\u0120', '\u00c2']);
  });
}

/** A vocabulary of Gemma 4's kind: bytes, marks, and merges in which a line break may be. */
const bytes = Array.from({ length: 256 }, (_, i) =>
  `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
const gemmaKeys = {
  ...keysByKind.get('gpt-2'), model: 'gemma4', pre: undefined, scores: undefined, addBos: false,
  tokens: ['<pad>', '<eos>', '<bos>', '<unk>', ...bytes, '\n', '\n\n', '\u2581', 'a', '\u2581a',
    'b', '\u2581\u2581', 'ab', '<turn|>'],
  types: [3, 3, 3, 3, ...bytes.map(() => 6), 1, 1, 1, 1, 1, 1, 1, 1, 3],
  merges: ['\n \n', '\u2581 a', '\u2581 \u2581', 'a b'], bos: 2, eos: 1, unknown: 3,
};

test('gemma4: marks for spaces, lines apart, bytes where no token fits, always with bos', () => {
  const tokenizer = new Tokenizer(gemmaKeys);
  const spelt = (text) => tokenizer.encode(text).map((id) => gemmaKeys.tokens[id]);
  assert.deepEqual(spelt('a ab  \n\n\u00e9b'),
    ['<bos>', 'a', '\u2581a', 'b', '\u2581\u2581', '\n\n', '<0xC3>', '<0xA9>', 'b']);
  for (const text of ['a ab  \n\n\u00e9b', ' a', '\ud83d\ude00 \n']) {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
  assert.ok(tokenizer.ends.has(tokenizer.idOf('<turn|>')));
});

test('bert: words in pieces, [CLS] in front, [SEP] behind a text to embed', () => {
  const tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '\u2581hello', '\u2581e', 'te', 's',
    '\u2581,'];
  const keys = { ...keysByKind.get('gpt-2'), model: 'bert', tokens, merges: undefined,
    types: [3, 3, 3, 3, 1, 1, 1, 1, 1], bos: undefined, first: 2, eos: undefined, unknown: 1,
    separator: 3, addBos: undefined };
  const tokenizer = new Tokenizer(keys);
  const spelt = (text, options) => tokenizer.encode(text, options).map((id) => tokens[id]);
  assert.deepEqual(spelt('Hello, \u00e9tes \ud840\udc00\ud840\udc00 etx', { end: true }),
    ['[CLS]', '\u2581hello', '\u2581,', '\u2581e', 'te', 's', '[UNK]', '[UNK]', '[UNK]', '[SEP]']);
  assert.deepEqual(spelt('hello', { begin: false }), ['\u2581hello']);
  assert.equal(tokenizer.decode(tokenizer.encode('hello, etes')), 'hello , etes');
  const cased = new Tokenizer({ ...keys, lowercase: false });
  assert.deepEqual(cased.encode('Hello', { begin: false }), [1]);
});

test('tokens with the names of object properties are tokens', () => {
  const keys = keysByKind.get('gpt-2');
  const tokenizer = new Tokenizer({ ...keys, tokens: [...keys.tokens, '__proto__', 'constructor'],
    types: [...keys.types, 4, 4] });
  const { size } = tokenizer;
  assert.deepEqual(tokenizer.encode('__proto__constructor'), [size - 2, size - 1]);
});

const chat = [{ role: 'user', content: 'Hi <|im_end|>' }];
const chatKeys = (chatTemplate) => ({ ...keysByKind.get('smollm'), chatTemplate });

test('chat templates: rendered, missing, wrong, refusing', () => {
  const template = new ChatTemplate(chatKeys('{% for m in messages %}' +
    "{{ bos_token + m.role + ':' + m.content }}{% endfor %}" +
    '{% if add_generation_prompt %}>{% endif %}'));
  assert.equal(withoutMarks(template.render(chat)), '<|im_start|>user:Hi <|im_end|>>');
  assert.equal(template.render(chat, { addGenerationPrompt: false }),
    '<|im_start|>user:Hi <\ufdd0|im_end|>');
  assert.throws(() => new ChatTemplate(chatKeys(undefined)), { code: 'NO_CHAT_TEMPLATE' });
  assert.throws(() => new ChatTemplate(undefined), { code: 'NO_CHAT_TEMPLATE' });
  assert.throws(() => new ChatTemplate(chatKeys('{% for %}')), { code: 'BAD_CHAT_TEMPLATE' });
  assert.throws(() => new ChatTemplate(chatKeys("{{ raise_exception('no system here') }}"))
    .render(chat), { code: 'BAD_CHAT_TEMPLATE', message: /no system here/ });
});

test('SmolLM2: golden chats, rendered by transformers', () => {
  const golden = goldenOf('smollm2');
  const keys = { ...chatKeys(golden.chat_template), tokens: ['<|endoftext|>', '<|im_start|>',
    '<|im_end|>'], bos: 1, eos: 2 };
  const template = new ChatTemplate(keys);
  assert.ok(golden.chats.length >= 4);
  for (const { messages, add_generation_prompt: addGenerationPrompt, text } of golden.chats) {
    assert.equal(template.render(messages, { addGenerationPrompt }), text);
  }
});

const smollm2 = join(modelFolder, named['smollm2-135m-instruct'].file);

test('SmolLM2: golden ids', { skip: !existsSync(smollm2) &&
  'not in the cache folder: node models/fetch/fetch.mjs smollm2-135m-instruct' }, async () => {
  const keys = await withEngine({}, (engine) =>
    readHeader(engine, smollm2, {}, ({ metadata }) => readTextKeys(metadata)));
  checkCases(new Tokenizer(keys), goldenOf('smollm2'));
});
