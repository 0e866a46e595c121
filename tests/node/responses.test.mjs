// onekv/handler: /v1/completions and /v1/responses, whole and as events, with what is refused.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { createHandler } from '../../dist/src/facades/handler.js';
import { openai } from '../../dist/src/facades/openai.js';
import { root, withKeys } from './support.mjs';
import { toolTemplate } from './tool-template.mjs';

const limit = { timeout: 60_000 };
let model;
let handle;

before(async () => {
  model = await OneKV.load(withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
    [['tokenizer.chat_template', 'string', toolTemplate]]), { threads: 1 });
  handle = createHandler({ tiny: model });
}, limit);
after(async () => {
  await handle.destroy();
  await model.unload();
});

async function post(path, value) {
  const response = await handle(new Request(`http://localhost/v1/${path}`,
    { method: 'POST', body: JSON.stringify(value) }));
  return response.headers.get('content-type') === 'application/json'
    ? { status: response.status, body: await response.json() }
    : { status: response.status, events: eventsIn(await response.text()) };
}

/** [{ event, data }]; the last is '[DONE]'. */
function eventsIn(text) {
  const blocks = text.split('\n\n').slice(0, -1).map((block) => block.split('\n'));
  assert.deepEqual(blocks.pop(), ['data: [DONE]']);
  return blocks.map((lines) => ({
    event: lines.find((line) => line.startsWith('event: '))?.slice(7),
    data: JSON.parse(lines.at(-1).slice(6)),
  }));
}

const ask = { model: 'tiny', temperature: 0, seed: 1 };
/** No text ends by itself. */
const endless = { 0: -100 };

test('completions: a text goes on, whole and in pieces', limit, async () => {
  const body = { ...ask, prompt: 'Once upon a time', max_tokens: 6, logprobs: 2 };
  const { body: whole } = await post('completions', body);
  const [{ text, finish_reason: reason, logprobs }] = whole.choices;
  const session = await model.createSession({ chat: false, temperature: 0 });
  assert.equal(text, await session.prompt(body.prompt, { maxTokens: 6 }));
  assert.equal(whole.object, 'text_completion');
  assert.equal(reason, 'length');
  assert.equal(logprobs.tokens.join(''), text);
  assert.deepEqual(logprobs.text_offset.map((at, i) =>
    text.startsWith(logprobs.tokens[i], at)), Array(6).fill(true));
  assert.equal(Math.max(...Object.values(logprobs.top_logprobs[0])), logprobs.token_logprobs[0]);
  assert.equal(whole.usage.completion_tokens, 6);
  const { events } = await post('completions', { ...body, stream: true,
    stream_options: { include_usage: true } });
  assert.equal(events.map(({ data }) => data.choices[0]?.text ?? '').join(''), text);
  assert.equal(events.at(-2).data.choices[0].finish_reason, 'length');
  assert.equal(events.at(-1).data.usage.prompt_tokens_details.cached_tokens,
    whole.usage.prompt_tokens - 1);
  await session.destroy();
});

test('completions: many prompts, ids, echo, and 16 tokens unless asked', limit, async () => {
  const ids = await model.tokenize('Tim had a', { begin: true });
  const { body: { choices, usage } } = await post('completions',
    { ...ask, prompt: ['Tim had a', 'The dog'], echo: true, logit_bias: endless });
  const { body: same } = await post('completions', { ...ask, prompt: ids, logit_bias: endless });
  assert.deepEqual(choices.map(({ index }) => index), [0, 1]);
  assert.equal(choices[0].text, `Tim had a${same.choices[0].text}`);
  assert.match(choices[1].text, /^The dog./);
  assert.equal(usage.completion_tokens, 32);
  const { body: stopped } = await post('completions', { ...ask, prompt: 'Tim had a', stop: '.' });
  assert.equal(stopped.choices[0].finish_reason, 'stop');
});

const question = { ...ask, input: 'Tim had a', max_output_tokens: 6 };

test('responses: the events build what the whole response says', limit, async () => {
  const { body: whole } = await post('responses', question);
  assert.equal(whole.object, 'response');
  assert.equal(whole.status, 'incomplete');
  assert.deepEqual(whole.incomplete_details, { reason: 'max_output_tokens' });
  const [{ type, role, content: [{ text, annotations }] }] = whole.output;
  assert.deepEqual([type, role, annotations], ['message', 'assistant', []]);
  assert.equal(whole.usage.output_tokens, 6);
  const { events } = await post('responses', { ...question, stream: true });
  assert.ok(events.every(({ event, data }, i) => event === data.type &&
    data.sequence_number === i));
  const kinds = events.map(({ event }) => event.replace('response.', ''))
    .filter((kind, i, all) => kind !== all[i - 1]);
  assert.deepEqual(kinds, ['created', 'in_progress', 'output_item.added', 'content_part.added',
    'output_text.delta', 'output_text.done', 'content_part.done', 'output_item.done',
    'incomplete']);
  assert.equal(events.map(({ data }) => data.delta ?? '').join(''), text);
  const last = events.at(-1).data.response;
  assert.equal(last.output[0].content[0].text, text);
  assert.equal(events[0].data.response.status, 'in_progress');
  assert.deepEqual(events[2].data.item.content, []);
  const { body: probable } = await post('responses',
    { ...question, include: ['message.output_text.logprobs'], top_logprobs: 1 });
  const { logprobs } = probable.output[0].content[0];
  // A token may be part of a character.
  const ascii = (words) => words.replaceAll(/[^\n -~]/g, '');
  assert.equal(ascii(logprobs.map(({ token }) => token).join('')), ascii(text));
});

const weather = { type: 'function', name: 'get_weather', strict: true, parameters: {
  type: 'object', required: ['city'], properties: { city: { enum: ['Rome', 'Paris'] } } } };

test('responses: a call, its events, and its result sent back', limit, async () => {
  const called = { ...ask, input: 'Weather?', tools: [weather], tool_choice: 'required',
    parallel_tool_calls: false };
  const { body: { status, output, tools } } = await post('responses', called);
  assert.equal(status, 'completed');
  const [call] = output;
  assert.equal(output.length, 1);
  assert.deepEqual([call.type, call.name, call.status], ['function_call', 'get_weather',
    'completed']);
  assert.match(JSON.parse(call.arguments).city, /^(Rome|Paris)$/);
  assert.equal(tools[0].name, 'get_weather');
  const { events } = await post('responses', { ...called, stream: true });
  assert.deepEqual(events.map(({ event }) => event.replace('response.', '')).slice(2), [
    'output_item.added', 'function_call_arguments.delta', 'function_call_arguments.done',
    'output_item.done', 'completed']);
  assert.equal(events[2].data.item.arguments, '');
  assert.equal(events[4].data.arguments, call.arguments);
  const { status: next, body } = await post('responses', { ...question, tools: [weather],
    tool_choice: 'none', input: [{ role: 'user', content: 'Weather?' }, call,
      { type: 'function_call_output', call_id: call.call_id, output: 'sunny' }] });
  assert.equal(next, 200);
  assert.equal(body.output[0].type, 'message');
});

test('responses: thoughts are items, and come back as such', limit, async () => {
  const thinking = { ...question, reasoning: { effort: 'low' } };
  const { body: { output, usage } } = await post('responses', thinking);
  assert.equal(output[0].type, 'reasoning');
  assert.equal(output[0].content[0].type, 'reasoning_text');
  assert.equal(usage.output_tokens_details.reasoning_tokens, 6);
  const { events } = await post('responses', { ...thinking, stream: true });
  assert.equal(events.filter(({ event }) => event === 'response.reasoning_text.delta')
    .map(({ data }) => data.delta).join(''), output[0].content[0].text);
  // What the prompt is of items of an earlier answer.
  const asked = [];
  const spy = openai({ ...model, tokenize: async (messages) => {
    asked.push(messages);
    throw new Error('enough');
  } });
  await assert.rejects(spy.responses.create({ instructions: 'Be.', input: [
    { role: 'user', content: [{ type: 'input_text', text: 'a' }] },
    { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] },
    { role: 'assistant', content: [{ type: 'output_text', text: 'b' }] },
    { type: 'function_call', call_id: '1', name: 'f', arguments: '{"x":1}' },
    { type: 'function_call', call_id: '2', name: 'g', arguments: '{}' },
    { type: 'function_call_output', call_id: '1', output: 'r' },
    { type: 'message', role: 'user', content: 'c' },
  ] }), /enough/);
  assert.deepEqual(asked[0], [{ role: 'system', content: 'Be.' }, { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b', reasoning: 'hm', toolCalls: [
      { id: '1', name: 'f', arguments: { x: 1 } }, { id: '2', name: 'g', arguments: {} }] },
    { role: 'tool', content: 'r', toolCallId: '1', name: 'f' }, { role: 'user', content: 'c' }]);
});

test('responses: JSON of a schema', limit, async () => {
  const schema = { type: 'object', required: ['n'], additionalProperties: false,
    properties: { n: { type: 'integer', minimum: 1, maximum: 9 } } };
  const { body } = await post('responses', { ...ask, input: 'A number',
    text: { format: { type: 'json_schema', name: 'number', strict: true, schema } } });
  assert.equal(body.status, 'completed');
  const { n } = JSON.parse(body.output[0].content[0].text);
  assert.ok(Number.isInteger(n) && n >= 1 && n <= 9);
});

test('what changes nothing is ignored; what cannot be honoured is refused by name', limit,
  async () => {
    const idle = { store: true, metadata: { a: 'b' }, user: 'me', truncation: 'disabled',
      background: false, include: ['reasoning.encrypted_content'], max_tool_calls: 4,
      service_tier: 'auto', previous_response_id: null, stream_options: null,
      text: { verbosity: 'low' }, prompt_cache_key: 'k', tools: [] };
    assert.equal((await post('responses', { ...question, ...idle })).status, 200);
    const text = { ...ask, prompt: 'a', max_tokens: 1 };
    assert.equal((await post('completions', { ...text, suffix: '', best_of: 1, n: 1,
      user: 'me', echo: false, logprobs: null, stop: null })).status, 200);
    for (const [path, more, message] of [
      ['responses', { previous_response_id: 'resp_1' }, /^previous_response_id.*stored/],
      ['responses', { background: true }, /^background/],
      ['responses', { truncation: 'auto' }, /^truncation/],
      ['responses', { tools: [{ type: 'web_search' }] }, /^tools\[0\]\.type.*"web_search"/],
      ['responses', { input: 5 }, /^input/],
      ['responses', { input: [{ type: 'item_reference', id: 'x' }] }, /^input\[0\]\.type/],
      ['responses', { input: [{ role: 'user', content: [{ type: 'input_image' }] }] },
        /input\[0\]\.content.*"input_image"/],
      ['responses', { max_output_tokens: -1 }, /^max_output_tokens/],
      ['responses', { text: { format: { type: 'json_schema', schema: { not: {} } } } }, /"not"/],
      ['responses', { temprature: 1 }, /temprature/],
      ['completions', { prompt: [] }, /^prompt|some text/],
      ['completions', { prompt: ['a', 5] }, /^prompt/],
      ['completions', { suffix: 'x' }, /suffix/],
      ['completions', { n: 2 }, /^n: /],
      ['completions', { logprobs: 6 }, /^logprobs/],
      ['completions', { echo: true, logprobs: 1 }, /^echo/],
      ['completions', { prompt: [1e9] }, /1000000000|token/],
    ]) {
      const { status, body } = await post(path, { ...(path === 'responses' ? question : text),
        ...more });
      assert.equal(status, 400, JSON.stringify([more, body]));
      assert.match(body.error.message, message);
    }
    for (const path of ['responses', 'completions']) {
      assert.equal((await post(path, null)).status, 400);
    }
  });
