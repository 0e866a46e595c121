// What people write must not become control tokens. A chat template puts their text between its own
// tags, and the whole is encoded with special tokens: so the text of a control token that is in
// theirs is marked before, by a noncharacter behind its first character. A tag of the template has
// no mark, and a template that trims, splits or compares text sees it as it is everywhere else.
//
//   U+FDD0       mark: the text around it is plain
//   U+FDD1 c     the character c itself, where a message has one of these two

const escapes = /[\ufdd0\ufdd1]/g;
const marks = /\ufdd1([^])|\ufdd0/g;

/** Not behind a special token's text that is one. */
export const unmarkedEnd = '(?!\ufdd0)';

export function escapeForPattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** The text that marked text stands for. */
export const withoutMarks = (text: string): string =>
  text.replace(marks, (_, own: string | undefined) => own ?? '');

export class PlainMarks {
  readonly #texts: readonly string[];
  /** The first character of each special token's text that is there. */
  readonly #starts: RegExp | undefined;
  readonly #longest: number;

  /** Of control tokens. */
  constructor(texts: readonly string[]) {
    this.#texts = texts.filter(Boolean);
    this.#longest = this.#texts.reduce((most, { length }) => Math.max(most, length), 0);
    const rests = new Map<string, string[]>();
    for (const text of this.#texts) {
      const [first = ''] = text;
      rests.set(first, [...rests.get(first) ?? [], escapeForPattern(text.slice(first.length))]);
    }
    const cases = [...rests].map(([first, all]) =>
      `${escapeForPattern(first)}(?=${all.join('|')})`);
    this.#starts = cases.length === 0 ? undefined : new RegExp(cases.join('|'), 'gu');
  }

  /** Of these texts but some. */
  without(texts: readonly string[]): PlainMarks {
    return new PlainMarks(this.#texts.filter((text) => !texts.includes(text)));
  }

  mark(text: string): string {
    if (this.#starts === undefined) return text.replace(escapes, '\ufdd1$&');
    const own = text.replace(escapes, '\ufdd1$&').replace(this.#starts, '$&\ufdd0');
    return own.slice(0, -this.#longest) + this.#markEnd(own.slice(-this.#longest));
  }

  /** What follows in the template's text may complete what begins here. */
  #markEnd(text: string): string {
    return Array.from(text).reduceRight((end, first) => {
      const plain = withoutMarks(first + end);
      const isBegun = this.#texts.some((special) =>
        special.length > plain.length && special.startsWith(plain));
      return isBegun && plain !== '' ? `${first}\ufdd0${end}` : first + end;
    }, '');
  }

  /** Every text in a value as JSON has them, keys too. */
  markAll<T>(value: T): T {
    const marked = (part: unknown): unknown => {
      if (typeof part === 'string') return this.mark(part);
      if (Array.isArray(part)) return part.map(marked);
      if (typeof part !== 'object' || part === null) return part;
      return Object.fromEntries(Object.entries(part).map(([key, one]) =>
        [this.mark(key), marked(one)]));
    };
    return marked(value) as T;
  }
}
