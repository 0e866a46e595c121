// What a cached position costs in prefill: node tests/bench/prefill.mjs FILE [TOKENS]
//
// Feeds one session in batches of 96 tokens, on one thread, and fits a line to the processor's time
// of each over the tokens before it: the slope is attention, the rest everything else.
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { Stop, main } from '../../wasm/toolchain/shell.mjs';

const batch = 96;

await main(async () => {
  const [path, tokens = '2016'] = process.argv.slice(2);
  if (path === undefined) throw new Stop('give a GGUF file');
  const engine = await Engine.open({ threads: 1 });
  const { simd } = engine;
  const session = (await loadModel(engine, path)).openSession();
  const ids = Array.from({ length: batch }, (_, i) => (7 * i) % 512);
  const points = [];
  for (let before = 0; before < Number(tokens); before += batch) {
    const start = process.cpuUsage().user;
    session.append(ids);
    session.logits();
    points.push([before, (process.cpuUsage().user - start) / 1000]);
  }
  engine.destroy();
  const mean = (i) => points.reduce((sum, point) => sum + point[i], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const slope = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0) /
    points.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
  console.log(`${simd}: a batch of ${batch} takes ${(y - slope * x).toFixed(0)} ms and ` +
    `${(1000 * slope).toFixed(0)} µs for each token before it`);
});
