// What a story model writes at temperature 1 under thirty schemas, three hundred times, judged by
// another program: all of it parses, and Ajv finds all of it valid.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { Engine, Grammars, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { root } from './support.mjs';

const limit = { timeout: 300_000 };
const short = { type: 'string', maxLength: 12 };
const small = { type: 'integer', minimum: -99, maximum: 99 };
const record = (properties, required = Object.keys(properties)) =>
  ({ type: 'object', properties, required, additionalProperties: false });

const schemas = [
  { type: 'boolean' },
  { type: 'null' },
  { const: { a: [1, 'two', null] } },
  { enum: ['Tim', 'Lily', 3, null, [true]] },
  { type: 'integer', minimum: 3, maximum: 3000 },
  { type: 'integer', exclusiveMinimum: -7, exclusiveMaximum: 12 },
  { type: 'integer', multipleOf: 7, minimum: 0, maximum: 700 },
  { type: 'number', minimum: 0, maximum: 1, multipleOf: 0.01 },
  { type: 'number', exclusiveMinimum: 0.5, exclusiveMaximum: 0.75, multipleOf: 0.001 },
  { type: 'string', minLength: 2, maxLength: 9 },
  { type: 'string', pattern: '^[A-Z][a-z]{1,8}( [A-Z]\\.)?$' },
  { type: 'string', pattern: '^\\d{3}-\\w{2}$' },
  { type: 'string', format: 'date' },
  { type: 'string', format: 'uuid' },
  { type: 'string', format: 'ipv4' },
  { type: ['string', 'integer'], maxLength: 5, maximum: 10, minimum: 0 },
  { type: 'array', items: small, minItems: 2, maxItems: 5 },
  { type: 'array', prefixItems: [short, { type: 'boolean' }], items: false, minItems: 2 },
  { type: 'array', items: { type: 'array', items: { type: 'boolean' }, maxItems: 2 }, maxItems: 3 },
  record({ name: short, age: { type: 'integer', minimum: 1, maximum: 9 } }),
  record({ name: short, tags: { type: 'array', items: short, maxItems: 2 } }, ['name']),
  record({ a: { type: 'null' }, b: { type: 'boolean' }, c: small }, []),
  record({ place: record({ city: short, zip: { type: 'string', pattern: '^\\d{5}$' } }) }),
  { type: 'object', properties: { n: small }, required: ['n'], maxProperties: 3,
    patternProperties: { '^m_[a-z]{1,3}$': small }, additionalProperties: false },
  { type: 'object', patternProperties: { '^x_[a-z]{1,4}$': { type: 'boolean' } },
    additionalProperties: false, maxProperties: 2 },
  { anyOf: [record({ kind: { const: 'cat' }, lives: small }), record({ kind: { const: 'dog' } })] },
  { oneOf: [{ type: 'boolean' }, { type: 'string', maxLength: 3 }] },
  { allOf: [{ type: 'integer', minimum: 5 }, { type: 'integer', maximum: 50 }] },
  { $defs: { tree: record({ value: small,
    children: { type: 'array', items: { $ref: '#/$defs/leaf' }, maxItems: 2 } }),
  leaf: record({ value: small }) }, $ref: '#/$defs/tree' },
  record({ call: { enum: ['add', 'sub'] },
    arguments: { type: 'array', prefixItems: [small, small], items: false, minItems: 2 } }),
];

test('three hundred answers of thirty schemas are JSON and valid', limit, async (t) => {
  const engine = await Engine.open({ threads: 1 });
  t.after(() => engine.destroy());
  const model = await loadModel(engine, `${root}models/stories-q-mqa.q8_0.gguf`);
  const grammars = new Grammars(model.tokenizer, model.description.outputs);
  const ajv = formats.default(new Ajv2020({ strictTypes: false, strictTuples: false }));
  const prompt = model.tokenizer.encode('Once upon a time there was a ');
  assert.equal(schemas.length, 30);
  const texts = new Set();
  for (const schema of schemas) {
    const isValid = ajv.compile(schema);
    for (let seed = 0; seed < 10; seed++) {
      const session = model.openSession({ temperature: 1, seed });
      const rule = await grammars.rule({ kind: 'json', text: JSON.stringify(schema) });
      const parts = generate(session, model.tokenizer, prompt,
        { constraint: rule, maxTokens: 400 });
      let next = await parts.next();
      while (!next.done) next = await parts.next();
      const { text, reason } = next.value;
      rule.free();
      session.destroy();
      const where = `${JSON.stringify(schema)}, seed ${seed}: ${text}`;
      assert.equal(reason, 'end', where);
      assert.ok(isValid(JSON.parse(text)), `${where}: ${ajv.errorsText(isValid.errors)}`);
      texts.add(`${JSON.stringify(schema)} ${text}`);
    }
  }
  // Not the same few words again and again.
  assert.ok(texts.size > 150, `${texts.size} different answers`);
});
