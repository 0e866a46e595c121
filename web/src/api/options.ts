// What options of many calls have in common: a signal, and that a misspelt name is an error.
import { nearest } from '../util/nearest.js';
import { OneKVError, checkOneOf, invalidArgument } from './errors.js';

export interface SignalOptions {
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Of addEventListener, whose listeners end nothing where they throw: that is reported. As the
 * platform's, which programs without the DOM's types have not. */
export interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: AbortSignal;
}

/** What a value has to be: of that type of JavaScript (an object is no list), a signal, one of
 * these words; true: it is looked at where it is used. */
export type Kind = true | 'boolean' | 'string' | 'number' | 'function' | 'object' | 'list' |
  'AbortSignal' |
  readonly string[];

/** The names of all options of T; the compiler ensures that none is missing. */
export type NamesOf<T> = Readonly<Record<keyof T, Kind>>;

export const signalNames: NamesOf<SignalOptions> = { signal: 'AbortSignal' };

/** Also one of another frame, or of a library that has its own. */
export function isSignal(value: unknown): value is AbortSignal {
  const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
  return typeof aborted === 'boolean' && typeof addEventListener === 'function';
}

/** Error: INVALID_ARGUMENT: the value is not of that kind. */
export function checkKind(name: string, value: unknown, kind: Kind): void {
  if (kind === true) return;
  if (typeof kind === 'object') {
    checkOneOf(name, value, kind);
    return;
  }
  const isKind = kind === 'AbortSignal' ? isSignal(value) : kind === 'list' ? Array.isArray(value)
    : typeof value === kind && value !== null && !Array.isArray(value);
  if (isKind) return;
  throw invalidArgument(name, value, `${/^[ao]/i.test(kind) ? 'an' : 'a'} ${kind}`);
}

/** INVALID_ARGUMENT for a name that nothing reads. `what`: the call. */
export function unknownName(what: string, found: string, names: readonly string[]): OneKVError {
  const likely = found === 'system' && names.includes('initialPrompts') ? 'initialPrompts'
    : nearest(found, names);
  const advice = likely === undefined ? `there are ${names.join(', ')}` : `did you mean ${likely}?`;
  return new OneKVError('INVALID_ARGUMENT',
    `${what}: found the unknown option ${JSON.stringify(found.slice(0, 80))}; ${advice}`);
}

/** The options, if they are an object whose names are all known (those whose value is undefined
 * may have any name) and whose values are of their kinds. Error: INVALID_ARGUMENT, with the name
 * that was probably meant. */
export function checkOptions<T extends object>(what: string, options: T,
  names: NamesOf<T>): T {
  if (typeof options !== 'object' || options === null || options instanceof AbortSignal) {
    throw invalidArgument(`${what}: options`, options, 'an object');
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(names, name)) throw unknownName(what, name, Object.keys(names));
    checkKind(name, value, names[name as keyof T]);
  }
  return options;
}

/** Options that are a signal and nothing else. */
export const checkSignal = (what: string, options: SignalOptions): SignalOptions =>
  checkOptions(what, options, signalNames);
