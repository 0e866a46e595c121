// A JSON schema before the grammar module reads it: what the module does not know, or would read
// otherwise, is refused here with its place, or put in its words.
//
//   refused       keywords of refusedAlways; references out of the schema; a large multipleOf;
//                 bounds that no answer's number reaches
//   put in words  pattern and patternProperties (JavaScript's expressions, regex.ts); references
//                 with escapes or to anchors, whose targets get a plain name; bounds of numbers
//                 (schema-bounds.ts)
//   left out      keywords that say nothing: `uniqueItems: false`, `then` without `if`
import { OneKVError, reasonOf } from '../api/errors.js';
import { refusedOf, translateRegExp } from './regex.js';
import { hasFraction, prepareBounds } from './schema-bounds.js';

type Json = Record<string, unknown>;

/** The module reads JSON of 128 levels; one of them is its own. */
const levelsMost = 126;
const lettersMost = 4 << 20;
/** A multiple's automaton has as many states: more take the module's memory. */
const multipleMost = 1000;
const ours = 'onekv-';

const single = ['additionalItems', 'additionalProperties', 'items'];
const lists = ['allOf', 'anyOf', 'items', 'oneOf', 'prefixItems'];
/** Not $defs: what nothing refers to says nothing. */
const maps = ['patternProperties', 'properties'];
const refusedAlways = ['not', 'contains', 'dependencies', 'dependentRequired', 'dependentSchemas',
  'propertyNames', 'unevaluatedItems', 'unevaluatedProperties', '$dynamicRef', '$recursiveRef',
  'disallow', 'divisibleBy', 'extends', 'if', 'uniqueItems'];

function refuse(path: string, what: string): never {
  const place = path === '#' ? '# (the top of the schema)' : path;
  throw new OneKVError('CONSTRAINT_REFUSED', `constraint: ${what} at ${place} is not supported`);
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkLevels(text: string): void {
  let level = 0;
  for (const [part] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/g)) {
    if (part === '{' || part === '[') level += 1;
    else if (part === '}' || part === ']') level -= 1;
    if (level > levelsMost) refuse('#', `objects and lists more than ${levelsMost} deep`);
  }
}

/** The numbers that n must be a multiple of to be one of both. */
function checkMultiple(value: unknown, path: string): void {
  const isNumber = typeof value === 'number' && Number.isFinite(value) && value > 0;
  if (!isNumber) refuse(path, 'multipleOf that is not a number above 0');
  const [digits = '', exponent = '0'] = (value as number).toExponential().split('e');
  const decimals = (digits.split('.')[1] ?? '').length - Number(exponent);
  const scaled = Math.round((value as number) * 10 ** Math.max(0, decimals));
  if (scaled > multipleMost || decimals > 9) {
    refuse(path, `multipleOf ${String(value)} (at most ${multipleMost} of its last digit)`);
  }
}

/** References inside of a schema with a name of its own start from that name. */
function hasReference(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return '$ref' in value || Object.values(value).some(hasReference);
}

class Preparation {
  readonly #root: Json;
  readonly #seen = new Set<unknown>();
  readonly #named = new Map<string, string>();
  readonly #anchors = new Map<string, Json>();
  readonly #isMixed: boolean;

  constructor(root: Json) {
    this.#root = root;
    this.#isMixed = hasFraction(root);
  }

  run(): void {
    this.#prepare(this.#root, '#');
  }

  #prepare(schema: unknown, path: string): void {
    if (!isObject(schema) || this.#seen.has(schema)) return;
    this.#seen.add(schema);
    this.#dropEmpty(schema);
    for (const name of refusedAlways) {
      if (Object.hasOwn(schema, name)) refuse(path, `the keyword "${name}"`);
    }
    const { $id } = schema;
    if (path !== '#' && typeof $id === 'string' && !$id.startsWith('#') && hasReference(schema)) {
      refuse(path, 'the keyword "$id" around a "$ref"');
    }
    if ('multipleOf' in schema) checkMultiple(schema['multipleOf'], path);
    prepareBounds(schema, this.#isMixed, (what) => refuse(path, what));
    this.#children(schema, path);
    if (typeof schema['pattern'] === 'string') {
      schema['pattern'] = this.#expression(schema['pattern'], `${path}/pattern`);
    }
    if (isObject(schema['patternProperties'])) {
      schema['patternProperties'] = Object.fromEntries(
        Object.entries(schema['patternProperties']).map(([key, value]) =>
          [this.#expression(key, `${path}/patternProperties`), value]));
    }
    if (typeof schema['$ref'] === 'string') schema['$ref'] = this.#reference(schema['$ref'], path);
  }

  #dropEmpty(schema: Json): void {
    const drop = (...names: string[]) => names.forEach((name) => delete schema[name]);
    if (schema['uniqueItems'] === false) drop('uniqueItems');
    if (!('if' in schema)) drop('then', 'else');
    else if (!('then' in schema) && !('else' in schema)) drop('if');
    if (!('contains' in schema)) drop('minContains', 'maxContains');
    for (const name of ['propertyNames', 'unevaluatedItems', 'unevaluatedProperties', 'contains']) {
      const value = schema[name];
      const isAny = value === true || (isObject(value) && Object.keys(value).length === 0);
      if (name !== 'contains' && isAny) drop(name);
    }
  }

  #children(schema: Json, path: string): void {
    for (const name of single) this.#prepare(schema[name], `${path}/${name}`);
    for (const name of lists) {
      const list = schema[name];
      if (Array.isArray(list)) {
        list.forEach((item, i) => this.#prepare(item, `${path}/${name}/${i}`));
      }
    }
    for (const name of maps) {
      const map = schema[name];
      if (!isObject(map)) continue;
      for (const [key, value] of Object.entries(map)) {
        this.#prepare(value, `${path}/${name}/${key}`);
      }
    }
  }

  /** As validators do: by Unicode characters, unless the expression is an old one. */
  #expression(source: string, path: string): string {
    let flags = 'u';
    try {
      new RegExp(source, flags);
    } catch {
      flags = '';
    }
    try {
      return `^${translateRegExp(source, flags, false)}$`;
    } catch (error) {
      return refuse(path, refusedOf(reasonOf(error)));
    }
  }

  /** A reference that the module follows. */
  #reference(reference: string, path: string): string {
    const target = this.#target(reference, path);
    this.#prepare(target, reference);
    if (/^#(\/[^~%]*)?$/.test(reference)) return reference;
    const known = this.#named.get(reference);
    if (known !== undefined) return known;
    const name = `${ours}${this.#named.size}`;
    const defs = isObject(this.#root['$defs']) ? this.#root['$defs'] : {};
    this.#root['$defs'] = { ...defs, [name]: target };
    this.#named.set(reference, `#/$defs/${name}`);
    return `#/$defs/${name}`;
  }

  #target(reference: string, path: string): unknown {
    if (!reference.startsWith('#')) refuse(path, `$ref "${reference.slice(0, 80)}" to elsewhere`);
    if (reference === '#' || reference === '#/') return this.#root;
    if (!reference.startsWith('#/')) return this.#anchor(reference.slice(1), path);
    let at: unknown = this.#root;
    for (const part of reference.slice(2).split('/')) {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const holder = at as Json | null;
      const has = typeof holder === 'object' && holder !== null && Object.hasOwn(holder, name);
      if (!has) refuse(path, `$ref "${reference.slice(0, 80)}" to nothing`);
      at = (holder as Json)[name];
    }
    return at;
  }

  #anchor(name: string, path: string): Json {
    if (this.#anchors.size === 0) this.#findAnchors(this.#root);
    return this.#anchors.get(name) ?? refuse(path, `$ref "#${name.slice(0, 80)}" to nothing`);
  }

  /** Those of this schema: one with a name of its own inside has its own. */
  #findAnchors(value: unknown): void {
    if (typeof value !== 'object' || value === null) return;
    const { $anchor, $id } = value as Json;
    if (value !== this.#root && typeof $id === 'string' && !$id.startsWith('#')) return;
    if (typeof $anchor === 'string') this.#anchors.set($anchor, value as Json);
    if (typeof $id === 'string' && $id.startsWith('#')) {
      this.#anchors.set($id.slice(1), value as Json);
    }
    for (const part of Object.values(value)) this.#findAnchors(part);
  }
}

/** The text of a schema as the grammar module takes it. Error: CONSTRAINT_REFUSED, which names the
 * keyword and its place. */
export function prepareSchema(text: string): string {
  if (text.length > lettersMost) refuse('#', `more than ${lettersMost} characters`);
  checkLevels(text);
  const schema: unknown = JSON.parse(text);
  if (schema === true) return '{}';
  if (!isObject(schema)) return refuse('#', 'a schema that allows nothing');
  new Preparation(schema).run();
  return JSON.stringify(schema);
}
