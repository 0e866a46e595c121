// Constraints against the public JSON-Schema-Test-Suite (draft 2020-12, its optional parts aside),
// keyword by keyword, as the table in web/docs/constraints.md has it:
//
//   node tests/bench/schema-suite.mjs FOLDER [--check | --write | --why]
//
// FOLDER holds the suite's files by keyword: json/tests/draft2020-12 of the source package of
// PyPI's jsonschema, which carries the suite:
//
//   pip download --no-deps --no-binary :all: jsonschema==4.26.0 && tar xzf jsonschema-4.26.0.tar.gz
//
// An instance is accepted if it is in some order of its outermost keys: a grammar has one order, a
// validator none. An invalid instance that is accepted is a failure (status 1).
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../wasm/toolchain/shell.mjs';
import { accepts, grammars, write } from './judge.mjs';

const [folder, option] = process.argv.slice(2);
const page = join(root, 'web/docs/constraints.md');
const table = /(<!-- schema-suite -->\n)[^]*(<!-- end of schema-suite -->)/;
const keysMost = 4;

function orders(keys) {
  if (keys.length < 2 || keys.length > keysMost) return [keys];
  return keys.flatMap((key) => orders(keys.filter((other) => other !== key))
    .map((rest) => [key, ...rest]));
}

function textsOf(data) {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return [write(data)];
  return orders(Object.keys(data)).map((keys) =>
    `{${keys.map((key) => `${JSON.stringify(key)}: ${write(data[key])}`).join(', ')}}`);
}

async function acceptsData(grammar, data) {
  for (const text of textsOf(data)) if (await accepts(grammar, text)) return true;
  return false;
}

const why = (text) => option === '--why' && process.stdout.write(`${text}\n`);

async function judge(keyword, { description, schema, tests }, counts) {
  const grammar = { kind: 'json', text: JSON.stringify(schema) };
  try {
    (await grammars.rule(grammar)).free();
  } catch (error) {
    counts.refused += 1;
    why(`${keyword}: ${description}: ${error.message}`);
    return;
  }
  counts.taken += 1;
  for (const { data, valid, description: what } of tests) {
    const accepted = await acceptsData(grammar, data);
    counts[`${valid ? 'valid' : 'invalid'}${accepted ? 'Accepted' : 'Rejected'}`] += 1;
    if (accepted !== valid) {
      why(`${keyword}: ${description}: ${what}: ${write(data)} is ${valid ? 'valid and rejected'
        : 'INVALID AND ACCEPTED'}`);
    }
  }
}

const rows = [];
for (const name of readdirSync(folder).filter((file) => file.endsWith('.json')).sort()) {
  const counts = { taken: 0, refused: 0, validAccepted: 0, validRejected: 0, invalidRejected: 0,
    invalidAccepted: 0 };
  const keyword = name.replace('.json', '');
  for (const group of JSON.parse(readFileSync(join(folder, name), 'utf8'))) {
    await judge(keyword, group, counts);
  }
  rows.push([keyword, counts]);
}
const names = Object.keys(rows[0][1]);
const sum = Object.fromEntries(names.map((name) =>
  [name, rows.reduce((total, [, counts]) => total + counts[name], 0)]));
const lines = [...rows, ['all', sum]].map(([keyword, counts]) =>
  `| ${keyword} | ${names.map((name) => counts[name]).join(' | ')} |\n`);
const text = '| file | schemas taken | refused | valid accepted | rejected | invalid rejected | ' +
  `accepted |\n|---|---|---|---|---|---|---|\n${lines.join('')}`;

const before = readFileSync(page, 'utf8');
const after = before.replace(table, (_, start, end) => `${start}${text}${end}`);
if (option === '--write') writeFileSync(page, after);
else if (option === '--check' && after !== before) {
  process.stdout.write(`web/docs/constraints.md: its table is another; --write writes it\n${text}`);
  process.exitCode = 1;
} else if (option !== '--check') process.stdout.write(text);
if (sum.invalidAccepted > 0) process.exitCode = 1;
