// Parts of Lark grammars for calls of tools.
import { OneKVError } from '../api/errors.js';
import type { ToolDeclaration } from '../api/tools.js';
import { translateRegExp } from './regex.js';
import { prepareSchema } from './schema.js';

export type Json = Record<string, unknown>;

/** What a form's grammar is made for. */
export interface CallGrammar {
  tools: readonly ToolDeclaration[];
  /** The model's token of that text, or the text itself. */
  mark: (text: string) => string;
  /** The closing tag is a part of it. */
  closes: boolean;
  /** Of a list one call alone. */
  once: boolean;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A literal. */
export const quoted = (text: string): string => (text === '' ? '""' : JSON.stringify(text));

/** One `call`, or more with commas. */
export const listOf = (open: string, close: string, once = false): string =>
  `${quoted(open)} call ${once ? '' : '(", " call)* '}${quoted(close)}`;

/** The arguments' schema, of an object. */
export function schemaOf({ inputSchema }: ToolDeclaration): Json {
  return { type: 'object', properties: {}, additionalProperties: false, ...inputSchema };
}

/** An argument's schema by itself, with what it may refer to. */
export function schemaOfField(whole: Json, key: string): Json {
  const { properties, required: _, type: __, additionalProperties: ___, ...rest } = whole;
  return { ...rest, ...(properties as Record<string, Json> | undefined)?.[key] };
}

/** JSON of a schema, as a rule's body; `isSpaced`: with any white space. Error:
 * CONSTRAINT_REFUSED. */
export function schemaRule(schema: object, isSpaced = false): string {
  const prepared = JSON.parse(prepareSchema(JSON.stringify(schema))) as object;
  const style = isSpaced ? { whitespace_flexible: true }
    : { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' };
  return `%json ${JSON.stringify({ ...prepared,
    'x-guidance': { ...style, json_allow_general_unicode_escapes: true } })}`;
}

export function refuseKeyword(name: string, why: string): never {
  throw new OneKVError('CONSTRAINT_REFUSED', `constraint: the keyword "${name}" ${why}`);
}

/** Rules with names of their own. */
export class RuleList {
  readonly #lines: string[] = [];

  /** Gives its name. */
  add(body: string, attributes = ''): string {
    const name = `rule${this.#lines.length}`;
    this.#lines.push(`${name}${attributes}: ${body}\n`);
    return name;
  }

  /** Those fields that are required and any of the others, in this order, with commas. */
  addFields(fields: readonly { term: string; isOptional: boolean }[], comma: string): string {
    // What follows, behind a field and as the first one.
    const ends = { after: this.add('""'), first: this.add('""') };
    return fields.reduceRight(({ after, first }, { term, isOptional }) => ({
      after: this.add(`${quoted(comma)} ${term} ${after}${isOptional ? ` | ${after}` : ''}`),
      first: this.add(`${term} ${after}${isOptional ? ` | ${first}` : ''}`),
    }), ends).first;
  }

  toString(): string {
    return this.#lines.join('');
  }
}

const ofTexts = ['minLength', 'maxLength', 'pattern', 'format', 'contentEncoding'];

export const isText = (schema: unknown): schema is Json => isObject(schema) &&
  schema['type'] === 'string' && !('enum' in schema) && !('const' in schema);

/** The expression of a text that stands between tags; `letter`: what a letter of it may be. Error:
 * CONSTRAINT_REFUSED. */
export function textPattern(schema: Json, letter = '(?s:.)'): string {
  const { minLength = 0, maxLength = '', pattern } = schema;
  if ('format' in schema) refuseKeyword('format', 'is not supported in the form of this model');
  if (typeof pattern !== 'string') {
    return `/${letter}${minLength === 0 && maxLength === '' ? '*'
      : `{${String(minLength)},${String(maxLength)}}`}/`;
  }
  if (minLength !== 0 || maxLength !== '') {
    refuseKeyword('pattern', 'beside a length is not supported in the form of this model');
  }
  return `/${translateRegExp(pattern, 'u', false).replaceAll('/', '\\/')}/`;
}

/** Keywords that say something and are not in the list. Error: CONSTRAINT_REFUSED. */
export function refuseOthers(schema: Json, known: readonly string[]): void {
  const silent = ['type', 'title', 'description', 'default', 'examples', 'example', '$schema',
    '$comment', '$id', '$defs', 'definitions', 'deprecated', 'readOnly', 'writeOnly', 'nullable'];
  const other = Object.keys(schema).find((name) => !silent.includes(name) && !known.includes(name));
  if (other !== undefined) refuseKeyword(other, 'is not supported in the form of this model');
}

/** Of `schema`, whose type is text. */
export const checkText = (schema: Json): void => refuseOthers(schema, ofTexts);
