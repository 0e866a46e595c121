// onekv/ai-sdk with the ai package: streams, tools, structured output, thoughts, usage, abort; its
// types; and useChat in a page of React without a server.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Output, generateObject, generateText, isStepCount, streamObject, streamText, tool } from
  'ai';
import { build } from 'esbuild';
import { createOneKV } from 'onekv/ai-sdk';
import { z } from 'zod';
import { launch } from '../../tests/browser/drivers.mjs';
import { serve } from '../../tests/browser/server.mjs';
import { chatFile, root, withWindow } from '../../tests/node/support.mjs';
import { must } from '../../wasm/toolchain/shell.mjs';
import { loadModel } from './model.mjs';

const limit = { timeout: 120_000 };
const here = import.meta.dirname;
let model;
let onekv;
let loads = 0;

before(async () => {
  model = await loadModel();
  onekv = createOneKV({ tiny: async () => {
    loads += 1;
    return model;
  } });
}, limit);
after(async () => {
  await onekv.destroy();
  await model.unload();
});

const ask = (more = {}) => ({ model: onekv('tiny'), prompt: 'Tim had a', temperature: 0,
  maxOutputTokens: 6, maxRetries: 0, ...more });
const isCity = ({ city }) => assert.match(city, /^(Rome|Paris)$/);

test('streamText and generateText say the same; usage says what was cached', limit, async () => {
  const first = await generateText(ask());
  assert.equal(loads, 1);
  assert.equal(first.finishReason, 'length');
  assert.equal(first.usage.inputTokenDetails.cacheReadTokens, 0);
  const stream = streamText(ask());
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, first.text);
  assert.notEqual(text, '');
  const { inputTokens, outputTokens, inputTokenDetails: cache } = await stream.usage;
  assert.equal(outputTokens, 6);
  assert.equal(cache.cacheReadTokens, inputTokens - 1);
  assert.equal(cache.noCacheTokens, 1);
  // The same chat goes on from what was computed.
  const next = await generateText({ ...ask({ prompt: undefined }), messages: [
    { role: 'user', content: 'Tim had a' }, { role: 'assistant', content: first.text },
    { role: 'user', content: 'And then?' }] });
  assert.ok(next.usage.inputTokenDetails.cacheReadTokens >= inputTokens - 1);
  const other = await generateText(ask({ temperature: 1, seed: 5, topP: 0.9, topK: 40,
    stopSequences: ['.'], maxOutputTokens: 40, providerOptions: { onekv: { minP: 0.05 } } }));
  assert.doesNotMatch(other.text, /\./);
});

test('tools: a loop of calls and results, also as a stream', limit, async () => {
  const cities = [];
  const tools = { weather: tool({ description: 'The weather.',
    inputSchema: z.object({ city: z.enum(['Rome', 'Paris']) }),
    execute: (input) => {
      cities.push(input);
      return { degrees: 21 };
    } }) };
  const looped = ask({ tools, toolChoice: { type: 'tool', toolName: 'weather' },
    maxOutputTokens: 60, stopWhen: isStepCount(2) });
  const { steps, finishReason } = await generateText(looped);
  assert.equal(steps.length, 2);
  assert.equal(finishReason, 'tool-calls');
  isCity(cities[0]);
  assert.deepEqual(steps[0].toolResults[0].output, { degrees: 21 });
  const kinds = [];
  for await (const { type } of streamText({ ...looped, stopWhen: isStepCount(1) }).stream) {
    if (type !== kinds.at(-1)) kinds.push(type);
  }
  assert.deepEqual(kinds.filter((kind) => /tool/.test(kind)).slice(0, 5), ['tool-input-start',
    'tool-input-delta', 'tool-input-end', 'tool-call', 'tool-result']);
});

test('structured output: objects and a choice', limit, async () => {
  const asJson = (output) => generateText(ask({ maxOutputTokens: 120, output }));
  const { output: { n } } = await asJson(Output.object({
    schema: z.object({ n: z.int().min(1).max(9) }) }));
  assert.ok(n >= 1 && n <= 9);
  const { output: { list } } = await asJson(Output.object({
    schema: z.object({ list: z.array(z.enum(['a', 'b'])).min(1).max(2) }) }));
  assert.ok(list.length >= 1 && list.every((one) => /^[ab]$/.test(one)));
  const { output: choice } = await asJson(Output.choice({ options: ['yes', 'no'] }));
  assert.match(choice, /^(yes|no)$/);
});

test('generateObject and streamObject', limit, async () => {
  const schema = z.object({ n: z.int().min(1).max(9) });
  const asked = ask({ maxOutputTokens: 60, schema });
  const { object, finishReason } = await generateObject(asked);
  assert.ok(object.n >= 1 && object.n <= 9);
  assert.equal(finishReason, 'stop');
  const stream = streamObject(asked);
  const partial = [];
  for await (const one of stream.partialObjectStream) partial.push(one);
  assert.deepEqual(await stream.object, object);
  assert.deepEqual(partial.at(-1), object);
  const list = await generateObject(ask({ maxOutputTokens: 60, output: 'array', schema }));
  assert.ok(Array.isArray(list.object));
  const choice = await generateObject(ask({ output: 'enum', enum: ['yes', 'no'],
    maxOutputTokens: 60 }));
  assert.match(choice.object, /^(yes|no)$/);
});

test('thoughts are reasoning parts, and counted', limit, async () => {
  const { reasoningText, text, usage } = await generateText(ask({ reasoning: 'low' }));
  assert.notEqual(reasoningText, '');
  assert.equal(text, '');
  assert.equal(usage.outputTokenDetails.reasoningTokens, 6);
  assert.equal((await generateText(ask({ reasoning: 'none' }))).reasoningText, undefined);
});

test('an abort ends the answer, and what cannot be honoured is refused', limit, async () => {
  const controller = new AbortController();
  const long = streamText(ask({ maxOutputTokens: undefined, abortSignal: controller.signal }));
  const kinds = [];
  for await (const { type } of long.stream) {
    kinds.push(type);
    if (type === 'text-delta') controller.abort();
  }
  assert.equal(kinds.at(-1), 'abort');
  await assert.rejects(generateText(ask({ abortSignal: AbortSignal.abort() })));
  await assert.rejects(generateText({ ...ask({ prompt: undefined }), messages: [{ role: 'user',
    content: [{ type: 'file', mediaType: 'image/png', data: new Uint8Array(4) }] }] }),
  /"file" are not supported/);
  await assert.rejects(generateText(ask({ providerOptions: { onekv: { minp: 1 } } })), /minP/);
  await assert.rejects(generateText(ask({ topP: 7 })), /topP/);
  assert.throws(() => onekv('other'), /modelId: found "other", expected tiny/);
  assert.throws(() => createOneKV({}), /models/);
  let tries = 0;
  const flaky = createOneKV({ tiny: async () => {
    tries += 1;
    if (tries === 1) throw new Error('no network');
    return model;
  } });
  await assert.rejects(generateText({ ...ask(), model: flaky('tiny') }), /no network/);
  assert.notEqual((await generateText({ ...ask(), model: flaky('tiny') })).text, '');
  await flaky.destroy();
});

test('types: the models are LanguageModelV4', limit, async () => {
  writeFileSync(join(here, 'tsconfig.json'), JSON.stringify({ files: ['types.ts'],
    compilerOptions: { strict: true, noEmit: true, skipLibCheck: true, target: 'es2022',
      module: 'nodenext', moduleResolution: 'nodenext', types: [],
      lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'] } }));
  await must('tsc', join(root, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: here });
});

/** A chat whose answers end with its window, which takes a minute: what ended them is another
 * token, and '#', which no story has, is the end. */
function endlessChat() {
  const file = Buffer.from(withWindow(chatFile(), 60_000));
  const key = 'tokenizer.ggml.eos_token_id';
  file.writeUInt32LE(3, file.indexOf(key) + key.length + 4);
  file.write('<|endlesstxt|', file.indexOf('<|endoftext|>'));
  return new Uint8Array(file);
}

/** The example as web/docs/bundlers.md says for esbuild, with a model beside it. */
async function buildExample() {
  const site = join(here, 'site');
  const source = join(here, 'react');
  cpSync(join(root, 'web/examples/react'), source, { recursive: true });
  await build({ entryPoints: [join(source, 'chat.jsx')], bundle: true, format: 'esm',
    jsx: 'automatic', splitting: true, outdir: join(site, 'js'), logLevel: 'warning',
    define: { 'process.env.NODE_ENV': '"production"' } });
  cpSync(join(source, 'index.html'), join(site, 'js/index.html'));
  const dist = join(here, 'node_modules/onekv/dist');
  cpSync(join(dist, 'src/worker.js'), join(site, 'js/worker.js'));
  cpSync(join(dist, 'wasm'), join(site, 'wasm'), { recursive: true });
  mkdirSync(join(site, 'models'), { recursive: true });
  writeFileSync(join(site, 'models/chat.gguf'), endlessChat());
  return site;
}

test('useChat in React, without a server', limit, async () => {
  const { origin, close } = await serve({ isolated: true, mounts: { '/': await buildExample() } });
  const page = await launch('chromium');
  const until = async (selector, pattern) => {
    for (const end = performance.now() + 60_000; performance.now() < end;) {
      if (pattern.test(await page.text(selector) ?? '')) return;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`${selector}: ${await page.text(selector)}\n${page.log.join('\n')}`);
  };
  try {
    await page.open(`${origin}/js/?model=/models/chat.gguf`);
    await until('#state', /^ready$/);
    await page.type('input', 'Tim had a');
    await page.click('#send');
    await until('#stop', /Stop/);
    await until('p[data-role=assistant]', /^assistant: .{20}/s);
    await page.click('#stop');
    await until('#state', /^ready$/);
    assert.equal(await page.text('p[data-role=user]'), 'user: Tim had a');
    await page.type('input', 'And then?');
    await page.click('#send');
    await until('p[data-role=assistant]:nth-of-type(4)', /^assistant: ./s);
    assert.deepEqual(page.log.filter((line) => /error/i.test(line)), []);
  } finally {
    await page.close();
    await close();
  }
});
