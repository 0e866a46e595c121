// Whether a grammar takes a text, gone through byte by byte: for constraints.mjs and
// schema-suite.mjs. The vocabulary is the 256 bytes and an end, so no model is needed.
import { Grammars } from '../../dist/src/engine-entry-node.js';

const end = 256;
const bytes = {
  ends: new Set([end]), size: 257, isControl: () => false,
  bytesOf: (id) => (id < end ? Uint8Array.of(id) : new Uint8Array(0)),
};

export const grammars = new Grammars(bytes, 257);

/** JSON with one blank after commas and colons, as constraints have it. */
export function write(value) {
  if (Array.isArray(value)) return `[${value.map(write).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, part]) =>
    `${JSON.stringify(key)}: ${write(part)}`).join(', ')}}`;
}

const allows = (mask, token) => (mask[token >> 5] >>> (token & 31) & 1) === 1;

/** Errors: CONSTRAINT_REFUSED, CONSTRAINT_TOO_COMPLEX. */
export async function accepts(grammar, text) {
  const rule = await grammars.rule(grammar);
  try {
    for (const byte of new TextEncoder().encode(text)) {
      if (!allows(await rule.allowed(), byte)) return false;
      rule.accept(byte);
    }
    return allows(await rule.allowed(), end);
  } finally {
    rule.free();
  }
}
