// The public API, used as a page uses it: each step is a user's few lines with what has to come of
// them. A step that fails throws; the report has what only the driver can judge.
import { OneKV, OneKVError } from './dist/src/onekv.js';

const address = '/models/stories-q-mqa.q8_0.gguf';
const prompt = 'Ben and Mia'; // jobs.mjs's: without near-ties
const longText = 'The cat sat on the mat. '.repeat(50);
/** A window that takes minutes to fill, and no end token: what is cut off has not ended before. */
const endlessAddress = '/made/endless.gguf';
const endless = { logitBias: { 0: -Infinity } };
const longInput = { tokens: new Int32Array(100_000).fill(7) };

function check(condition, said) {
  if (!condition) throw new Error(`wrong: ${said}`);
}

const same = (found, expected, what) =>
  check(Object.is(found, expected), `${what}: found ${found}, expected ${expected}`);

async function fails(promise, expected, what) {
  const error = await promise.then(() => undefined, (thrown) => thrown);
  check(error !== undefined, `${what} succeeded`);
  const found = error instanceof OneKVError ? error.code : error.name;
  same(found, expected, `${what}: ${error.message}`);
}

async function sessions({ model, report }) {
  const session = await model.createSession();
  report.text = await session.prompt(prompt, { maxTokens: 30 });
  const again = await model.createSession(endless);
  let streamed = '';
  for await (const text of again.promptStreaming(prompt, { maxTokens: 30 })) streamed += text;
  same(streamed, report.text, 'the stream');
  // Neither would end by itself.
  const stream = again.promptStreaming('');
  check(stream instanceof ReadableStream, 'a ReadableStream');
  for await (const text of stream) if (text !== '') break;
  const reader = again.promptStreaming('').getReader();
  await reader.read();
  await reader.cancel();
  const ordered = await Promise.all([again.append(' One'), again.append(' two'), again.tokens()]);
  same((await model.detokenize(ordered[2])).endsWith(' One two'), true, 'calls in order');
  await Promise.all([session.destroy(), again.destroy()]);
}

async function bytes({ model }) {
  const reports = [];
  const listen = ({ memory }) => reports.push(memory);
  model.addEventListener('memory', listen);
  const session = await model.createSession();
  await session.prompt(prompt, { maxTokens: 80 });
  model.removeEventListener('memory', listen);
  const last = reports.at(-1);
  const own = last.bySession.find(({ session: id }) => id === session.id);
  same(own.used, 512 * own.tokens, 'bytes used');
  same(own.standard.MHA, 32 * own.used, 'standard bytes');
  same(session.contextBytes, own.used, 'contextBytes');
  same(last.total, last.weights + last.cache + last.scratch + last.sessions + last.tables, 'sum');
  const round = async () => {
    const made = await model.createSession({ initialPrompts: prompt });
    const clone = await made.clone();
    await Promise.all([made.destroy(), clone.destroy()]);
  };
  await round();
  const { total, heap } = await model.memory();
  for (let i = 0; i < 500; i++) await round();
  const after = await model.memory();
  same(after.total, total, 'total after a thousand sessions');
  same(after.heap, heap, 'heap after a thousand sessions');
  await session.destroy();
}

async function aborts({ model }) {
  await fails(OneKV.load(address, { signal: AbortSignal.abort() }), 'AbortError', 'load');
  for (const delay of [1, 20, 60]) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), delay);
    await OneKV.load(address, { signal: controller.signal, store: 'none' })
      .then((loaded) => loaded.unload(), (error) => same(error.name, 'AbortError', 'load'));
  }
  const session = await model.createSession({ initialPrompts: prompt, ...endless });
  const { contextUsage } = session;
  const controller = new AbortController();
  await fails(session.prompt(longInput, { signal: controller.signal,
    onPrefill: () => controller.abort() }), 'AbortError', 'prefill');
  same(session.contextUsage, contextUsage, 'tokens after an abort');
  const decoding = new AbortController();
  const answer = session.generate('', { signal: decoding.signal });
  await fails((async () => { for await (const _ of answer) decoding.abort(); })(), 'AbortError',
    'decoding');
  const pending = fails(session.prompt(''), 'DESTROYED', 'destroyed');
  await session.destroy();
  await pending;
}

async function snapshots({ model, report }) {
  const session = await model.createSession({ initialPrompts: longText.slice(0, 1200) });
  // The second time: the first compiles.
  await session.save();
  const started = performance.now();
  const blob = await session.save();
  report.saveMs = performance.now() - started;
  report.saveBytes = blob.size;
  for (const format of ['cache', 'tokens']) {
    const restored = await model.restore(await session.save({ format }));
    same(restored.contextUsage, session.contextUsage, format);
    const [a, b] = await Promise.all([session.clone(), restored.clone()]);
    const options = { maxTokens: 8 };
    same(await a.prompt('', options), await b.prompt('', options), `restored as ${format}`);
    await Promise.all([a, b, restored].map((one) => one.destroy()));
  }
  const damaged = new Uint8Array(await blob.arrayBuffer());
  damaged[damaged.length >> 1] ^= 4;
  await fails(model.restore(damaged), 'SNAPSHOT_REFUSED', 'a damaged snapshot');
  await session.destroy();
}

async function batches({ model }) {
  const parent = await model.createSession({ initialPrompts: prompt });
  const all = await Promise.all(Array.from({ length: 24 }, () => parent.clone()));
  await Promise.all(all.map((session, seed) => session.setSampling({ temperature: 1, seed })));
  const answers = await model.batch(all).prompt('', { maxTokens: 10 });
  check(new Set(answers).size > 12, `${new Set(answers).size} different answers`);
  await Promise.all([parent, ...all].map((session) => session.destroy()));
}

/** As in tests/node/session-calls.test.mjs: the pages of a prompt that sessions share are there
 * once. */
async function shared({ model }) {
  const page = 32 * model.bytesPerToken;
  const before = await model.memory();
  const parent = await model.createSession({ initialPrompts: longText });
  const inCache = parent.contextUsage - 1;
  check(inCache > 300, `${inCache} tokens are shared`);
  const all = await Promise.all(Array.from({ length: 200 }, () => parent.clone()));
  await Promise.all(all.map((session, seed) => session.setSampling({ temperature: 1, seed })));
  const cloned = await model.memory();
  same(cloned.cacheUsed - before.cacheUsed, Math.ceil(inCache / 32) * page, 'bytes of clones');
  const { signal } = new AbortController();
  const answers = await model.batch(all).prompt(' One day', { maxTokens: 8, signal });
  check(new Set(answers).size > 120, `${new Set(answers).size} different answers`);
  const { cacheUsed, bySession } = await model.memory();
  const own = bySession.reduce((sum, session) => sum + session.own, 0);
  same(cacheUsed - before.cacheUsed, own + Math.floor(inCache / 32) * page, 'bytes of all');
  await Promise.all([parent, ...all].map((session) => session.destroy()));
  same((await model.memory()).cacheUsed, before.cacheUsed, 'bytes after all');
}

/** 5 MB are refused before the work where they cannot fit, and become ids where they are asked for:
 * more of them than the arguments of a call could be. */
async function long({ model }) {
  const text = 'The cat sat on the mat. '.repeat(210_000);
  const session = await model.createSession({ contextWindow: 1000 });
  const started = performance.now();
  await fails(session.prompt(text), 'CONTEXT_FULL', 'a prompt of 5 MB');
  const refusedMs = performance.now() - started;
  same(session.contextUsage, 0, 'tokens after it');
  const ids = await model.tokenize(text);
  check(ids.length > 1_000_000, `${ids.length} tokens`);
  check(refusedMs < 1000, `refused after ${refusedMs} ms`);
  same((await model.detokenize(ids)).length, text.length, 'and back');
  same(await session.measureContextUsage(text), ids.length, 'measured');
  await session.destroy();
}

/** The subpaths, over a model with a chat template. */
async function facades() {
  const [{ openai }, { languageModel }] = await Promise.all(
    ['openai', 'prompt-api'].map((name) => import(`./dist/src/facades/${name}.js`)));
  const model = await OneKV.load('/made/chat.gguf', { store: 'none' });
  const { chat: { completions } } = openai(model);
  const body = { messages: [{ role: 'user', content: 'Tim had a' }], temperature: 0,
    max_tokens: 8 };
  const whole = await completions.create(body);
  same(whole.usage.completion_tokens, 8, 'tokens of a completion');
  let text = '';
  for await (const { choices: [choice], usage } of await completions.create(
    { ...body, stream: true, stream_options: { include_usage: true } })) {
    text += choice?.delta.content ?? '';
    if (usage) same(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens - 1, 'cached');
  }
  same(text, whole.choices[0].message.content, 'the stream of a completion');
  await fails(completions.create({ ...body, tools: [{}] }), 'INVALID_ARGUMENT', 'tools');
  const session = await languageModel(async () => model).create();
  const answer = await session.prompt([...body.messages,
    { role: 'assistant', content: ' The answer is', prefix: true }],
  { responseConstraint: /( \d){3}/ });
  check(/^( \d){3}$/.test(answer), `an answer under a constraint: ${answer}`);
  same(session.onekv.messages.at(-1).content, ` The answer is${answer}`, 'with its prefix');
  await model.unload();
}

async function sources() {
  const whole = await (await fetch(address)).arrayBuffer();
  const seen = [];
  const each = [new File([whole], 'a.gguf'), whole, (await fetch(address)).body,
    new URL(address, location.href)];
  for (const source of each) {
    const model = await OneKV.load(source, { store: 'none', threads: 1,
      monitor: (m) => m.addEventListener('downloadprogress', (e) => seen.push(e.loaded)) });
    same(model.bytesPerToken, 512, 'bytes per token');
    await model.unload();
  }
  check(seen.length > 4 && seen.at(-1) === whole.byteLength, 'progress to the end');
  const estimate = await OneKV.estimate(address);
  same(estimate.bytesPerToken, 512, 'estimate');
  await fails(OneKV.load('/golden/index.json'), 'NOT_GGUF', 'no model');
  await fails(OneKV.load('/models/none.gguf'), 'SOURCE_FAILED', 'no file');
}

async function image() {
  const model = await OneKV.load('/models/digits-keqv.f16.gguf', { store: 'none' });
  const canvas = new OffscreenCanvas(280, 280);
  const context = canvas.getContext('2d');
  context.fillRect(130, 40, 26, 200);
  const { best, labels, probabilities } =
    await model.classify(context.getImageData(0, 0, 280, 280));
  same(labels[best], '1', `a vertical line (${[...probabilities].map((p) => p.toFixed(2))})`);
  await model.unload();
}

/** What two tabs do to each other: both store the same model, both load it from there. */
async function two() {
  const store = 'auto';
  const models = await Promise.all([0, 1].map(() => OneKV.load(address, { store })));
  const third = await OneKV.load(address, { store });
  const texts = await Promise.all([...models, third].map(async (model) => {
    const session = await model.createSession();
    return session.prompt(prompt, { maxTokens: 12 });
  }));
  same(new Set(texts).size, 1, 'texts of three workers');
  await Promise.all([...models, third].map((model) => model.unload()));
  for (const { key } of await OneKV.models.list()) await OneKV.models.delete(key);
}

async function deaths() {
  for (const end of ['close', 'throw']) {
    const model = await OneKV.load(endlessAddress, { store: 'none', threads: 1,
      workerUrl: new URL('dying-worker.js', location.href) });
    const lost = new Promise((resolve) => { model.addEventListener('lost', resolve); });
    const session = await model.createSession(endless);
    const pending = session.prompt(prompt);
    await fails(Promise.all([pending, session.append(end)]), 'WORKER_LOST', end);
    await lost;
    await fails(model.createSession(), 'WORKER_LOST', 'a call after the end');
  }
  await fails(OneKV.load(address, { workerUrl: '/none.js' }), 'WORKER_LOST', 'no script');
  const again = await OneKV.load(address, { store: 'none' });
  const pending = fails(again.createSession(), 'DESTROYED', 'a call while it is unloaded');
  await again.unload();
  await pending;
}

const steps = { sessions, bytes, aborts, snapshots, batches, shared, long, facades, sources,
  image,
  two, deaths };

/** Takes the steps that job.api names, with one model; tell(text) hears which. */
export async function runSteps(job, tell) {
  tell('availability');
  const report = { availability: await OneKV.availability(), done: [] };
  tell('loading');
  const model = await OneKV.load(endlessAddress, { store: 'none', batch: 32 });
  try {
    for (const name of job.api) {
      tell(name);
      await steps[name]({ model, report }).catch((error) => {
        throw new Error(`${name}: ${error?.stack ?? error}`, { cause: error });
      });
      report.done.push(name);
    }
  } finally {
    await model.unload();
  }
  return report;
}
