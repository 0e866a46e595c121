// onekv/handler through the fetch option of client libraries: streams, tools, JSON of a schema.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { createOpenResponses } from '@ai-sdk/open-responses';
import { AIMessage, HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool as langchainTool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { Output, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';
import { createHandler } from 'onekv/handler';
import { citySchema, fetchOf, loadModel, modelFile, numberSchema } from './model.mjs';

const limit = { timeout: 60_000 };
const baseURL = 'http://localhost/v1';
const user = [{ role: 'user', content: 'Tim had a' }];
let model;
let handle;
let fetch;

before(async () => {
  model = await loadModel();
  handle = createHandler({ tiny: model });
  fetch = fetchOf(handle);
}, limit);
after(async () => {
  await handle.destroy();
  await model.unload();
});

const client = () => new OpenAI({ apiKey: 'none', baseURL, fetch, maxRetries: 0 });
const isCity = ({ city }) => assert.match(city, /^(Rome|Paris)$/);
const isNumber = ({ n }) => assert.ok(Number.isInteger(n) && n >= 1 && n <= 9);

test('openai: chat, its stream, tools, a schema, an error', limit, async () => {
  const { chat: { completions }, models } = client();
  const ids = [];
  for await (const { id } of await models.list()) ids.push(id);
  assert.deepEqual(ids, ['tiny']);
  assert.equal((await models.retrieve('tiny')).owned_by, 'onekv');
  const ask = { model: 'tiny', messages: user, temperature: 0, max_tokens: 6 };
  const whole = await completions.create(ask);
  const stream = completions.stream(ask);
  let text = '';
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? '';
  assert.equal(text, whole.choices[0].message.content);
  assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, 'length');
  const tools = [{ type: 'function', function: { name: 'weather', strict: true,
    parameters: citySchema } }];
  const called = await completions.stream({ ...ask, max_tokens: 60, tools,
    tool_choice: 'required', parallel_tool_calls: false }).finalChatCompletion();
  assert.equal(called.choices[0].finish_reason, 'tool_calls');
  isCity(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments));
  const cities = [];
  const runner = completions.runTools({ ...ask, tool_choice: 'required', max_tokens: 60,
    tools: [{ type: 'function', function: { name: 'weather', parse: JSON.parse,
      parameters: citySchema, function: (input) => { cities.push(input); return 'sunny'; } } }] },
  { maxChatCompletions: 2 });
  await runner.done();
  isCity(cities[0]);
  const parsed = await completions.parse({ ...ask, max_tokens: 60, response_format: {
    type: 'json_schema', json_schema: { name: 'number', strict: true, schema: numberSchema } } });
  isNumber(parsed.choices[0].message.parsed);
  await assert.rejects(completions.create({ ...ask, audio: { voice: 'x' } }),
    (error) => error instanceof OpenAI.BadRequestError && /"audio"/.test(error.message));
});

test('openai: completions, and responses with tools, a schema and thoughts', limit, async () => {
  const { completions, responses } = client();
  const { choices } = await completions.create({ model: 'tiny', prompt: 'Tim had a',
    temperature: 0, max_tokens: 6 });
  assert.equal(choices[0].finish_reason, 'length');
  const ask = { model: 'tiny', input: 'Tim had a', temperature: 0, max_output_tokens: 6 };
  const whole = await responses.create(ask);
  let text = '';
  const stream = responses.stream(ask);
  stream.on('response.output_text.delta', ({ delta }) => { text += delta; });
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.equal(final.output_text, text);
  assert.notEqual(text, '');
  const tools = [{ type: 'function', name: 'weather', strict: true, parameters: citySchema }];
  const { output: [call] } = await responses.create({ ...ask, max_output_tokens: 60, tools,
    tool_choice: 'required', parallel_tool_calls: false });
  isCity(JSON.parse(call.arguments));
  const next = await responses.create({ ...ask, tools, tool_choice: 'none', input: [
    { role: 'user', content: 'Weather?' }, call,
    { type: 'function_call_output', call_id: call.call_id, output: 'sunny' }] });
  assert.notEqual(next.output_text, '');
  const parsed = await responses.parse({ ...ask, max_output_tokens: 60, text: { format: {
    type: 'json_schema', name: 'number', strict: true, schema: numberSchema } } });
  isNumber(parsed.output_parsed);
  const thought = await responses.create({ ...ask, reasoning: { effort: 'low' } });
  assert.equal(thought.output[0].type, 'reasoning');
});

/** What the AI SDK's functions do with a model, by either door. */
async function tryAi(doorModel) {
  const ask = { model: doorModel, temperature: 0, prompt: 'Tim had a', maxRetries: 0 };
  const whole = await generateText({ ...ask, maxOutputTokens: 6 });
  const stream = streamText({ ...ask, maxOutputTokens: 6 });
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.notEqual(text, '');
  assert.equal(await stream.finishReason, 'length');
  assert.equal((await stream.usage).outputTokens, 6);
  const cities = [];
  const { steps } = await generateText({ ...ask, maxOutputTokens: 60, toolChoice: 'required',
    stopWhen: isStepCount(2), tools: { weather: tool({
      inputSchema: z.object({ city: z.enum(['Rome', 'Paris']) }),
      execute: (input) => {
        cities.push(input);
        return 21;
      } }) } });
  assert.equal(steps.length, 2);
  isCity(cities[0]);
  const { output } = await generateText({ ...ask, maxOutputTokens: 60,
    output: Output.object({ schema: z.object({ n: z.int().min(1).max(9) }) }) });
  isNumber(output);
}

test('@ai-sdk/openai-compatible', limit, async () => {
  const provider = createOpenAICompatible({ name: 'onekv', baseURL, fetch,
    supportsStructuredOutputs: true, includeUsage: true });
  await tryAi(provider('tiny'));
  const { reasoningText } = await generateText({ model: provider('tiny'), prompt: 'Tim had a',
    temperature: 0, maxOutputTokens: 6, providerOptions: { onekv: { reasoningEffort: 'low' } } });
  assert.notEqual(reasoningText ?? '', '');
});

test('@ai-sdk/open-responses', limit, async () => {
  const provider = createOpenResponses({ name: 'onekv', url: `${baseURL}/responses`, fetch });
  await tryAi(provider('tiny'));
});

for (const useResponsesApi of [false, true]) {
  test(`@langchain/openai, ${useResponsesApi ? 'responses' : 'chat'}`, limit, async () => {
    const settings = { model: 'tiny', apiKey: 'none', temperature: 0, maxRetries: 0,
      useResponsesApi, configuration: { baseURL, fetch } };
    const short = new ChatOpenAI({ ...settings, maxTokens: 6 });
    const whole = await short.invoke('Tim had a');
    let text = '';
    for await (const chunk of await short.stream('Tim had a')) text += chunk.text;
    assert.equal(text, whole.text);
    assert.notEqual(text, '');
    assert.equal(whole.usage_metadata.output_tokens, 6);
    const long = new ChatOpenAI({ ...settings, maxTokens: 60 });
    const weather = langchainTool(async () => 'sunny', { name: 'weather',
      description: 'The weather.', schema: z.object({ city: z.enum(['Rome', 'Paris']) }) });
    const asked = new HumanMessage('Weather?');
    // By its name: 'required' is lost on LangChain's way to /v1/responses.
    const called = await long.bindTools([weather], { tool_choice: 'weather' }).invoke([asked]);
    assert.ok(called instanceof AIMessage);
    const [call] = called.tool_calls;
    isCity(call.args);
    const said = await short.bindTools([weather], { tool_choice: 'none' }).invoke([asked, called,
      ...await Promise.all(called.tool_calls.map(async (one) => new ToolMessage({
        content: await weather.invoke(one.args), tool_call_id: one.id })))]);
    assert.notEqual(said.text, '');
    isNumber(await long.withStructuredOutput(z.object({ n: z.int().min(1).max(9) }),
      { method: 'jsonSchema', strict: true }).invoke('A number'));
  });
}

test('the same libraries over onekv serve', limit, async () => {
  const file = join(import.meta.dirname, 'tiny.gguf');
  writeFileSync(file, new Uint8Array(modelFile()));
  const server = spawn(process.execPath, [join(import.meta.dirname,
    'node_modules/onekv/dist/cli/onekv.js'), 'serve', file, '--port', '0', '--threads', '1',
  '--quiet'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = await once(server.stdout, 'data');
    const url = String(line).trim();
    const own = new OpenAI({ apiKey: 'none', baseURL: url, maxRetries: 0 });
    const stream = own.chat.completions.stream({ model: 'tiny', messages: user, max_tokens: 6,
      temperature: 0 });
    assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, 'length');
    assert.equal((await own.responses.create({ model: 'tiny', input: 'Tim had a',
      max_output_tokens: 6, temperature: 0 })).usage.output_tokens, 6);
    await tryAi(createOpenAICompatible({ name: 'onekv', baseURL: url, includeUsage: true,
      supportsStructuredOutputs: true })('tiny'));
    const said = await new ChatOpenAI({ model: 'tiny', apiKey: 'none', maxTokens: 6,
      temperature: 0, configuration: { baseURL: url } }).invoke('Tim had a');
    assert.equal(said.usage_metadata.output_tokens, 6);
  } finally {
    server.kill('SIGINT');
    const [status] = await once(server, 'exit');
    assert.equal(status, 0);
  }
});
