// Bounds of numbers under a constraint: every pair of a list, of both kinds, against what
// JavaScript's own comparison says of texts of numbers near to them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Engine, Grammars, loadModel } from '../../dist/src/engine-entry-node.js';
import { prepareSchema } from '../../dist/src/text/schema.js';
import { root } from './support.mjs';

const limit = { timeout: 240_000 };
let engine;
let grammars;
let bytes;
let end;

before(async () => {
  engine = await Engine.open({ threads: 1 });
  const { tokenizer, description } = await loadModel(engine,
    `${root}models/stories-q-mqa.q8_0.gguf`);
  grammars = new Grammars(tokenizer, description.outputs);
  [end] = tokenizer.ends;
  bytes = new Map();
  for (let id = 0; id < tokenizer.size; id++) {
    const of = grammars.tokens.bytesOf(id);
    if (of.length === 1) bytes.set(of[0], id);
  }
}, limit);
after(() => engine.destroy());

const hasBit = (mask, token) => (mask[token >> 5] >>> (token & 31) & 1) === 1;
const json = (schema) => ({ kind: 'json', text: JSON.stringify(schema) });

async function takes(grammar, text) {
  const rule = await grammars.rule(grammar);
  try {
    for (const byte of new TextEncoder().encode(text)) {
      const token = bytes.get(byte);
      if (!hasBit(await rule.allowed(), token)) return false;
      rule.accept(token);
    }
    return hasBit(await rule.allowed(), end);
  } finally {
    rule.free();
  }
}

function isWithin(schema, value) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  return (schema.type !== 'integer' || Number.isInteger(value)) &&
    (minimum === undefined || value >= minimum) && (maximum === undefined || value <= maximum) &&
    (exclusiveMinimum === undefined || value > exclusiveMinimum) &&
    (exclusiveMaximum === undefined || value < exclusiveMaximum);
}

const bounds = [undefined, -11, -10.5, -10, -0.5, 0, 0.25, 10, 10.5, 11];
const texts = ['-12', '-11', '-10.75', '-10.5', '-10.0', '-10', '-9', '-0.6', '-0.5', '-0.0', '0',
  '0.0', '0.1', '0.25', '0.3', '9.75', '10', '10.0', '10.25', '10.5', '10.50', '11', '12'];

/** Every schema of two bounds that some number keeps to. */
function* schemas(type) {
  for (const low of bounds) {
    for (const high of bounds) {
      for (const lowName of ['minimum', 'exclusiveMinimum']) {
        for (const highName of ['maximum', 'exclusiveMaximum']) {
          const schema = { type, [lowName]: low, [highName]: high };
          if (texts.some((text) => isWithin(schema, Number(text)))) yield schema;
        }
      }
    }
  }
}

for (const type of ['number', 'integer']) {
  test(`${type}: nothing outside of any two bounds, and what is inside`, limit, async () => {
    let count = 0;
    for (const schema of schemas(type)) {
      for (const text of texts) {
        const taken = await takes(json(schema), text);
        const value = Number(text);
        const where = `${JSON.stringify(schema)}: ${text}`;
        if (taken) assert.ok(isWithin(schema, value), where);
        // Whole numbers have no decimals here, and 0 has no sign.
        const isPlain = String(value) === text && !Object.is(value, -0);
        if (isPlain && isWithin(schema, value)) assert.ok(taken, `${where} is not taken`);
        count += 1;
      }
    }
    assert.ok(count > 4000, `${count} texts`);
  });
}

test('bounds that are put together keep to each other', limit, async () => {
  const both = json({ allOf: [{ type: 'number', exclusiveMinimum: 10 }, { maximum: 10.5 }] });
  assert.equal(await takes(both, '10'), false);
  assert.equal(await takes(both, '10.0'), false);
  assert.equal(await takes(both, '10.1'), true);
  const old = json({ type: 'number', minimum: 0, exclusiveMinimum: true, maximum: 0.5 });
  assert.equal(await takes(old, '0'), false);
  assert.equal(await takes(old, '0.5'), true);
});

test('bounds beyond 64 bits: kept to, or refused by name', limit, async () => {
  for (const [schema, good, bad] of [
    [{ maximum: 1e300 }, ['5', '-7', '9000000000000000000'], []],
    [{ minimum: 0, maximum: 18446744073709551615 }, ['0', '1234567890123456789'], ['-1']],
    [{ minimum: -9223372036854775808, maximum: 9223372036854775807 }, ['-1', '0', '7'], []],
    [{ minimum: 2e18 }, ['3000000000000000000'], ['1999999999999999999', '5']],
    [{ maximum: -2e18 }, ['-3000000000000000000'], ['-1999999999999999999', '5', '0']],
    [{ exclusiveMinimum: 9007199254740992 }, ['9007199254740994'], ['9007199254740992']],
    [{ exclusiveMaximum: -1e17 }, ['-200000000000000000'], ['-100000000000000000', '1']],
  ]) {
    for (const type of ['integer', 'number']) {
      for (const text of good) {
        assert.ok(await takes(json({ type, ...schema }), text),
          `${type} ${JSON.stringify(schema)} ${text}`);
      }
      for (const text of bad) {
        assert.equal(await takes(json({ type, ...schema }), text), false,
          `${type} ${JSON.stringify(schema)} ${text}`);
      }
    }
  }
  for (const [schema, message] of [
    [{ minimum: 1e19 }, /minimum 10000000000000000000 \(beyond 2\^63\) at #/],
    [{ maximum: -1e300 }, /maximum -1e\+300 \(beyond -2\^63\) at #/],
    [{ exclusiveMinimum: 1e19 }, /exclusiveMinimum 10000000000000000000/],
    [{ minimum: '5' }, /minimum that is not a number at #/],
    [{ exclusiveMaximum: null }, /exclusiveMaximum that is not a number at #/],
  ]) {
    await assert.rejects(grammars.rule(json({ type: 'integer', ...schema })),
      { code: 'CONSTRAINT_REFUSED', message });
  }
});

test('bounds next to 0', limit, async () => {
  for (const tiny of [5e-324, 1e-300, 1.2345678901234567e-9]) {
    const above = json({ type: 'number', minimum: tiny, maximum: 0.5 });
    assert.equal(await takes(above, '0'), false);
    assert.equal(await takes(above, '0.0'), false);
    assert.equal(await takes(above, '0.25'), true);
    const below = json({ type: 'number', minimum: -0.5, exclusiveMaximum: -tiny });
    assert.equal(await takes(below, '0'), false);
    assert.equal(await takes(below, '-0.0'), false);
    assert.equal(await takes(below, '-0.25'), true);
  }
});

test('a property called minimum is no bound', () => {
  const schema = { type: 'object', properties: { minimum: { type: 'string' } } };
  assert.deepEqual(JSON.parse(prepareSchema(JSON.stringify(schema))), schema);
});
