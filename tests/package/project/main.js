// What every consumer project does with the installed package, in a page and in Node: load, write
// as it comes, clone, answer under a grammar, look at the memory, unload.
import { OneKV } from 'onekv';
import { languageModel } from 'onekv/prompt-api';

/** Options are those of OneKV.load. */
export async function work(source, options) {
  // The first look keeps the store open: WebKit's test windows are private, and forget it else.
  const empty = await OneKV.models.list();
  const estimate = await OneKV.estimate(source, options);
  const model = await OneKV.load(source, options);
  const session = await model.createSession();
  let story = '';
  for await (const text of session.promptStreaming('Once upon a time', { maxTokens: 24 })) {
    story += text;
  }
  const twin = await session.clone();
  const number = await twin.prompt(' They had', { constraint: /\d\d toys/ });
  const memory = await model.memory();
  await model.unload();

  const LanguageModel = languageModel((more) => OneKV.load(source, { ...options, ...more }));
  const loads = [];
  const named = await LanguageModel.create({
    monitor: (m) => m.addEventListener('downloadprogress', ({ loaded }) => loads.push(loaded)),
  });
  const counted = await named.measureContextUsage('Once');
  const stored = await OneKV.models.list();
  return {
    story, number, counted, loads, empty, stored,
    fileBytes: estimate.fileBytes,
    bytesPerToken: estimate.bytesPerToken,
    tokens: session.contextUsage,
    sessions: memory.bySession.length,
    engine: model.engine,
  };
}
