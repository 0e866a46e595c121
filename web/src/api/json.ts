// Values that go into a chat template or a snapshot, as JSON has them.
import { invalidArgument } from './errors.js';

/** Deeper ones end in a full stack somewhere, and nothing that is meant is as deep. */
const deepest = 128;
/** Values and characters: one object may stand in many places. */
const largest = 2 ** 26;

/** How large it is, from `size` on; more than `largest` where it is too large or too deep. */
function sizeOf(value: unknown, depth = 0, size = 0): number {
  if (typeof value === 'string') return size + value.length;
  if (typeof value !== 'object' || value === null) return size + 1;
  if (depth === deepest) return largest + 1;
  let sum = size + 1;
  for (const part of Object.values(value)) {
    sum = sizeOf(part, depth + 1, sum);
    if (sum > largest) break;
  }
  return sum;
}

/** A copy as JSON writes it. Error: INVALID_ARGUMENT: no object, a cycle, too deep, too large. */
export function plainObject(name: string, value: unknown): Record<string, unknown> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject) throw invalidArgument(name, value, 'an object');
  if (sizeOf(value) > largest) {
    throw invalidArgument(name, 'a cycle, or too much', `an object of ${deepest} levels at most`);
  }
  try {
    return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
  } catch {
    throw invalidArgument(name, value, 'an object that JSON can write');
  }
}
