// onekv chat in a process of its own, from a pipe and, where Python has one to lend, in a terminal:
// messages, commands, Ctrl-C, tools.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UsageError, parse } from '../../dist/cli/arguments.js';
import { chat } from '../../dist/cli/chat.js';
import { readTools } from '../../dist/cli/tool-file.js';
import { chatFile, root, withWindow } from './support.mjs';

const limit = { timeout: 120_000 };
const folder = mkdtempSync(join(tmpdir(), 'onekv-chat-'));
const place = (name, bytes) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const file = place('chat.gguf', new Uint8Array(chatFile()));
const children = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

const program = join(root, 'dist/cli/onekv.js');
const argumentsOf = (args, model = file) => [program, 'chat', model, '--threads', '1',
  '--temperature', '0', ...args];

/** A chat with a pipe; `until(pattern)` waits for what it has written, `end(input)` for its end. */
function start(args, model) {
  const child = spawn(process.execPath, argumentsOf(args, model), { cwd: folder });
  children.push(child);
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (text) => { said[name] += text; });
  }
  const until = async (name, pattern) => {
    while (!pattern.test(said[name])) {
      if (child.exitCode !== null) assert.fail(said.stderr);
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  };
  const end = async (input = '') => {
    child.stdin.end(input);
    const [status] = await once(child, 'close');
    return { status, ...said };
  };
  return { child, until, end };
}

test('a system prompt needs a chat template, here and in generate', limit, async () => {
  const { status, stderr } = await start(['--system', 'x'], 'stories-q-mqa').end('hi\n');
  assert.deepEqual([status, stderr.trim()],
    [2, 'onekv: --system is for a chat, and the file has no chat template']);
  const told = spawnSync(process.execPath, [program, 'generate', 'stories-q-mqa', 'hi', '--system',
    'x', '--threads', '1'], { encoding: 'utf8' });
  assert.deepEqual([told.status, told.stdout, told.stderr], [2, '', stderr]);
});

test('lines are answered, and a conversation is saved and loaded', limit, async () => {
  const first = await start(['-n', '6']).end('Tim had a\n/save one.kv\n/memory\nAnd \\\nthen?\n');
  assert.equal(first.status, 0, first.stderr);
  const at = first.stdout.indexOf('cache ');
  const [cache, standard, ...next] = first.stdout.slice(at).split('\n');
  assert.notEqual(first.stdout.slice(0, at).trim(), '');
  assert.match(cache, /^cache \d+ of 4096 tokens, [\d.]+ KB$/);
  assert.match(standard, /^standard QKV MHA, computed: .* \(32\.0 times as much\)$/);
  assert.match(first.stderr, /6 tokens at [\d.]+ tokens\/s \(cut at --max-tokens\), 0 were/);
  assert.match(first.stderr, /one\.kv: [\d.]+ KB/);
  assert.doesNotMatch(first.stdout + first.stderr, /\x1b/, 'no colours in a pipe');
  assert.ok(statSync(join(folder, 'one.kv')).size > 1000);
  const second = await start(['-n', '6', '-q']).end('/load one.kv\nAnd \\\nthen?\n/exit\nno\n');
  assert.equal(second.status, 0, second.stderr);
  assert.equal(second.stdout.trim(), next.join('\n').trim());
  assert.equal(second.stderr.trim().split(', ')[0], '2 messages');
});

test('what fails is said, and the conversation goes on', limit, async () => {
  const { status, stdout, stderr } = await start(['-n', '4', '-q', '-c', '99999']).end(
    '/fly\n/exi\n/save\n/load nothing.kv\n/load chat.gguf\n/help\n/new\nTim had a\n');
  assert.equal(status, 0);
  for (const line of [/^--context 99999: the file's window of \d+ tokens is taken$/m,
    /^onekv: \/fly: no such command; \/help lists them$/m,
    /^onekv: \/exi: no such command; did you mean \/exit\?$/m, /^onekv: \/save needs a file/m,
    /^onekv: nothing\.kv: there is no such file in .*, the working directory$/m,
    /^onekv: .*\(SNAPSHOT_REFUSED\)$/m]) {
    assert.match(stderr, line);
  }
  assert.match(stdout, /^\/memory +what the conversation takes$/m);
  assert.notEqual(stdout.trim().split('\n').at(-1), '');
});

test('Ctrl-C stops the answer, and not the program', limit, async () => {
  // The end of a text is another token here, so that an answer goes on.
  const bytes = Buffer.from(withWindow(chatFile()));
  const key = 'tokenizer.ggml.eos_token_id';
  bytes.writeUInt32LE(3, bytes.indexOf(key) + key.length + 4);
  bytes.write('<|endlesstxt|', bytes.indexOf('<|endoftext|>'));
  const { child, until, end } = start([], place('endless.gguf', bytes));
  child.stdin.write('Tim had a\n');
  await until('stdout', /\S{2}/);
  child.kill('SIGINT');
  await until('stderr', /stopped after \d+ tokens; \d+ of 131072 tokens/);
  child.kill('SIGINT');
  await until('stderr', /\/exit or Ctrl-D leaves/);
  const { status, stdout, stderr } = await end('/memory\n');
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^cache \d+ of 131072 tokens/m);
});

test('a terminal: colours, the bar, and the history of the arrow keys', limit, async (t) => {
  const script = `import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)`;
  const child = spawn('python3', ['-c', script, process.execPath, ...argumentsOf(['-n', '4',
    '--history', join(folder, 'typed')])], { cwd: folder,
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '' } });
  children.push(child);
  let said = '';
  const failed = once(child, 'error').then(() => 'none');
  child.stdout.setEncoding('utf8').on('data', (text) => { said += text; });
  const until = async (pattern) => {
    for (; !pattern.test(said); await new Promise((resolve) => { setTimeout(resolve, 20); })) {
      if (child.exitCode !== null) assert.fail(said);
    }
    said = said.slice(pattern.exec(said).index + pattern.exec(said)[0].length);
  };
  if (await Promise.race([failed, once(child, 'spawn')]) === 'none') {
    t.skip('no Python');
    return;
  }
  await until(/> /);
  child.stdin.write('Tim had a\r');
  await until(/\x1b\[2m4 tokens at/);
  await until(/> /);
  child.stdin.write('/memory\r');
  await until(/cache \[#*\.+\] \d+ of 4096 tokens/);
  await until(/> /);
  child.stdin.write('\x1b[A\x1b[A\r');
  await until(/4 tokens at/);
  child.stdin.write('\x03');
  await until(/\/exit or Ctrl-D leaves/);
  child.stdin.write('/exit\r');
  const [status] = await once(child, 'close');
  assert.equal(status, 0);
  assert.deepEqual(readFileSync(join(folder, 'typed'), 'utf8').trim().split('\n').slice(-2),
    ['/memory', 'Tim had a']);
});

test('a program of tools that is not there keeps no process alive', () => {
  // Its timer, which is of a minute, was once not cleared.
  const tools = place('none.json', '[{ "name": "x", "command": ["no-such-program"] }]');
  const code = `import { readTools } from ${JSON.stringify(join(root, 'dist/cli/tool-file.js'))};
    const [tool] = readTools(${JSON.stringify(tools)});
    await tool.execute({}, { signal: new AbortController().signal }).catch(console.log);`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', code],
    { encoding: 'utf8', timeout: 50_000 });
  assert.match(said, /ENOENT/);
});

test('tools of a file: programs that get arguments and give results', limit, async () => {
  const [now, calculate] = readTools(join(root, 'web/examples/tools.json'));
  const context = { id: '1', signal: new AbortController().signal };
  assert.equal(await calculate.execute({ a: 6, operation: '*', b: 7 }, context), '42');
  assert.match(await now.execute({}, context), /\d\d:\d\d:\d\d/);
  assert.deepEqual(Object.keys(now), ['name', 'description', 'execute']);
  const make = (value) => place('tools.json', typeof value === 'string' ? value
    : JSON.stringify(value));
  const [bad] = readTools(make([{ name: 'bad', command: ['node', '-e', 'process.exit(3)'] }]));
  await assert.rejects(bad.execute({}, context), /node ended with status 3/);
  await assert.rejects(readTools(make([{ name: 'x', command: ['no-such-program'] }]))[0]
    .execute({}, context), /ENOENT/);
  for (const [value, message] of [['{', /tools\.json: /], [{}, /list of tools/],
    [[{ name: 'x' }], /tools\.json\[0\]\.command/], [[null], /\[0\]\.command/],
    [[{ name: 'x', command: 'rm' }], /list of texts/]]) {
    assert.throws(() => readTools(make(value)), (error) => error instanceof UsageError &&
      message.test(error.message));
  }
  await assert.rejects(async () => chat.run(parse(chat, [file, '--tools', 'none.json'])),
    UsageError);
});
