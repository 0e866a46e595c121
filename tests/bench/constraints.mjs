// How constraints judge the instances of a sample of MaskBench, against the labels it comes with:
//
//   node tests/bench/constraints.mjs SAMPLE.jsonl
//
// A line of the sample is a schema with its instances: { name, schema, tests: [{ data, valid }] }.
// Texts are gone through byte by byte, as `{"a": 1, "b": [2, 3]}`. An invalid instance that is
// accepted, or fewer than nine of ten schemas from the wild taken, is a failure (status 1).
import { readFileSync } from 'node:fs';
import { accepts, grammars, write } from './judge.mjs';

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
    try {
      const accepted = await accepts(grammar, write(data));
      count(`${valid ? 'valid' : 'invalid'} ${accepted ? 'accepted' : 'rejected'}`);
    } catch (error) {
      count(`gave up: ${error.code}`);
    }
  }
}

for (const line of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  await judge(JSON.parse(line));
}
for (const name of Object.keys(counts).sort()) process.stdout.write(`${name}: ${counts[name]}\n`);
const enough = counts['taken from the wild'] >= 0.9 * counts['schemas from the wild'];
if (counts['invalid accepted'] > 0 || !enough) process.exitCode = 1;
