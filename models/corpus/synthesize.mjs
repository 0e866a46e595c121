// Writes stories with an instruction model, many sessions at a time, by this runtime.
//
//   npm run build && node models/fetch/fetch.mjs smollm2-135m-instruct
//   node models/corpus/synthesize.mjs STORIES.jsonl [--stories N] [--seed S] [--against TEXT …]
//
// Story `number` has its own prompt and its own random numbers, both functions of (seed, number).
// What is good goes to STORIES.jsonl, a line each with its text and where it comes from (data.py
// reads the file as it is); what is not goes to STORIES.jsonl.rejected with the reason. Both files
// together say what is done, so the same command continues. Near-duplicates of any story before, in
// these files or in --against, are not taken.
import { appendFileSync, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UsageError, helpOf, parse } from '../../dist/cli/arguments.js';
import { findModel } from '../../dist/cli/model-file.js';
import { engineOptions, note, readEngineOptions } from '../../dist/cli/shared.js';
import { interrupted } from '../../dist/cli/signals.js';
import { splitDocuments } from '../../dist/src/bench/perplexity.js';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { NearDuplicates } from './near-duplicates.mjs';
import { storyPrompt } from './story-prompts.mjs';

const sampling = { temperature: 0.5, topP: 0.9, repetitionPenalty: 1.1 };
const mostOverlap = 0.3;
const defaultModel = 'smollm2-135m-instruct';
const defaultBatch = 16;

/** Plain punctuation, no blank lines: what models/train/data.py makes of a story. */
export function tidyStory(text) {
  return text.replace(/[\u2018\u2019]/g, "'").replace(/[\u201c\u201d]/g, '"')
    .replace(/[\u2013\u2014]/g, '-').replace(/\u2026/g, '...').replace(/[\u00a0\t]/g, ' ')
    .split('\n').map((line) => line.replace(/ +/g, ' ').trim()).filter(Boolean).join('\n');
}

const taskWords = new RegExp('\\b(as an ai|smollm|qwen|language model|(this|short) story|' +
  'the story (is|begins|ends)|paragraph|vocabulary)\\b|[*#<>{}[\\]]|^title', 'i');

/** Why a story is not taken; undefined when it is. */
export function fault(story, ended) {
  if (!ended) return 'not ended';
  const words = story.split(/\s+/).filter(Boolean);
  if (words.length < 60) return 'short';
  if (/[^\x20-\x7e\n]/.test(story)) return 'characters';
  if (taskWords.test(story)) return 'about the task';
  if (!/[.!?]["']?$/.test(story)) return 'not ended';
  const sentences = story.toLowerCase().split(/[.!?\n]+/).map((s) => s.trim())
    .filter((s) => s.split(' ').length >= 4);
  const counts = new Map();
  for (const sentence of sentences) counts.set(sentence, (counts.get(sentence) ?? 0) + 1);
  // Children's stories repeat on purpose, but not most of what they say.
  if (Math.max(0, ...counts.values()) > 3 || counts.size < 0.7 * sentences.length) return 'repeats';
  return undefined;
}

/** { number, ids, seed } opened as a session that shares the cache of what `base` begins with. */
function startStory(base, job) {
  const { ids } = job;
  const known = base.tokens();
  let same = 0;
  while (same < known.length && same < ids.length - 1 && known[same] === ids[same]) same += 1;
  const session = base.clone();
  session.truncate(same);
  session.setSampling({ ...sampling, ...job.sampling, seed: job.seed });
  session.append(ids.slice(same));
  return { job, session, tokens: [] };
}

/**
 * Runs the jobs { ids, seed, sampling? } as sessions of `model`, `batch` of them at a time, until
 * each has come to an end of text or to maxTokens; yields { job, text, tokens, ended } as they end.
 */
export async function* tellStories(model, jobs, { batch, maxTokens }) {
  const { tokenizer } = model;
  let base;
  const running = [];
  const waiting = jobs[Symbol.iterator]();
  const fill = () => {
    while (running.length < batch) {
      const { done, value } = waiting.next();
      if (done) return;
      if (base === undefined) {
        base = model.openSession();
        base.append(value.ids);
      }
      running.push(startStory(base, value));
    }
  };
  try {
    for (fill(); running.length > 0; fill()) {
      const choices = model.advance(running.map(({ session }) => session));
      for (let i = running.length - 1; i >= 0; i--) {
        const { job, session, tokens } = running[i];
        const { token } = choices[i];
        const ended = tokenizer.ends.has(token);
        if (!ended) tokens.push(token);
        if (!ended && tokens.length < maxTokens) continue;
        running.splice(i, 1);
        session.destroy();
        yield { job, text: tokenizer.decode(tokens), tokens: tokens.length, ended };
      }
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
  } finally {
    for (const { session } of running) session.destroy();
    base?.destroy();
  }
}

function readLines(file) {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

/** The texts of a corpus: a file, or all .txt and .jsonl of a folder. */
function readCorpus(path) {
  if (statSync(path).isDirectory()) {
    return readdirSync(path).filter((name) => /\.(txt|jsonl)$/.test(name)).sort()
      .flatMap((name) => readCorpus(join(path, name)));
  }
  if (path.endsWith('.jsonl')) return readLines(path).map(({ text }) => text);
  return splitDocuments(readFileSync(path, 'utf8'));
}

/** Jobs for the numbers that are not done yet. */
function* jobsOf(model, seed, done, last) {
  for (let number = 0; number < last; number++) {
    if (done.has(number)) continue;
    const { start, prompt, drawn } = storyPrompt(seed, number);
    const rendered = model.chatTemplate.render([{ role: 'user', content: prompt }]);
    const ids = model.tokenizer.encode(rendered + start, { special: true, begin: false });
    yield { number, ids, seed: seed * 2 ** 24 + number, drawn, start };
  }
}

/** The sums of one run, as it goes. */
class Tally {
  #started = performance.now();
  tokens = 0;
  stories = 0;
  taken = 0;
  reasons = {};

  count(tokens, reason) {
    this.tokens += tokens;
    this.stories += 1;
    if (reason === undefined) this.taken += 1;
    else this.reasons[reason] = (this.reasons[reason] ?? 0) + 1;
  }

  toString() {
    const rate = this.tokens / (performance.now() - this.#started) * 1000;
    const reasons = Object.entries(this.reasons).map(([reason, n]) => `${n} ${reason}`);
    return `${this.taken} taken, ${reasons.join(', ') || 'none'} rejected; ` +
      `${rate.toFixed(1)} tokens/s`;
  }
}

const command = {
  name: 'synthesize',
  summary: 'writes stories with an instruction model',
  usage: 'STORIES.jsonl [options]',
  example: 'synthesize.mjs stories.jsonl --stories 100',
  details: 'The same command continues. Stories go to the file, a JSON line each.',
  options: [
    { name: 'model', value: 'FILE', help: `path or known name (default ${defaultModel})` },
    { name: 'stories', value: 'N', help: 'prompts to use, with those of earlier runs (100)' },
    { name: 'batch', value: 'N', help: `sessions at a time, 1 to 64 (default ${defaultBatch})` },
    { name: 'max-tokens', value: 'N', help: 'longest story (default 500)' },
    { name: 'minutes', value: 'M', help: 'stop after this time' },
    { name: 'seed', value: 'S', help: 'of prompts and choices, 0 to 2^28 (default 1)' },
    { name: 'against', value: 'PATH', multiple: true,
      help: 'corpus, file or folder, whose near-duplicates are not taken' },
    ...engineOptions,
  ],
};

/** Tells the stories that are not done; gives the tally. */
async function synthesize(model, file, values) {
  const rejectedFile = `${file}.rejected`;
  const seed = values.integer('seed', 0, 2 ** 28) ?? 1;
  const batch = values.integer('batch', 1, 64) ?? defaultBatch;
  const maxTokens = values.integer('max-tokens', 1, 100000) ?? 500;
  const minutes = values.number('minutes', 0, 1e6) ?? Number.POSITIVE_INFINITY;
  const taken = readLines(file);
  const earlier = [...taken, ...readLines(rejectedFile)];
  const done = new Set(earlier.filter((line) => line.seed === seed).map(({ number }) => number));
  const duplicates = new NearDuplicates();
  for (const text of [...values.texts('against').flatMap(readCorpus),
    ...taken.map(({ text }) => text)]) duplicates.add(text);
  note(`${done.size} done before; ${duplicates.size} stories to differ from`);
  const jobs = jobsOf(model, seed, done, values.integer('stories', 1, 2 ** 24) ?? 100);
  const tally = new Tally();
  const end = performance.now() + minutes * 60000;
  for await (const { job, text, tokens, ended } of tellStories(model, jobs, { batch, maxTokens })) {
    const story = tidyStory(job.start + text);
    const reason = fault(story, ended) ??
      (duplicates.overlap(story) > mostOverlap ? 'near-duplicate' : undefined);
    const about = { number: job.number, seed, drawn: job.drawn, model: model.name,
      modelHash: model.hash, sampling, tokens };
    if (reason === undefined) duplicates.add(story);
    appendFileSync(reason === undefined ? file : rejectedFile,
      `${JSON.stringify(reason === undefined ? { text: story, ...about }
        : { reason, ...about })}\n`);
    tally.count(tokens, reason);
    if (tally.stories % 20 === 0) note(`${job.number}: ${tally}`);
    if (interrupted.aborted || performance.now() > end) break;
  }
  return tally;
}

async function main(args) {
  const values = parse(command, args);
  if (values.flag('help')) {
    const help = helpOf(command).replace(/^usage: onekv synthesize/, 'usage: synthesize.mjs');
    process.stdout.write(`${help}\n`);
    return;
  }
  if (values.positionals.length === 0) {
    throw new UsageError(`no file for the stories was named; for example: ${command.example}`);
  }
  const file = values.file();
  if (!file.endsWith('.jsonl')) throw new UsageError(`${file}: expected a name with .jsonl`);
  const engine = await Engine.open(readEngineOptions(values));
  try {
    const model = await loadModel(engine, findModel(values.text('model') ?? defaultModel),
      { batch: values.integer('batch', 1, 64) ?? defaultBatch });
    note(String(await synthesize(model, file, values)));
  } finally {
    engine.destroy();
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    process.exitCode = error instanceof UsageError ? 2 : 1;
    note(`synthesize: ${error.message}`);
  }
}
