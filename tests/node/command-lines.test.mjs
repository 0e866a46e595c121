// What people type wrong at the terminal: what was meant is said, before a model is loaded.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UsageError, parse } from '../../dist/cli/arguments.js';
import { bench } from '../../dist/cli/bench.js';
import { chat } from '../../dist/cli/chat.js';
import { generateText } from '../../dist/cli/generate.js';
import { serve } from '../../dist/cli/serve.js';
import { goldenPath, root } from './support.mjs';

const limit = { timeout: 60_000 };
const program = join(root, 'dist/cli/onekv.js');
const model = 'stories-q-mqa';
const folder = mkdtempSync(join(tmpdir(), 'onekv-lines-'));
after(() => rmSync(folder, { recursive: true }));

const onekv = (...args) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args],
    { encoding: 'utf8', input: '' });
  return { status, stdout, stderr };
};
const refused = (command, args, message) => assert.rejects(async () =>
  command.run(parse(command, args)), (error) => {
  assert.ok(error instanceof UsageError, String(error));
  assert.match(error.message, message);
  return true;
});

test('help says what each model is that ships, and which variant', limit, () => {
  const { stdout } = onekv('--help');
  assert.match(stdout, /^  stories-q-mqa +tells stories \(Q-K=V MQA\)$/m);
  assert.match(stdout, /^  stories-qkv +.*\(QKV MHA\)$/m);
  assert.equal([...stdout.matchAll(/^  (?:table|digits)-\S+ +\w.*\(Q[-=KV]+\)$/gm)].length, 4);
});

test('options of the program itself: short names, and what was meant', limit, () => {
  assert.match(onekv('-V').stdout, /^\d+\.\d+\.\d+\n$/);
  for (const typed of ['--verison', '-version', '--vers', 'verison']) {
    const { status, stdout, stderr } = onekv(typed);
    assert.deepEqual([status, stdout], [2, ''], typed);
    assert.match(stderr, /did you mean --version\?/, typed);
  }
  assert.match(onekv('-x').stderr, /no such command: -x; there are generate/);
});

test('more arguments than there are: what to do instead', async () => {
  await refused(generateText, [model, 'Once', 'upon'],
    /^unexpected argument: upon; a prompt of several words stands between quotes$/);
  await refused(chat, [model, 'hi'], /^unexpected argument: hi; .*onekv generate FILE/);
});

test('an empty prompt, and numbers below 0, are refused for what they are', async () => {
  await refused(generateText, [model, ''], /^the prompt is empty$/);
  for (const args of [['--temp', '-1'], ['--temperature=-1'], ['--temperature', '-1']]) {
    await refused(generateText, [model, 'x', ...args],
      /^--temperature: found "-1", expected a number from 0 to 100$/);
  }
  await refused(generateText, [model, 'x', '-s', '-5'], /^--seed: found "-5"/);
  await refused(generateText, [model, 'x', '--top-p', '-.5'], /^--top-p: found "-\.5"/);
  // Behind -- it is a prompt.
  const { positionals } = parse(generateText, [model, '-n', '3', '--', '-5 degrees']);
  assert.deepEqual(positionals, [model, '-5 degrees']);
});

test('a model that is not there: a path has its folder, a name what was meant', async () => {
  for (const [typed, message] of [
    ['nix.GGUF', `there is no such file in ${process.cwd()}, the working directory`],
    ['no/such/model', `there is no such file, and no folder ${process.cwd()}/no/such`],
    ['/no/such.gguf', 'there is no such file'],
    ['stories-q-mqa.gguf', 'there is no such file in .*; did you mean stories-q-mqa\\?'],
    ['storys-q-mqa', 'no such file or model; did you mean stories-q-mqa\\?'],
    ['zzzzzz', 'no such file or model; models that write text are (?!.*digits).*stories-q-mqa.*'],
  ]) await refused(generateText, [typed, 'x'], new RegExp(`^${typed}: ${message}$`));
});

test('bench: suites and shapes that were typed wrong', async () => {
  await refused(bench, ['memry'], /^memry: no such suite or file; did you mean memory\?$/);
  await refused(bench, ['memory', 'nothing.gguf'],
    new RegExp(`^nothing\\.gguf: there is no such file in ${process.cwd()}, the working`));
  await refused(bench, ['memory', '--shape', 'Q'],
    /^--shape: found "Q", expected S, M, L, paper-300M, paper-1\.2B, or dimensions such as/);
});

test('serve: a port that is taken is said before the model is loaded', limit, async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address();
  const notModel = join(folder, 'no-model.gguf');
  writeFileSync(notModel, 'no model');
  try {
    await refused(serve, [notModel, '--port', String(port)],
      new RegExp(`^port ${port} is taken by another program; --port 0 takes a free one$`));
  } finally {
    other.close();
  }
  await refused(serve, [notModel, '--host', 'no.such.host.invalid', '--port', '0'],
    /^--host no\.such\.host\.invalid: /);
});

test('a model that writes no text is refused in plain words, and nothing goes on', limit, () => {
  const file = goldenPath('bert-mean');
  for (const args of [['generate', file, 'hi'], ['chat', file], ['eval', file, '--text', 'a b']]) {
    const { status, stderr } = onekv(...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /reads its input whole and writes no text; it gives vectors of texts/);
  }
  const { status, stderr } = onekv('serve', join(root, 'models/digits-qkv.f16.gguf'), '--port',
    '0');
  assert.equal(status, 2, stderr);
  assert.match(stderr, /digits-qkv.*reads its input whole and writes no text$/m);
});

test('eval: Ctrl-C reports what has been scored so far', limit, async () => {
  const text = join(folder, 'long.txt');
  writeFileSync(text, 'Once upon a time there was a little girl. '.repeat(20_000));
  const child = spawn(process.execPath, [program, 'eval', model, '--text', text, '--threads', '1'],
    { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (more) => { stdout += more; });
  child.stderr.setEncoding('utf8').on('data', (more) => {
    // The heading comes before the scores; some pieces are read by the time that this waits.
    if (stderr === '') setTimeout(() => child.kill('SIGINT'), 1500);
    stderr += more;
  });
  const [status] = await once(child, 'close');
  assert.equal(status, 130, stderr);
  const figures = Object.fromEntries(stdout.trim().split('\n').map((line) => line.split(/\s+/)));
  assert.ok(Number(figures.tokens) > 0 && Number(figures.tokens) < Number(figures.of), stdout);
  assert.ok(Number(figures.perplexityPerToken) > 1, stdout);
  assert.equal(figures.perplexityPerByte, undefined, 'the bytes of a part are not known');
});

test('text that is none, and folders; numbers that 32 bits make 0 of', limit, async () => {
  const file = join(folder, 'text');
  writeFileSync(file, Buffer.from([0x61, 0xc3, 0xa4, 0x62, 0xff, 0x63]));
  const run = (input, ...args) => spawnSync(process.execPath, [program, ...args, '-q'],
    { encoding: 'utf8', input });
  const is = ({ status, stdout, stderr }, message) => {
    assert.deepEqual([status, stdout], [2, ''], stderr);
    assert.match(stderr, message);
  };
  is(run('', 'eval', model, '--text', file), /text: found bytes that are not UTF-8 at 4, expected/);
  is(run('', 'eval', model, '--text', folder), /: it is a folder, expected a file$/m);
  is(run(Buffer.from([0x61, 0xe2, 0x82]), 'generate', model, '-n', '1'),
    /stdin: found bytes that are not UTF-8 at 1, expected text/);
  for (const name of ['temperature', 'top-p', 'min-p', 'repetition-penalty']) {
    await refused(generateText, [model, 'x', `--${name}`, '1e-50'],
      new RegExp(`^--${name}: found 1e-50, expected 0, or 1e-30 at least$`));
  }
  await refused(generateText, [model, 'x', '--repetition-penalty', '11'],
    /^--repetition-penalty: found "11", expected a number from 0 to 10$/);
});
