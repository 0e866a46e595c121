// Calls as Gemma 4 and FunctionGemma write them: call:f{city:<escape>Rome<escape>,days:3}. Keys are
// bare and in the order of the alphabet, texts stand between two quoting tokens as they are.
import type { PlainCall, ToolForm } from './tool-forms.js';
import { RuleList, checkText, isObject, isText, quoted, refuseKeyword, refuseOthers, schemaOf,
  schemaRule, textPattern } from './tool-grammar.js';
import type { CallGrammar, Json } from './tool-grammar.js';

/** As Jinja's dictsort. */
const sorted = (value: object): [string, unknown][] => Object.entries(value)
  .sort(([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));

class Grammar {
  readonly rules = new RuleList();
  readonly #quote: string;
  readonly #mark: (text: string) => string;

  constructor(quote: string, mark: (text: string) => string) {
    this.#quote = quote;
    this.#mark = mark;
  }

  /** Errors: CONSTRAINT_REFUSED. */
  object(schema: Json): string {
    refuseOthers(schema, ['properties', 'required', 'additionalProperties']);
    const { properties = {}, required = [] } = schema as
      { properties?: Record<string, unknown>; required?: string[] };
    const missing = required.find((key) => !Object.hasOwn(properties, key));
    if (missing !== undefined) refuseKeyword('required', `names ${missing}, which has no schema`);
    const fields = sorted(properties).map(([key, value]) => {
      if (/[:,{}[\]]/.test(key)) refuseKeyword('properties', `has a key with marks: ${key}`);
      return { term: `${quoted(`${key}:`)} ${this.#value(value)}`,
        isOptional: !required.includes(key) };
    });
    return `"{" ${this.rules.addFields(fields, ',')} "}"`;
  }

  #value(schema: unknown): string {
    if (!isObject(schema)) return this.#any();
    const { type, enum: listed, const: only, anyOf } = schema;
    if (Array.isArray(anyOf)) {
      refuseOthers(schema, ['anyOf']);
      return this.#oneOf(anyOf.map((one) => this.#value(one)));
    }
    const options: unknown = only === undefined ? listed : [only];
    if (Array.isArray(options)) {
      refuseOthers(schema, ['enum', 'const']);
      return this.#oneOf(options.map((option) => this.#literal(option)));
    }
    if (Array.isArray(type)) {
      return this.#oneOf(type.map((one: unknown) => this.#value({ ...schema, type: one })));
    }
    if (isText(schema)) return this.#text(schema);
    if (type === 'array') return this.#list(schema);
    if (type === 'object') return this.object(schema);
    return type === undefined ? this.#any() : this.rules.add(schemaRule(schema));
  }

  #oneOf(terms: string[]): string {
    return this.rules.add(terms.map((term) => this.rules.add(term)).join(' | '));
  }

  #any(): string {
    return this.#oneOf([this.#text({}), schemaRule({ type: ['number', 'boolean', 'null'] })]);
  }

  #text(schema: Json): string {
    checkText(schema);
    const mark = this.#mark(this.#quote);
    const pattern = textPattern(schema);
    if (mark !== quoted(this.#quote)) return `${mark} ${this.rules.add(pattern)} ${mark}`;
    return `${mark} ${this.rules.add(pattern, `[suffix=${mark}]`)}`;
  }

  #list(schema: Json): string {
    refuseOthers(schema, ['items', 'minItems', 'maxItems']);
    const { items, minItems = 0, maxItems } = schema as
      { items?: unknown; minItems?: number; maxItems?: number };
    const item = this.rules.add(this.#value(items));
    const most = maxItems === undefined ? '' : maxItems - 1;
    const more = maxItems !== undefined && maxItems < 2 ? ''
      : ` ("," ${item}){${Math.max(0, minItems - 1)},${most}}`;
    const some = maxItems === 0 ? '' : `"[" ${item}${more} "]"`;
    return minItems > 0 ? some : this.#oneOf([some, '"[]"'].filter(Boolean));
  }

  #literal(value: unknown): string {
    if (typeof value !== 'string') return quoted(written(value, this.#quote));
    const mark = this.#mark(this.#quote);
    return `${mark} ${quoted(value)} ${mark}`;
  }
}

function written(value: unknown, quote: string): string {
  if (typeof value === 'string') return quote + value + quote;
  if (Array.isArray(value)) return `[${value.map((part) => written(part, quote)).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value ?? null);
  return `{${sorted(value).map(([key, part]) => `${key}:${written(part, quote)}`).join(',')}}`;
}

class Reader {
  readonly #text: string;
  readonly #quote: string;
  #at = 0;

  constructor(text: string, quote: string) {
    this.#text = text;
    this.#quote = quote;
  }

  get isOver(): boolean {
    return this.#at === this.#text.length;
  }

  #maybe(mark: string): boolean {
    const is = this.#text.startsWith(mark, this.#at);
    if (is) this.#at += mark.length;
    return is;
  }

  /** Up to one of these marks. Error: SyntaxError. */
  #upTo(marks: readonly string[]): string {
    const [end] = marks.map((mark) => this.#text.indexOf(mark, this.#at))
      .filter((at) => at >= 0).sort((a, b) => a - b);
    if (end === undefined) throw new SyntaxError(`at ${this.#at}`);
    const text = this.#text.slice(this.#at, end);
    this.#at = end;
    return text;
  }

  #items(close: string, read: () => void): void {
    while (!this.#maybe(close)) {
      read();
      if (!this.#maybe(',') && !this.#text.startsWith(close, this.#at)) {
        throw new SyntaxError(`at ${this.#at}`);
      }
    }
  }

  #quoted(): string {
    const text = this.#upTo([this.#quote]);
    this.#maybe(this.#quote);
    return text;
  }

  value(): unknown {
    if (this.#maybe(this.#quote)) return this.#quoted();
    if (this.#maybe('{')) {
      const entries: [string, unknown][] = [];
      this.#items('}', () => {
        const key = this.#maybe(this.#quote) ? this.#quoted() : this.#upTo([':']).trim();
        if (!this.#maybe(':')) throw new SyntaxError(`at ${this.#at}`);
        entries.push([key, this.value()]);
      });
      return Object.fromEntries(entries);
    }
    if (this.#maybe('[')) {
      const list: unknown[] = [];
      this.#items(']', () => list.push(this.value()));
      return list;
    }
    const text = this.#upTo([',', '}', ']']).trim();
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
}

function read(text: string, quote: string): PlainCall[] | undefined {
  const [, name, given] = /^([\w.-]+)(\{[^]*)$/.exec(text.trim()) ?? [];
  if (name === undefined || given === undefined) return undefined;
  const reader = new Reader(given, quote);
  try {
    const value = reader.value() as Record<string, unknown>;
    return reader.isOver ? [{ name, arguments: value }] : undefined;
  } catch {
    return undefined;
  }
}

export function bracesForm(name: string, opener: string, closer: string, quote: string): ToolForm {
  return {
    name, opener: `${opener}call:`, closer,
    isOf: (template) => template.includes(`${opener}call:`),
    grammar: ({ tools, mark, closes }: CallGrammar) => {
      const grammar = new Grammar(quote, mark);
      const calls = tools.map((tool) => grammar.rules.add(
        `${quoted(tool.name)} ${grammar.object(schemaOf(tool))}`));
      return `start: call${closes ? ` ${mark(closer)}` : ''}\ncall: ${calls.join(' | ')}\n` +
        String(grammar.rules);
    },
    read: (text) => read(text, quote),
    write: (calls) => calls.map((call) =>
      `${opener}call:${call.name}${written(call.arguments, quote)}${closer}`).join(''),
  };
}
