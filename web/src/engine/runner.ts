// Steps of a model that nobody asked for, to warm it up and to time it.
import type { Model } from './model.js';

/** Runs one step of some rows; `close` leaves nothing behind. */
export interface Runner {
  step(rows: number): void;
  close(): void;
}

/** A bidirectional model has one kind of step: a whole sequence. */
function openEncoder(model: Model): Runner {
  const { contextWindow, description: { features } } = model;
  const rows = Math.max(1, Math.min(64, contextWindow - 1));
  const input = features > 0 ? new Float32Array(rows * features) : new Int32Array(rows);
  return { step: () => { model.encode(input); }, close: () => model.trim() };
}

export function openRunner(model: Model): Runner {
  if (!model.description.causal) return openEncoder(model);
  const { contextWindow } = model;
  const session = model.openSession({ temperature: 0 });
  return {
    step: (asked) => {
      const rows = Math.min(asked, contextWindow);
      if (session.length + rows > contextWindow) session.truncate(0);
      session.append(new Int32Array(rows));
      session.logits();
    },
    close: () => {
      session.destroy();
      model.trim();
    },
  };
}
