// An error as a person can use it: what happened, and what to do.
import { OneKVError } from 'onekv';

const advice: Record<string, string> = {
  SOURCE_FAILED: 'The file could not be read. Is there a network? And not every site lets pages ' +
    'of others read its files; Hugging Face does.',
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

/** What to do, and what was found where that is something else. */
export function explainInParts(error: unknown): [does: string, found?: string] {
  if (typeof WebAssembly === 'undefined') {
    return ['This browser has no WebAssembly (or it is switched off), and the models need it.'];
  }
  if (!(error instanceof Error)) return [String(error)];
  const known = error instanceof OneKVError ? advice[error.code] : undefined;
  return known === undefined ? [error.message] : [known, error.message];
}

/** The same as one text. */
export function explain(error: unknown): string {
  const [does, found] = explainInParts(error);
  return found === undefined ? does : `${does} (${found})`;
}
