// A file from the network, from any offset on, through interruptions: what breaks off is asked for
// again by range, as long as the server says that it is still the same file.
//
// The first request asks for a range too ("bytes=0-"): browsers then ask for the file's own bytes
// instead of compressed ones, whose length another origin would pass off as the file's.
import { OneKVError } from '../api/errors.js';
import { pause } from '../util/pause.js';
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

/** Attempts without a single byte before a download is given up. */
const fruitlessMost = 4;
/** A server that wants to be left alone for longer is not waited for. */
const waitMsMost = 60_000;

/** Waits longer and longer as long as nothing comes. */
class Patience {
  readonly #access: Access;
  #fruitless = 0;

  constructor(access: Access) {
    this.#access = access;
  }

  /** A byte came. */
  reset(): void {
    this.#fruitless = 0;
  }

  /** Throws the failure when there were too many. */
  async wait(failure: OneKVError): Promise<void> {
    const { retryDelay, signal } = this.#access;
    const asked = failure instanceof BadStatus ? failure.waitMs : undefined;
    if (this.#fruitless === fruitlessMost || (asked ?? 0) > waitMsMost) throw failure;
    await pause(asked ?? retryDelay * 2 ** this.#fruitless, signal);
    this.#fruitless += 1;
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
function rangeTotal({ headers, status }: Answer, start: number): number | undefined {
  if (status !== 206 || headers.has('content-encoding')) return undefined;
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '');
  if (range !== null) return Number(range[1]) === start ? Number(range[2]) : undefined;
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

/** New addresses that are asked for while not a byte comes. */
const refreshesMost = 3;

/**
 * The answer to a range from `offset` on, with status 200 (all of the file), 206 or 416. Refused,
 * it asks for a new address where there is one. Errors: Unreachable, BadStatus.
 */
async function askFrom(access: Access, offset: number, end?: number): Promise<Answer> {
  for (let refreshes = 0; ; refreshes++) {
    // The bytes of a page's own memory have no ranges.
    const isRanged = /^https?:$/.test(access.address.url.protocol);
    const answer = await request(access, isRanged ? `bytes=${offset}-${end ?? ''}` : undefined);
    if ([200, 206, 416].includes(answer.status)) return answer;
    await answer.cancel();
    const error = badStatus(answer, access, offset);
    if (!error.isRefusal || refreshes === refreshesMost) throw error;
    const address = await access.refresh?.(answer.status, offset);
    if (address === undefined) throw error;
    access.address = address;
  }
}

/** As askFrom; a server that is busy is waited for. */
async function askPatiently(access: Access, offset: number): Promise<Answer> {
  const patience = new Patience(access);
  for (;;) {
    try {
      return await askFrom(access, offset);
    } catch (error) {
      if (!(error instanceof BadStatus) || !error.isPassing) throw error;
      await patience.wait(error);
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

/**
 * The answer that goes on after an interruption. Errors: SOURCE_FAILED when the attempts were too
 * many or the server cannot go on, Replaced.
 */
async function reconnect(access: Access, from: Beginning | undefined, offset: number,
  patience: Patience, broken: OneKVError): Promise<Answer> {
  let failure = broken;
  for (;;) {
    try {
      if (from === undefined) throw failure;
      await patience.wait(failure);
      const rest = await askFrom(access, from.offset);
      if (isRest(rest, from)) return rest;
      await rest.cancel();
      throw new Replaced();
    } catch (error) {
      if (error instanceof Replaced || !(error instanceof OneKVError)) throw error;
      if (error === failure) {
        const { message } = await explained(failure) as Error;
        throw new OneKVError('SOURCE_FAILED', `broke off after ${offset} bytes: ${message}`,
          { cause: failure });
      }
      if (error instanceof BadStatus && !error.isPassing) throw error;
      failure = error;
    }
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
    let answer = await askFirst(access, from?.offset ?? 0);
    let start = 0;
    if (from !== undefined && isRest(answer, from)) {
      start = from.offset;
    } else if (answer.status === 416 || (from !== undefined && from.offset > 0 &&
      answer.status === 206)) {
      // Another file than the beginning's, or an empty one: that has no ranges.
      await answer.cancel();
      answer = from !== undefined && from.offset > 0 ? await askPatiently(access, 0)
        : await request(access);
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

/** The ranges that follow the first one of a header. */
async function* headerChunks(access: Access, first: Answer, validator: string | undefined,
  totalBytes: number | undefined): AsyncGenerator<Uint8Array> {
  let answer = first;
  for (let at = 0, count = headBytes; ; count *= headGrowth) {
    const bytes = await answer.bytes();
    yield bytes;
    at += bytes.length;
    if (bytes.length < count || at === totalBytes) return;
    answer = await askFrom(access, at, at + count * headGrowth - 1);
    if (answer.status === 416) return;
    if (answer.status !== 206) throw badStatus(answer, access, at);
    if (validatorOf(answer.headers) !== validator) throw new Replaced();
  }
}

/**
 * The beginning of a file, for callers that need only the header: in ranges of growing size, so
 * that little is sent that nobody reads. A server without ranges sends it as one stream.
 */
export async function openBeginning(access: Access): Promise<Download> {
  try {
    let first = await askFrom(access, 0, headBytes - 1);
    if (first.status === 416) first = await request(access); // An empty file has no ranges.
    const { status } = first;
    const common = { validator: validatorOf(first.headers), start: 0,
      cancel: () => first.cancel() };
    if (status === 200) {
      return { ...common, totalBytes: wholeLength(first), chunks: first.chunks() };
    }
    if (status !== 206) throw badStatus(first, access, 0);
    const total = /\/(\d+)$/.exec(first.headers.get('content-range') ?? '')?.[1];
    const totalBytes = total === undefined ? undefined : Number(total);
    return { ...common, totalBytes,
      chunks: headerChunks(access, first, common.validator, totalBytes) };
  } catch (error) {
    throw await explained(error);
  }
}
