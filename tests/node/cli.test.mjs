// The command line from end to end, in processes of its own.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UsageError, parse } from '../../dist/cli/arguments.js';
import { evaluate } from '../../dist/cli/eval.js';
import { splitDocuments } from '../../dist/src/bench/perplexity.js';
import { generateText } from '../../dist/cli/generate.js';
import { inspect } from '../../dist/cli/inspect.js';
import { bytes, count, parseBytes } from '../../dist/cli/units.js';
import { hasRelaxedSimd } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { ggufHeader, goldenPath, levels, loadSync, readGolden, root, tinyLlama, withEngine,
  withKeys } from './support.mjs';

const program = join(root, 'dist/cli/onekv.js');
const scratch = mkdtempSync(join(tmpdir(), 'onekv-cli-'));
after(() => rmSync(scratch, { recursive: true }));

/** Runs onekv; gives { status, stdout, stderr }. */
function onekv(args, { input = '', env = {}, onStart = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...process.execArgv.filter((arg) =>
      arg.includes('wasm')), program, ...args], { env: { ...process.env, ...env } });
    const out = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => { out[name] += text; });
    }
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...out }));
    child.stdin.on('error', () => {}).end(input);
    onStart(child);
  });
}

async function succeeds(args, options) {
  const result = await onekv(args, options);
  assert.equal(result.status, 0, result.stderr);
  return result;
}

async function fails(args, status, message) {
  const result = await onekv(args);
  assert.equal(result.status, status, result.stderr);
  assert.match(result.stderr, message);
  assert.equal(result.stdout, '');
}

/** The story model with a chat template, and with a beginning of text that the file asks for. */
function chatModelFile(template) {
  const bytes = new Uint8Array(withKeys(join(root, 'models/stories-q-mqa.q8_0.gguf'),
    [['tokenizer.chat_template', 'string', template]]));
  const key = 'tokenizer.ggml.add_bos_token';
  const at = Buffer.from(bytes.buffer).indexOf(key) + key.length + 4;
  assert.equal(bytes[at], 0);
  bytes[at] = 1;
  const path = join(scratch, `chat-${template.length}.gguf`);
  writeFileSync(path, bytes);
  return path;
}

const turns = '{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}' +
  '{% if add_generation_prompt %}[assistant] {% endif %}';

for (const [title, template] of [['writes', `{{ bos_token }}${turns}`], ['leaves out', turns]]) {
  test(`--chat and a session make the same ids where a template ${title} the beginning`,
    async () => {
      const path = chatModelFile(template);
      const { stdout } = await succeeds(['generate', path, '--chat', '-p', 'A dog', '--json',
        '--system', 'Be kind', '--max-tokens', '0', '--threads', '1']);
      const typed = JSON.parse(stdout).prompt;
      const model = await OneKV.load(path, { threads: 1 });
      try {
        const session = await model.createSession();
        await session.prompt([{ role: 'system', content: 'Be kind' },
          { role: 'user', content: 'A dog' }], { maxTokens: 0 });
        assert.deepEqual(typed, [...await session.tokens()]);
        assert.equal(typed.filter((id) => id === 0).length, 1);
        assert.equal(typed[0], 0);
      } finally {
        await model.unload();
      }
    });
}

test('a prompt of 5 MB is refused in one sentence', async () => {
  const { status, stdout, stderr } = await onekv(['generate', 'stories-q-mqa', '--threads', '1'],
    { input: 'a cat, '.repeat(5_000_000 / 7) });
  assert.deepEqual([status, stdout], [1, '']);
  assert.match(stderr, /^[^\n]*found 4999995 characters[^\n]*CONTEXT_FULL[^\n]*\n$/);
});

const gguf = goldenPath('llama-keqv-mqa');
const ids = [...readGolden('llama-keqv-mqa').tokens];

test('help: of the program and of every command, on stdout', async () => {
  const { stdout } = await succeeds(['--help']);
  for (const name of ['generate', 'chat', 'serve', 'inspect', 'eval']) {
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
    const own = (await succeeds([name, '--help'])).stdout;
    assert.match(own, new RegExp(`^usage: onekv ${name} FILE.*\\nexample: onekv ${name} \\S`, 's'));
    for (const line of own.split('\n')) assert.ok(line.length <= 80, line);
  }
});

test('command lines that do not fit: status 2, reason on stderr, nothing on stdout', async () => {
  await fails([], 2, /^usage: onekv COMMAND/);
  await fails(['dance'], 2, /no such command: dance; there are generate, chat, serve, inspect/);
  await fails(['genrate'], 2, /no such command: genrate; did you mean generate\?/);
  await fails(['generate', 'no-such-model', '-p', 'x'], 2, /model: no such file or model; models/);
  // The rest in this process: each is refused before anything is opened.
  const refused = (command, args, message) => assert.rejects(async () =>
    command.run(parse(command, args)), (error) => error instanceof UsageError &&
      message.test(error.message));
  await refused(generateText, [], /no model was named; for example: onekv generate stories-q-mqa/);
  await refused(evaluate, [gguf, '--text', '/no/such.txt'], /such\.txt: there is no such file$/);
  await refused(generateText, [gguf, 'x', 'y'], /unexpected argument: y/);
  await refused(generateText, [gguf, 'x', '-p', 'y'], /two prompts/);
  await refused(generateText, [gguf, 'x', '--ids', '1'], /exclude/);
  await refused(generateText, [gguf, '--sing'], /unknown option --sing; onekv generate --help/);
  await refused(generateText, [gguf, '--temprature', '1'], /did you mean --temperature\?/);
  await refused(generateText, [gguf, '--max_tokens=4'], /did you mean --max-tokens\?/);
  await refused(generateText, [gguf, '--max-tokens', '-p', 'x'], /^--max-tokens: no value was/);
  await refused(inspect, ['stories-qmqa'], /did you mean stories-q-mqa\?/);
  await refused(generateText, [gguf, '-p', 'x', '--temperature', 'hot'],
    /--temperature: found "hot", expected a number from 0 to 100/);
  await refused(generateText, [gguf, '-p', 'x', '--seed', '1.5'], /expected an integer/);
  await refused(generateText, [gguf, '--ids', '1', '--chat'], /exclude/);
  await refused(generateText, [gguf, '-p', 'x', '--system', 'y', '--no-chat'],
    /--system is for a chat/);
  await refused(generateText, [gguf, '--ids', '1', '--cache-type', 'f8'], /expected f16.* i8, i4/);
  await refused(inspect, [gguf, '--budget', 'much'], /--budget: found "much"/);
  await refused(evaluate, ['--stride'], /--stride/);
  await refused(evaluate, [gguf], /give a text file with --text FILE, or token ids/);
  await refused(evaluate, [gguf, '--ids', '1 2 3', '--stride', '48'], /--stride/);
  await refused(evaluate, [gguf, '--ids', '1', '--documents'], /--documents needs --text/);
  await refused(evaluate, [gguf, '--text', 'a b', '--documents', '--stride', '2'], /no --stride/);
  await refused(evaluate, [gguf, '--ids', '1 x'], /token ids: found "x"/);
});

test('files that are wrong: status 1, the file, the reason and its code', async () => {
  const bad = join(scratch, 'bad.gguf');
  writeFileSync(bad, 'GGML');
  await fails(['inspect', bad], 1, /bad\.gguf: .*\(NOT_GGUF\)\n$/);
  await fails(['generate', bad, '-p', 'x'], 1, /bad\.gguf: .*\(NOT_GGUF\)\n$/);
  await fails(['inspect', scratch], 1, /it is not a file/);
  await fails(['generate', gguf, '-p', 'x'], 1, /no tokenizer.*\(UNSUPPORTED_TOKENIZER\)/);
  await fails(['generate', goldenPath('vit-qkv-gqa'), '--ids', '1'], 2, /writes no text/);
  await fails(['generate', gguf, '--ids', '1 99999'], 1, /\(TOKEN_OUT_OF_RANGE\)/);
  await fails(['generate', gguf, '--ids', ids.join(' '), '--context', '8'], 1, /\(CONTEXT_FULL\)/);
});

test('inspect: text and JSON, with the budget in tokens', async () => {
  const { stdout } = await succeeds(['inspect', gguf, '--budget', '1MB']);
  assert.match(stdout, /llama, Q-K=V MQA \(1 of 4 heads\), rope rotate-at-read/);
  assert.match(stdout, /standard QKV MHA/);
  const json = JSON.parse((await succeeds(['inspect', gguf, '--json', '--budget', '1MB'])).stdout);
  assert.equal(json.description.projection, 'Q-K=V');
  const [own, mha] = json.cache.map((row) => row.bytesPerToken);
  const { layers, headWidth, queryHeads } = json.description;
  assert.deepEqual(own, { f16: layers * headWidth * 2, f32: layers * headWidth * 4,
    i8: layers * (headWidth + 4), i4: layers * (headWidth / 2 + Math.ceil(headWidth / 32) * 2) });
  for (const type of Object.keys(own)) assert.equal(mha[type], own[type] * 2 * queryHeads);
  const { f16 } = json.cache[0].contextBytes;
  assert.equal(f16, json.description.contextWindow * own.f16);
  assert.equal(json.cache[0].budgetTokens.f16, json.description.contextWindow, '1 MB holds all');
  const small = JSON.parse((await succeeds(['inspect', gguf, '--json', '--budget', '1kB'])).stdout);
  assert.equal(small.cache[0].budgetTokens.f16, Math.floor(1000 / own.f16));
  assert.equal(small.cache[1].budgetTokens.f16, Math.floor(1000 / mha.f16));
  const encoder = JSON.parse((await succeeds(['inspect', goldenPath('vit-qkv-gqa'), '--json']))
    .stdout);
  assert.deepEqual([encoder.description.causal, encoder.cache], [false, []]);
});

test('generate from ids: greedy is the same every time, at any threads and level', async () => {
  const args = ['generate', gguf, '--ids', ids.slice(0, 20).join(' '), '--temperature', '0',
    '--max-tokens', '16'];
  const json = JSON.parse((await succeeds([...args, '--json'])).stdout);
  assert.equal(json.tokens.length, 16);
  assert.equal(json.reason, 'length');
  assert.equal(json.memory.session.tokens, 20 + 16 - 1);
  const { cacheUsed, shared, tokens } = json.memory.session;
  assert.deepEqual([cacheUsed, shared], [tokens * 32, tokens * 32]);
  for (const simd of levels) {
    for (const threads of ['1', '2', '4']) {
      const { stdout, stderr } = await succeeds([...args, '--simd', simd, '--threads', threads]);
      assert.equal(stdout, `${json.tokens.join(' ')}\n`);
      assert.match(stderr, new RegExp(`${simd}, ${threads} thread`));
      assert.match(stderr, /standard QKV MHA, computed: .*8\.00 times as much/);
    }
  }
});

test('generate: a seed is repeatable, and the one that was drawn is told', async () => {
  const run = async (...more) => JSON.parse((await succeeds(['generate', gguf, '--ids', '1 2 3',
    '--temperature', '2', '--max-tokens', '20', '--json', ...more])).stdout);
  const drawn = await run();
  const again = await run('--seed', String(drawn.sampling.seed));
  assert.deepEqual(again.tokens, drawn.tokens);
  assert.notDeepEqual((await run('--seed', String(drawn.sampling.seed + 1))).tokens, drawn.tokens);
});

/** -log p of every token but the first, from the golden logits. */
function goldenNats(name, from = 1) {
  const { tokens, logits, nOutputs } = readGolden(name);
  let nats = 0;
  for (let i = from; i < tokens.length; i++) {
    const row = logits.subarray((i - 1) * nOutputs, i * nOutputs);
    const most = Math.max(...row);
    nats += most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0)) - row[tokens[i]];
  }
  return nats;
}

test('eval: the sum of log probabilities of the golden logits', async () => {
  for (const name of ['llama-keqv-mqa', 'gpt2-qkv-mha']) {
    const { tokens } = readGolden(name);
    const json = JSON.parse((await succeeds(['eval', goldenPath(name), '--ids',
      [...tokens].join(' '), '--cache-type', 'f32', '--json'])).stdout);
    assert.equal(json.tokens, tokens.length - 1);
    const expected = goldenNats(name);
    assert.ok(Math.abs(json.nats - expected) < 1e-3 * expected, `${json.nats}, ${expected}`);
    assert.ok(Math.abs(json.perplexityPerToken - Math.exp(json.nats / json.tokens)) < 1e-9);
  }
});

test('eval: windows score every token once', async () => {
  for (const [context, stride] of [[8, 3], [8, 7], [48, 1], [2, 1]]) {
    const { stdout } = await succeeds(['eval', gguf, '--ids', ids.join(' '), '--context',
      String(context), '--stride', String(stride), '--json']);
    const json = JSON.parse(stdout);
    assert.deepEqual([json.tokens, json.context, json.stride], [ids.length - 1, context, stride]);
    assert.ok(Number.isFinite(json.nats) && json.nats > 0);
  }
});

const shipped = existsSync(join(root, 'models/stories-q-mqa.q8_0.gguf'));

test('a shipped model by its name: story on stdout, the cache on stderr', { skip: !shipped &&
  'models/stories-q-mqa.q8_0.gguf is not there' }, async () => {
  const args = ['generate', 'stories-q-mqa', '-p', 'Once upon a time', '--temperature', '0',
    '--max-tokens', '40'];
  const { stdout, stderr } = await succeeds(args);
  assert.match(stdout, /^Once upon a time.{20}/s);
  assert.match(stderr, /Q-K=V MQA/);
  assert.match(stderr, /standard QKV MHA, computed: /);
  const json = JSON.parse((await succeeds([...args, '--json'])).stdout);
  assert.equal(`Once upon a time${json.text}\n`, stdout);
  const piped = await succeeds(args.filter((arg) => !['-p', 'Once upon a time'].includes(arg)),
    { input: 'Once upon a time' });
  assert.equal(`Once upon a time${piped.stdout}`, stdout);
  const evaluated = JSON.parse((await succeeds(['eval', 'stories-q-mqa', '--text',
    stdout, '--json'])).stdout);
  assert.ok(evaluated.perplexityPerToken < 20, JSON.stringify(evaluated));
  assert.equal(evaluated.textBytes, Buffer.byteLength(stdout));
});

test('eval: documents are the parts between separator lines', () => {
  assert.deepEqual(splitDocuments('a\nb\n<|end|>\n\nc <|end|>\n<|endoftext|>\n<|end|>\n'),
    ['a\nb', 'c <|end|>']);
  assert.deepEqual(splitDocuments('<|end|>\n'), []);
});

/** Nats of a document by itself, one token at a time, each window of `context` read afresh. */
function documentNats(model, ids, context) {
  let nats = 0;
  for (let start = 0; start < ids.length - 1; start += context) {
    const session = model.openSession();
    for (let i = start; i < Math.min(start + context, ids.length - 1); i++) {
      session.append([ids[i]]);
      const logits = session.logits();
      nats += Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0)) - logits[ids[i + 1]];
    }
    session.destroy();
  }
  return nats;
}

test('eval: each document is scored by itself, every token once', { skip: !shipped &&
  'models/stories-q-mqa.q8_0.gguf is not there' }, async () => {
  const documents = ['Tom had a red ball.\nHe liked it.', 'Once upon a time there was a cat.'];
  const file = join(scratch, 'stories.txt');
  writeFileSync(file, documents.map((text) => `${text}\n<|end|>\n`).join(''));
  await withEngine({}, async (engine) => {
    const model = loadSync(engine, join(root, 'models/stories-q-mqa.q8_0.gguf'),
      { cacheType: 'f32', arithmetic: 'f32' });
    const [end] = model.tokenizer.ends;
    const ids = documents.map((text) => [end, ...model.tokenizer.encode(text), end]);
    for (const context of [4, ids[0].length - 1, ids[0].length, 1024]) {
      const json = JSON.parse((await succeeds(['eval', 'stories-q-mqa', '--text', file, '--json',
        '--documents', `--context=${context}`, '--cache-type=f32', '--arithmetic=f32'])).stdout);
      assert.deepEqual([json.documents, json.tokens, json.textBytes, json.stride],
        [2, ids.flat().length - 2, Buffer.byteLength(documents.join('')), undefined]);
      const nats = ids.reduce((sum, part) => sum + documentNats(model, part, context), 0);
      assert.ok(Math.abs(json.nats - nats) < 1e-4 * nats, `${json.nats}, ${nats}`);
    }
  });
});

test('what people type: short options, other names, the prompt last', async () => {
  const { stdout } = await succeeds(['generate', 'stories-q-mqa', 'Once upon a time', '-n', '8',
    '--temp', '0', '-t', '1', '-c', '64', '-s', '3', '-q']);
  const long = await succeeds(['generate', 'stories-q-mqa', '--prompt', 'Once upon a time',
    '--max-tokens', '8', '--temperature', '0', '--threads', '1', '--context', '64', '--seed', '3',
    '--quiet']);
  assert.equal(stdout, long.stdout);
  assert.match((await succeeds(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('without a prompt nothing is loaded; colours are for terminals', async () => {
  const gguf = join(root, 'models/stories-q-mqa.q8_0.gguf');
  await fails(['generate', gguf], 2, /^onekv: no prompt: none after the model/);
  const args = ['generate', gguf, 'A', '-n', '1'];
  const { stderr } = await succeeds(args, { env: { FORCE_COLOR: '1' } });
  assert.match(stderr, / 1 token read at .* 1 written at/);
  assert.doesNotMatch(stderr, /\x1b/);
  const command = [process.execPath, program, ...args].join(' ');
  const seen = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8',
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '' } });
  // The progress bar's line is free again before the prompt is written.
  assert.match(seen.stdout, /\x1b\[2m.*Q-K=V[^]*100 %\x1b\[K\r\x1b\[KA[^\r]*\r\n/);
});

test('a file with a chat template answers, and continues with --no-chat', async () => {
  const path = chatModelFile(turns);
  const run = async (...more) => {
    const { stdout, stderr } = await succeeds(['generate', path, 'A dog', '-n', '4', '--temp', '0',
      '-t', '1', ...more]);
    return { stdout, stderr };
  };
  const [chat, asked, raw] = [await run(), await run('--chat'), await run('--no-chat')];
  assert.equal(chat.stdout, asked.stdout);
  assert.match(chat.stderr, /has a chat template, and answers; --no-chat continues/);
  assert.doesNotMatch(asked.stderr, /--no-chat/);
  assert.match(raw.stdout, /^A dog/);
});

test('Node without relaxed SIMD starts itself anew with its flag',
  { skip: hasRelaxedSimd() && 'this Node has it' }, async () => {
    const { stderr } = await succeeds(['generate', gguf, '--ids', '1 2', '-n', '2']);
    assert.match(stderr, /; relaxed, /);
  });

test('an interrupt ends in order, with status 130', async () => {
  // All weights are 0: it says the first token, and as no token ends a text, for hours.
  const { keys, tensors } = tinyLlama({ vocabulary: 64 });
  const texts = Array.from({ length: 64 }, (_, i) => String.fromCharCode(65 + i));
  const { header, dataBytes } = ggufHeader([
    ...keys.filter(([key]) => key !== 'llama.context_length'),
    ['llama.context_length', 'u32', 2 ** 22], ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.tokens', 'string[]', texts], ['tokenizer.ggml.merges', 'string[]', []],
  ], tensors);
  const file = join(scratch, 'endless.gguf');
  writeFileSync(file, Buffer.concat([header, Buffer.alloc(dataBytes)]));
  for (const [letters, expected] of [[1, /^BA*\n$/], [2, /^BA+\n$/]]) {
    const { status, stdout, stderr } = await onekv(['generate', file, '-p', 'B', '--temperature',
      '0', '--max-tokens', String(2 ** 21)], {
      // The prompt, or a first word, is there: the program listens.
      onStart: (child) => {
        let left = letters;
        child.stdout.on('data', ({ length }) => {
          if (left > 0 && (left -= length) <= 0) child.kill('SIGINT');
        });
      },
    });
    assert.equal(status, 130);
    assert.match(stdout, expected);
    assert.match(stderr, /\d+ written at .* \(interrupted, seed/);
  }
});

const smollm2 = join(modelFolder, named['smollm2-135m-instruct'].file);

test('SmolLM2 answers in a chat', { skip: !existsSync(smollm2) &&
  'not in the cache folder: node models/fetch/fetch.mjs smollm2-135m-instruct' }, async () => {
  const { stdout } = await succeeds(['generate', 'smollm2-135m-instruct', '--chat', '-p',
    'What is the capital of France?', '--temperature', '0', '--max-tokens', '12',
    '--arithmetic', 'int16']);
  assert.match(stdout, /^The capital of France is Paris\.\n$/);
});

test('a named model that is not in the cache folder: how to get it', async () => {
  const { status, stderr } = await onekv(['inspect', 'gemma-3-270m'],
    { env: { ONEKV_CACHE: scratch } });
  assert.match(`${status} ${stderr}`, /^2 .*node models\/fetch\/fetch\.mjs gemma-3-270m/);
});

test('units and numbers', () => {
  assert.deepEqual([0, 999, 1000, 18_880, 999_499, 999_500, 64e6, 1.2e12].map(bytes),
    ['0 B', '999 B', '1.00 KB', '18.9 KB', '999 KB', '1.00 MB', '64.0 MB', '1.20 TB']);
  assert.deepEqual([7, 9999, 12_345, 3_660_544, 1.2e9].map(count),
    ['7', '9999', '12.3 K', '3.66 M', '1.20 G']);
  assert.deepEqual(['64MB', '1KiB', '1.5 gib', '4096', '10b', '7k'].map(parseBytes),
    [64e6, 1024, 1.5 * 1024 ** 3, 4096, 10, 7000]);
  assert.ok(['', 'MB', '-1', '1MBB', '1 2', '1e3'].every((text) => parseBytes(text) === undefined));
});
