// Kernel timings, natively and in Node: npm run bench:kernels [-- native|relaxed|simd128 …]
//
// Builds the tests' own programs and runs them with --bench: each variant is checked against the
// scalar one, then timed, beside what the machine and the engine can do at best.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildPreset } from '../../wasm/toolchain/build.mjs';
import { main, root, Stop } from '../../wasm/toolchain/shell.mjs';

const presets = { native: 'native-release', relaxed: 'wasm-relaxed', simd128: 'wasm-simd128' };
const programs = ['test_packed', 'test_kernels'];

await main(async () => {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(presets);
  const unknown = wanted.filter((name) => !(name in presets));
  if (unknown.length > 0) throw new Stop(`no such build: ${unknown}; ${Object.keys(presets)}`);
  for (const program of programs) {
    for (const name of wanted) {
      await buildPreset(presets[name], program);
      const built = join(root, 'build', presets[name], program);
      console.log(`\n${program}, ${presets[name]}`);
      const command = name === 'native' ? [built] : [process.execPath, `${built}.cjs`];
      const { status } = spawnSync(command[0], [...command.slice(1), '--bench'],
        { cwd: root, stdio: 'inherit' });
      if (status !== 0) throw new Stop(`${program} ended with status ${status}`);
    }
  }
});
