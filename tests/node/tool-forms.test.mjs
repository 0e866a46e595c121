// Whatever a form's grammar lets a model write can be read, and its arguments are valid: random
// walks through the grammars of all forms, with tags that are text and tags that are tokens.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';
import { Grammars } from '../../dist/src/engine-entry-node.js';
import { toolForms } from '../../dist/src/text/tool-forms.js';

const limit = { timeout: 240_000 };
const tools = [{ name: 'get_weather', inputSchema: {
  type: 'object', required: ['city', 'place', 'tags'], properties: {
    city: { type: 'string', maxLength: 6, description: 'Its name' },
    unit: { enum: ['C', 'F<&'] }, days: { type: 'integer', minimum: 3, maximum: 12 },
    flag: { type: 'boolean' }, ratio: { type: 'number', minimum: 0, maximum: 1 },
    tags: { type: 'array', minItems: 1, maxItems: 2, items: { enum: ['red', 'big'] } },
    place: { type: 'object', required: ['lat'], additionalProperties: false, properties: {
      lat: { type: 'number' }, label: { type: 'string', minLength: 1, maxLength: 3 } } },
    note: { anyOf: [{ type: 'string', maxLength: 2 }, { type: 'null' }] },
    kind: { const: 'x' }, most: { type: ['integer', 'null'] } } } },
{ name: 'now' }];
const validate = new Ajv({ strict: false })
  .compile({ ...tools[0].inputSchema, additionalProperties: false });

/** A vocabulary of bytes, an end, and these texts as control tokens. */
function vocabulary(marks) {
  const end = 256;
  const ids = new Map(marks.map((mark, i) => [mark, end + 1 + i]));
  const encoder = new TextEncoder();
  const grammars = new Grammars({
    ends: new Set([end]), size: 257 + marks.length, isControl: (id) => id > end,
    bytesOf: (id) => (id < end ? Uint8Array.of(id)
      : id === end ? new Uint8Array(0) : encoder.encode(marks[id - end - 1])),
  }, 257 + marks.length);
  const mark = (text) => (ids.has(text) ? `<[${ids.get(text)}]>` : JSON.stringify(text));
  return { end, marks, grammars, mark };
}

/** Repeatable numbers below 1. */
function randoms(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A text of the grammar: its tokens by chance, those of ASCII mostly; undefined: too long. */
async function walk({ grammars, end, marks }, text, next) {
  const rule = await grammars.rule({ kind: 'lark', text });
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let written = '';
  try {
    for (let i = 0; i < 900; i++) {
      const mask = await rule.allowed();
      const allowed = Array.from({ length: end + 1 + marks.length }, (_, id) => id)
        .filter((id) => (mask[id >> 5] >>> (id & 31) & 1) === 1);
      if (allowed.length === 0 || allowed.includes(end)) return written + decoder.decode();
      // Tags and quotes end what is free.
      const short = allowed.filter((id) => id > end || '"}],\\'.includes(String.fromCharCode(id)));
      const from = short.length > 0 && next() < 0.3 ? short : allowed;
      const token = from[Math.floor(next() * from.length)];
      written += token > end ? decoder.decode() + marks[token - end - 1]
        : decoder.decode(Uint8Array.of(token), { stream: true });
      await rule.accept(token);
    }
    return undefined;
  } finally {
    rule.free();
  }
}

const marksOf = { gemma: ['<|"|>', '<tool_call|>'], function: ['<escape>', '<end_function_call>'],
  deepseek: ['<｜tool▁call▁begin｜>', '<｜tool▁sep｜>', '<｜tool▁call▁end｜>',
    '<｜tool▁calls▁end｜>'],
  hermes: ['</tool_call>'], elements: ['</tool_call>'], parameters: ['</function>'],
  python: ['<|tool_call_end|>'], names: ['[ARGS]'] };

test('what a grammar lets through is read, and valid', limit, async (t) => {
  const plain = vocabulary([]);
  for (const form of toolForms.flatMap((one) => [one, ...one.also ?? []])) {
    const marked = marksOf[form.name] === undefined ? [] : [vocabulary(marksOf[form.name])];
    for (const words of [plain, ...marked]) {
      const next = randoms(11);
      const seen = { calls: 0, weather: 0 };
      const grammar = form.grammar({ tools, mark: words.mark, closes: form.closer !== '',
        once: false });
      for (let i = 0; i < 25; i++) {
        const text = await walk(words, grammar, next);
        if (text === undefined) continue;
        const inner = form.closer !== '' && text.endsWith(form.closer)
          ? text.slice(0, -form.closer.length) : text;
        const calls = form.read(inner, tools);
        assert.ok(calls !== undefined, `${form.name}: ${JSON.stringify(text)}`);
        for (const { name, arguments: given } of calls) {
          seen.calls += 1;
          if (name === 'now') assert.deepEqual(given, {});
          else {
            seen.weather += 1;
            assert.ok(validate(given), `${form.name}: ${JSON.stringify(text)} ` +
              JSON.stringify(validate.errors));
          }
        }
      }
      assert.ok(seen.calls >= 20 && seen.weather > 4, `${form.name}: ${JSON.stringify(seen)}`);
      t.diagnostic(`${form.name}: ${seen.calls} calls`);
    }
  }
});

test('what a form cannot honour is refused by the name of the keyword', () => {
  const given = (schema) => ({ tools: [{ name: 'f', inputSchema: { type: 'object',
    properties: { a: schema } } }], mark: JSON.stringify, closes: true, once: false });
  const form = (name) => toolForms.find((one) => one.name === name);
  const refuses = (name, schema, keyword) => assert.throws(() => form(name).grammar(given(schema)),
    { code: 'CONSTRAINT_REFUSED', message: new RegExp(`"${keyword}"`) }, name);
  for (const name of ['gemma', 'function', 'parameters', 'elements']) {
    refuses(name, { type: 'string', format: 'date' }, 'format');
    refuses(name, { type: 'string', pattern: '^a$', maxLength: 3 }, 'pattern');
  }
  refuses('gemma', { oneOf: [{ type: 'string' }, { type: 'null' }], type: 'array' }, 'oneOf');
  refuses('gemma', { type: 'array', uniqueItems: true }, 'uniqueItems');
  refuses('gemma', { type: 'object', required: ['b'] }, 'required');
  refuses('hermes', { not: {} }, 'not');
  for (const { name } of toolForms) {
    assert.match(form(name).grammar(given({ type: 'string', pattern: '^[a/]{2}$' })), /^start: /);
  }
});
