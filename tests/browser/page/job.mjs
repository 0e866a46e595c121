// One job, done alike in a worker and in Node: open an engine, load a model, work, report.
//
// A job is plain data:
//   model     address (in Node: path) of a GGUF file
//   engine    { simd, threads }, as in EngineOptions
//   arithmetic  as in ModelOptions
//   tokens    how many to generate, greedily
//   prompt, messages or ids   what to continue: text, a chat, or tokens
//   special   with a prompt: it names special tokens, and nothing is put before it
//   judged    text of the same kind whose perplexity to report
//   contextWindow  as in ModelOptions
//   logits    with ids: report the logits at each of them
//   trace     report the logits that each generated token was chosen from

/** Appends ids one at a time; gives all their logits, row after row. */
function readLogits(session, ids) {
  return ids.flatMap((id) => {
    session.append([id]);
    return [...session.logits()];
  });
}

function promptOf(model, { ids, prompt, messages, special }) {
  if (ids) return ids;
  if (special) return model.tokenizer.encode(prompt, { special, begin: false });
  if (!messages) return model.tokenizer.encode(prompt);
  return model.tokenizer.encode(model.chatTemplate.render(messages), { special: true });
}

/** Generates from ids alone: a model without a tokenizer has no text. */
function continueIds(session, { ids, logits, tokens }) {
  const rows = logits ? readLogits(session, ids) : [];
  if (!logits) session.append(ids);
  return { logits: rows, ids: Array.from({ length: tokens }, () => session.next().token) };
}

async function continueText(onekv, session, job, tell) {
  const { model } = session;
  const trace = job.trace ? [] : undefined;
  const parts = onekv.generate(session, model.tokenizer, promptOf(model, job), {
    maxTokens: job.tokens,
    ...(trace ? { mask: (row) => { trace.push([...row]); } } : {}),
  });
  for (;;) {
    const { done, value } = await parts.next();
    if (!done) tell('text', value.text);
    else return { text: value.text, ids: value.tokens, reason: value.reason, trace };
  }
}

/** Of a text behind its first token. */
function perplexityOf(model, text) {
  const session = model.openSession();
  const ids = model.tokenizer.encode(text, { special: true, begin: false });
  const logprobs = session.score(ids).subarray(1);
  session.destroy();
  return Math.exp(-logprobs.reduce((sum, logprob) => sum + logprob, 0) / logprobs.length);
}

async function useEngine(onekv, engine, job, tell) {
  const { simd, threads, notes } = engine;
  tell('engine', [`${simd}, ${threads} threads`, ...notes].join('; '));
  const started = performance.now();
  // f32, as in the golden logits; text does not mind.
  const model = await onekv.loadModel(engine, job.model, {
    cacheType: job.logits ? 'f32' : 'f16',
    ...(job.arithmetic ? { arithmetic: job.arithmetic } : {}),
    ...(job.contextWindow ? { contextWindow: job.contextWindow } : {}),
    onProgress: ({ loaded, total }) => tell('state', `loaded ${loaded} of ${total} bytes`),
  });
  const loaded = performance.now();
  tell('state', 'generating');
  const session = model.openSession();
  const result = job.ids ? continueIds(session, job)
    : await continueText(onekv, session, job, tell);
  return {
    simd, threads, notes, ...result,
    ...(job.judged ? { perplexity: perplexityOf(model, job.judged) } : {}),
    loadMs: loaded - started, workMs: performance.now() - loaded,
  };
}

/** Does the job with the package's exports; tell(kind, text) hears how it goes. */
export async function runJob(onekv, job, tell = () => {}) {
  const engine = await onekv.Engine.open(job.engine ?? {});
  try {
    return await useEngine(onekv, engine, job, tell);
  } finally {
    engine.destroy();
  }
}
