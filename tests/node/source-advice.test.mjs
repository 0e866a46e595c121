// What the demo says of a file that it could not read names a hub only where a hub was asked.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { build } from 'esbuild';
import { root } from './support.mjs';

const { outputFiles: [{ text }] } = await build({ bundle: true, format: 'esm', write: false,
  entryPoints: [`${root}web/demo/src/source-advice.ts`] });
const { sourceAdvice } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
const page = 'https://demo.example';

const advise = (from) => sourceAdvice(`${from}: fetch failed`, page);

test('a hub is spoken of only where it was asked', () => {
  for (const from of ['hf:org/model/m.gguf', 'https://huggingface.co/a/b/resolve/main/m.gguf',
    'https://cdn-lfs.hf.co/m']) assert.match(advise(from), /does Hugging Face have/, from);
  for (const from of ['http://localhost:8080/m.gguf', 'http://127.0.0.1/m.gguf',
    'http://[::1]:80/m.gguf', `${page}/models/m.gguf`, 'https://other.example/m.gguf',
    'https://nothuggingface.co/m.gguf', 'https://huggingface.co.example/m.gguf', 'model.gguf',
    'a blob', 'http://']) assert.doesNotMatch(advise(from), /Hugging/, from);
});

test('each place has its own advice', () => {
  assert.match(advise('http://localhost:8080/m.gguf'), /server on this machine run/);
  assert.match(advise(`${page}/models/m.gguf`), /page’s own server/);
  assert.match(advise('https://other.example/m.gguf'), /Is there a network\?/);
  assert.equal(advise('model.gguf'), 'The file could not be read.');
});
