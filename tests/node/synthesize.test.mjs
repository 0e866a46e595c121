// Stories by an instruction model: prompts, faults, near-duplicates, many sessions at a time.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { NearDuplicates, sketch } from '../../models/corpus/near-duplicates.mjs';
import { storyPrompt } from '../../models/corpus/story-prompts.mjs';
import { fault, tellStories, tidyStory } from '../../models/corpus/synthesize.mjs';
import { loadSync, root, withEngine } from './support.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'onekv-synthesize-'));
after(() => rmSync(scratch, { recursive: true }));

test('prompts are functions of seed and number, and differ', () => {
  assert.deepEqual(storyPrompt(3, 14), storyPrompt(3, 14));
  const prompts = Array.from({ length: 500 }, (_, i) => storyPrompt(1, i).prompt);
  assert.equal(new Set(prompts).size, 500);
  assert.notEqual(storyPrompt(2, 0).prompt, prompts[0]);
  const { prompt, start, drawn } = storyPrompt(1, 0);
  assert.ok(start.includes(drawn.name) && /[.]$/.test(start), start);
  for (const word of Object.values(drawn)) assert.ok(prompt.includes(word), word);
  const starts = new Set(Array.from({ length: 500 }, (_, i) => storyPrompt(1, i).start));
  assert.ok(starts.size > 400, `${starts.size}`);
  assert.ok(prompts.every((text) => !/\s\s|\n/.test(text)));
});

const words = (n, first = 0) => Array.from({ length: n }, (_, i) => `word${first + i}`).join(' ');

test('near-duplicates: the share of repeated runs of words', () => {
  const known = new NearDuplicates();
  assert.equal(known.overlap(words(200)), 0);
  known.add(words(200));
  known.add(words(200, 1000));
  assert.equal(known.size, 2);
  assert.equal(known.overlap(words(200)), 1);
  assert.equal(known.overlap(words(200).toUpperCase().replaceAll(' ', ', ')), 1);
  assert.equal(known.overlap(words(200, 5000)), 0);
  const half = known.overlap(words(200, 100));
  assert.ok(half > 0.3 && half < 0.7, `${half}`);
  assert.equal(known.overlap(''), 0);
  assert.deepEqual(sketch('one two three four'), []);
  assert.equal(sketch(words(200)).length, 64);
});

test('faults of a story have names', () => {
  const told = Array.from({ length: 8 }, (_, i) => `On day ${i} the cat saw a bird number ${i}.`)
    .join(' ');
  assert.equal(fault(told, true), undefined);
  assert.equal(fault(told, false), 'not ended');
  assert.equal(fault(`${told} And then`, true), 'not ended');
  assert.equal(fault('A cat sat.', true), 'short');
  assert.equal(fault(`${told} \u00e9.`, true), 'characters');
  assert.equal(fault(`Title: Cats\n${told}`, true), 'about the task');
  assert.equal(fault('The cat sat on the mat. '.repeat(20).trim(), true), 'repeats');
  assert.equal(tidyStory('\u201cHi\u2019\u201d \u2014 a\t b\n\n c '), '"Hi\'" - a b\nc');
});

const shipped = join(root, 'models/stories-q-mqa.q8_0.gguf');

test('sessions told together say what each says alone', { skip: !existsSync(shipped) &&
  'models/stories-q-mqa.q8_0.gguf is not there' }, async () => {
  await withEngine({}, async (engine) => {
    const model = loadSync(engine, shipped, { batch: 3 });
    const openings = ['Once upon a time', 'Once upon a hill', 'Tom', 'Once upon a time', 'A dog'];
    const jobs = openings.map((text, number) =>
      ({ number, ids: model.tokenizer.encode(text), seed: number, sampling: { temperature: 1 } }));
    const told = [];
    for await (const story of tellStories(model, jobs, { batch: 3, maxTokens: 24 })) {
      told.push(story);
    }
    assert.deepEqual(told.map(({ job }) => job.number).sort(), [0, 1, 2, 3, 4]);
    for (const { job, text, tokens } of told) {
      const session = model.openSession({ temperature: 1, topP: 0.9, repetitionPenalty: 1.1,
        seed: job.seed });
      session.append(job.ids);
      const alone = [];
      while (alone.length < tokens) alone.push(session.next().token);
      session.destroy();
      assert.equal(text, model.tokenizer.decode(alone));
    }
    assert.equal(model.memory().openSessions, 0);
    // Leaving early gives the sessions back too.
    for await (const _ of tellStories(model, jobs, { batch: 3, maxTokens: 5 })) break;
    assert.equal(model.memory().openSessions, 0);
  });
});

const smollm2 = join(modelFolder, named['smollm2-135m-instruct'].file);

test('a run continues, and every story says where it comes from', { skip: !existsSync(smollm2) &&
  'not in the cache folder: node models/fetch/fetch.mjs smollm2-135m-instruct' }, async () => {
  const file = join(scratch, 'stories.jsonl');
  const rejected = `${file}.rejected`;
  const run = (stories) => promisify(execFile)(process.execPath, [
    join(root, 'models/corpus/synthesize.mjs'), file, '--stories', stories, '--max-tokens', '12',
    '--batch', '2', '--threads', '1']);
  const lines = () => readFileSync(rejected, 'utf8').trim().split('\n').map(JSON.parse);
  await run('1');
  assert.deepEqual(lines().map(({ number, reason }) => [number, reason]), [[0, 'not ended']]);
  const { stderr } = await run('3');
  assert.match(stderr, /^1 done before/);
  assert.deepEqual(lines().map(({ number }) => number).sort(), [0, 1, 2]);
  for (const line of lines()) {
    assert.match(line.modelHash, /^[0-9a-f]{16}$/);
    assert.deepEqual([line.seed, line.tokens, typeof line.drawn.name], [1, 12, 'string']);
  }
  await assert.rejects(run('1.5'), /--stories: found "1.5"/);
});
