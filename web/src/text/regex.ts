// JavaScript's regular expressions in the syntax of Rust's crate regex-syntax, which the grammar
// module reads. What it writes is free of names and of classes such as \d, whose meaning differs
// between the two: characters are [A-Za-z0-9] or \x{…}, classes are lists of ranges.
//
// A grammar is about whole texts: ^ and $ are known where an alternative begins and ends, and
// refused, as look-around, back references and \b are, where they would look at a neighbour.
import { OneKVError } from '../api/errors.js';

/** A sequence's part: rendered text, an anchor, or a group without a quantifier. */
type Node = { text: string } | { anchor: '^' | '$' } | { group: Sequence[] };
type Sequence = Node[];

const digit = '0-9';
const word = '0-9A-Z_a-z';
const blank = '\\x{9}-\\x{D}\\x{20}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}' +
  '\\x{205F}\\x{3000}\\x{FEFF}';
const classes: Record<string, string> = {
  d: digit, w: word, s: blank, D: `[^${digit}]`, W: `[^${word}]`, S: `[^${blank}]`,
};
const controls: Record<string, number> = { t: 9, n: 10, v: 11, f: 12, r: 13 };
const any = '[\\x{0}-\\x{10FFFF}]';
const anyOfLine = '[^\\x{A}\\x{D}\\x{2028}\\x{2029}]';

const verb = ' is not supported';

/** What was refused, for an error that says where. */
export const refusedOf = (message: string): string =>
  message.replace(/^constraint: /, '').split(verb)[0] as string;

function refuse(what: string, advice = ''): never {
  throw new OneKVError('CONSTRAINT_REFUSED',
    `constraint: ${what} in a regular expression${verb}${advice}`);
}

function literal(code: number): string {
  const character = String.fromCodePoint(code);
  if (/[0-9A-Za-z]/.test(character)) return character;
  if (code >= 0xd800 && code <= 0xdfff) refuse('half of a surrogate pair');
  return `\\x{${code.toString(16).toUpperCase()}}`;
}

class Parser {
  readonly #source: string;
  readonly #dot: string;
  #at = 0;

  constructor(source: string, dotAll: boolean) {
    this.#source = source;
    this.#dot = dotAll ? any : anyOfLine;
  }

  parse(): Sequence[] {
    const all = this.#alternatives();
    if (this.#at < this.#source.length) refuse(`")" at ${this.#at}`);
    return all;
  }

  /** Takes what the pattern (sticky) matches here. */
  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  #alternatives(): Sequence[] {
    const all: Sequence[] = [this.#sequence()];
    while (this.#take(/\|/y)) all.push(this.#sequence());
    return all;
  }

  #sequence(): Sequence {
    const nodes: Sequence = [];
    while (this.#at < this.#source.length && !/[|)]/.test(this.#source[this.#at] as string)) {
      nodes.push(this.#term());
    }
    return nodes;
  }

  #term(): Node {
    const anchor = this.#take(/[$^]/y)?.[0] as '^' | '$' | undefined;
    if (anchor !== undefined) return { anchor };
    if (this.#take(/\((?:\?[:]|\?<[^=!>]+>)?(?!\?)/y)) {
      const group = this.#alternatives();
      this.#take(/\)/y);
      const count = this.#quantifier();
      return count === '' ? { group } : { text: `(?:${render(group)})${count}` };
    }
    if (this.#source[this.#at] === '(') {
      refuse(/^\(\?<?[=!]/.test(this.#source.slice(this.#at)) ? 'look-around'
        : `"${this.#source.slice(this.#at, this.#at + 3)}"`);
    }
    const atom = this.#atom();
    return { text: atom + this.#quantifier() };
  }

  /** Whether it takes few or many makes no difference to which texts match. */
  #quantifier(): string {
    const found = this.#take(/([*+?]|\{\d+(?:,\d*)?\})\??/y);
    return found?.[1] ?? '';
  }

  #atom(): string {
    if (this.#take(/\./y)) return this.#dot;
    if (this.#take(/\[/y)) return this.#class();
    if (this.#take(/\\/y)) {
      const named = this.#classEscape();
      if (named !== undefined) return named.startsWith('[') ? named : `[${named}]`;
      if (this.#take(/[bB]/y)) refuse('\\b or \\B');
      if (this.#take(/[1-9k]/y)) refuse('a back reference');
      return literal(this.#escape());
    }
    return literal(this.#character());
  }

  #character(): number {
    const code = this.#source.codePointAt(this.#at) as number;
    this.#at += code > 0xffff ? 2 : 1;
    return code;
  }

  /** After a backslash: a class, as ranges or, negated, in brackets. */
  #classEscape(): string | undefined {
    const simple = this.#take(/[dDwWsS]/y)?.[0];
    if (simple !== undefined) return classes[simple];
    const property = this.#take(/[pP]\{[^}]*\}/y)?.[0];
    return property === undefined ? undefined : `[\\${property}]`;
  }

  /** After a backslash: a character. */
  #escape(): number {
    const pair = this.#take(/u([dD][89a-bA-B][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})/y);
    if (pair !== null) {
      return (Number.parseInt(pair[1] as string, 16) - 0xd800) * 0x400 + 0x10000 +
        Number.parseInt(pair[2] as string, 16) - 0xdc00;
    }
    const hex = this.#take(/x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]+)\}/y);
    if (hex !== null) return Number.parseInt((hex[1] ?? hex[2] ?? hex[3]) as string, 16);
    const letter = this.#take(/c([A-Za-z])/y)?.[1];
    if (letter !== undefined) return letter.charCodeAt(0) % 32;
    const control = this.#take(/[tnvfr]/y)?.[0];
    if (control !== undefined) return controls[control] as number;
    if (this.#take(/0(?!\d)/y)) return 0;
    return this.#character();
  }

  /** After the opening bracket. */
  #class(): string {
    const negated = this.#take(/\^/y) !== null;
    let ranges = '';
    while (!this.#take(/\]/y)) {
      if (this.#at >= this.#source.length) refuse('"[" without "]"');
      const from = this.#classPart();
      const isRange = typeof from === 'number' && /^-[^\]]/.test(this.#source.slice(this.#at));
      if (isRange) {
        this.#at += 1;
        const to = this.#classPart();
        if (typeof to !== 'number') refuse('a range that ends with a class');
        ranges += `${literal(from)}-${literal(to as number)}`;
      } else ranges += typeof from === 'number' ? literal(from) : from;
    }
    if (ranges === '') return negated ? any : refuse('"[]", which matches nothing,');
    return `[${negated ? '^' : ''}${ranges}]`;
  }

  #classPart(): number | string {
    if (!this.#take(/\\/y)) return this.#character();
    if (this.#take(/b/y)) return 8;
    return this.#classEscape() ?? this.#escape();
  }
}

function renderSequence(nodes: Sequence): string {
  return nodes.map((node) => {
    if ('text' in node) return node.text;
    if ('group' in node) return `(?:${render(node.group)})`;
    return refuse(`"${node.anchor}" in the middle of a text`);
  }).join('');
}

function render(alternatives: Sequence[]): string {
  return alternatives.map(renderSequence).join('|');
}

/** Alternatives of the whole: groups that are all of an alternative are opened. */
function flatten(alternatives: Sequence[]): Sequence[] {
  return alternatives.flatMap((nodes) => {
    const [only] = nodes;
    return nodes.length === 1 && only !== undefined && 'group' in only ? flatten(only.group)
      : [nodes];
  });
}

/**
 * The expression of the same texts: `whole`: of texts that match from their beginning to their end,
 * else of texts in which there is a match. Errors: CONSTRAINT_REFUSED (look-around, back
 * references, \b, anchors in the middle, no JavaScript), INVALID_ARGUMENT (flags i, m, v).
 */
export function translateRegExp(source: string, flags: string, whole: boolean): string {
  const flag = /[imv]/.exec(flags)?.[0];
  if (flag !== undefined) refuse(`the flag ${flag}`, flag === 'i' ? '; write [Aa]' : '');
  try {
    new RegExp(source, flags);
  } catch (error) {
    throw new OneKVError('CONSTRAINT_REFUSED', `constraint: ${(error as Error).message}`);
  }
  const alternatives = flatten(new Parser(source, flags.includes('s')).parse());
  const texts = alternatives.map((nodes) => {
    const [first] = nodes;
    const last = nodes.at(-1);
    const begins = first !== undefined && 'anchor' in first && first.anchor === '^';
    const ends = last !== undefined && 'anchor' in last && last.anchor === '$';
    const body = nodes.slice(begins ? 1 : 0, ends ? -1 : undefined);
    const rest = whole ? '' : `${any}*`;
    return (begins ? '' : rest) + renderSequence(body) + (ends ? '' : rest);
  });
  return texts.length === 1 ? texts[0] as string : `(?:${texts.join('|')})`;
}
