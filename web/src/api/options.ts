// What options of many calls have in common: a signal, and that a misspelt name is an error.
import { nearest } from '../util/nearest.js';
import { OneKVError, invalidArgument } from './errors.js';

export interface SignalOptions {
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Of addEventListener: as the platform's, which programs without the DOM's types have not. */
export interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: AbortSignal;
}

/** The names of all options of T; the compiler ensures that none is missing. */
export type NamesOf<T> = Readonly<Record<keyof T, true>>;

export const signalNames: NamesOf<SignalOptions> = { signal: true };

/** INVALID_ARGUMENT for a name that nothing reads. `what`: the call. */
export function unknownName(what: string, found: string, names: readonly string[]): OneKVError {
  const likely = found === 'system' && names.includes('initialPrompts') ? 'initialPrompts'
    : nearest(found, names);
  const advice = likely === undefined ? `there are ${names.join(', ')}` : `did you mean ${likely}?`;
  return new OneKVError('INVALID_ARGUMENT',
    `${what}: found the unknown option ${JSON.stringify(found.slice(0, 80))}; ${advice}`);
}

/** The options, if they are an object whose names are all known (those whose value is undefined
 * may have any name). Error: INVALID_ARGUMENT, with the name that was probably meant. */
export function checkOptions<T extends object>(what: string, options: T,
  names: NamesOf<T>): T {
  if (typeof options !== 'object' || options === null || options instanceof AbortSignal) {
    throw invalidArgument(`${what}: options`, options, 'an object');
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(names, name)) continue;
    throw unknownName(what, name, Object.keys(names));
  }
  return options;
}

/** Options that are a signal and nothing else. */
export const checkSignal = (what: string, options: SignalOptions): SignalOptions =>
  checkOptions(what, options, signalNames);
