// Projects with packages of their own, in build/: installed once from a lock file of this checkout,
// and each time the packed package.
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stagePackages } from '../../wasm/toolchain/pack.mjs';
import { must } from '../../wasm/toolchain/shell.mjs';

/** `own` has package.json and package-lock.json; what is installed goes to `folder`. */
export async function install(own, folder) {
  const stamp = join(folder, 'installed.json');
  const lock = readFileSync(join(own, 'package-lock.json'), 'utf8');
  mkdirSync(folder, { recursive: true });
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
    for (const name of ['package.json', 'package-lock.json']) {
      cpSync(join(own, name), join(folder, name));
    }
    await must('npm ci', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund',
      '--prefer-offline'], { cwd: folder });
    writeFileSync(stamp, lock);
  }
  const { output } = await must('npm pack', 'npm',
    ['pack', '--json', '--pack-destination', folder], { cwd: (await stagePackages()).onekv });
  const [{ filename }] = JSON.parse(output.slice(output.indexOf('[')));
  await must('npm install', 'npm', ['install', '--no-save', '--ignore-scripts', '--no-audit',
    '--no-fund', '--prefer-offline', join(folder, filename)], { cwd: folder });
}
