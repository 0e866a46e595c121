// onekv/constraint: what a model of random words says under a grammar is JSON of the schema, or
// matches the expression; what the grammar library refuses is an error in its own words.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { constrain } from '../../dist/src/facades/constraint.js';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { readTextKeys } from '../../dist/src/engine/text-keys.js';
import { readHeader } from '../../dist/src/engine-entry-node.js';
import { root } from './support.mjs';

const file = `${root}models/stories-q-mqa.q8_0.gguf`;
let engine;
let model;
/** The part of the public Model that grammars need. */
let named;

before(async () => {
  engine = await Engine.open();
  model = await loadModel(engine, file);
  const keys = await readHeader(engine, file, {}, ({ metadata }) => readTextKeys(metadata));
  const { tokenizer } = model;
  named = {
    description: model.description,
    vocabulary: async () => ({
      kind: keys.model, tokens: keys.tokens, ends: [...tokenizer.ends],
      controls: keys.tokens.map((_, i) => i).filter((i) => tokenizer.isControl(i)),
    }),
  };
});
after(() => engine.destroy());

/** Generates under a constraint until the model may end, and gives the text. */
async function say(constraint, seed) {
  const rule = await constrain(named, constraint);
  const session = model.openSession({ temperature: 1.2, seed });
  session.append(model.tokenizer.encode('Once upon a time'));
  const tokens = [];
  for (; tokens.length < 200;) {
    const allowed = await rule.allowed();
    const mask = (logits) => logits.forEach((_, t) => {
      if ((allowed[t >> 5] >>> (t & 31) & 1) === 0) logits[t] = Number.NEGATIVE_INFINITY;
    });
    const { token } = session.next({ mask });
    await rule.accept(token);
    if (model.tokenizer.ends.has(token)) break;
    tokens.push(token);
  }
  session.destroy();
  assert.ok(tokens.length < 200, 'it does not end');
  return model.tokenizer.decode(tokens);
}

const schema = {
  type: 'object', required: ['name', 'age', 'tags'], additionalProperties: false,
  properties: {
    name: { enum: ['Tim', 'Lily'] }, age: { type: 'integer', minimum: 0, maximum: 99 },
    tags: { type: 'array', items: { enum: ['red', 'big'] }, minItems: 1, maxItems: 3 },
  },
};

test('JSON of a schema', async () => {
  for (let seed = 0; seed < 5; seed++) {
    const found = JSON.parse(await say(schema, seed));
    assert.deepEqual(Object.keys(found), ['name', 'age', 'tags']);
    assert.ok(['Tim', 'Lily'].includes(found.name));
    assert.ok(Number.isInteger(found.age) && found.age >= 0 && found.age <= 99);
    assert.ok(found.tags.length >= 1 && found.tags.every((tag) => ['red', 'big'].includes(tag)));
  }
});

test('a regular expression', async () => {
  for (const pattern of [/(yes|no), \d{2,4}!/, /^[a-z]{3,5}$/, /é+ß/u]) {
    const whole = new RegExp(`^(?:${pattern.source})$`, 'u');
    for (let seed = 0; seed < 3; seed++) assert.match((await say(pattern, seed)).trim(), whole);
  }
});

test('what cannot be is refused in the library\'s words, and the next one works', async () => {
  const refused = (constraint, message) => assert.rejects(constrain(named, constraint),
    { name: 'OneKVError', code: 'INVALID_ARGUMENT', message });
  await refused({ type: 'nonsense' }, /^constraint: Unsupported type "nonsense"$/);
  await refused(/(?=a)b/, /Lookahead is not supported/);
  await refused(/a/i, /found "?the flags i/);
  await refused('{}', /JSON schema or a RegExp/);
  await refused(null, /JSON schema or a RegExp/);
  assert.match(await say(/ok/, 1), /^ ?ok$/);
  await assert.rejects(async () => (await constrain(named, /a+/)).accept(0),
    { code: 'WRONG_STATE' });
});
