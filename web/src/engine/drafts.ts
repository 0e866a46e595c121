// Speculative decoding: the tokens that may follow are guessed and run in one batch with the last
// one, and core keeps what ran ahead of the session (core/api/draft.c). A token's logits have the
// same bits in a batch as alone, so the text is that of plain decoding, sampled ones included.
//
// A guess that is wrong costs time, so where guesses fail they become short and rare.
import { checkOneOf } from '../api/errors.js';
import { draftModes } from '../api/session.js';
import type { Session } from './session.js';

/** Lengths of drafts. With the token before it each makes an even number of rows, since matrices
 * take two at a time, and eight at most, for which models have room. */
const sizes = [1, 3, 7] as const;
/** Tokens that are decoded plainly after a draft that failed at once; each further failure doubles
 * them. */
const firstPause = 4;
const longestPause = 64;

/** Tokens whose repetition is looked for, at most and at least. */
const matchMost = 16;
const matchLeast = 2;
/** How far from where it was expected a copy may go on after a change. */
const nearby = 8;

/** Prompt look-up: what followed when the last tokens came before. */
export class Lookup {
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
  readonly #source = new Lookup();
  /** Of the next draft: one of the sizes. */
  #size = 0;
  #pause = 0;
  #nextPause = firstPause;
  /** Of the draft that is ahead of the session. */
  #guessed = 0;
  #chosen = 0;

  /** Before a choice: may run a draft. */
  begin(session: Session): void {
    if (session.ahead > 0) return;
    this.#guessed = 0;
    if (this.#pause > 0) {
      this.#pause -= 1;
      return;
    }
    const guess = this.#source.guess(session.tokens(), sizes[this.#size] as number);
    if (guess.length === 0) return;
    this.#guessed = session.draft(guess);
    this.#chosen = 0;
    this.drafted += this.#guessed;
  }

  /** After a choice. */
  hear(session: Session): void {
    if (this.#guessed === 0) return;
    if (session.ahead > 0) {
      this.#chosen += 1;
      this.accepted += 1;
    } else {
      this.#learn();
      this.#guessed = 0;
    }
  }

  #learn(): void {
    if (this.#chosen === this.#guessed) this.#size = Math.min(this.#size + 1, sizes.length - 1);
    else this.#size = Math.min(this.#chosen >> 1, sizes.length - 1);
    if (this.#chosen > 0) {
      this.#nextPause = firstPause;
    } else {
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(longestPause, 2 * this.#nextPause);
    }
  }
}

/** Of options.draft. Error: INVALID_ARGUMENT. */
export function draftsOf(draft: unknown): Drafts | undefined {
  return checkOneOf('draft', draft ?? 'off', draftModes) === 'off' ? undefined : new Drafts();
}
