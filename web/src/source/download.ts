// A file from the network, from any offset on, through interruptions: what breaks off is asked for
// again by range, as long as the server says that it is still the same file.
//
// The first request asks for a range too ("bytes=0-"): browsers then ask for the file's own bytes
// instead of compressed ones, whose length another origin would pass off as the file's.
import { OneKVError } from '../api/errors.js';
import { Patience } from './patience.js';
import { WrongRange, rangeOf } from './range.js';
import { BadStatus, Unreachable, request } from './request.js';
import type { Access, Answer } from './request.js';

export interface Download {
  /** undefined when the server does not say, or what it said turned out to be of another form. */
  totalBytes: number | undefined;
  /** Tells versions of the file apart; undefined when the server gives nothing fit for it. */
  validator: string | undefined;
  /** Where `chunks` begins: what was asked for, or 0 when the server starts over. */
  start: number;
  /** Whoever does not read them cancels. */
  chunks: AsyncIterable<Uint8Array>;
  cancel(): Promise<void>;
}

/** Where to begin, if the file is still the one of the validator. 'any': the caller checks. */
interface Beginning {
  offset: number;
  totalBytes: number | undefined;
  validator: string | 'any';
}

/** The bytes given so far belong to a file that is gone: the source has to be read anew. */
export class Replaced extends OneKVError {
  constructor() {
    super('SOURCE_FAILED', 'the file was replaced while it was being read');
  }
}

/** Rows were left in a copy that could not be stored: the source has to be read anew, and they are
 * held in memory. */
export class NotReadable extends OneKVError {
  constructor() {
    super('SOURCE_FAILED', 'the copy that rows were to be read from could not be stored');
  }
}

/** A weak ETag promises no equal bytes; a date does, if only to the second. */
function validatorOf(headers: Headers): string | undefined {
  if (headers.has('content-encoding')) return undefined;
  const tag = headers.get('etag');
  if (tag?.startsWith('"') === true) return tag;
  return headers.get('last-modified') ?? undefined;
}

/** Bytes of the whole file, if the answer is the range from `start` to its end and says so. */
function rangeTotal(answer: Answer, start: number): number | undefined {
  const { headers, status } = answer;
  if (status !== 206 || headers.has('content-encoding')) return undefined;
  const range = rangeOf(answer, start);
  if (range !== undefined) return range.total;
  // Other origins show Content-Range only if they say so; the length they always show.
  const length = Number(headers.get('content-length') ?? Number.NaN);
  return Number.isSafeInteger(length) ? start + length : undefined;
}

function wholeLength(answer: Answer): number | undefined {
  if (answer.status === 206) return rangeTotal(answer, 0);
  const { headers } = answer;
  // A compressed body's length is not the file's.
  const length = headers.has('content-encoding') ? null : headers.get('content-length');
  const total = Number(length ?? Number.NaN);
  return Number.isSafeInteger(total) && total > 0 ? total : undefined;
}

function badStatus(answer: Answer, { address }: Access, offset: number): BadStatus {
  const { status } = answer;
  const after = offset > 0 ? ` after ${offset} bytes` : '';
  let hint = '';
  if ([401, 403, 404, 410].includes(status) && (offset > 0 || address.url.search !== '')) {
    hint = '; the address may have expired';
  } else if (status === 401 || status === 403) {
    hint = '; the file may need a token or headers';
  }
  return new BadStatus(answer, `found HTTP status ${status}, expected 200${after}${hint}`);
}

/** Error: WrongRange. */
async function checked(answer: Answer, offset: number): Promise<Answer> {
  try {
    rangeOf(answer, offset);
    return answer;
  } catch (error) {
    await answer.cancel();
    throw error;
  }
}

/** New addresses that are asked for while not a byte comes. */
const refreshesMost = 3;

/**
 * The answer to a range from `offset` on, with status 200 (all of the file), 206 or 416. Refused,
 * it asks for a new address where there is one. Errors: Unreachable, BadStatus, WrongRange.
 */
async function askFrom(access: Access, offset: number, last?: number): Promise<Answer> {
  for (let refreshes = 0; ; refreshes++) {
    // The bytes of a page's own memory have no ranges.
    const isRanged = /^https?:$/.test(access.address.url.protocol);
    const answer = await request(access, isRanged ? `bytes=${offset}-${last ?? ''}` : undefined);
    if (answer.status === 200 || answer.status === 416) return answer;
    if (answer.status === 206) return checked(answer, offset);
    await answer.cancel();
    const error = badStatus(answer, access, offset);
    if (!error.isRefusal || refreshes === refreshesMost) throw error;
    const address = await access.refresh?.(answer.status, offset);
    if (address === undefined) throw error;
    access.address = address;
  }
}

/** How to ask more than once. */
interface Asking {
  /** The last byte that is wanted. */
  last?: number;
  patience?: Patience;
  /** What ended the answer before this one: the server was there, and may be again. */
  failure?: OneKVError | undefined;
}

/** As askFrom; a server that is busy, or breaks the connection, is waited for. */
async function askPatiently(access: Access, offset: number, asking: Asking = {}): Promise<Answer> {
  const { last, patience = new Patience(access), failure } = asking;
  for (let found = failure; ;) {
    if (found !== undefined) await patience.wait(found);
    try {
      return await askFrom(access, offset, last);
    } catch (error) {
      const isBusy = error instanceof BadStatus && error.isPassing;
      const isBroken = error instanceof Unreachable && (failure !== undefined || error.isReset);
      if (!isBusy && !isBroken) throw error;
      found = error;
    }
  }
}

/** As askPatiently. A server that compresses even a range breaks the connection in Chromium, which
 * takes what it has not asked for as a fault: then the whole file is asked for, as it comes. */
async function askFirst(access: Access, offset: number): Promise<Answer> {
  try {
    return await askPatiently(access, offset);
  } catch (error) {
    const mayBePacked = error instanceof Unreachable && error.cause instanceof TypeError &&
      offset === 0 && globalThis.location !== undefined;
    if (!mayBePacked) throw error;
    return request(access).catch(() => {
      throw error;
    });
  }
}

/** The answer to a request for something small, in which there are no ranges: with any status but
 * those of a server that is busy. Errors: SOURCE_FAILED, BadStatus, the signal's reason. */
export async function askWhole(access: Access): Promise<Answer> {
  const patience = new Patience(access);
  try {
    for (;;) {
      const answer = await request(access);
      const error = new BadStatus(answer, `found HTTP status ${answer.status}, expected 200`);
      if (!error.isPassing) return answer;
      await answer.cancel();
      await patience.wait(error);
    }
  } catch (error) {
    throw await explained(error);
  }
}

/** The answer is the rest of the file that the beginning is of. */
function isRest(answer: Answer, { offset, totalBytes, validator }: Beginning): boolean {
  const total = rangeTotal(answer, offset);
  return total !== undefined && (totalBytes === undefined || totalBytes === total) &&
    (validator === 'any' || validator === validatorOf(answer.headers));
}

/** Why a download ended, with what a page can find out of it. */
async function explained(error: unknown): Promise<unknown> {
  if (!(error instanceof Unreachable)) return error;
  return new OneKVError('SOURCE_FAILED', await error.explain(), { cause: error.cause });
}

/** The error with which a download ends after so many bytes. */
async function brokeOff(error: unknown, offset: number): Promise<unknown> {
  const isOther = !(error instanceof OneKVError) || error.code !== 'SOURCE_FAILED' ||
    error instanceof Replaced || (error instanceof BadStatus && !error.isPassing);
  if (isOther) return error;
  const { message } = await explained(error) as Error;
  return new OneKVError('SOURCE_FAILED', `broke off after ${offset} bytes: ${message}`,
    { cause: error });
}

/**
 * The answer that goes on after an interruption. Errors: SOURCE_FAILED when the attempts were too
 * many or the server cannot go on, Replaced.
 */
async function reconnect(access: Access, from: Beginning | undefined, offset: number,
  patience: Patience, failure: OneKVError): Promise<Answer> {
  try {
    if (from === undefined) throw failure;
    const rest = await askPatiently(access, from.offset, { patience, failure });
    if (isRest(rest, from)) return rest;
    await rest.cancel();
    throw new Replaced();
  } catch (error) {
    throw await brokeOff(error, offset);
  }
}

/** The chunks of an answer and, when it breaks off, of those that go on from there. */
async function* persistent(access: Access, first: Answer, opened: Download):
AsyncGenerator<Uint8Array> {
  const patience = new Patience(access);
  let offset = opened.start;
  for (let answer = first; ;) {
    let failure: OneKVError;
    try {
      for await (const chunk of answer.chunks()) {
        offset += chunk.length;
        patience.reset();
        // The length was that of a compressed body, and its encoding hidden from this origin.
        if (offset > (opened.totalBytes ?? offset)) opened.totalBytes = undefined;
        yield chunk;
      }
      const { totalBytes } = opened;
      // A server without ranges could not go on anyway: whether that was all, the file tells.
      if (totalBytes === undefined || offset === totalBytes || answer.status === 200) return;
      failure = new OneKVError('SOURCE_FAILED', `found ${offset} bytes, expected ${totalBytes}`);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      failure = error;
    }
    const { totalBytes, validator } = opened;
    const from = totalBytes === undefined || validator === undefined || offset > totalBytes
      ? undefined : { offset, totalBytes, validator };
    answer = await reconnect(access, from, offset, patience, failure);
  }
}

/**
 * Opens a download. Errors: SOURCE_FAILED, the signal's reason; while reading, also Replaced.
 */
export async function openDownload(access: Access, from?: Beginning): Promise<Download> {
  try {
    const offset = from?.offset ?? 0;
    let answer = await askFirst(access, offset).catch((error: unknown) => {
      // A server that cannot go on may still begin.
      if (offset > 0 && error instanceof WrongRange) return askPatiently(access, 0);
      throw error;
    });
    let start = 0;
    if (from !== undefined && isRest(answer, from)) {
      start = offset;
    } else if (answer.status === 416 || (offset > 0 && answer.status === 206)) {
      // Another file than the beginning's, or an empty one: that has no ranges.
      await answer.cancel();
      answer = offset > 0 ? await askPatiently(access, 0) : await request(access);
    }
    if (answer.status !== 200 && answer.status !== 206) {
      await answer.cancel();
      throw badStatus(answer, access, 0);
    }
    const opened: Download = {
      totalBytes: start > 0 ? rangeTotal(answer, start) : wholeLength(answer),
      validator: validatorOf(answer.headers),
      start,
      chunks: undefined as never,
      cancel: () => answer.cancel(),
    };
    opened.chunks = persistent(access, answer, opened);
    return opened;
  } catch (error) {
    throw await explained(error);
  }
}

/** The first range of a header, in bytes, and how many times as large each further one is. */
const headBytes = 1 << 20;
const headGrowth = 4;

/** The place after the last byte that an answer may have: as it says, else as was asked. */
function endOf(answer: Answer, at: number, asked: number): number {
  if (answer.headers.has('content-encoding')) return Number.POSITIVE_INFINITY;
  const range = rangeOf(answer, at);
  return range === undefined ? asked : range.last + 1;
}

/** Checks the answer that follows the first one of a header, from `at` on. */
function checkNext(answer: Answer, at: number, { validator, totalBytes }: Download): void {
  if (answer.status !== 206) {
    throw new OneKVError('SOURCE_FAILED',
      `found HTTP status ${answer.status}, expected 206 after ${at} bytes`);
  }
  const total = rangeOf(answer, at)?.total ?? totalBytes;
  if (validatorOf(answer.headers) !== validator || total !== totalBytes) throw new Replaced();
}

/** A header by ranges, of which the first one was asked for. */
async function* headerChunks(access: Access, first: Answer,
  opened: Download): AsyncGenerator<Uint8Array> {
  const patience = new Patience(access);
  let count = headBytes;
  let asked = count;
  let at = 0;
  for (let answer = first; ;) {
    let failure: OneKVError | undefined;
    const end = endOf(answer, at, asked);
    try {
      for await (const chunk of answer.chunks()) {
        at += chunk.length;
        if (at > end) {
          throw new OneKVError('SOURCE_FAILED',
            `found more than ${end} bytes, expected the range that was asked for`);
        }
        patience.reset();
        yield chunk;
      }
      if (at < end && opened.totalBytes !== undefined) {
        failure = new OneKVError('SOURCE_FAILED', `found ${at} bytes, expected ${end}`);
      }
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      failure = error;
    }
    const isShort = failure === undefined && at < Math.min(end, asked);
    if (at === opened.totalBytes || isShort) return;
    if (at >= asked) {
      count *= headGrowth;
      asked = at + count;
    }
    try {
      answer = await askPatiently(access, at, { last: asked - 1, patience, failure });
      if (answer.status === 416) return await answer.cancel();
      checkNext(answer, at, opened);
    } catch (error) {
      await answer.cancel();
      throw await brokeOff(error, at);
    }
  }
}

/**
 * The beginning of a file, for callers that need only the header: in ranges of growing size, so
 * that little is sent that nobody reads. A server without ranges sends it as one stream.
 */
export async function openBeginning(access: Access): Promise<Download> {
  try {
    let first = await askPatiently(access, 0, { last: headBytes - 1 });
    if (first.status === 416) {
      await first.cancel();
      first = await request(access); // An empty file has no ranges.
    }
    const isRange = first.status === 206;
    if (!isRange && first.status !== 200) {
      await first.cancel();
      throw badStatus(first, access, 0);
    }
    const opened: Download = {
      totalBytes: isRange ? rangeOf(first, 0)?.total : wholeLength(first),
      validator: validatorOf(first.headers),
      start: 0,
      chunks: undefined as never,
      cancel: () => first.cancel(),
    };
    opened.chunks = isRange ? headerChunks(access, first, opened)
      : persistent(access, first, opened);
    return opened;
  } catch (error) {
    throw await explained(error);
  }
}
