// Streams, functions and stores of the page, used in the worker over message ports (protocol.ts has
// what is said on them). Every piece is asked for, so a slow reader holds the writer back.
import { OneKVError, reasonOf } from '../api/errors.js';
import type { CallAnswer, CallAsk, StreamAsk, StreamPart } from './protocol.js';
import type { ModelStore } from '../api/store.js';

// -- Streams --

/** Whoever holds the other port reads the pieces. A piece that owns its buffer is moved. */
export function serveStream(chunks: AsyncIterable<Uint8Array>): MessagePort {
  const { port1, port2 } = new MessageChannel();
  const iterator = chunks[Symbol.asyncIterator]();
  const answer = (part: StreamPart, transfer: Transferable[] = []) => {
    port1.postMessage(part, transfer);
    if (!('chunk' in part)) port1.close();
  };
  port1.onmessage = async ({ data }: MessageEvent<StreamAsk>) => {
    if (data === 'cancel') {
      port1.close();
      await iterator.return?.().catch(() => {});
      return;
    }
    try {
      const { done, value } = await iterator.next();
      if (done === true) answer({ done: true });
      else if (value instanceof Uint8Array) answer({ chunk: value });
      else throw new TypeError('a stream of Uint8Array was expected');
    } catch (error) {
      answer({ error: reasonOf(error) });
    }
  };
  return port2;
}

const textOf = (part: StreamPart) => ('error' in part ? String(part.error) : 'no piece came');

/** The stream that serveStream serves; `failure` makes its error. */
export function streamOf(port: MessagePort, failure = (text: string): Error =>
  new OneKVError('SOURCE_FAILED', text)): ReadableStream<Uint8Array> {
  const say = (ask: StreamAsk) => port.postMessage(ask);
  return new ReadableStream<Uint8Array>({
    pull: (controller) => new Promise((resolve) => {
      port.onmessage = ({ data }: MessageEvent<StreamPart>) => {
        if ('chunk' in data && data.chunk instanceof Uint8Array) controller.enqueue(data.chunk);
        else if ('done' in data) controller.close();
        else controller.error(failure(textOf(data)));
        resolve();
      };
      say('pull');
    }),
    cancel: () => {
      say('cancel');
      port.close();
    },
  }, { highWaterMark: 0 });
}

// -- Calls --

type Methods = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;

/** Whoever holds the other port can call the methods. What they give is copied, but for a port
 * called `body`, which is moved. */
export function serveCalls(methods: Methods): MessagePort {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = async ({ data: { id, method, args } }: MessageEvent<CallAsk>) => {
    try {
      const call = methods[method] as (...values: unknown[]) => Promise<unknown>;
      const value = await call(...args);
      const body = (value as { body?: unknown } | undefined)?.body;
      port1.postMessage({ id, value } satisfies CallAnswer,
        body instanceof MessagePort ? [body] : []);
    } catch (error) {
      // The name tells that there is no room.
      port1.postMessage({ id, error: reasonOf(error),
        name: error instanceof Error ? error.name : 'Error' } satisfies CallAnswer);
    }
  };
  // In Node: the program does not wait for it.
  (port1 as { unref?: () => void }).unref?.();
  return port2;
}

/** Calls a method that serveCalls serves. */
export function callsOf(port: MessagePort):
(method: string, ...args: readonly unknown[]) => Promise<unknown> {
  const waiting = new Map<number, (answer: CallAnswer) => void>();
  let next = 0;
  port.onmessage = ({ data }: MessageEvent<CallAnswer>) => {
    waiting.get(data.id)?.(data);
    waiting.delete(data.id);
  };
  return (method, ...args) => new Promise((resolve, reject) => {
    const id = next++;
    waiting.set(id, ({ value, error, name }) => {
      if (error === undefined) resolve(value);
      else reject(Object.assign(new Error(error), { name }));
    });
    port.postMessage({ id, method, args } satisfies CallAsk,
      args.filter((arg) => arg instanceof MessagePort));
  });
}

// -- Stores --

const storeMethods = ['get', 'put', 'delete', 'keys', 'pathOf'] as const;

/** Whoever holds the other port can call the store's methods. */
export function serveStore(store: ModelStore): MessagePort {
  return serveCalls(Object.fromEntries(storeMethods.map((method) =>
    [method, async (...args: never[]) => (store[method] as Methods[string]).apply(store, args)])));
}

/** The store that serveStore serves. */
export function storeOf(port: MessagePort, hasPaths = false): ModelStore {
  const call = callsOf(port);
  const methods = storeMethods.filter((method) => method !== 'pathOf' || hasPaths);
  return Object.fromEntries(methods.map((method) =>
    [method, (...args: unknown[]) => call(method, ...args)])) as unknown as ModelStore;
}
