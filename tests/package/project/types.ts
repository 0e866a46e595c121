// A strict consumer: what a program says about types has to hold without skipping libraries.
import { OneKV, OneKVError } from 'onekv';
import type { MemoryReport, Model, ModelStore, Session } from 'onekv';
import { makePlan, runBatches, suiteNames } from 'onekv/bench';
import type { PlanOptions, Results } from 'onekv/bench';
import { Engine, generate } from 'onekv/engine';
import { openai } from 'onekv/openai';
import type { ChatCompletion, ChatCompletionChunk } from 'onekv/openai';
import { languageModel } from 'onekv/prompt-api';

const memory = new Map<string, Uint8Array>();
const store: ModelStore = {
  get: async (key) => memory.get(key),
  put: async (key, value) => void memory.set(key, value),
  delete: async (key) => void memory.delete(key),
  keys: async () => [...memory.keys()],
};

export async function use(signal: AbortSignal): Promise<string> {
  const model: Model = await OneKV.load('model.gguf', {
    signal, store, cacheType: 'i8', integrity: '0'.repeat(64),
    monitor: (m) => m.addEventListener('downloadprogress', (e) => e.loaded / e.total),
  });
  model.addEventListener('memory', (event) => {
    const report: MemoryReport = event.memory;
    return report.bySession.map(({ used, standard }) => used / standard.MHA);
  });
  const session: Session = await model.createSession({ contextBytes: 1 << 20, overflow: 'slide' });
  let text = '';
  for await (const part of session.promptStreaming('Hello', { signal, maxTokens: 10 })) {
    text += part;
  }
  await session.prompt('JSON, please', { constraint: await model.constrain({ type: 'object' }) });
  const blob: Blob = await session.save({ format: 'tokens' });
  await model.restore(blob);
  const client = openai(model);
  const whole: ChatCompletion = await client.chat.completions.create({
    messages: [{ role: 'user', content: 'Hello' }],
  });
  const stream: AsyncIterable<ChatCompletionChunk> = await client.chat.completions.create({
    messages: [{ role: 'user', content: 'Hello' }], stream: true,
  });
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  const LanguageModel = languageModel((options) => OneKV.load('model.gguf', options));
  const named = await LanguageModel.create({ initialPrompts: [{ role: 'system', content: 'x' }] });
  text += await named.prompt([{ role: 'user', content: 'Hello' },
    { role: 'assistant', content: '{', prefix: true }], { signal });
  // @ts-expect-error: there is no such option
  await OneKV.load('model.gguf', { nonsense: true });
  // @ts-expect-error: tools are not supported
  await client.chat.completions.create({ messages: [], tools: [{}] });
  return text + (whole.choices[0]?.message.content ?? '');
}

/** Suites of `onekv bench`, in a page of one's own. */
export async function measure(options: PlanOptions): Promise<Results> {
  const batches = suiteNames.length > 0 ? makePlan(options) : [];
  return runBatches(batches, { repeat: 3, onProgress: (done, total) => done / total });
}

export async function inThisThread(): Promise<typeof generate> {
  const engine = await Engine.open({ threads: 1 });
  engine.destroy();
  return generate;
}

export function codeOf(error: unknown): string {
  return error instanceof OneKVError ? error.code : 'none of ours';
}
