// Pages that a session takes before its tokens come.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { goldenPath } from './support.mjs';

test('reserved pages are counted, used and given back', async () => {
  const engine = await Engine.open({ threads: 1 });
  const model = await loadModel(engine, goldenPath('llama-keqv-mqa'));
  const session = model.openSession();
  const { contextWindow } = session;
  assert.throws(() => session.reserve(contextWindow + 1), { code: 'CONTEXT_FULL' });
  assert.throws(() => session.reserve(-1), { code: 'INVALID_ARGUMENT' });
  assert.equal(model.memory().cache, 0);
  session.reserve(contextWindow);
  const { cacheUsed } = model.memory();
  assert.equal(cacheUsed, model.cache.bytes(contextWindow, { wholePages: true }).total);
  session.append([1, 2, 3]);
  assert.equal(model.memory().cacheUsed, cacheUsed);
  assert.equal(session.memory().cachePages, cacheUsed);
  session.truncate(0);
  assert.equal(model.memory().cacheUsed, 0);
  session.reserve(40);
  session.truncate(0);
  assert.equal(model.memory().cacheUsed, 0);
  session.destroy();
  engine.destroy();
});
