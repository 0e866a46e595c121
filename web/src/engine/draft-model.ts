// A second, smaller model that guesses for a session: speculative decoding by a draft model.
//
// It has a session of its own, which follows the text: what the two have in common stays, the rest
// is read anew, and then it writes its likeliest tokens. Its session is closed with the one that it
// guesses for; the model is its owner's, and may be destroyed before. Whatever goes wrong in it
// ends the guessing, and never an answer.
import { OneKVError } from '../api/errors.js';
import { commonStart } from '../util/common-start.js';
import type { GuessSource } from './drafts.js';
import type { Model } from './model.js';
import type { Session } from './session.js';

/** Tokens that are read in one step. */
const readMost = 64;
const none = new Int32Array(0);

/** Error: INVALID_ARGUMENT: a token of one is another text in the other. */
export function checkDraftModel(model: Model, draft: Model): void {
  const refuse = (found: string, expected: string) => new OneKVError('INVALID_ARGUMENT',
    `draft: found a model with ${found}, expected ${expected}, as the model itself has`);
  if (!draft.description.causal) {
    throw new OneKVError('INVALID_ARGUMENT',
      'draft: found a bidirectional model, expected one that writes text');
  }
  const { size, kind, tokens } = model.tokenTexts;
  const own = draft.tokenTexts;
  if (own.size !== size) throw refuse(`${own.size} tokens`, String(size));
  if (own.kind !== kind) throw refuse(`the tokenizer ${own.kind}`, String(kind));
  const other = tokens.findIndex((text, id) => text !== own.tokens[id]);
  if (other === -1) return;
  throw refuse(`token ${other} ${JSON.stringify(own.tokens[other])}`,
    JSON.stringify(tokens[other]));
}

export class DraftModel implements GuessSource {
  #session: Session | undefined;

  private constructor(session: Session | undefined) {
    this.#session = session;
  }

  /** Errors: INVALID_ARGUMENT (other tokens), DESTROYED, OUT_OF_MEMORY. */
  static open(model: Model, draft: Model): DraftModel {
    checkDraftModel(model, draft);
    return new DraftModel(draft.openSession());
  }

  /** Runs what may fail; then there are no more guesses. */
  #try<T>(work: (session: Session) => T, otherwise: T): T {
    if (this.#session === undefined) return otherwise;
    try {
      return work(this.#session);
    } catch {
      this.destroy();
      return otherwise;
    }
  }

  clone(): DraftModel {
    // Without memory for it the clone does without guesses.
    try {
      return new DraftModel(this.#session?.clone());
    } catch {
      return new DraftModel(undefined);
    }
  }

  read(tokens: Int32Array): boolean {
    return this.#try((session) => this.#follow(session, tokens, 1), false);
  }

  guess(tokens: Int32Array, most: number): Int32Array {
    return this.#try((session) => {
      if (this.#follow(session, tokens, most) || session.length !== tokens.length) return none;
      return Int32Array.from({ length: most }, () => session.next().token);
    }, none);
  }

  /** Reads what it has not, up to the text's end, a step of it at most, where `more` tokens fit
   * behind the text. Whether there is more to read. */
  #follow(session: Session, tokens: Int32Array, more: number): boolean {
    if (tokens.length + more > session.contextWindow) return false;
    const same = commonStart(session.tokens(), tokens);
    if (same < session.length) session.truncate(same);
    const end = Math.min(tokens.length, same + readMost);
    if (end > same) session.append(tokens.subarray(same, end));
    return end < tokens.length;
  }

  destroy(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }
}
