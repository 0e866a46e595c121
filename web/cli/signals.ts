// Ctrl-C: the first one stops the work in order, the second one ends the program.

const controller = new AbortController();

/** Aborted by the first interrupt. */
export const interrupted: AbortSignal = controller.signal;

process.once('SIGINT', () => {
  controller.abort(new Error('interrupted'));
});
