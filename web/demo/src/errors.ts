// An error as a person can use it: what happened, and what to do.
import { OneKVError } from 'onekv';
import { count } from './format.js';
import { sourceAdvice } from './source-advice.js';

const advice: Record<string, string> = {
  INTEGRITY_FAILED: 'The file is not the one this page was made with. Reload the page.',
  NOT_GGUF: 'This is not a GGUF file.',
  CORRUPT: 'The file is damaged.',
  TRUNCATED: 'The file ends too early: perhaps a download was cut off.',
  OUT_OF_MEMORY: 'This tab cannot have that much memory.',
  UNSUPPORTED_ENGINE: 'This browser lacks WebAssembly with SIMD, or workers. Any browser of the ' +
    'last three years has both.',
  WASM_FAILED: 'The WebAssembly module did not start.',
  WORKER_LOST: 'The model’s worker ended. Start again.',
  CONTEXT_FULL: 'The model’s context window is full.',
  SNAPSHOT_REFUSED: 'The saved conversation belongs to another model file, or is damaged.',
};

export const isAbort = (error: unknown): boolean =>
  error instanceof DOMException && error.name === 'AbortError';

/** The text that did not fit, in the words of the one who wrote it. */
function tooLong(message: string): string | undefined {
  const found = /(at least )?(\d+) tokens(?: after (\d+))?, expected at most (\d+)/.exec(message);
  if (found === null) return undefined;
  const [, least = '', tokens, before, most] = found;
  const after = Number(before ?? 0) === 0 ? '' : ` after ${count(Number(before))}`;
  return `Your text is too long: ${least}${count(Number(tokens))} tokens${after}, at most ` +
    `${count(Number(most))}${after === '' ? '' : ' together'}.`;
}

/** What to do, and what was found where that is something else. */
export function explainInParts(error: unknown): [does: string, found?: string] {
  if (typeof WebAssembly === 'undefined') {
    return ['This browser has no WebAssembly (or it is switched off), and the models need it.'];
  }
  if (!(error instanceof Error)) return [String(error)];
  const { message } = error;
  const long = error instanceof OneKVError && error.code === 'CONTEXT_FULL' && tooLong(message);
  if (long) return [long];
  const known = !(error instanceof OneKVError) ? undefined : error.code === 'SOURCE_FAILED'
    ? sourceAdvice(message, globalThis.location.origin) : advice[error.code];
  return known === undefined ? [message] : [known, message];
}

/** The same as one text. */
export function explain(error: unknown): string {
  const [does, found] = explainInParts(error);
  return found === undefined ? does : `${does} (${found})`;
}
