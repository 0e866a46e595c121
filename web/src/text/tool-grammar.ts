// Parts of Lark grammars for calls of tools.
import type { ToolDeclaration } from '../api/tools.js';
import { prepareSchema } from './schema.js';

/** A literal. */
export const quoted = (text: string): string => (text === '' ? '""' : JSON.stringify(text));

/** One `call`, or more with commas. */
export const listOf = (open: string, close: string, once = false): string =>
  `${quoted(open)} call ${once ? '' : '(", " call)* '}${quoted(close)}`;

/** The arguments' schema, of an object. */
export function schemaOf({ inputSchema }: ToolDeclaration): object {
  return { type: 'object', properties: {}, additionalProperties: false, ...inputSchema };
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
