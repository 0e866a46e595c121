// Memories above 2 GiB and near 4 GiB, where an address that is read as a signed number is below
// zero: what Node and a browser's worker do alike.
import { randomModel } from '../../dist/src/bench/random-model.js';
import { shapedModel } from '../../dist/src/bench/shapes.js';

const gib = 2 ** 30;
const pieceBytes = gib / 4;

/** Loads the model behind so many bytes that are taken beforehand; tells a story, saves it, and
 * goes on from the snapshot. */
async function tell({ Engine, generate, loadModel }, source, below) {
  const engine = await Engine.open({ threads: 2, simd: source.simd ?? 'auto' });
  try {
    for (let taken = 0; taken < below; taken += pieceBytes) {
      engine.bindings.take(Math.min(pieceBytes, below - taken));
    }
    const model = await loadModel(engine, source, { store: 'none' });
    const ids = source.ids ?? model.tokenizer.encode('Once upon a time', { begin: true });
    const going = async (session, prompt) => {
      let text = '';
      const parts = generate(session, model.tokenizer, prompt, { maxTokens: source.count ?? 40 });
      for await (const part of parts) text += part.text;
      return text;
    };
    const session = model.openSession({ temperature: 0.8, seed: 7 });
    const first = await going(session, ids);
    const restored = model.restoreSession(session.save());
    const logits = [...restored.logits().slice(-64)];
    const second = await going(restored, []);
    return { text: [first, second], logits, weights: model.memory().weights,
      // Of what is taken last.
      address: engine.bindings.take(1), heap: engine.bindings.bytes.length };
  } finally {
    engine.destroy();
  }
}

const largeShape = { layers: 6, width: 4096, heads: 32, kvHeads: 1, projection: 'Q-K=V',
  feedForward: 40960, vocabulary: 32000, context: 512 };

/** `onekv`: the engine's entry; `address`: of the story model. */
export const jobs = {
  /** The same model low, above 2 GiB and just below 4 GiB. */
  story: async (onekv, address) => ({
    low: await tell(onekv, address, 0),
    above2: await tell(onekv, address, 2.2 * gib),
    near4: await tell(onekv, address, 3.9 * gib),
  }),
  /** Random weights of more than 3 GiB, and all else above them. */
  large: async (onekv) => {
    // The one that all hosts have: the numbers are the same everywhere.
    const source = { ...randomModel(shapedModel('large', largeShape)), ids: [300, 400, 500],
      count: 2, simd: 'simd128' };
    return tell(onekv, source, 0);
  },
};
