// Chat templates as this package renders them, compared with Python's Jinja:
//
//   node tests/bench/templates.mjs FOLDER EXPECTED.jsonl [--why]
//
// FOLDER has the *.jinja files, EXPECTED.jsonl is what templates.py has made of them. Prints how
// many are equal, refused by both, refused here alone; one that differs is a failure (status 1).
// 71 templates are in PyPI's llama-cpp-python, vendor/llama.cpp/models/templates.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChatTemplate } from '../../dist/src/engine-entry-node.js';

const [folder, expected, option] = process.argv.slice(2);
const now = new Date(2026, 10, 27, 12);

function render(source, given) {
  const template = new ChatTemplate({ chatTemplate: source, bos: 0, eos: 1,
    tokens: ['<bos>', '<eos>'] });
  return template.renderItems({ add_generation_prompt: true, ...given }, now);
}

const counts = { equal: 0, 'refused by both': 0, 'refused by Python alone': 0,
  'refused here alone': 0, different: 0 };
const why = (text) => option === '--why' && process.stdout.write(`${text}\n`);

for (const line of readFileSync(expected, 'utf8').trim().split('\n')) {
  const { template, case: name, given, crlf, text, error } = JSON.parse(line);
  const source = readFileSync(join(folder, template), 'utf8');
  let result = 'equal';
  let said;
  try {
    said = render(crlf ? source.replaceAll('\n', '\r\n') : source, given);
    if (error !== undefined) result = 'refused by Python alone';
    else if (said !== text) result = 'different';
  } catch (thrown) {
    said = thrown.message;
    result = error === undefined ? 'refused here alone' : 'refused by both';
  }
  counts[result] += 1;
  if (result === 'different') {
    const at = [...text].findIndex((letter, i) => said[i] !== letter);
    const near = (all) => JSON.stringify(all.slice(Math.max(0, at - 30), at + 60));
    why(`${template}, ${name}: ${near(text)} expected, ${near(said)} found`);
  } else if (result !== 'equal' && result !== 'refused by both') {
    why(`${template}, ${name}: ${result}: ${error ?? said}`);
  }
}
for (const [name, count] of Object.entries(counts)) process.stdout.write(`${name}: ${count}\n`);
if (counts.different > 0) process.exitCode = 1;
