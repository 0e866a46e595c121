// Bounds of numbers in a JSON schema, put so that the grammar module keeps to all of them.
//
// The module counts in 64-bit integers and cuts what is larger; beside a bound with decimals it
// takes an exclusive whole number for one that may be reached (llguidance 1.9.1, numeric.rs). What
// is written here allows the same numbers or, at the ends of what it can count, fewer: never more.
type Json = Record<string, unknown>;

const lower = ['minimum', 'exclusiveMinimum'];
const upper = ['maximum', 'exclusiveMaximum'];

/** The largest double below 2^63. */
const most = 9223372036854774784;
/** From here on the module cannot count to the next power of ten: it needs a second bound. */
const oneSidedMost = 1e18;
/** Bounds around 0 are rounded inwards to as many decimals where they have more than `longest`. */
const step = 1e-16;
const longest = 20;

/** The bound's place in a list of doubles: one step up. value: 0 or more, finite. */
function next(value: number): number {
  if (value === 0) return step;
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  bits.setBigUint64(0, bits.getBigUint64(0) + 1n);
  return bits.getFloat64(0);
}

/** One step down, of a number above 0. */
function before(value: number): number {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  bits.setBigUint64(0, bits.getBigUint64(0) - 1n);
  return bits.getFloat64(0);
}

const above = (value: number) => (value < 0 ? -before(-value) : next(value));

/** The least number that the module can write which is not below. */
function rounded(value: number): number {
  const [digits = '', exponent = '0'] = value.toExponential().split('e');
  const decimals = (digits.split('.')[1] ?? '').length - Number(exponent);
  if (decimals <= longest) return value;
  return (Math.floor(value / step) + 1) * step;
}

/** An exclusive bound where a boolean says that the other one is. */
function readExclusive(schema: Json, name: string, plain: string): void {
  const value = schema[name];
  if (typeof value !== 'boolean') return;
  delete schema[name];
  if (!value || !(plain in schema)) return;
  schema[name] = schema[plain];
  delete schema[plain];
}

/** Some bound of the schema has decimals: when merged, it may stand beside any exclusive one. */
export function hasFraction(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, part]) => (typeof part === 'number'
    ? [...lower, ...upper].includes(name) && !Number.isInteger(part) : hasFraction(part)));
}

/**
 * Puts a schema's bounds in the module's terms, in place. isMixed: hasFraction of the document.
 * refuse: ends with an error, is told what is not supported.
 */
export function prepareBounds(schema: Json, isMixed: boolean,
  refuse: (what: string) => never): void {
  readExclusive(schema, 'exclusiveMinimum', 'minimum');
  readExclusive(schema, 'exclusiveMaximum', 'maximum');
  const given = [...lower, ...upper].filter((name) => name in schema);
  for (const name of given) {
    if (typeof schema[name] !== 'number') refuse(`${name} that is not a number`);
  }
  for (const name of given) {
    const sign = lower.includes(name) ? 1 : -1;
    // Both kinds as a least number: an upper bound is one of the numbers' negatives.
    const least = rounded(sign * (schema[name] as number));
    if (least > most) refuse(`${name} ${String(schema[name])} (beyond ${sign < 0 ? '-' : ''}2^63)`);
    // Beyond 2^53 the module's own step to the next whole number is none.
    const isMistaken = (isMixed && Number.isInteger(least)) || Math.abs(least) >= 2 ** 53;
    if (name.startsWith('exclusive') && isMistaken) {
      delete schema[name];
      narrow(schema, sign, Math.max(-most, above(least)));
    } else {
      schema[name] = sign * Math.max(-most, least);
    }
    if (least >= oneSidedMost) narrow(schema, -sign, -most);
  }
}

/** Adds an inclusive bound, if it says more than the one there. */
function narrow(schema: Json, sign: number, least: number): void {
  const name = sign > 0 ? 'minimum' : 'maximum';
  const known = schema[name];
  if (typeof known === 'number' && sign * known >= least) return;
  schema[name] = sign * least;
}
