// Which head of each model the page shows first. The sentence and the question are given: whom does
// “She” look at? Of all heads of a model, the one is shown in which “She” gives “Lily” the most
// weight; each model gets its own, as heads of two models that were trained apart have nothing to
// do with each other. What the page says about it is made of the numbers that are found here.
//
// “Lily” is not the first word: at that one many heads look from everywhere when they have nothing
// to look for (an attention sink), and the search would find those.
import { join } from 'node:path';
import { root } from '../../../wasm/toolchain/shell.mjs';

export const sentence = 'Once there was a girl named Lily. She had a red ball, but one day it ' +
  'rolled away.';
const asks = 'She';
const wanted = 'Lily';

/** Mean of the diagonal, as src/heat.ts has it. */
function ownShare({ weights, tokens }) {
  let sum = 0;
  for (let i = 1; i < tokens; i += 1) sum += weights[i * tokens + i];
  return sum / (tokens - 1);
}

/** What the tokens after `row` give to `target`, on average. */
function usualWeight({ weights, tokens }, row, target) {
  let sum = 0;
  for (let i = row + 1; i < tokens; i += 1) sum += weights[i * tokens + target];
  return sum / (tokens - 1 - row);
}

async function searchModel(OneKV, name) {
  const model = await OneKV.load(join(root, `models/${name}.gguf`), { threads: 1 });
  try {
    const session = await model.createSession({ chat: false });
    await session.append(sentence);
    const ids = [...await session.tokens()];
    const words = await Promise.all(ids.map((id) => model.detokenize([id])));
    const [row, target] = [asks, wanted].map((word) =>
      words.findIndex((piece) => piece.trim() === word));
    const { layers, queryHeads } = model.description;
    const heads = layers * queryHeads;
    let best;
    let own = 0;
    for (let i = 0; i < heads; i += 1) {
      const [layer, head] = [Math.floor(i / queryHeads), i % queryHeads];
      const map = await session.attention({ layer, head });
      const weight = map.weights[row * map.tokens + target];
      own += ownShare(map) / heads;
      if (best === undefined || weight > best.weight) {
        best = { layer, head, weight, usual: usualWeight(map, row, target) };
      }
    }
    return { ...best, row, heads, own };
  } finally {
    await model.unload();
  }
}

/** { sentence, asks, wanted, one, std }: each { layer, head, weight, usual, row, heads, own }. */
export async function searchHeads() {
  const { OneKV } = await import('../../../dist/src/onekv-node.js');
  const [one, std] = [await searchModel(OneKV, 'table-q-kv'),
    await searchModel(OneKV, 'table-qk-v')];
  return { sentence, asks, wanted, one, std };
}
