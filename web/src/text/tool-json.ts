// Calls in JSON.
import type { PlainCall } from './tool-forms.js';
import { isObject } from './tool-grammar.js';

/** JSON with one blank after commas and colons. */
export const spaced = (value: unknown): string => JSON.stringify(value)
  .replace(/("(?:[^"\\]|\\.)*")|([,:])/g, (_, text: string | undefined, mark: string) =>
    text ?? `${mark} `);

/** An object, or a list of them, of a name and arguments. */
export function readJson(text: string): PlainCall[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const calls = list.map((call) => {
    if (!isObject(call) || typeof call['name'] !== 'string') return undefined;
    const given = call['arguments'] ?? call['parameters'] ?? {};
    return isObject(given) ? { name: call['name'], arguments: given } : undefined;
  });
  return calls.every((call) => call !== undefined) && calls.length > 0 ? calls : undefined;
}
