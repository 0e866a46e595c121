// How often a server is asked again, and after how long.
import type { OneKVError } from '../api/errors.js';
import { pause } from '../util/pause.js';
import { BadStatus } from './request.js';
import type { Access } from './request.js';

/** Attempts without a single byte before a download is given up. */
const fruitlessMost = 4;
/** A server that wants to be left alone for longer is not waited for. */
const waitMsMost = 60_000;

/** Waits longer and longer as long as nothing comes. */
export class Patience {
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
