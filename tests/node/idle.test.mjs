// Models that are unloaded while nobody uses them, and what is left of their sessions.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { root } from './support.mjs';

const limit = { timeout: 120_000 };
const folder = mkdtempSync(join(tmpdir(), 'onekv-idle-'));
const file = join(folder, 'model.gguf');
const sampling = { temperature: 0.8, seed: 7 };
const some = { maxTokens: 12 };

before(() => copyFileSync(`${root}models/stories-q-mqa.q8_0.gguf`, file));
after(() => rmSync(folder, { recursive: true }));

async function until(what, ms = 60_000) {
  for (const end = performance.now() + ms; !what();) {
    assert.ok(performance.now() < end, 'waited in vain');
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

const load = (unloadAfter) => OneKV.load(file, { threads: 1, unloadAfter });

test('sessions go on as if nothing had happened', limit, async () => {
  const [plain, idle] = [await OneKV.load(file, { threads: 1 }), await load(0.05)];
  const tell = async (model, pause) => {
    const session = await model.createSession(sampling);
    const texts = [await session.prompt('Once upon a time', some)];
    await pause();
    const twin = await session.clone();
    texts.push(await session.prompt(' Then', some), await twin.prompt(' But', some));
    await pause();
    texts.push(await twin.prompt(' So', some), await session.prompt(' And', some));
    const { bySession } = await model.memory();
    return { texts, ids: bySession.map((one) => one.session), usage: session.contextUsage };
  };
  const expected = await tell(plain, () => {});
  assert.equal(plain.isLoaded, true);
  let naps = 0;
  const found = await tell(idle, async () => {
    await until(() => !idle.isLoaded);
    naps += 1;
  });
  assert.deepEqual(found, expected);
  assert.equal(naps, 2);
  await plain.unload();
  assert.equal(plain.isLoaded, false);
  await idle.unload();
});

test('what does not need the model wakes nobody', limit, async () => {
  const model = await load(0.05);
  const [one, two] = [await model.createSession(), await model.createSession()];
  await until(() => !model.isLoaded);
  let told = 0;
  model.addEventListener('memory', () => { told += 1; });
  await one.destroy();
  assert.equal(model.isLoaded, false);
  assert.ok((await two.prompt('Once', some)).length > 0);
  await until(() => told > 0);
  await assert.rejects(one.prompt('Once'), { code: 'DESTROYED' });
  await until(() => !model.isLoaded);
  await model.unload();
  await assert.rejects(two.prompt('Once'), { code: 'DESTROYED', message: /was unloaded/ });
});

test('calls at the same time wake it once; an abort leaves the others', limit, async () => {
  const model = await load(0.05);
  await until(() => !model.isLoaded);
  const controller = new AbortController();
  const aborted = model.tokenize('Once', { signal: controller.signal });
  const others = [model.tokenize('Once'), model.tokenize('Once')];
  controller.abort(new Error('enough'));
  await assert.rejects(aborted, { message: 'enough' });
  const [ids, same] = await Promise.all(others);
  assert.deepEqual(ids, same);
  await model.unload();
});

test('a source that is gone fails the call, and loses no session', limit, async () => {
  const model = await load(0.05);
  const session = await model.createSession({ ...sampling });
  await session.append('Once upon a time');
  const before = session.contextUsage;
  await until(() => !model.isLoaded);
  renameSync(file, `${file}.away`);
  await assert.rejects(session.tokens(), { code: 'SOURCE_FAILED', message: /no such file/ });
  copyFileSync(`${root}models/stories-qkv.q8_0.gguf`, file);
  await assert.rejects(session.tokens(), { code: 'SOURCE_FAILED', message: /another model/ });
  renameSync(`${file}.away`, file);
  assert.equal((await session.tokens()).length, before);
  await model.unload();
});

test('a model at work is not unloaded', limit, async () => {
  const model = await load(0.001);
  const session = await model.createSession({ ...sampling });
  for await (const _ of session.promptStreaming('Once', { maxTokens: 30 })) {
    assert.equal(model.isLoaded, true);
  }
  await model.unload();
});

test('options that make no sense are refused', limit, async () => {
  for (const unloadAfter of [-1, 'soon', Number.NaN]) {
    await assert.rejects(load(unloadAfter), { code: 'INVALID_ARGUMENT', message: /unloadAfter/ });
  }
  await assert.rejects(OneKV.load(new Blob(['x']).stream(), { unloadAfter: 1 }),
    { code: 'INVALID_ARGUMENT', message: /read twice/ });
});
