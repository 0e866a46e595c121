// Turns of the event loop: long work lets others run, so that pages paint and aborts are heard.

/** Milliseconds of work between two turns: half a frame. */
const longest = 8;

const waiting: (() => void)[] = [];
let channel: MessageChannel | undefined;

/** Resolves when others had their turn: messages that came in were heard. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') {
      setImmediate(resolve);
      return;
    }
    // Not setTimeout: browsers make nested ones wait 4 ms.
    if (channel === undefined) {
      channel = new MessageChannel();
      channel.port1.onmessage = () => waiting.shift()?.();
    }
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}

/** Gives a function that waits for a turn when the last one is long enough ago. */
export function turnTaker(): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < longest) return;
    await turn();
    last = performance.now();
  };
}
