// Constraints: what a schema, an expression or a grammar takes and refuses, text by text; what a
// model of random words says under one; that memory and time are bounded and one serves many.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Engine, Grammars, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { translateRegExp } from '../../dist/src/text/regex.js';
import { root } from './support.mjs';

const file = `${root}models/stories-q-mqa.q8_0.gguf`;
const limit = { timeout: 120_000 };
let engine;
let core;
let grammars;
let model;

before(async () => {
  engine = await Engine.open({ threads: 1 });
  core = await loadModel(engine, file);
  grammars = new Grammars(core.tokenizer, core.description.outputs);
  model = await OneKV.load(file);
}, limit);
after(async () => {
  engine.destroy();
  await model.unload();
});

const json = (schema) => ({ kind: 'json', text: JSON.stringify(schema) });
const regex = ({ source, flags }) => ({ kind: 'regex', text: source, flags });
const hasBit = (mask, token) => (mask[token >> 5] >>> (token & 31) & 1) === 1;

/** Whether a whole text is one of the grammar, gone through token by token. */
async function takes(grammar, text) {
  const rule = await grammars.rule(grammar);
  try {
    for (const byte of new TextEncoder().encode(text)) {
      const token = byteTokens()[byte];
      if (!hasBit(await rule.allowed(), token)) return false;
      rule.accept(token);
    }
    return hasBit(await rule.allowed(), [...core.tokenizer.ends][0]);
  } finally {
    rule.free();
  }
}

let tokensOfBytes;
function byteTokens() {
  tokensOfBytes ??= Array.from({ length: 256 }, (_, byte) => Array.from(
    { length: core.tokenizer.size }, (__, id) => id).find((id) => {
    const bytes = grammars.tokens.bytesOf(id);
    return bytes.length === 1 && bytes[0] === byte;
  }));
  return tokensOfBytes;
}

async function check(grammar, good, bad) {
  for (const text of good) assert.equal(await takes(grammar, text), true, `should take ${text}`);
  for (const text of bad) assert.equal(await takes(grammar, text), false, `should refuse ${text}`);
}

const refused = (grammar, message, code = 'CONSTRAINT_REFUSED') =>
  assert.rejects(grammars.rule(grammar), { name: 'OneKVError', code, message });

test('numbers keep their bounds', limit, async () => {
  await check(json({ type: 'integer', minimum: 3 }), ['3', '10', '29'], ['2', '1', '-3', '3.5']);
  await check(json({ type: 'number', minimum: 0, maximum: 1 }), ['0', '0.75', '1'],
    ['1.5', '-0.1', '0}75']);
  await check(json({ type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 }), ['0.5'],
    ['0', '1']);
  await check(json({ type: 'integer', multipleOf: 7 }), ['0', '14', '49'], ['15', '1']);
});

test('strings keep lengths and patterns, with JSON\'s escapes', limit, async () => {
  const pair = json({ type: 'string', minLength: 2, maxLength: 3 });
  await check(pair, ['"ab"', '"\\"\\n"', '"äöü"'], ['"a"', '"abcd"', '"a\tb"', '"a"b"']);
  await check(json({ type: 'string', pattern: '^a.c$' }), ['"abc"', '"a\\"c"'],
    ['"a"c"', '"a\nc"', '"xabc"']);
  await check(json({ type: 'string', pattern: 'b+' }), ['"abbc"', '"b"'], ['"ac"']);
  await check(json({ type: 'string', pattern: '^\\d{2}$|^x' }), ['"12"', '"xyz"'],
    ['"1"', '"123"', '"٣٤"']);
  await check(json({ type: 'string', pattern: '^[äöüß]{2,4}$' }), ['"äß"', '"öüöü"'],
    ['"a"', '"ä"', '"\u00c3\u00c3"']);
});

test('applicators and references are not dropped', limit, async () => {
  const both = json({ allOf: [
    { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
    { type: 'object', properties: { b: { type: 'string' } }, required: ['b'] }] });
  await check(both, ['{"a": 1, "b": "x"}'], ['{"a": 1}', '{"b": "x"}', '{"a": "x", "b": "x"}']);
  const sibling = json({ $defs: { 'a/b': { type: 'integer' } }, $ref: '#/$defs/a~1b', minimum: 5 });
  await check(sibling, ['5', '17'], ['4', '"x"']);
  await check(json({ $defs: { n: { $anchor: 'name', pattern: '^\\w$', type: 'string' } },
    $ref: '#name' }), ['"z"'], ['"zz"', '"é"']);
  await check(json({ oneOf: [{ const: 1 }, { const: 'a' }] }), ['1', '"a"'], ['2']);
  await check(json({ type: 'object', patternProperties: { '^x_': { type: 'integer' } },
    additionalProperties: false }), ['{"x_a": 1}', '{}'], ['{"y": 1}', '{"x_a": "s"}']);
  await check({ kind: 'json', text: 'true' }, ['[1, {"a": null}]', '"x"'], ['[1,,2]']);
  await check(json({ type: 'object' }), ['{}', '{"a": [1]}'], ['[]', '1']);
});

test('what cannot be honoured is refused by its name and place', limit, async () => {
  for (const [schema, message] of [
    [{ not: { type: 'null' } }, /"not" at # \(the top of the schema\) is not supported$/],
    [{ type: 'array', contains: { const: 1 } }, /"contains" at #/],
    [{ properties: { a: { uniqueItems: true } } },
      /"uniqueItems" at #\/properties\/a is not supported$/],
    [{ if: { const: 1 }, then: { const: 1 } }, /"if" at #/],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, /oneOf/],
    [{ propertyNames: { pattern: 'a' } }, /"propertyNames"/],
    [{ $ref: 'other.json' }, /\$ref "other.json" to elsewhere/],
    [{ $ref: '#/$defs/none' }, /\$ref "#\/\$defs\/none" to nothing/],
    [{ type: 'integer', multipleOf: 123456789 }, /multipleOf 123456789/],
    [{ type: 'string', pattern: '(?=a)b' },
      /^constraint: look-around in a regular expression at #\/pattern is not supported$/],
    [{ type: 'string', format: 'nonsense' }, /format: nonsense/],
    [{ type: 'nonsense' }, /nonsense/],
    [{ $ref: '#' }, /./],
    [false, /allows nothing/],
  ]) await refused(json(schema), message);
  await refused(regex(/(?=a)b/), /look-around/);
  await refused(regex(/(?<!a)b/), /look-around in a regular expression is not supported$/);
  await refused(regex(/(a)\1/), /a back reference/);
  await refused(regex(/a\bc/), /\\b/);
  await refused(regex(/a/i), /the flag i in a regular expression is not supported; write \[Aa\]$/);
  await refused({ kind: 'lark', text: 'start: undefined_rule' }, /undefined_rule/);
  await refused({ kind: 'nonsense', text: '' }, /found Object, expected a schema/,
    'INVALID_ARGUMENT');
});

test('expressions mean what JavaScript\'s mean', limit, async () => {
  await check(regex(/^\d+$/), ['42'], ['٤٢', '']);
  await check(regex(/\w+/), ['az_9'], ['é']);
  await check(regex(/a.c/), ['abc', 'aéc'], ['a\nc']);
  await check(regex(/a.c/s), ['a\nc'], ['ac']);
  await check(regex(/^(?:yes|no)$|^maybe$/), ['yes', 'maybe'], ['yesno']);
  await check(regex(/[^\s"]{2}\/x/), ['ab/x', '\\é/x'], [' b/x', '""/x']);
  await check(regex(/[\w.-]+@\u00e9/), ['a.b-c@é'], ['@é']);
  await check(regex(/[[&&]--]/), ['[--]', '&--]'], ['x--]']);
  // A list of characters and the engine's own answer, for every class.
  const characters = [...'aZ_5-é٣\u00a0\u2003\ufeff\n\t ß'];
  for (const expression of [/\d/, /\D/, /\w/, /\W/, /\s/, /\S/, /./, /[^\d\s]/, /[\W_]/, /\x41|\t/,
    /\u{e9}/u, /\p{L}/u, /[a-z&&b]/, /[\b-]/]) {
    const whole = new RegExp(`^(?:${expression.source})$`, expression.flags);
    for (const character of characters) {
      assert.equal(await takes(regex(expression), character), whole.test(character),
        `${expression} and ${JSON.stringify(character)}`);
    }
  }
  assert.equal(translateRegExp('^a$|b', '', false), '(?:a|[\\x{0}-\\x{10FFFF}]*b[\\x{0}-' +
    '\\x{10FFFF}]*)');
});

test('a Lark grammar', limit, async () => {
  await check({ kind: 'lark', text: 'start: "(" start ")" | "x"' }, ['x', '((x))'], ['(x', 'y']);
});

test('hostile constraints cost time and memory within bounds', { timeout: 60_000 }, async () => {
  const nested = (n) => (n === 0 ? { type: 'null' }
    : { type: 'object', properties: { a: nested(n - 1) } });
  await refused(json(nested(500)), /more than \d+ deep/);
  const long = await grammars.rule(json({ type: 'string', maxLength: 10_000 }));
  long.free();
  let fine = 0;
  for (const schema of [nested(50), { enum: Array.from({ length: 5000 }, (_, i) => `n${i}`) },
    { type: 'string', pattern: '^(a{1,1000}){1,1000}$' }, { type: 'array', minItems: 100_000 },
    { allOf: Array.from({ length: 300 }, () => ({ type: 'object', minProperties: 1 })) },
    { type: 'string', pattern: '.{0,500}x.{500}' }]) {
    const started = performance.now();
    try {
      const rule = await grammars.rule(json(schema));
      rule.free();
      fine += 1;
    } catch (error) {
      assert.match(error.code, /^CONSTRAINT_/);
    }
    assert.ok(performance.now() - started < 10_000, JSON.stringify(schema).slice(0, 80));
  }
  assert.ok(fine >= 2);
  await check(json({ const: 1 }), ['1'], ['2']);
});

test('an instance that broke down is replaced, and answers on their way go on', limit, async () => {
  const rule = await grammars.rule(regex(/abc/));
  const [a, b] = [...'ab'].map((letter) => byteTokens()[letter.charCodeAt(0)]);
  await rule.allowed();
  rule.accept(a);
  grammars.breakForTests();
  const mask = await rule.allowed();
  assert.ok(hasBit(mask, b) && !hasBit(mask, a));
  rule.free();
});

test('a hundred schemas leave nothing behind', limit, async () => {
  const one = async (i) => {
    const rule = await grammars.rule(json({ type: 'object', properties: {
      [`key${i}`]: { type: 'string', maxLength: 10 + i }, n: { type: 'number' } } }));
    await rule.allowed();
    rule.free();
  };
  for (let i = 0; i < 20; i++) await one(i);
  const before = grammars.bytes;
  for (let i = 20; i < 120; i++) await one(i);
  assert.ok(grammars.bytes <= before + (2 << 20), `${before} bytes became ${grammars.bytes}`);
});

test('lazily: free text until a trigger, then the grammar, then free text again', limit,
  async () => {
    const lazy = { kind: 'lazy', parts: [{ trigger: ' was', grammar: regex(/ \d{3}!/) }] };
    const session = core.openSession({ temperature: 1, seed: 5 });
    let calls = 0;
    for (let seed = 0; seed < 4; seed++) {
      const rule = await grammars.lazyRule(lazy);
      const ids = core.tokenizer.encode('Once upon a time there');
      let text = '';
      for await (const part of generate(session, core.tokenizer, ids,
        { maxTokens: 80, constraint: rule })) text += part.text;
      rule.free();
      // Cut where maxTokens may have ended a call.
      for (const [, after] of text.matchAll(/ was(.{5})/gs)) {
        assert.match(after, /^ \d{3}!$/, text);
        calls += 1;
      }
    }
    session.destroy();
    assert.ok(calls >= 4, `${calls} calls`);
    await assert.rejects(grammars.lazyRule({ kind: 'lazy',
      parts: [{ trigger: 'x', grammar: json({ not: {} }) }] }), /"not"/);
    // Not from outside.
    await refused(lazy, /expected a schema/, 'INVALID_ARGUMENT');
  });

const schema = {
  type: 'object', required: ['name', 'age', 'tags'], additionalProperties: false,
  properties: {
    name: { enum: ['Tim', 'Lily'] }, age: { type: 'integer', minimum: 0, maximum: 99 },
    tags: { type: 'array', items: { enum: ['red', 'big'] }, minItems: 1, maxItems: 3 },
  },
};

test('in the worker: one constraint for many answers, at the same time', limit, async () => {
  const constraint = await model.constrain(schema);
  const texts = await Promise.all(Array.from({ length: 6 }, async (_, seed) => {
    const session = await model.createSession({ temperature: 1.2, seed });
    const text = await session.prompt('Once upon a time', { constraint });
    await session.destroy();
    return text;
  }));
  for (const text of texts) {
    const found = JSON.parse(text);
    assert.deepEqual(Object.keys(found), ['name', 'age', 'tags']);
    assert.ok(['Tim', 'Lily'].includes(found.name));
    assert.ok(Number.isInteger(found.age) && found.age >= 0 && found.age <= 99);
    assert.ok(found.tags.length >= 1 && found.tags.every((tag) => ['red', 'big'].includes(tag)));
  }
  assert.ok(new Set(texts).size > 1);
});

test('in the worker: given directly, refused before the first token, aborted', limit, async () => {
  const session = await model.createSession({ temperature: 1, seed: 1 });
  assert.match(await session.prompt('They had', { constraint: / \d\d toys/ }), /^ ?\d\d toys$/);
  assert.match(await session.prompt('And', { constraint: { lark: 'start: "a" | "b"' } }), /^[ab]$/);
  const object = await session.prompt('So', { constraint: { type: 'json_object' }, maxTokens: 60 });
  assert.match(object, /^ ?\{/);
  const before = session.contextUsage;
  await assert.rejects(session.prompt('x', { constraint: { not: {} } }),
    { code: 'CONSTRAINT_REFUSED' });
  const circular = {};
  circular.self = circular;
  for (const constraint of ['{}', null, 7, [], circular, () => {}]) {
    await assert.rejects(session.prompt('x', { constraint }), { code: 'INVALID_ARGUMENT' });
    await assert.rejects(model.constrain(constraint), { code: 'INVALID_ARGUMENT' });
  }
  assert.equal(session.contextUsage, before);
  await assert.rejects(model.constrain(schema, { signal: AbortSignal.abort(new Error('stop')) }),
    /stop/);
  const controller = new AbortController();
  const aborted = model.constrain({ enum: Array.from({ length: 3000 }, (_, i) => i) },
    { signal: controller.signal });
  controller.abort(new Error('no more'));
  await assert.rejects(aborted, /no more/);
  await session.destroy();
});
