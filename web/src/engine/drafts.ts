// Speculative decoding: the tokens that may follow are guessed and run in one batch with the last
// one, and core keeps what ran ahead of the session (core/api/draft.c). A token's logits have the
// same bits in a batch as alone, so the text is that of plain decoding, sampled ones included.
//
// A guess that is wrong costs time, so where guesses fail they become short and rare; and time is
// measured: what they cost beyond what they save stays within a credit (Credit). A clock decides
// only whether to guess, never what comes out.
import { checkOneOf } from '../api/errors.js';
import { DraftModel } from './draft-model.js';
import type { Model } from './model.js';
import type { Session } from './session.js';

/** Lengths of drafts. With the token before it each makes an even number of rows, since matrices
 * take two at a time, and eight at most, for which models have room. */
const sizes = [1, 3, 7] as const;
/** Tokens that are decoded plainly after a draft that failed at once; each further failure doubles
 * them. */
const firstPause = 4;
const longestPause = 64;

/** What guesses come from. */
export interface GuessSource {
  /** Ids that may follow the text, at most `most` and perhaps none; the caller only reads them. */
  guess(tokens: Int32Array, most: number): Int32Array;
  /** Of a session with the same text. */
  clone(): GuessSource;
  /** Reads some of the text ahead of the first guess. false: it has read what it can. */
  read?(tokens: Int32Array): boolean;
  destroy?(): void;
}

/** Of the time that plain decoding takes, what guesses may lose, beside their last loss… */
const lossShare = 0.025;
/** …and what they may have saved in this answer and lose now, in tokens. */
const savedMost = 4;
/** How far one measured step moves the time that such steps are taken to need, and how many times
 * as long it may be: a step that another program held up says little. */
const follows = 0.25, longestStep = 2;

/** The time that steps of a kind are taken to need, once one was seen; `most` of the first one. */
function pace(before: number | undefined, ms: number, most = ms): number {
  // A clock may be too coarse to see a step.
  const expected = Math.min(before || Math.min(ms, most), longestStep * ms);
  return expected + follows * (Math.min(ms, longestStep * expected) - expected);
}

/** What guesses have saved, less what they have lost, in the time of plain tokens: below nothing
 * none are made, and each plain token adds a little. */
class Credit {
  #plainMs: number | undefined;
  /** Plain tokens: one alone may have been held up. */
  #seen = 0;
  /** Of drafts, by their length; those without a guess are the first. */
  readonly #draftMs: number[] = [];
  #tokens = 0;

  get allows(): boolean {
    return this.#seen > 1 && this.#tokens >= 0;
  }

  plain(ms: number): void {
    this.#seen += 1;
    this.#plainMs = pace(this.#plainMs, ms);
    this.#tokens = Math.min(savedMost, this.#tokens + lossShare);
  }

  /** So many tokens came in that time, with so many guesses. Gives whether that was faster. */
  drafted(guesses: number, tokens: number, ms: number): boolean {
    const plainMs = this.#plainMs || ms;
    const needed = pace(this.#draftMs[guesses], ms, longestStep * (guesses + 1) * plainMs);
    this.#draftMs[guesses] = needed;
    const saved = tokens - (needed === 0 ? 0 : needed / plainMs);
    this.#tokens = Math.min(savedMost, this.#tokens + saved);
    return saved > 0;
  }

  /** What an answer has saved is not for the next one to lose. */
  endAnswer(): void {
    this.#tokens = Math.min(0, this.#tokens);
  }
}

/** Tokens whose repetition is looked for, at most and at least. */
const matchMost = 16;
const matchLeast = 2;
/** How far from where it was expected a copy may go on after a change. */
const nearby = 8;

/** Prompt look-up: what followed when the last tokens came before. */
export class Lookup implements GuessSource {
  /** Where the last guess was copied from, and how long the text was then. */
  #from = Number.NEGATIVE_INFINITY;
  #length = 0;

  /** Ids of the text itself, at most `most`. */
  guess(tokens: Int32Array, most: number): Int32Array {
    const from = this.#near(tokens) ?? this.#longest(tokens);
    if (from < tokens.length) {
      this.#from = from;
      this.#length = tokens.length;
    }
    return tokens.subarray(from, from + most);
  }

  clone(): Lookup {
    return new Lookup();
  }

  /** A copy that was changed goes on near the place where it left off. */
  #near(tokens: Int32Array): number | undefined {
    const expected = this.#from + tokens.length - this.#length;
    const last = tokens[tokens.length - 1];
    for (let away = 0; away <= nearby; away++) {
      for (const at of [expected + away, expected - away]) {
        if (at > 0 && at < tokens.length && tokens[at - 1] === last) return at;
      }
    }
    return undefined;
  }

  /** Behind the longest repetition of the last tokens; of several, the latest; without one the
   * end. */
  #longest(tokens: Int32Array): number {
    const end = tokens.length - 1;
    let best = matchLeast - 1;
    let found = tokens.length;
    for (let at = end - 1; at >= 0; at--) {
      if (tokens[at] !== tokens[end]) continue;
      let length = 1;
      while (length < matchMost && at >= length && tokens[at - length] === tokens[end - length]) {
        length += 1;
      }
      if (length <= best) continue;
      best = length;
      found = at + 1;
      if (best === matchMost) break;
    }
    return found;
  }
}

/** What a session guesses with, and how well that goes. */
export class Drafts {
  /** Tokens that were guessed, and how many of them were chosen. */
  drafted = 0;
  accepted = 0;
  readonly #source: GuessSource;
  readonly #credit = new Credit();
  /** Of the next draft: one of the sizes. */
  #size = 0;
  #pause = 0;
  #nextPause = firstPause;
  /** Of the draft that is ahead of the session. */
  #guessed = 0;
  #chosen = 0;
  #spentMs = 0;
  #started = 0;

  constructor(source: GuessSource) {
    this.#source = source;
  }

  /** For a session with the same text. */
  clone(): Drafts {
    return new Drafts(this.#source.clone());
  }

  /** Reads some of the text before an answer begins; false: there is no more to read. */
  read(session: Session): boolean {
    return this.#source.read?.(session.tokens()) ?? false;
  }

  /** Before a choice: may run a draft. */
  begin(session: Session): void {
    this.#started = performance.now();
    if (session.ahead > 0) return;
    this.#guessed = this.#chosen = this.#spentMs = 0;
    if (this.#pause > 0) {
      this.#pause -= 1;
      return;
    }
    if (!this.#credit.allows) return;
    const guess = this.#source.guess(session.tokens(), sizes[this.#size] as number);
    if (guess.length > 0) this.#guessed = session.draft(guess);
    this.drafted += this.#guessed;
    if (this.#guessed > 0) return;
    const now = performance.now();
    this.#credit.drafted(0, 0, now - this.#started);
    this.#started = now;
  }

  /** After a choice. */
  hear(session: Session): void {
    const ms = performance.now() - this.#started;
    if (this.#guessed === 0) {
      this.#credit.plain(ms);
      return;
    }
    this.#spentMs += ms;
    if (session.ahead > 0) {
      this.#chosen += 1;
      this.accepted += 1;
    } else {
      this.#learn(this.#credit.drafted(this.#guessed, this.#chosen + 1, this.#spentMs));
      this.#guessed = 0;
    }
  }

  /** An answer has ended, perhaps within a draft. */
  end(): void {
    if (this.#guessed > 0) this.#credit.drafted(this.#guessed, this.#chosen, this.#spentMs);
    this.#guessed = 0;
    this.#credit.endAnswer();
  }

  destroy(): void {
    this.#source.destroy?.();
  }

  #learn(wasFaster: boolean): void {
    if (this.#chosen < this.#guessed) this.#size = Math.min(this.#chosen >> 1, sizes.length - 1);
    else if (wasFaster) this.#size = Math.min(this.#size + 1, sizes.length - 1);
    if (this.#chosen > 0) {
      this.#nextPause = firstPause;
    } else {
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(longestPause, 2 * this.#nextPause);
    }
  }
}

/** Of options.draft: a mode, or a smaller model. Errors: INVALID_ARGUMENT, and those of opening a
 * session in that model. */
export function draftsOf(model: Model, draft: unknown): Drafts | undefined {
  if (typeof draft === 'object' && draft !== null && 'openSession' in draft) {
    return new Drafts(DraftModel.open(model, draft as Model));
  }
  return checkOneOf('draft', draft ?? 'off', ['off', 'lookup']) === 'off' ? undefined
    : new Drafts(new Lookup());
}
