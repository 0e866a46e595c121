// How constraints judge the instances of a sample of MaskBench, against the labels it comes with:
//
//   node tests/bench/constraints.mjs SAMPLE.jsonl
//
// A line of the sample is a schema with its instances: { name, schema, tests: [{ data, valid }] }.
// Texts are gone through byte by byte, as `{"a": 1, "b": [2, 3]}`. An invalid instance that is
// accepted, or fewer than nine of ten schemas from the wild taken, is a failure (status 1).
import { readFileSync } from 'node:fs';
import { Grammars } from '../../dist/src/engine-entry-node.js';

const end = 256;
/** A vocabulary of the 256 bytes and an end. */
const bytes = {
  ends: new Set([end]), size: 257, isControl: () => false,
  bytesOf: (id) => (id < end ? Uint8Array.of(id) : new Uint8Array(0)),
};

/** JSON with one blank after commas and colons. */
function write(value) {
  if (Array.isArray(value)) return `[${value.map(write).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, part]) =>
    `${JSON.stringify(key)}: ${write(part)}`).join(', ')}}`;
}

const allows = (mask, token) => (mask[token >> 5] >>> (token & 31) & 1) === 1;

async function accepts(rule, text) {
  for (const byte of new TextEncoder().encode(text)) {
    if (!allows(await rule.allowed(), byte)) return false;
    rule.accept(byte);
  }
  return allows(await rule.allowed(), end);
}

const grammars = new Grammars(bytes, 257);
const counts = {};
const count = (name, by = 1) => { counts[name] = (counts[name] ?? 0) + by; };

async function judge({ name, schema, tests = [] }) {
  const wild = /^(Handwritten|Synthesized)/.test(name) ? ' made by hand' : ' from the wild';
  const grammar = { kind: 'json', text: JSON.stringify(schema) };
  count(`schemas${wild}`);
  try {
    (await grammars.rule(grammar)).free();
  } catch (error) {
    count(`refused${wild}: ${error.code}`);
    if (process.argv.includes('--why')) process.stdout.write(`${name}: ${error.message}\n`);
    return;
  }
  count(`taken${wild}`);
  for (const { data, valid } of tests) {
    const rule = await grammars.rule(grammar);
    try {
      const accepted = await accepts(rule, write(data));
      count(`${valid ? 'valid' : 'invalid'} ${accepted ? 'accepted' : 'rejected'}`);
    } catch (error) {
      count(`gave up: ${error.code}`);
    } finally {
      rule.free();
    }
  }
}

for (const line of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  await judge(JSON.parse(line));
}
for (const name of Object.keys(counts).sort()) process.stdout.write(`${name}: ${counts[name]}\n`);
const enough = counts['taken from the wild'] >= 0.9 * counts['schemas from the wild'];
if (counts['invalid accepted'] > 0 || !enough) process.exitCode = 1;
