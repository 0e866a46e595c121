// onekv/handler: requests and responses as OpenAI's clients know them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { OneKV } from '../../dist/src/onekv-node.js';
import { createHandler } from '../../dist/src/facades/handler.js';
import { chatFile, withWindow } from './support.mjs';

const limit = { timeout: 60_000 };
const url = 'http://localhost/v1';
let model;
let handle;

before(async () => {
  model = await OneKV.load(withWindow(chatFile()), { threads: 1 });
  handle = createHandler({ tiny: model, other: model }, { maxBytes: 10_000 });
}, limit);
after(async () => {
  await handle.destroy();
  await model.unload();
});

const body = { model: 'tiny', messages: [{ role: 'user', content: 'Tim had a' }], temperature: 0,
  max_tokens: 6 };
const post = (value, more = {}) => handle(new Request(`${url}/chat/completions`,
  { method: 'POST', body: typeof value === 'string' ? value : JSON.stringify(value), ...more }));

test('models, a completion and its events', limit, async () => {
  const { data } = await (await handle(new Request(`${url}/models`))).json();
  assert.deepEqual(data.map(({ id, object }) => [id, object]),
    [['tiny', 'model'], ['other', 'model']]);
  const whole = await post(body);
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get('content-type'), 'application/json');
  const { choices: [{ message }], model: named } = await whole.json();
  assert.equal(named, 'tiny');
  const unnamed = await (await post({ ...body, model: undefined })).json();
  assert.equal(unnamed.model, 'tiny', 'as in the list, not as in the file');
  const events = await post({ ...body, stream: true });
  assert.equal(events.headers.get('content-type'), 'text/event-stream');
  const lines = (await events.text()).split('\n\n');
  assert.equal(lines.at(-2), 'data: [DONE]');
  const chunks = lines.slice(0, -2).map((line) => JSON.parse(line.replace(/^data: /, '')));
  assert.equal(chunks.map(({ choices }) => choices[0].delta.content ?? '').join(''),
    message.content);
});

test('errors have a status, a message and a code', limit, async () => {
  for (const [value, status, code, message] of [
    ['{', 400, 'INVALID_ARGUMENT', /not JSON/],
    ['null', 400, 'INVALID_ARGUMENT', /messages/],
    [{ ...body, model: 'gpt' }, 404, 'model_not_found', /gpt, expected tiny, other/],
    [{ ...body, messages: [] }, 400, 'INVALID_ARGUMENT', /^messages: found none/],
    [{ ...body, stop: 5 }, 400, 'INVALID_ARGUMENT', /^stop/],
    [{ ...body, web_search_options: {} }, 400, 'INVALID_ARGUMENT', /web_search_options/],
    ['x'.repeat(10_001), 413, 'TOO_LARGE', /10000 bytes/],
  ]) {
    const response = await post(value);
    const { error } = await response.json();
    assert.deepEqual([response.status, error.code], [status, code]);
    assert.match(error.message, message);
    assert.equal(error.type, 'invalid_request_error');
  }
  assert.equal((await handle(new Request(`${url}/audio`))).status, 404);
  assert.equal((await handle(new Request(`${url}/chat/completions`))).status, 405);
  assert.throws(() => createHandler({}), { code: 'INVALID_ARGUMENT' });
});

test('an abort is heard, though nobody but the answer holds the request', limit, async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const controller = new AbortController();
  const reader = (await post({ ...body, max_tokens: null, logit_bias: { 0: -100 }, stream: true },
    { signal: controller.signal })).body.getReader();
  await reader.read();
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => { setTimeout(resolve, 10); });
    gc();
  }
  controller.abort(new Error('the page has gone'));
  let last;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    last = new TextDecoder().decode(value);
  }
  assert.match(last, /^event: error\ndata: .*the page has gone/);
});

test('an abort, and a reader that leaves, end the answer', limit, async () => {
  const endless = { ...body, max_tokens: null, logit_bias: { 0: -100 }, stream: true };
  const response = await post(endless);
  const reader = response.body.getReader();
  await reader.read();
  await reader.read();
  await reader.cancel();
  const controller = new AbortController();
  const pending = post({ ...endless, stream: false }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(pending, { name: 'AbortError' });
  assert.equal((await post(body)).status, 200);
});
