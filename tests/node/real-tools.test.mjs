// A small model calls a weather tool and a calculator, greedily: what it calls and says is recorded
// (tests/browser/page/tools.mjs, which Chromium runs too).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { callTools, loadOptions, recorded } from '../browser/page/tools.mjs';
import { fetchOrSkip } from './recorded.mjs';

test('a small model calls a weather tool and a calculator', { timeout: 900_000 }, async (t) => {
  const { path, skip } = await fetchOrSkip('qwen2.5-coder-0.5b-instruct');
  if (skip !== undefined) return t.skip(skip);
  const model = await OneKV.load(path, loadOptions);
  assert.deepEqual(await callTools(model), recorded);
  await model.unload();
});
