// Gets the vocabularies of 15 families, which llama.cpp keeps for its own tests with texts and
// their ids, out of the source package llama-cpp-python into the cache folder.
//
//   node models/fetch/vocabularies.mjs                        prints the folder
//
// Ends with status 3 when the package cannot be had from here, as models/fetch/fetch.mjs does.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { cacheFolder, main, must, run, say, withLock } from '../../wasm/toolchain/shell.mjs';
import { WrongBytes } from './fetch.mjs';

/** Where they are: ggml-vocab-NAME.gguf, with NAME.gguf.inp and NAME.gguf.out beside it. */
export const vocabularyFolder = join(cacheFolder, 'vocabularies');

const requirement = 'llama-cpp-python==0.3.36';
const sha256 = '832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e';

async function download(folder) {
  const { status, output } = await run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps',
    '--no-binary=:all:', '--no-cache-dir', '--dest', folder, requirement],
  { timeoutSeconds: 3600, env: { PIP_DISABLE_PIP_VERSION_CHECK: '1' } });
  const name = readdirSync(folder).find((file) => file.endsWith('.tar.gz'));
  if (status === 0 && name) return join(folder, name);
  say(`package ${requirement}: ${output.trim().split('\n').at(-1)}`);
  return undefined;
}

/** Path of the folder, or undefined where the package cannot be had. Error: WrongBytes. */
async function fetchVocabularies() {
  return withLock(`${vocabularyFolder}.lock`, async () => {
    if (existsSync(vocabularyFolder)) return vocabularyFolder;
    const part = `${vocabularyFolder}.part`;
    rmSync(part, { recursive: true, force: true });
    mkdirSync(part, { recursive: true });
    const archive = await download(part);
    if (archive === undefined) return undefined;
    const hash = createHash('sha256');
    await pipeline(createReadStream(archive), hash);
    const found = hash.digest('hex');
    if (found !== sha256) throw new WrongBytes(`${archive} has sha256 ${found}, not ${sha256}`);
    await must('unpacking', 'tar', ['xzf', archive, '-C', part, '--strip-components=4',
      '--wildcards', '*/vendor/llama.cpp/models/ggml-vocab-*']);
    rmSync(archive);
    renameSync(part, vocabularyFolder);
    return vocabularyFolder;
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    mkdirSync(cacheFolder, { recursive: true });
    const folder = await fetchVocabularies();
    if (folder !== undefined) console.log(folder);
    return folder === undefined ? 3 : 0;
  });
}
