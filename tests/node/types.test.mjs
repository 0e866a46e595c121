// What TypeScript says of the package's declarations to a caller with strict settings.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { run } from '../../wasm/toolchain/shell.mjs';
import { root } from './support.mjs';

/** Option types, by the module that declares them. */
const optionTypes = {
  'onekv.js': ['AppendOptions', 'AttentionOptions', 'EstimateOptions', 'LoadOptions',
    'PromptOptions', 'RestoreOptions', 'SamplingOptions', 'SaveOptions', 'SessionOptions',
    'SignalOptions',
    'StoreOptions', 'TokenizeOptions', 'WorkerOptions'],
  'engine-entry.js': ['AdvanceOptions', 'CacheQuestion', 'ChatTemplateOptions', 'DecodeOptions',
    'EncodeOptions', 'EngineOptions', 'GenerateOptions', 'LoadOptions', 'ModelOptions',
    'SamplingOptions', 'SessionOptions', 'StreamOptions'],
  'facades/handler.js': ['HandlerOptions'],
  'facades/openai.js': ['ChatRequest', 'OpenAIOptions', 'RequestOptions'],
  'facades/prompt-api.js': ['LanguageModelCreateOptions', 'LanguageModelPromptOptions',
    'LanguageModelSettings'],
};

/** The errors of a text that is compiled beside the package. */
async function errorsOf(text) {
  const folder = join(root, 'build/types-test');
  mkdirSync(folder, { recursive: true });
  try {
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(folder, 'use.ts'), text);
    const { output } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'),
      '--ignoreConfig', '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck',
      '--target', 'es2022', '--lib', 'es2023,dom,dom.iterable,dom.asynciterable', '--module',
      'nodenext',
      '--types', 'node', join(folder, 'use.ts')], { cwd: root });
    return output.split('\n').filter((line) => line.includes('error'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('each option may be undefined, also under exactOptionalPropertyTypes', async () => {
  const lines = Object.entries(optionTypes).flatMap(([file, names], at) => [
    `import type * as m${at} from '../../dist/src/${file}';`,
    ...names.map((name) =>
      `export const ${name}${at}: m${at}.${name} = {} as Loose<m${at}.${name}>;`)]);
  const loose = 'type Loose<T> = ' +
    '{ [K in keyof T]: {} extends Pick<T, K> ? T[K] | undefined : T[K]; };';
  assert.deepEqual(await errorsOf([loose, ...lines].join('\n')), []);
  const strict = 'interface A { a?: number }\nexport const a: A = {} as Loose<A>;';
  assert.equal((await errorsOf([loose, strict].join('\n'))).length, 1, 'the test can fail');
});
