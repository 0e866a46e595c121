// Whether an input fits in a session's window, asked before any work is done.
import { OneKVError } from '../api/errors.js';
import type { Model } from './model.js';
import type { Session } from './session.js';

/** A session, or one that is not open yet. */
type Room = Pick<Session, 'contextWindow' | 'slides' | 'model'>;

/** That many tokens fit after the first `kept`, or the window slides. Error: CONTEXT_FULL. */
export function checkRoom({ contextWindow, slides }: Room, kept: number, count: number): void {
  if (slides || kept + count <= contextWindow) return;
  throw new OneKVError('CONTEXT_FULL', `input: found ${count} tokens after ${kept}, ` +
    `expected at most ${contextWindow} together`);
}

/** The text may have no more than `most` tokens. Encoding takes seconds per million characters, and
 * nothing can interrupt it, so a text that is far too long is refused by its length. Error:
 * CONTEXT_FULL. */
export function checkLength({ tokenizer }: Pick<Model, 'tokenizer'>, text: string,
  most: number): void {
  const least = tokenizer.leastTokens(text.length);
  if (least <= most) return;
  throw new OneKVError('CONTEXT_FULL', `input: found ${text.length} characters, which are at ` +
    `least ${least} tokens, expected at most ${most}`);
}

/** The text may fit, or the window slides. Error: CONTEXT_FULL. */
export function checkTextRoom({ contextWindow, slides, model }: Room, text: string): void {
  if (!slides) checkLength(model, text, contextWindow);
}
