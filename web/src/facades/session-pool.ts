// Live sessions of a stateless API: a prompt goes to the one that shares its longest beginning, so
// that only the rest is computed.
import { checkKind } from '../api/options.js';
import type { Model } from '../api/model.js';
import type { Session } from '../api/session.js';
import { commonStart } from '../util/common-start.js';

interface Entry {
  session: Session;
  /** What it holds. */
  tokens: ArrayLike<number>;
  busy: boolean;
}

interface Taken {
  session: Session;
  /** Tokens of the prompt that it holds. */
  cached: number;
}

export class SessionPool {
  readonly #model: Model;
  #most: number;
  /** The one that was used last comes last. */
  #entries: Entry[] = [];

  /** Keeps at most that many sessions while they are idle. */
  constructor(model: Model, most: number) {
    checkKind('model', model, 'object');
    this.#model = model;
    this.#most = most;
  }

  /**
   * A session that holds the longest beginning of the prompt, at least one token short of it, and
   * nothing else. A session of which more would have to be cut is cloned, while there is room.
   */
  async take(prompt: ArrayLike<number>, signal: AbortSignal | undefined): Promise<Taken> {
    const options = { signal };
    const idle = this.#entries.filter((entry) => !entry.busy)
      .map((entry) => ({
        entry,
        common: Math.min(commonStart(entry.tokens, prompt), prompt.length - 1),
      }));
    const best = idle.reduce((a, b) => (b.common > a.common ? b : a), idle[0] ?? { common: 0 });
    if (!('entry' in best) || best.common === 0) {
      await this.#makeRoom();
      const session = await this.#model.createSession({ ...options, chat: false });
      this.#entries.push({ session, tokens: [], busy: true });
      return { session, cached: 0 };
    }
    const { common } = best;
    let { entry } = best;
    const isCut = common < entry.tokens.length;
    entry.busy = true;
    try {
      if (isCut && this.#entries.length < this.#most) {
        entry = this.#add(await entry.session.clone(options), entry);
      }
      if (isCut) await entry.session.truncate(common, options);
      return { session: entry.session, cached: common };
    } catch (error) {
      await this.giveBack(entry.session);
      throw error;
    }
  }

  /** After use, with what the session holds then. */
  async giveBack(session: Session): Promise<void> {
    const entry = this.#entries.find((one) => one.session === session);
    if (entry === undefined) return;
    try {
      entry.tokens = await session.tokens();
      entry.busy = false;
      this.#entries = [...this.#entries.filter((one) => one !== entry), entry];
      if (this.#entries.length > this.#most) await this.#makeRoom();
    } catch {
      // It was destroyed, or its worker is gone.
      this.#entries = this.#entries.filter((one) => one !== entry);
    }
  }

  /** What is taken all the same goes when it is given back. */
  async destroy(): Promise<void> {
    this.#most = 0;
    const entries = this.#entries;
    this.#entries = [];
    await Promise.all(entries.map(({ session }) => session.destroy()));
  }

  /** The clone takes the place of the one it was made of, which is idle again. */
  #add(session: Session, origin: Entry): Entry {
    origin.busy = false;
    const entry = { session, tokens: origin.tokens, busy: true };
    this.#entries.push(entry);
    return entry;
  }

  /** Destroys the idle session whose last use is longest ago, if there are too many. */
  async #makeRoom(): Promise<void> {
    if (this.#entries.length < this.#most) return;
    const oldest = this.#entries.find((entry) => !entry.busy);
    if (oldest === undefined) return;
    this.#entries = this.#entries.filter((entry) => entry !== oldest);
    await oldest.session.destroy();
  }
}
