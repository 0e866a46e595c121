// Finds stories that say nearly the same as one before.
//
// Of each text the `kept` smallest hashes of its runs of five words are remembered: a random sample
// of them that is the same wherever the same words stand (Broder 1997). The share of a new text's
// sample that one earlier text has too estimates how much of it is repeated.

const shingleWords = 5;

/** FNV-1a of a string's UTF-16 units, then mixed so that the order of hashes is random. */
function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The smallest hashes of the text's runs of words, ascending; letters and digits only. */
export function sketch(text, kept = 64) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const hashes = new Set();
  for (let i = 0; i + shingleWords <= words.length; i++) {
    hashes.add(hashOf(words.slice(i, i + shingleWords).join(' ')));
  }
  return [...hashes].sort((a, b) => a - b).slice(0, kept);
}

export class NearDuplicates {
  /** hash: numbers of the texts that have it. */
  #where = new Map();
  #count = 0;

  get size() {
    return this.#count;
  }

  /** The largest share of the text's sample that one earlier text has; 0 for a text of its own. */
  overlap(text) {
    const own = sketch(text);
    const shared = new Map();
    for (const hash of own) {
      for (const number of this.#where.get(hash) ?? []) {
        shared.set(number, (shared.get(number) ?? 0) + 1);
      }
    }
    return own.length === 0 ? 0 : Math.max(0, ...shared.values()) / own.length;
  }

  /** Remembers the text. */
  add(text) {
    for (const hash of sketch(text)) {
      const numbers = this.#where.get(hash);
      if (numbers === undefined) this.#where.set(hash, [this.#count]);
      else numbers.push(this.#count);
    }
    this.#count += 1;
  }
}
