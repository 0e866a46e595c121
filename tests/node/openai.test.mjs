// onekv/openai and onekv/prompt-api over a small model that was given a chat template: shapes,
// reuse of what live sessions hold, and what is refused.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { openai } from '../../dist/src/facades/openai.js';
import { languageModel } from '../../dist/src/facades/prompt-api.js';
import { chatFile, withWindow } from './support.mjs';

const limit = { timeout: 60_000 };
let model;
let client;

before(async () => {
  model = await OneKV.load(chatFile());
  client = openai(model);
}, limit);
after(() => model.unload());

const user = (content) => ({ role: 'user', content });
const ask = (messages, more = {}) => client.chat.completions.create({
  messages, temperature: 0, max_tokens: 8, ...more,
});

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test('a completion, its stream and its log probabilities say the same', limit, async () => {
  const messages = [{ role: 'system', content: 'Stories.' }, user('Tim had a')];
  const whole = await ask(messages, { logprobs: true, top_logprobs: 2 });
  assert.equal(whole.object, 'chat.completion');
  const [choice] = whole.choices;
  assert.equal(choice.finish_reason, 'length');
  assert.equal(choice.message.role, 'assistant');
  assert.equal(whole.usage.completion_tokens, 8);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + 8);
  assert.equal(choice.logprobs.content.length, 8);
  assert.equal(choice.logprobs.content.map(({ token }) => token).join('').trim(),
    choice.message.content.trim());
  for (const { token, logprob, bytes, top_logprobs: top } of choice.logprobs.content) {
    assert.equal(Buffer.from(bytes).toString(), token);
    assert.equal(top.length, 2);
    assert.equal(top[0].logprob, logprob, 'the likeliest was taken');
  }
  const chunks = await collect(await ask(messages,
    { stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks[0].choices[0].delta, { role: 'assistant', content: '' });
  assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''),
    choice.message.content);
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'length');
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.total_tokens, whole.usage.total_tokens);
  assert.equal(chunks[1].usage, null);
});

test('what a live session holds is not computed again', limit, async () => {
  const own = openai(model, { sessions: 3 });
  const create = (messages, more) => own.chat.completions.create(
    { messages, temperature: 0, max_tokens: 8, ...more });
  const first = [user('The red dog')];
  const one = await create(first);
  assert.equal(one.usage.prompt_tokens_details.cached_tokens, 0);
  const again = await create(first);
  assert.equal(again.usage.prompt_tokens_details.cached_tokens, again.usage.prompt_tokens - 1);
  assert.equal(again.choices[0].message.content, one.choices[0].message.content);
  const longer = [...first, { role: 'assistant', content: one.choices[0].message.content },
    user('And then?')];
  const next = await create(longer);
  const { cached_tokens: cached } = next.usage.prompt_tokens_details;
  assert.ok(cached >= one.usage.prompt_tokens, `${cached} of ${next.usage.prompt_tokens}`);
  // The same as without any reuse.
  const fresh = openai(model);
  const alone = await fresh.chat.completions.create(
    { messages: longer, temperature: 0, max_tokens: 8 });
  assert.equal(alone.choices[0].message.content, next.choices[0].message.content);
  // At the same time: sessions of their own, and no more are kept than asked for.
  const many = await Promise.all(Array.from({ length: 8 }, (_, i) =>
    create([user(`Number ${i} was`)])));
  assert.equal(new Set(many.map(({ id }) => id)).size, 8);
  const kept = (await model.memory()).bySession.length;
  await own.destroy();
  await fresh.destroy();
  const left = (await model.memory()).bySession.length;
  assert.equal(kept - left, 3 + 1);
});

test('finish reasons, stop strings and seeds', limit, async () => {
  const text = (await ask([user('Tim had a')])).choices[0].message.content;
  const stop = /\w+$/.exec(text)[0];   // whatever the model says
  const stopped = (await ask([user('Tim had a')], { stop: [stop] })).choices[0];
  assert.equal(stopped.finish_reason, 'stop');
  assert.equal(stopped.message.content, text.slice(0, text.indexOf(stop)));
  const warm = (seed) => ask([user('Tim had a')], { temperature: 1.3, seed });
  const [a, b, c] = [await warm(1), await warm(1), await warm(2)]
    .map(({ choices }) => choices[0].message.content);
  assert.equal(a, b);
  assert.notEqual(a, c);
});

test('response_format', limit, async () => {
  const schema = { type: 'object', properties: { n: { type: 'integer', maximum: 9, minimum: 0 } },
    required: ['n'], additionalProperties: false };
  const { choices: [{ message, finish_reason: reason }] } = await ask([user('A number')],
    { response_format: { type: 'json_schema', json_schema: { schema } }, max_tokens: 40 });
  assert.equal(reason, 'stop');
  assert.ok(Number.isInteger(JSON.parse(message.content).n));
  const { choices: [object] } = await ask([user('An object')],
    { response_format: { type: 'json_object' } });
  assert.match(object.message.content, /^ ?\{/);
  await assert.rejects(ask([user('A number')], { response_format: { type: 'json_schema' } }),
    { code: 'INVALID_ARGUMENT', message: /json_schema.schema/ });
});

test('leaving a stream or aborting ends the work, and the client goes on', limit, async () => {
  // Answers without an end, so that only the abort can have ended them.
  const other = await OneKV.load(withWindow(chatFile()));
  const { chat: { completions } } = openai(other);
  const body = { messages: [user('B')], temperature: 0, logit_bias: { 0: -100 } };
  for await (const chunk of await completions.create({ ...body, stream: true })) {
    if (chunk.choices[0].delta.content) break;
  }
  const early = new AbortController();
  const pending = completions.create(body, { signal: early.signal });
  early.abort();
  await assert.rejects(pending, { name: 'AbortError' });
  const controller = new AbortController();
  const stream = await completions.create({ ...body, stream: true },
    { signal: controller.signal });
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) controller.abort();
    }
  }, { name: 'AbortError' });
  assert.equal((await completions.create({ ...body, max_tokens: 8 })).usage.completion_tokens, 8);
  await other.unload();
});

test('what cannot be honoured is refused by name', limit, async () => {
  const refused = (body, message, code = 'INVALID_ARGUMENT') => assert.rejects(
    client.chat.completions.create({ messages: [user('x')], ...body }),
    { name: 'OneKVError', code, message });
  await refused({ tools: [{ type: 'custom' }] }, /^tools\[0\]\.type/);
  await refused({ tools: [{ type: 'function' }] }, /^tools\[0\]\.name/);
  await refused({ functions: [{}] }, /^functions: is not supported; tools are/);
  await refused({ messages: [null] }, /^messages\[0\]: found null/);
  await refused({ messages: [{ role: 'assistant', content: '', tool_calls: [{ id: '1',
    function: { name: 'f', arguments: '[' } }] }] }, /^messages\[0\]\.tool_calls\[0\]/);
  await refused({ stop: 5 }, /^stop: found 5/);
  await refused({ modalities: ['audio'] }, /^modalities/);
  await refused({ top_p: 7 }, /^top_p/);
  await refused({ temperature: -1 }, /^temperature/);
  await refused({ max_tokens: 1.5 }, /^max_tokens/);
  await refused({ max_completion_tokens: -1 }, /^max_completion_tokens/);
  await refused({ response_format: { type: 'json_schema', json_schema: { schema: { not: {} } } } },
    /"not"/, 'CONSTRAINT_REFUSED');
  await refused({ n: 2 }, /^n: found 2/);
  await refused({ audio: {} }, /found the unknown option "audio"/);
  await refused({ top_logprobs: 21 }, /^top_logprobs/);
  await refused({ messages: 'x' }, /^messages/);
  await refused({ messages: [{ role: 'function', content: 'x' }] }, /^messages\[0\]\.role/);
  await refused({ messages: [user([{ type: 'image_url' }])] }, /image_url/);
  await client.chat.completions.create({ messages: [user([{ type: 'text', text: 'x' }])], n: 1,
    tools: [], tool_choice: 'none', user: 'me', max_tokens: 1, modalities: ['text'],
    verbosity: 'medium' });
});

const tools = [{ type: 'function', function: { name: 'f', description: 'F.', parameters: {
  type: 'object', properties: { n: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['n'] } } }];
const call = { tools, tool_choice: 'required', parallel_tool_calls: false, max_tokens: 200 };

test('tools: calls, their stream, and their results in the next request', limit, async () => {
  const whole = await ask([user('Call.')], call);
  const [{ message, finish_reason: reason }] = whole.choices;
  assert.equal(reason, 'tool_calls');
  assert.equal(message.content, null);
  const [{ id, type, function: called }] = message.tool_calls;
  assert.match(id, /^[0-9a-z]{9}$/);
  assert.deepEqual([type, called.name], ['function', 'f']);
  assert.ok(JSON.parse(called.arguments).n >= 1);
  const chunks = await collect(await ask([user('Call.')], { ...call, stream: true }));
  const [delta] = chunks.flatMap(({ choices: [choice] }) => choice.delta.tool_calls ?? []);
  assert.deepEqual([delta.index, delta.function], [0, called]);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls');
  const next = await ask([user('Call.'), message,
    { role: 'tool', tool_call_id: id, content: 'The sum is 5.' }], { tools, tool_choice: 'none' });
  assert.ok(next.usage.prompt_tokens > whole.usage.prompt_tokens);
  assert.equal(next.choices[0].message.tool_calls, undefined);
});

test('a stream that is not read, or not to its end, holds no session', limit, async () => {
  const own = openai(model, { sessions: 1 });
  const body = { messages: [user('Tim had a')], temperature: 0, max_tokens: 8 };
  const unread = await own.chat.completions.create({ ...body, stream: true });
  const begun = await own.chat.completions.create({ ...body, stream: true });
  await begun.next();
  await begun.next();
  const first = await own.chat.completions.create(body);
  const again = await own.chat.completions.create(body);
  assert.equal(again.usage.prompt_tokens_details.cached_tokens, again.usage.prompt_tokens - 1);
  assert.equal(again.choices[0].message.content, first.choices[0].message.content);
  assert.ok(unread !== begun);
  await own.destroy();
});

test('prompt-api: the standard\'s names and errors', limit, async () => {
  const LanguageModel = languageModel(async () => model);
  assert.equal(await LanguageModel.availability(), 'downloadable');
  const loads = [];
  const session = await LanguageModel.create({
    initialPrompts: [{ role: 'system', content: 'Stories.' }],
    monitor: (m) => m.addEventListener('downloadprogress', (e) => loads.push([e.loaded, e.total])),
  });
  assert.deepEqual([loads[0], loads.at(-1)], [[0, 1], [1, 1]]);
  assert.equal(await LanguageModel.availability(), 'available');
  assert.equal(await LanguageModel.availability({ tools: [{}] }), 'unavailable');
  assert.equal(await LanguageModel.availability({ expectedInputs: [{ type: 'image' }] }),
    'unavailable');
  const before = session.contextUsage;
  const counted = await session.measureContextUsage('Two');
  assert.match((await session.prompt('Two', { responseConstraint: /\d\d/ })).trim(), /^\d\d$/);
  assert.ok(session.contextUsage >= before + counted);
  const twin = await session.clone();
  let text = '';
  for await (const part of session.promptStreaming([{ role: 'user',
    content: [{ type: 'text', value: 'And' }] }], { responseConstraint: /[a-z]{2,6}/ })) {
    text += part;
  }
  assert.match(text.trim(), /^[a-z]{2,6}$/);
  await twin.append('Nothing');
  const long = 'word '.repeat(session.contextWindow);
  await assert.rejects(session.prompt(long), (error) =>
    error.name === 'QuotaExceededError' && error.requested > error.quota);
  session.destroy();
  await assert.rejects(session.prompt('x'), { code: 'DESTROYED' });
  await assert.rejects(LanguageModel.create({ tools: [{}] }), { name: 'TypeError' });
  await assert.rejects(LanguageModel.create({ expectedInputs: [{ type: 'image' }] }),
    { name: 'NotSupportedError' });
  await assert.rejects(twin.prompt([{ role: 'user', content: [{ type: 'image', value: 0 }] }]),
    { name: 'NotSupportedError' });
});

test('prompt-api: prefixes of answers, and what is told of a constraint', limit, async () => {
  const LanguageModel = languageModel(async () => model);
  const session = await LanguageModel.create({ samplingMode: 'most-predictable' });
  assert.equal(session.samplingMode, 'most-predictable');
  const asked = [{ role: 'user', content: 'Tim had a' },
    { role: 'assistant', content: ' The answer is', prefix: true }];
  const answer = await session.prompt(asked, { responseConstraint: /( \d){3}/,
    omitResponseConstraintInput: true });
  assert.match(answer, /^( \d){3}$/);
  assert.deepEqual(session.onekv.messages, [{ role: 'user', content: 'Tim had a' },
    { role: 'assistant', content: ` The answer is${answer}` }]);
  const told = async (responseConstraint) => {
    await session.prompt([asked[0], asked[1]], { responseConstraint });
    return session.onekv.messages.at(-2).content;
  };
  assert.equal(await told(/ \d/),
    'Tim had a\n\nAnswer with text that matches this regular expression:  \\d');
  assert.equal(await told({ enum: [1] }),
    'Tim had a\n\nAnswer in JSON of this schema: {"enum":[1]}');
  const usage = (options) => session.measureContextUsage('x', options);
  const responseConstraint = { enum: [1] };
  assert.equal(await usage({ responseConstraint, omitResponseConstraintInput: true }),
    await usage({}));
  assert.ok(await usage({ responseConstraint }) > await usage({}) + 10);
  const circular = {};
  circular.self = circular;
  const [user, assistant] = asked;
  for (const [input, options, name] of [
    ['x', { omitResponseConstraintInput: true }, 'TypeError'],
    ['x', { responseConstraint: circular }, 'NotSupportedError'],
    [[assistant, user], {}, 'SyntaxError'], [[{ ...user, prefix: true }], {}, 'SyntaxError'],
    [[{ role: 'system', content: 'x' }], {}, 'TypeError'],
    [[{ role: 'user', content: [{ type: 'text', value: 7 }] }], {}, 'TypeError'],
  ]) await assert.rejects(session.prompt(input, options), { name });
  await assert.rejects(session.append(asked), { name: 'NotSupportedError' });
  await assert.rejects(LanguageModel.create({ initialPrompts: asked }),
    { name: 'NotSupportedError' });
  session.destroy();
});

test('prompt-api: one signal ends all sessions of it', limit, async () => {
  const LanguageModel = languageModel(async () => model);
  const controller = new AbortController();
  const { signal } = controller;
  const sessions = await Promise.all([0, 1, 2].map(() => LanguageModel.create({ signal })));
  sessions[2].destroy();
  controller.abort();
  for (const session of sessions) await assert.rejects(session.prompt('x'), { code: 'DESTROYED' });
});

test('prompt-api: a load that failed is tried again', limit, async () => {
  let tries = 0;
  const LanguageModel = languageModel(async () => {
    tries += 1;
    if (tries === 1) throw new Error('no network');
    return model;
  });
  await assert.rejects(LanguageModel.create(), /no network/);
  const session = await LanguageModel.create();
  assert.equal(tries, 2);
  session.destroy();
});

test('prompt-api: tools, and calls and responses as contents', limit, async () => {
  const LanguageModel = languageModel(async () => model);
  const inputs = [];
  const session = await LanguageModel.create({
    expectedInputs: [{ type: 'text' }, { type: 'tool-response' }],
    expectedOutputs: [{ type: 'text' }, { type: 'tool-call' }],
    tools: [{ name: 'f', description: 'F.', inputSchema: tools[0].function.parameters,
      execute: async (input) => { inputs.push(input); return 'Five.'; } }],
    initialPrompts: [{ role: 'user', content: 'Call.' },
      { role: 'assistant', content: [{ type: 'tool-call',
        value: { callID: 'abcdefghi', name: 'f', arguments: { n: 5 } } }] },
      { role: 'user', content: [{ type: 'tool-response',
        value: { callID: 'abcdefghi', name: 'f', result: [{ type: 'text', value: '5' }] } }] }],
  });
  assert.deepEqual(session.onekv.messages.map(({ role }) => role), ['user', 'assistant', 'tool']);
  assert.deepEqual(session.onekv.messages[1].toolCalls,
    [{ id: 'abcdefghi', name: 'f', arguments: { n: 5 } }]);
  await session.onekv.prompt('Again.', { toolChoice: 'required', maxTokens: 200, maxToolRounds: 1,
    parallelToolCalls: false });
  assert.equal(inputs.length, 1);
  assert.ok(inputs[0].n >= 1 && inputs[0].n <= 9);
  assert.equal(session.onekv.messages.at(-2).content, 'Five.');
  await assert.rejects(session.append([{ role: 'user', content: [{ type: 'tool-call',
    value: { callID: 'x', name: 'f', arguments: {} } }] }]), { name: 'TypeError' });
  session.destroy();
});
