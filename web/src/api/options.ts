// What options of many calls have in common.

export interface SignalOptions {
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}
