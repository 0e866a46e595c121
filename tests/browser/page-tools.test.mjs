// WebMCP in Chromium, which has it behind a flag: what a page registers in document.modelContext is
// called by a session of the same page.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { withKeys } from '../node/support.mjs';
import { toolTemplate } from '../node/tool-template.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

test('a session calls the tools that a page has registered', { timeout: 120_000 }, async () => {
  const folder = join(root, 'build/page-tools');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'm.gguf'), withKeys(join(root, 'models/stories-q-mqa.q8_0.gguf'),
    [['tokenizer.chat_template', 'string', toolTemplate]]));
  const { origin, close } = await serve({ isolated: true, mounts: { '/made/': folder,
    '/': join(root, 'tests/browser/page'), '/dist/': join(root, 'dist') } });
  const page = await launch('chromium', { args: ['--enable-features=WebMCP'] });
  try {
    await page.open(`${origin}/empty.html`);
    const [messages, last] = await page.evaluate(`(async () => {
      const { OneKV } = await import('/dist/src/onekv.js');
      await document.modelContext.registerTool({ name: 'weather', description: 'The weather.',
        inputSchema: { type: 'object', required: ['city'],
          properties: { city: { enum: ['Rome', 'Paris'] } } },
        execute: async ({ city }) => ({ city, degrees: 21 }) });
      const model = await OneKV.load('/made/m.gguf', { threads: 1, store: 'none' });
      const session = await model.createSession({ tools: await OneKV.pageTools(),
        temperature: 1, seed: 3 });
      let last;
      for await (const part of session.generate('How is it?', { toolChoice: 'required',
        parallelToolCalls: false, maxToolRounds: 1, maxTokens: 60 })) last = part;
      await model.unload();
      return [session.messages, last];
    })()`);
    const [, { toolCalls: [call] }, told] = messages;
    assert.match(call.arguments.city, /^(Rome|Paris)$/);
    assert.deepEqual(JSON.parse(told.content), { city: call.arguments.city, degrees: 21 });
    assert.equal(last.type, 'finish');
    assert.equal(last.result.text, messages.at(-1).content);
  } finally {
    await page.close();
    await close();
  }
});
