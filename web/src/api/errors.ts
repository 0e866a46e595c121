// The one error class of the package. A code is stable and meant for programs, a message is meant
// for people: it names the file, key or argument, what was found and what was expected.

/** Codes of core (core/base/status.h) by their C names, without prefix. */
export type CoreErrorCode =
  | 'OUT_OF_MEMORY' | 'INVALID_ARGUMENT' | 'WRONG_STATE' | 'NOT_GGUF' | 'UNSUPPORTED_VERSION'
  | 'TRUNCATED' | 'CORRUPT' | 'UNSUPPORTED_TYPE' | 'UNSUPPORTED_MODEL' | 'MISSING_KEY'
  | 'BAD_KEY' | 'MISSING_TENSOR' | 'BAD_TENSOR' | 'UNKNOWN_TENSOR' | 'TOKEN_OUT_OF_RANGE'
  | 'CONTEXT_FULL' | 'SNAPSHOT_REFUSED' | 'NOT_FINITE'
  /** The model's bytes could not be read from where they are. */
  | 'SOURCE_FAILED';

/** Codes of the TypeScript layer. */
export type LayerErrorCode =
  /** An object was used after its destroy(). */
  | 'DESTROYED'
  /** The WebAssembly module could not be fetched, compiled or started, or it broke down. */
  | 'WASM_FAILED'
  /** The engine or machine lacks what was asked for (relaxed SIMD, shared memory). */
  | 'UNSUPPORTED_ENGINE'
  /** The file has no tokenizer, or one of a kind that is not known. */
  | 'UNSUPPORTED_TOKENIZER'
  /** The file has no chat template, or it cannot be applied to these messages. */
  | 'NO_CHAT_TEMPLATE' | 'BAD_CHAT_TEMPLATE'
  /** A schema, expression or grammar that cannot be honoured: the message names the keyword. */
  | 'CONSTRAINT_REFUSED'
  /** A constraint that grew past what the grammar module may take of time or memory. */
  | 'CONSTRAINT_TOO_COMPLEX'
  /** The file's SHA-256 is not the one that was asked for. */
  | 'INTEGRITY_FAILED'
  /** The model's worker could not be started, or it ended. */
  | 'WORKER_LOST'
  /** A failure that nobody foresaw: please report it. */
  | 'INTERNAL';

export type ErrorCode = CoreErrorCode | LayerErrorCode;

/** What every function of the package throws. (An aborted one throws its signal's reason.) */
export class OneKVError extends Error {
  override readonly name = 'OneKVError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What was thrown, as text for the middle of another message. */
export function reasonOf(thrown: unknown): string {
  try {
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    // What engines say of a full stack is about them.
    return /call stack|recursion/.test(text) ? 'found values nested too deep' : text;
  } catch {
    return 'it cannot be told'; // Its own message throws.
  }
}

/** An INVALID_ARGUMENT that says the same three things everywhere. */
export function invalidArgument(name: string, found: unknown, expected: string): OneKVError {
  return new OneKVError('INVALID_ARGUMENT', `${name}: found ${show(found)}, expected ${expected}`);
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value).slice(0, 80);
  const { name } = (value.constructor ?? {}) as { name?: unknown };
  return typeof name === 'string' && name !== '' ? name : 'an object';
}

/** The value, if it is an integer of that range; else throws INVALID_ARGUMENT. */
export function checkInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) {
    return value;
  }
  throw invalidArgument(name, value, `an integer from ${least} to ${most}`);
}

/** The value, if it is a number of that range; else throws INVALID_ARGUMENT. */
export function checkNumber(name: string, value: unknown, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw invalidArgument(name, value, `a number from ${least} to ${most}`);
}

/** More than any window holds. */
const mostIds = 2 ** 24;

/** Token ids as a list of their own, of at most `mostIds`. Anything that can be iterated or has a
 * length; error: INVALID_ARGUMENT, with the place of what is no id: in an Int32Array it would
 * become another number. (Whether the model has the token, core says.) */
export function checkIds(found: unknown, where = ''): Int32Array {
  if (found instanceof Int32Array) return found.slice();
  const { length, [Symbol.iterator]: iterate } = Object(found) as
    Partial<ArrayLike<unknown> & Iterable<unknown>>;
  if (typeof found !== 'object' || (length ?? iterate) === undefined) {
    throw invalidArgument(`${where}tokens`, found, 'a list of token ids');
  }
  const checkLength = (count: number) =>
    checkInteger(`${where}tokens.length`, count, 0, mostIds);
  checkLength(length ?? 0);
  return Int32Array.from(Array.from(found as ArrayLike<unknown>, (id, i) => {
    checkLength(i); // There are iterables without an end.
    return checkInteger(`${where}token ${i}`, id, -(2 ** 31), 2 ** 31 - 1);
  }));
}

/** As JSON writes it. Error: INVALID_ARGUMENT. */
export function jsonText(name: string, value: unknown): string {
  let reason = 'JSON has no such value';
  try {
    const text = JSON.stringify(value) as string | undefined;
    if (text !== undefined) return text;
  } catch (error) {
    reason = reasonOf(error);
  }
  throw new OneKVError('INVALID_ARGUMENT', `${name}: ${reason}`);
}

/** Text or a list of texts, as a list of its own. Error: INVALID_ARGUMENT. */
export function checkTexts(name: string, found: unknown): string[] {
  const list: unknown[] = Array.isArray(found) ? [...found] : [found];
  if (list.every((one) => typeof one === 'string')) return list;
  throw invalidArgument(name, found, 'text or a list of texts');
}

/** The value, if it is one of the list; else throws INVALID_ARGUMENT. */
export function checkOneOf<T extends string>(name: string, value: unknown,
  choices: readonly T[]): T {
  const choice = choices.find((known) => known === value);
  if (choice !== undefined) return choice;
  throw invalidArgument(name, value, choices.join(', '));
}
