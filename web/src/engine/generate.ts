// A prompt becomes streamed text: prefill in steps, then token by token.
//
// The session ends up with the prompt and every token of the result, the closing one included, so
// that a conversation can go on from it. Between steps other tasks run, and an
// abort is heard; the session then holds what was done so far.
import { OneKVError, checkInteger, checkTexts } from '../api/errors.js';
import type { FinishReason, TokenConstraint } from '../api/session.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import type { Model } from './model.js';
import { checkRoom } from './room.js';
import type { Session } from './session.js';
import type { AdvanceOptions, Choice } from './step.js';
import { StopStrings } from '../text/stop-strings.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { pacedYield, yieldToOthers } from '../util/event-loop.js';

/** Moves sessions on, letting other tasks run: one session by itself, or (scheduler.ts)
 * together with others. */
export interface Stepper {
  /** Appends in steps; `onDone` hears how many tokens are done. */
  append(session: Session, tokens: Int32Array, signal: AbortSignal | undefined,
    onDone: (done: number) => void): Promise<void>;
  next(session: Session, options: AdvanceOptions): Promise<Choice>;
}

export interface GenerateOptions {
  /** Most tokens to generate; default: until the text ends or the window is full. */
  maxTokens?: number | undefined;
  /** Text that ends the result and is not part of it. */
  stop?: string | readonly string[] | undefined;
  /** Aborting throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Tokens of the prompt that have been processed. */
  onPrefill?: ((done: number, total: number) => void) | undefined;
  /** As in AdvanceOptions: log probabilities come with each part. */
  logprobs?: number | undefined;
  mask?: ((logits: Float32Array, session: Session) => void) | undefined;
  /** Asked before each choice and told what was chosen. */
  constraint?: TokenConstraint | undefined;
  /** Default: this session alone; other tasks run in between. */
  stepper?: Stepper | undefined;
}

const generateNames: NamesOf<GenerateOptions> = {
  maxTokens: true, stop: true, signal: 'AbortSignal', onPrefill: 'function', logprobs: true,
  mask: 'function', constraint: 'object', stepper: 'object',
};

export interface TextPart {
  /** May be '': a character or a stop string may be on its way. */
  text: string;
  /** Missing in a last part that holds text which had been held back. */
  choice?: Choice;
}

export interface GenerateResult {
  reason: FinishReason;
  /** All text, without the stop string. */
  text: string;
  /** Generated ids, a closing token included. */
  tokens: number[];
  promptTokens: number;
  /** Tokens that were guessed (SessionOptions.draft), and how many of them came. */
  draftedTokens: number;
  acceptedTokens: number;
  /** Of the session's random numbers. */
  seed: number | bigint;
  /** Milliseconds, other tasks included. */
  prefillMs: number;
  decodeMs: number;
}

/** Tokens in one step of prefill: a fraction of a second even where the engine is slow. */
const prefillStep = 64;

function stepAlone(): Stepper {
  const yieldWhenDue = pacedYield();
  return {
    append: async (session, tokens, signal, onDone) => {
      for (let at = 0; at < tokens.length;) {
        signal?.throwIfAborted();
        const end = Math.min(tokens.length, at + session.stepLimit(prefillStep));
        session.append(tokens.subarray(at, end));
        at = end;
        onDone(at);
        await yieldWhenDue();
      }
    },
    next: async (session, options) => {
      await yieldWhenDue();
      return session.next(options);
    },
  };
}

/** A row of logits without the tokens whose bits are not set. */
function applyMask(logits: Float32Array, mask: Uint32Array): void {
  for (let first = 0; first < logits.length; first += 32) {
    const word = mask[first >> 5] ?? 0;
    if (word === 0xffffffff) continue;
    if (word === 0) logits.fill(Number.NEGATIVE_INFINITY, first, first + 32);
    else {
      const end = Math.min(first + 32, logits.length);
      for (let token = first; token < end; token++) {
        if ((word >>> (token & 31) & 1) === 0) logits[token] = Number.NEGATIVE_INFINITY;
      }
    }
  }
}

/** Looks at an answer's options before anything is done for it. Error: INVALID_ARGUMENT.
 * @internal */
export function checkAnswer({ maxTokens = 0, logprobs = 0, stop = [] }: GenerateOptions,
  { description: { outputs } }: Model): void {
  checkInteger('maxTokens', maxTokens, 0, 2 ** 31 - 1);
  checkInteger('logprobs', logprobs, 0, outputs);
  checkTexts('stop', stop);
}

/** The stream of a file without a tokenizer. */
const noText = { push: (_: number) => '', end: () => '' };

/**
 * Appends the prompt (ids; text goes through Tokenizer.encode) and generates. Yields a part for
 * each token and returns the sums. Without a tokenizer (a file may have none) texts are empty, and
 * no token ends the result. Leaving the loop early stops the work. Errors:
 * INVALID_ARGUMENT, CONTEXT_FULL (the prompt does not fit: nothing was done), and those of
 * Session.append and next.
 */
export async function* generate(session: Session, tokenizer: Tokenizer | undefined,
  prompt: ArrayLike<number>, options: GenerateOptions = {},
): AsyncGenerator<TextPart, GenerateResult> {
  const { signal, stop = [] } = checkOptions('generate', options, generateNames);
  checkAnswer(options, session.model);
  const { maxTokens: most = Number.POSITIVE_INFINITY } = options;
  const { constraint, logprobs, mask } = options;
  const ids = session.model.checkTokens(prompt);
  if (session.length + ids.length === 0) {
    throw new OneKVError('INVALID_ARGUMENT', 'prompt: found no tokens, expected at least one');
  }
  checkRoom(session, session.length, ids.length);
  const stepper = options.stepper ?? stepAlone();
  const started = performance.now();
  await stepper.append(session, ids, signal,
    (done) => options.onPrefill?.(done, ids.length));
  while (session.drafts?.read(session) === true) {
    await yieldToOthers();
    signal?.throwIfAborted();
  }
  const prefilled = performance.now();
  // After a special token (a chat's turn) the space that SentencePiece puts in front is none.
  const before = session.tokens(session.length - 1)[0] as number;
  const stream = tokenizer?.stream({ continues: !tokenizer.isControl(before) }) ?? noText;
  const stops = new StopStrings(typeof stop === 'string' ? [stop] : stop);
  const tokens: number[] = [];
  let text = '';
  let reason: FinishReason | undefined;
  const { drafted = 0, accepted = 0 } = session.drafts ?? {};
  try {
    while (reason === undefined && tokens.length < most) {
      signal?.throwIfAborted();
      if (!session.slides && session.length > session.contextWindow) {
        reason = 'context';
        break;
      }
      const allowed = await constraint?.allowed();
      const choice = await stepper.next(session, { logprobs,
        mask: allowed === undefined ? mask : (logits) => {
          mask?.(logits, session);
          applyMask(logits, allowed);
        } });
      await constraint?.accept(choice.token);
      tokens.push(choice.token);
      const isEnd = tokenizer?.ends.has(choice.token) === true;
      const shown = stops.push(isEnd ? stream.end() : stream.push(choice.token));
      if (stops.found !== undefined) reason = 'stop';
      else if (isEnd) reason = 'end';
      text += shown;
      yield { text: shown, choice };
    }
  } finally {
    session.endDraft();
  }
  // Not the bytes of a character that is not whole: the text was cut, nothing in it is damaged.
  const rest = stops.end();
  text += rest;
  if (rest !== '') yield { text: rest };
  return {
    reason: reason ?? 'length',
    text,
    tokens,
    promptTokens: ids.length,
    draftedTokens: (session.drafts?.drafted ?? 0) - drafted,
    acceptedTokens: (session.drafts?.accepted ?? 0) - accepted,
    seed: session.seed,
    prefillMs: prefilled - started,
    decodeMs: performance.now() - prefilled,
  };
}
