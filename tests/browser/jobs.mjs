// The jobs that pages and Node do alike (page/job.mjs), and what their results are measured by.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';
import * as onekv from '../../dist/src/engine-entry-node.js';
import { runJob } from './page/job.mjs';

/** The expected logits of a golden file (tests/golden/README.md), and the ids that lead to them. */
function readGolden(name) {
  const bytes = readFileSync(join(root, `tests/golden/${name}.bin`));
  const { buffer } = Uint8Array.from(bytes);
  const [, , kind, rows, features, outRows, outputs] = new Uint32Array(buffer, 0, 7);
  assert.deepEqual([kind, features, outRows], [0, 0, rows]);
  return {
    ids: [...new Int32Array(buffer, 32, rows)],
    logits: [...new Float32Array(buffer, 32 + 4 * rows, rows * outputs)],
  };
}

const { ids, logits } = readGolden('llama-keqv-mqa');

/** All logits of a tiny model with shared projection, and what it would say next. */
export const golden = { model: '/golden/llama-keqv-mqa.gguf', ids, logits: true, tokens: 8 };
export const goldenLogits = logits;

/** A story by the model that ships; prompts.test.mjs argues for this prompt. int16: levels differ
 * in the last bits of floats, and int8 makes codes that differ of some of them. */
export const story = {
  model: '/models/stories-q-mqa.q8_0.gguf', prompt: 'Ben and Mia', tokens: 64,
  arithmetic: 'int16',
};

/** An answer of a community model. Its closest call is 0.08, with levels apart by some 0.002, and
 * int8 by more. */
export const smollm = 'smollm2-135m-instruct';
export const chat = {
  model: `/fetched/${named[smollm].file}`,
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  tokens: 24,
  arithmetic: 'int16',
};

/** Largest distance of two rows of numbers, in parts of the largest expected one. */
export function distance(found, expected) {
  assert.equal(found.length, expected.length);
  const largest = (numbers) => numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return largest(found.map((value, i) => value - expected[i])) / largest(expected);
}

/** Where the model of a job lies on this machine; the addresses are those of bundle.mjs. */
function fileOf(model) {
  const [, mount, name] = model.split('/');
  const folders = {
    golden: join(root, 'tests/golden'), models: join(root, 'models'), fetched: modelFolder,
  };
  return join(folders[mount], name);
}

const answers = new Map();

/** What Node says to a job; asked once for each. */
export function inNode(job) {
  const key = JSON.stringify(job);
  if (!answers.has(key)) {
    answers.set(key, runJob(onekv, { ...job, model: fileOf(job.model) }));
  }
  return answers.get(key);
}
