// The tab that runs a model for others (shared-client.ts): what they ask comes over a channel of
// each, in the words of a worker's protocol, and is asked of the worker on their behalf.
//
// A tab that goes away takes its sessions and calls along: it holds a lock as long as it lives.
import { OneKVError, reasonOf } from '../api/errors.js';
import type { EngineReport } from '../api/model.js';
import type { MemoryReport } from '../api/memory.js';
import type { Args, CallMessage, CallName, FromWorker, LoadedModel, SessionState, ToWorker }
  from '../wire/protocol.js';
import type { Client } from './client.js';

/** What all tabs of a model hear. */
export type LobbyWord =
  /** A tab is here and wants the model. */
  | { kind: 'hello'; guest: string }
  /** A tab has loaded the model, and from now on runs it. */
  | { kind: 'here'; host: string }
  /** The worker broke down; nothing is tried again. */
  | { kind: 'lost'; host: string; reason: string }
  | { kind: 'progress'; loaded: number; total: number; source: string };

export interface SharedModel {
  loaded: LoadedModel;
  engine: EngineReport;
}

/** What one tab hears on its own channel: whom it is talking to, and what the worker says. */
export type HostWord = { kind: 'welcome'; host: string } & SharedModel |
  { kind: 'said'; host: string; message: FromWorker };

export const channelOf = (share: string, guest: string): string => `${share} ${guest}`;

interface GuestCall {
  controller: AbortController;
  /** The worker's number of the call; known once it has said something. */
  id: number | undefined;
}

/** One of the other tabs. */
class Guest {
  watchesMemory = false;
  readonly #client: Client;
  readonly #channel: BroadcastChannel;
  readonly #onWatch: () => void;
  readonly #calls = new Map<number, GuestCall>();
  readonly #sessions = new Set<number>();
  #isOver = false;
  readonly #host: string;

  constructor(host: string, client: Client, channel: BroadcastChannel, onWatch: () => void) {
    this.#host = host;
    this.#client = client;
    this.#channel = channel;
    this.#onWatch = onWatch;
    channel.onmessage = ({ data }: MessageEvent<ToWorker>) => this.#receive(data);
  }

  welcome(model: SharedModel): void {
    const { loaded, engine } = model;
    this.#say({ kind: 'welcome', host: this.#host, loaded, engine });
  }

  tell(message: FromWorker): void {
    this.#say({ kind: 'said', host: this.#host, message });
  }

  #say(word: HostWord): void {
    if (!this.#isOver) this.#channel.postMessage(word);
  }

  #receive(message: ToWorker): void {
    const running = this.#calls.get(message.id);
    if (message.kind === 'abort') running?.controller.abort();
    else if (message.kind === 'call' && running === undefined) void this.#carryOut(message);
    else if (message.kind === 'allowed' && running?.id !== undefined) {
      this.#client.allow(running.id, message.mask);
    }
  }

  async #carryOut({ id, name, args }: CallMessage): Promise<void> {
    const controller = new AbortController();
    const running: GuestCall = { controller, id: undefined };
    this.#calls.set(id, running);
    let state: SessionState | undefined;
    try {
      const result = await this.#ask(name, args, running, id, (found) => { state = found; });
      this.tell({ kind: 'result', id, result });
    } catch (error) {
      const withState = state === undefined ? {} : { state };
      if (controller.signal.aborted) this.tell({ kind: 'aborted', id, ...withState });
      else {
        const code = error instanceof OneKVError ? error.code : 'INTERNAL';
        this.tell({ kind: 'error', id, code, message: reasonOf(error), ...withState });
      }
    } finally {
      this.#calls.delete(id);
    }
  }

  async #ask(name: CallName, args: Args<CallName>, running: GuestCall, id: number,
    onState: (state: SessionState) => void): Promise<unknown> {
    if (name === 'open' || name === 'load') throw new OneKVError('WRONG_STATE', 'it is loaded');
    if (name === 'watchMemory') {
      this.watchesMemory = (args as Args<'watchMemory'>).on;
      this.#onWatch();
      return undefined;
    }
    const result = await this.#client.call(name, args, {
      signal: running.controller.signal,
      onState,
      onNotice: (notice, call) => {
        running.id = call;
        this.tell({ kind: 'notice', id, notice });
      },
    });
    if (name === 'destroy') this.#sessions.delete((args as Args<'destroy'>).session);
    if (name === 'createSession' || name === 'restore' || name === 'clone') {
      const { id: session } = result as SessionState;
      if (this.#isOver) this.#destroy(session);
      else this.#sessions.add(session);
    }
    return result;
  }

  #destroy(session: number): void {
    this.#client.call('destroy', { session }).catch(() => {});
  }

  /** Hears and says nothing any more. */
  close(): void {
    this.#isOver = true;
    this.#channel.close();
  }

  /** The tab is gone. */
  leave(): void {
    this.close();
    for (const { controller } of this.#calls.values()) controller.abort();
    this.#sessions.forEach((session) => this.#destroy(session));
  }
}

export class ShareHost {
  readonly id = crypto.randomUUID();
  readonly #share: string;
  readonly #lobby: BroadcastChannel;
  readonly #client: Client;
  readonly #model: SharedModel;
  readonly #guests = new Map<string, Guest>();
  readonly #over = new AbortController();
  #watches = false;

  /** `lobby`: of this tab. From now on the other tabs know of it. */
  constructor(share: string, lobby: BroadcastChannel, client: Client,
    model: SharedModel) {
    this.#share = share;
    this.#lobby = lobby;
    this.#client = client;
    this.#model = model;
    this.#say({ kind: 'here', host: this.id });
  }

  #say(word: LobbyWord): void {
    this.#lobby.postMessage(word);
  }

  /** A tab has said hello. */
  welcome(name: string): void {
    if (this.#over.signal.aborted) return;
    let guest = this.#guests.get(name);
    if (guest === undefined) {
      guest = new Guest(this.id, this.#client,
        new BroadcastChannel(channelOf(this.#share, name)), () => this.#watch());
      this.#guests.set(name, guest);
      this.#leaveWith(name, guest);
    }
    guest.welcome(this.#model);
  }

  #leaveWith(name: string, guest: Guest): void {
    const { signal } = this.#over;
    navigator.locks.request(channelOf(this.#share, name), { signal }, () => {
      if (signal.aborted) return;
      this.#guests.delete(name);
      guest.leave();
      this.#watch();
    }).catch(() => {});
  }

  /** Whether this tab itself hears of memory. */
  watchMemory(on: boolean): Promise<undefined> {
    this.#watches = on;
    return this.#watch();
  }

  #watch(): Promise<undefined> {
    const on = this.#watches || [...this.#guests.values()].some((guest) => guest.watchesMemory);
    return this.#client.call('watchMemory', { on }).catch(() => undefined);
  }

  /** Passes it on to the tabs that watch; gives whether this one does. */
  tellMemory(memory: MemoryReport): boolean {
    for (const guest of this.#guests.values()) {
      if (guest.watchesMemory) guest.tell({ kind: 'memory', memory });
    }
    return this.#watches;
  }

  /** To be called before the worker is ended, of whose end the tabs need not hear. `reason`: of a
   * worker that broke down. */
  close(reason?: string): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#guests.forEach((guest) => guest.close());
    if (reason !== undefined) this.#say({ kind: 'lost', host: this.id, reason });
  }
}
