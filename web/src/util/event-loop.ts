// Long work lets others run now and then, so that pages paint and aborts are heard.

/** Milliseconds of work at a stretch: half a frame. */
const longest = 8;

const waiting: (() => void)[] = [];
let channel: MessageChannel | undefined;

/** Resolves after other tasks have run: messages that came in were heard. */
export function yieldToOthers(): Promise<void> {
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

/** Gives a function that yields if the last time is long enough ago. */
export function pacedYield(): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < longest) return;
    await yieldToOthers();
    last = performance.now();
  };
}
