// What a server says of the range that it sends.
import { OneKVError } from '../api/errors.js';
import type { Answer } from './request.js';

/** The answer is not the range that was asked for, or says nonsense of it. */
export class WrongRange extends OneKVError {
  constructor(found: string, start: number) {
    super('SOURCE_FAILED', `found ${JSON.stringify(found.slice(0, 80))} as Content-Range, ` +
      `expected "bytes ${start}-LAST/TOTAL", with LAST below TOTAL`);
  }
}

interface Range {
  /** The last byte's place. */
  last: number;
  /** Of the whole file; undefined where the server does not know. */
  total: number | undefined;
}

/** What an answer of status 206 says of the range that begins at `start`; undefined when nothing,
 * or nothing that this origin is shown. Error: WrongRange. */
export function rangeOf({ headers }: Answer, start: number): Range | undefined {
  const text = headers.get('content-range');
  if (text === null) return undefined;
  const [, ...places] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(text.trim()) ?? [];
  const [first, last, total] = places.map((place) => (place === '*' ? undefined : Number(place)));
  const most = total ?? Number.MAX_SAFE_INTEGER;
  if (first !== start || last === undefined || last < first || last >= most ||
    most > Number.MAX_SAFE_INTEGER) throw new WrongRange(text, start);
  return { last, total };
}
