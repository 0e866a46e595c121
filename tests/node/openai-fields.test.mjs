// Requests of OpenAI's interface whose fields are of another kind: status 400, with the field as
// `param`, before anything is computed; and the same names in the AI SDK's words.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOneKV } from '../../dist/src/facades/ai-sdk.js';
import { createHandler } from '../../dist/src/facades/handler.js';
import { openai } from '../../dist/src/facades/openai.js';
import { languageModel } from '../../dist/src/facades/prompt-api.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { chatFile, withWindow } from './support.mjs';

const limit = { timeout: 60_000 };
let model, handle;

before(async () => {
  model = await OneKV.load(withWindow(chatFile()), { threads: 1 });
  handle = createHandler({ tiny: model });
});
after(async () => {
  await handle.destroy();
  await model.unload();
});

/** Values of no use for a field of that kind. */
const not = {
  string: [5, {}, true], number: ['5', {}, true], boolean: ['yes', 1, {}], object: [5, 'x', [1]],
  list: [5, 'x', { a: 1 }],
};
const sampled = { stream: not.boolean, temperature: [...not.number, -1, 101],
  top_p: [...not.number, 2, 1e-50], frequency_penalty: [...not.number, 101],
  presence_penalty: [...not.number, 101], seed: [...not.number, 0.5], top_k: [...not.number, -1],
  min_p: [...not.number, 2], repetition_penalty: [...not.number, 11, 1e-40], model: not.string,
  user: not.string, metadata: not.object, store: not.boolean };
const common = { ...sampled, stream_options: not.object, max_tokens: [...not.number, -1, 0.5],
  logit_bias: [...not.object, { x: 1 }, { 5: 'x' }, { '': 1 }, { 99999999: 1 }], stop: [5, [5], {}],
  n: [...not.number, 2], unheard_of: [1] };
const message = { role: 'user', content: 'x' };
const doors = {
  'chat/completions': [{ messages: [message] }, { ...common, messages: [5, 'x', {}, null, []],
    max_completion_tokens: [...not.number, -1], logprobs: not.boolean, response_format: not.object,
    top_logprobs: [...not.number, 21], tools: not.list, tool_choice: [5, 'x'],
    parallel_tool_calls: not.boolean, modalities: [...not.list, ['audio']],
    reasoning_effort: not.string, chat_template_kwargs: not.object }],
  completions: [{ prompt: 'x' }, { ...common, prompt: [5, {}, null, '', [], [[]], [2 ** 32 + 5]],
    logprobs: [...not.number, 6], echo: not.boolean, best_of: [...not.number, 2] }],
  responses: [{ input: 'x' }, { ...sampled, input: [5, {}, null, []], instructions: not.string,
    tools: not.list, tool_choice: [5], parallel_tool_calls: not.boolean, text: not.object,
    max_output_tokens: [...not.number, -1], reasoning: not.object, include: [...not.list, ['x']],
    top_logprobs: [...not.number, 21], chat_template_kwargs: not.object, background: [true] }],
  embeddings: [{ input: 'x' }, { input: [5, {}, null, '', [], [2 ** 32 + 5]], model: not.string,
    encoding_format: ['x', 5], dimensions: [...not.number, 0, 1e9] }],
};

async function paramOf(path, body) {
  const response = await handle(new Request(`http://localhost/v1/${path}`,
    { method: 'POST', body: JSON.stringify(body) }));
  const { error } = await response.json();
  assert.equal(response.status, 400, `${path} ${JSON.stringify(body)}`);
  assert.doesNotMatch(error.message, /Error|undefined \(|not a function|not iterable/);
  return error.param;
}

for (const [path, [body, fields]] of Object.entries(doors)) {
  test(`${path}: a field of another kind is the param of an error`, limit, async () => {
    for (const [field, values] of Object.entries(fields)) {
      for (const value of values) {
        const param = await paramOf(path, { ...body, [field]: value });
        assert.ok(param === field || param?.startsWith(`${field}.`) ||
          param?.startsWith(`${field}[`), `${path}, ${field} ${JSON.stringify(value)}: ${param}`);
      }
    }
  });
}

test('what is inside a field is named by its place', limit, async () => {
  const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
  const chat = (one) => ({ messages: [message, one] });
  const content = (part) => chat({ role: 'user', content: [part] });
  const calls = (one) => chat({ role: 'assistant', tool_calls: [one] });
  for (const [body, param, path = 'chat/completions'] of [
    [chat(null), 'messages[1]'], [chat({ role: 'x', content: 'x' }), 'messages[1].role'],
    [chat({ role: 'user', content: 5 }), 'messages[1].content'],
    [content({ type: 'text', text: 5 }), 'messages[1].content[0].text'],
    [content({ type: 'text' }), 'messages[1].content[0].text'],
    [content({ type: 'image_url' }), 'messages[1].content[0].type'],
    [content(null), 'messages[1].content[0].type'],
    [chat({ role: 'tool', tool_call_id: 5, content: 'x' }), 'messages[1].tool_call_id'],
    [calls(5), 'messages[1].tool_calls[0].id'], [calls({ ...call, id: 5 }),
      'messages[1].tool_calls[0].id'],
    [calls({ ...call, function: { name: 5 } }), 'messages[1].tool_calls[0].function.name'],
    [calls({ ...call, function: { name: 'f', arguments: '[1]' } }),
      'messages[1].tool_calls[0].function.arguments'],
    [{ messages: [message], stream_options: { include_usage: 'x' } },
      'stream_options.include_usage'],
    [{ messages: [message], response_format: { type: 'x' } }, 'response_format.type'],
    [{ messages: [message], response_format: { type: 'json_schema', json_schema: 5 } },
      'response_format.json_schema'],
    [{ messages: [message], tools: [5] }, 'tools[0].type'],
    [{ messages: [message], tools: [{ type: 'function', function: { name: 'f', parameters: 5 } }] },
      'tools[0].function.parameters'],
    [{ input: 'x', text: { format: 5 } }, 'text.format', 'responses'],
    [{ input: 'x', reasoning: { effort: 5 } }, 'reasoning.effort', 'responses'],
    [{ input: [null] }, 'input[0]', 'responses'],
    [{ input: [{ type: 'function_call', call_id: 5, name: 'f', arguments: '{}' }] },
      'input[0].call_id', 'responses'],
    [{ input: [{ type: 'function_call', call_id: 'a', name: 5, arguments: '{}' }] },
      'input[0].name', 'responses'],
    [{ input: [{ role: 'user', content: [{ type: 'input_text', text: 5 }] }] },
      'input[0].content[0].text', 'responses'],
  ]) assert.equal(await paramOf(path, body), param, JSON.stringify(body));
});

test('null stands for nothing in every field but those that a request needs', limit, async () => {
  for (const [path, [body, fields]] of Object.entries(doors)) {
    const nulls = Object.fromEntries(Object.keys(fields).map((field) => [field, null]));
    const small = path === 'responses' ? { max_output_tokens: 1 }
      : path === 'embeddings' ? {} : { max_tokens: 1 };
    const response = await handle(new Request(`http://localhost/v1/${path}`,
      { method: 'POST', body: JSON.stringify({ ...nulls, ...body, ...small }) }));
    assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`);
  }
});

test('ai-sdk: the same, by its names', limit, async () => {
  const tiny = createOneKV({ tiny: model })('tiny');
  const prompt = [{ role: 'user', content: [{ type: 'text', text: 'x' }] }];
  const refused = (options, begins) => assert.rejects(tiny.doGenerate(options), (error) => {
    assert.equal(error.code, 'INVALID_ARGUMENT', `${begins}: ${error.stack}`);
    assert.ok(error.message.startsWith(`${begins}: found `), `${begins}: ${error.message}`);
    return true;
  });
  await refused(null, 'options');
  for (const [field, values] of Object.entries({ prompt: [null, 5, 'x', [null], [5], []],
    maxOutputTokens: ['5', -1], temperature: ['1', -1], topP: [2, 'x'], topK: [-1, 'x'],
    seed: ['x', 0.5], presencePenalty: ['x'], frequencyPenalty: [101], stopSequences: [5, [5]],
    reasoning: [5] })) {
    for (const value of values) {
      await refused({ prompt, [field]: value }, Array.isArray(value) && value.length === 1 &&
        field === 'prompt' ? 'prompt[0]' : field);
    }
  }
  await refused({ prompt: [{ role: 'user', content: 5 }] }, 'prompt[0].content');
  await refused({ prompt: [{ role: 'user', content: [null] }] }, 'prompt[0].content[0]');
  await refused({ prompt, providerOptions: { onekv: { minP: 'x' } } }, 'minP');
  await refused({ prompt, providerOptions: { onekv: { templateArguments: 5 } } },
    'templateArguments');
});

test('what is no model, no request and no option of a door', limit, async () => {
  const text = [{ role: 'user', content: [{ type: 'text', text: 'x' }] }];
  const { embeddingModel, languageModel: ofSdk } = createOneKV({ tiny: model, none: null });
  const LanguageModel = languageModel(async () => model);
  const session = await LanguageModel.create();
  for (const [call, begins] of [
    [() => openai(null), 'model'], [() => openai(5), 'model'],
    [() => createHandler(null), 'models'], [() => createHandler({ a: null }), 'model'],
    [() => createOneKV(null), 'models'],
    [() => ofSdk('none').doGenerate({ prompt: text }), 'model'],
    [() => embeddingModel('none').doEmbed({ values: ['x'] }), 'model'],
    [() => embeddingModel('tiny').doEmbed(null), 'options'],
    [() => embeddingModel('tiny').doEmbed({ values: ['x'], abortSignal: 5 }), 'abortSignal'],
    [() => ofSdk('tiny').doGenerate({ prompt: text, abortSignal: 5 }), 'abortSignal'],
    [() => handle(null), 'request'], [() => handle({}), 'request'],
    [() => languageModel(5), 'load'], [() => LanguageModel.create({ tools: 5 }), 'tools'],
    [() => LanguageModel.create({ expectedInputs: 'x' }), 'expectedInputs'],
    [() => session.prompt('x', { responseConstraint: 5 }), 'responseConstraint'],
    [() => session.prompt('x', { responseConstraint: null }), 'responseConstraint'],
    [() => session.measureContextUsage('x', { responseConstraint: 'x' }), 'responseConstraint'],
    [() => session.clone({ signal: 5 }), 'signal'],
  ]) {
    await assert.rejects(async () => call(), (error) => {
      assert.equal(error.code, 'INVALID_ARGUMENT', `${call}: ${error.stack}`);
      assert.ok(error.message.startsWith(`${begins}: found `), `${call}: ${error.message}`);
      return true;
    });
  }
  await assert.rejects(LanguageModel.create({ expectedInputs: [null] }),
    { name: 'NotSupportedError', message: 'input of type undefined is not supported' });
  session.destroy();
});
