// web/docs/doors.md: every block of JavaScript is a module that runs as it stands, after the line
// that loads a model; the hook runs in a React that renders to nothing.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { transform } from 'esbuild';
import { root, run } from '../../wasm/toolchain/shell.mjs';

const limit = { timeout: 120_000 };
const here = import.meta.dirname;
const page = readFileSync(join(root, 'web/docs/doors.md'), 'utf8');
const blocksOf = (language) => [...page.matchAll(
  new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, code]) => code);

async function runs(name, code) {
  const file = join(here, name);
  writeFileSync(file, ["import { loadModel } from './model.mjs';",
    'const model = await loadModel();', code, 'await model.unload();'].join('\n'));
  const { status, output } = await run(process.execPath, [file], { cwd: here });
  assert.equal(status, 0, output);
  return output.trim().split('\n');
}

for (const [i, code] of blocksOf('js').entries()) {
  const [, library] = /^import .* from '([^']+)';/.exec(code);
  test(`the block of ${library}`, limit, async () => {
    const said = await runs(`doors-${i}.mjs`, code);
    assert.ok(said.length > 1 && said[0].length > 20, said.join('\n'));
    if (library === 'ai') assert.match(said.at(-1), /^2 [1-9]$/);
  });
}

test('the hook', limit, async () => {
  const [hook] = blocksOf('jsx');
  const { code } = await transform(hook, { loader: 'jsx' });
  const said = await runs('doors-hook.mjs', `
    import { createElement, useCallback, useEffect, useRef, useState } from 'react';
    import { renderToString } from 'react-dom/server';
    ${code}
    const session = await model.createSession({ temperature: 0 });
    let hook;
    const Page = () => {
      hook = useAnswer(session);
      return createElement('p', {}, hook.text);
    };
    console.log(renderToString(createElement(Page)));
    await hook.ask({ tokens: [1] }).catch((error) => console.log(error.message));
    hook.stop();
    console.log(session.contextUsage > 1);`);
  assert.equal(said[0], '<p></p>');
  assert.equal(said.at(-1), 'true');
});

test('each client library that was installed is on the page', () => {
  const { devDependencies } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
  for (const name of ['openai', 'ai', '@langchain/openai', '@ai-sdk/openai-compatible',
    '@ai-sdk/open-responses']) {
    assert.ok(name in devDependencies);
    assert.ok(page.includes(`'${name}'`) || page.includes(`\`${name}\``), name);
  }
});
