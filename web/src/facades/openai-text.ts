// completions.create of onekv/openai: texts that go on, without a chat template.
//
// Many prompts are answered one after the other, each from the cache of a session that holds its
// beginning.
import type { GeneratedPart, GenerationResult } from '../api/session.js';
import type { SignalOptions } from '../api/options.js';
import { OneKVError, checkIds, checkInteger, invalidArgument } from '../api/errors.js';
import { checkBody, checkCommon, common, ignored, inCallersWords, isNothing, samplingOf, textsOf }
  from './openai-request.js';
import { LogprobWriter, finishOf, headOf, start } from './openai-run.js';
import type { Place, Question } from './openai-run.js';
import type { TextCompletion, TextLogprobs, TextRequest, Usage } from './openai-types.js';

const honoured = { ...common, prompt: true, logprobs: 'number', echo: 'boolean',
  best_of: 'number' } as const;
const mostPrompts = 128;

function check(body: TextRequest): void {
  checkBody(body, honoured, ignored, (field, value) => field === 'suffix' && value === '');
  checkCommon(body);
  if (!isNothing(body.best_of)) checkInteger('best_of', body.best_of, 1, 1);
  if (!isNothing(body.logprobs)) checkInteger('logprobs', body.logprobs, 0, 5);
  if (body.echo === true && !isNothing(body.logprobs)) {
    throw new OneKVError('INVALID_ARGUMENT', 'echo: is not supported with logprobs');
  }
}

async function questionsOf({ model }: Place, body: TextRequest,
  { signal }: SignalOptions): Promise<Question[]> {
  check(body);
  const options = {
    signal, maxTokens: body.max_tokens ?? 16, logprobs: body.logprobs ?? undefined,
    stop: isNothing(body.stop) ? undefined : body.stop as string | readonly string[],
  };
  const questions: Question[] = [];
  for (const prompt of textsOf('prompt', body.prompt, mostPrompts)) {
    const tokens = typeof prompt === 'string'
      ? await model.tokenize(prompt, { signal, begin: true, atMost: model.contextWindow })
      : [...checkIds(prompt, 'prompt: ')];
    if (tokens.length === 0) throw invalidArgument('prompt', prompt, 'some text');
    questions.push({ tokens, options, sampling: samplingOf(body) });
  }
  return questions;
}

type Choice = TextCompletion['choices'][0];

/** Log probabilities in the form of this call; `offset` is where the next token's text begins. */
class TextLogprobWriter {
  readonly #writer: LogprobWriter;
  #offset = 0;

  constructor({ model }: Place) {
    this.#writer = new LogprobWriter(model);
  }

  async write(part: GeneratedPart): Promise<TextLogprobs | null> {
    const [entry] = (await this.#writer.write(part))?.content ?? [];
    if (entry === undefined) return null;
    const at = this.#offset;
    this.#offset += entry.token.length;
    return {
      tokens: [entry.token], token_logprobs: [entry.logprob], text_offset: [at],
      top_logprobs: [Object.fromEntries(entry.top_logprobs.map(({ token, logprob }) =>
        [token, logprob]))],
    };
  }
}

const reasonOf = (result: GenerationResult): 'stop' | 'length' =>
  (finishOf(result) === 'length' ? 'length' : 'stop');

function addUsage(all: Usage | undefined, one: Usage): Usage {
  if (all === undefined) return one;
  return {
    prompt_tokens: all.prompt_tokens + one.prompt_tokens,
    completion_tokens: all.completion_tokens + one.completion_tokens,
    total_tokens: all.total_tokens + one.total_tokens,
    prompt_tokens_details: { cached_tokens: all.prompt_tokens_details.cached_tokens +
      one.prompt_tokens_details.cached_tokens },
  };
}

/** Pieces of the choices in their order; the last of each has the reason, the very last no choice
 * and the usage. */
async function* choices(place: Place, body: TextRequest, questions: readonly Question[]):
AsyncGenerator<{ choice?: Choice; usage?: Usage }> {
  const prompts = textsOf('prompt', body.prompt, mostPrompts);
  let all: Usage | undefined;
  for (const [index, question] of questions.entries()) {
    const prompt = prompts[index] as string | readonly number[];
    const piece = (text: string, logprobs: TextLogprobs | null = null,
      reason: Choice['finish_reason'] = null) =>
      ({ choice: { index, text, logprobs, finish_reason: reason } });
    if (body.echo === true) {
      yield piece(typeof prompt === 'string' ? prompt : await place.model.detokenize(prompt));
    }
    const { generation, usage, isBack } = await start(place, question);
    const writer = isNothing(body.logprobs) ? undefined : new TextLogprobWriter(place);
    for await (const part of generation) {
      const logprobs = await writer?.write(part) ?? null;
      if (part.text !== '' || logprobs !== null) yield piece(part.text, logprobs);
    }
    const result = await generation.result;
    await isBack;
    all = addUsage(all, usage(result));
    yield piece('', null, reasonOf(result));
  }
  yield all === undefined ? {} : { usage: all };
}

/** The pieces put together. */
async function whole(head: Pick<TextCompletion, 'id' | 'created' | 'model' | 'system_fingerprint'>,
  pieces: ReturnType<typeof choices>): Promise<TextCompletion> {
  const list: Choice[] = [];
  let total: Usage | undefined;
  for await (const { choice, usage } of pieces) {
    total = usage;
    if (choice === undefined) continue;
    const { index, text, logprobs, finish_reason: reason } = choice;
    const one = list[index] ??= { index, text: '', logprobs: null, finish_reason: null };
    one.text += text;
    one.finish_reason = reason;
    if (logprobs === null) continue;
    const to = one.logprobs ??= { tokens: [], token_logprobs: [], top_logprobs: [],
      text_offset: [] };
    logprobs.tokens.forEach((token, i) => {
      to.tokens.push(token);
      to.token_logprobs.push(logprobs.token_logprobs[i] as number);
      to.top_logprobs.push(logprobs.top_logprobs[i] as Record<string, number>);
      to.text_offset.push(logprobs.text_offset[i] as number);
    });
  }
  return { ...head, object: 'text_completion', choices: list, ...(total && { usage: total }) };
}

/** Error: in the caller's words. */
export async function createText(place: Place, body: TextRequest, request: SignalOptions):
Promise<TextCompletion | AsyncIterable<TextCompletion>> {
  const inWords = (error: unknown) => inCallersWords(error, { input: 'prompt' });
  try {
    const questions = await questionsOf(place, body, request);
    const head = headOf(place.model, 'cmpl-', body.model);
    const pieces = choices(place, body, questions);
    if (body.stream !== true) return await whole(head, pieces);
    const withUsage = body.stream_options?.include_usage === true;
    return (async function* streamed() {
      try {
        for await (const { choice, usage } of pieces) {
          if (choice === undefined && !withUsage) continue;
          yield { ...head, object: 'text_completion', choices: choice === undefined ? [] : [choice],
            ...(withUsage ? { usage: usage ?? null } : {}) } as const;
        }
      } catch (error) {
        throw inWords(error);
      }
    }());
  } catch (error) {
    throw inWords(error);
  }
}
