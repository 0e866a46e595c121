// Calls as Python writes them: [f(a="x", b=[1, True])]. A small reader of literals: what it cannot
// read is not a call.
import type { PlainCall } from './tool-forms.js';

const constants: Record<string, unknown> = {
  True: true, False: false, None: null, true: true, false: false, null: null,
};
const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f' };

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Blanks are passed over. Error: SyntaxError. */
  take(pattern: RegExp): string {
    const found = this.maybe(pattern);
    if (found === undefined) throw new SyntaxError(`at ${this.#at}`);
    return found;
  }

  maybe(pattern: RegExp): string | undefined {
    const blank = /\s*/y;
    blank.lastIndex = this.#at;
    blank.exec(this.#text);
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = blank.lastIndex;
    const found = sticky.exec(this.#text);
    if (found === null) return undefined;
    this.#at = sticky.lastIndex;
    return found[0];
  }

  /** Items up to the closing mark, with commas. */
  list<T>(close: RegExp, item: () => T): T[] {
    const items: T[] = [];
    while (this.maybe(close) === undefined) {
      if (items.length > 0) this.take(/,/);
      items.push(item());
    }
    return items;
  }

  call(): PlainCall {
    const name = this.take(/[\w.-]+/);
    this.take(/\(/);
    const entries = this.list(/\)/, (): [string, unknown] => {
      const key = this.take(/[\w.-]+/);
      this.take(/=/);
      return [key, this.value()];
    });
    return { name, arguments: Object.fromEntries(entries) };
  }

  value(): unknown {
    const text = this.maybe(/"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'/);
    if (text !== undefined) return unescaped(text.slice(1, -1));
    const number = this.maybe(/-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/);
    if (number !== undefined) return Number(number);
    if (this.maybe(/\[/)) return this.list(/\]/, () => this.value());
    if (this.maybe(/\{/)) {
      return Object.fromEntries(this.list(/\}/, (): [string, unknown] => {
        const key = this.value();
        this.take(/:/);
        return [String(key), this.value()];
      }));
    }
    const word = this.take(/\w+/);
    if (Object.hasOwn(constants, word)) return constants[word];
    throw new SyntaxError(`the name ${word}`);
  }
}

function unescaped(text: string): string {
  return text.replace(/\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([^]))/g,
    (_, long?: string, short?: string, letter = '') => {
      const code = long ?? short;
      return code === undefined ? escapes[letter] ?? letter
        : String.fromCharCode(Number.parseInt(code, 16));
    });
}

/** undefined: it is not a list of calls. */
export function readPython(text: string): PlainCall[] | undefined {
  const reader = new Reader(text);
  try {
    reader.take(/\[/);
    const calls = reader.list(/\]/, () => reader.call());
    return calls.length > 0 ? calls : undefined;
  } catch {
    return undefined;
  }
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, part]) =>
    `${JSON.stringify(key)}: ${literal(part)}`).join(', ')}}`;
}

export function writePython(calls: readonly PlainCall[]): string {
  return `[${calls.map(({ name, arguments: given }) => `${name}(${Object.entries(given)
    .map(([key, value]) => `${key}=${literal(value)}`).join(', ')})`).join(', ')}]`;
}
