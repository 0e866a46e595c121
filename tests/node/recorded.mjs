// What llama.cpp said (tests/real), and sessions that follow it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Unavailable, fetchModel } from '../../models/fetch/fetch.mjs';
import { root } from './support.mjs';

const read = (file) => JSON.parse(readFileSync(join(root, file), 'utf8'));

/** Published files that tests fetch, with what llama.cpp said of them, and what stands before a
 * text whose perplexity is taken. */
export const realFiles = [
  { title: 'Gemma 3 270M', model: 'gemma-3-270m', begin: '<bos>', recording: 'gemma3' },
  { title: 'Qwen2.5-Coder 0.5B', model: 'qwen2.5-coder-0.5b-instruct', begin: '',
    recording: 'qwen2' },
].map((file) => ({ ...file, recorded: read(`tests/real/${file.recording}.json`) }));

/** The text whose perplexity was recorded. */
export const judgedText = ({ begin, recorded }) => begin + readFileSync(
  join(root, 'tests/golden/tokenizers/training.txt'), 'utf8')
  .slice(0, recorded.perplexity_characters);

/** The path of a named model, fetched on the first run; or { skip }, why it cannot be had. */
export async function fetchOrSkip(name) {
  try {
    return { path: await fetchModel(name) };
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return { skip: error.message };
  }
}

/**
 * Feeds the prompt and the recorded continuation; the session's own greedy choice must be the
 * recorded one wherever that stood further ahead than `tolerance` twice, and the logits of the last
 * ten must be within it. Gives the largest difference.
 */
export function follow(session, recorded, tolerance) {
  const { prompt_ids: prompt, ids, exact: { margins, top10 } } = recorded;
  session.append(prompt);
  ids.forEach((id, i) => {
    const logits = session.logits();
    const chosen = logits.indexOf(maximum(logits));
    assert.ok(chosen === id || margins[i] < 2 * tolerance,
      `${recorded.name}, step ${i}: ${chosen} instead of ${id}, margin ${margins[i]}`);
    session.append([id]);
  });
  const last = session.logits();
  const off = Math.max(...top10.map(([id, logit]) => Math.abs(last[id] - logit)));
  assert.ok(off <= tolerance, `${recorded.name}: top ten off by ${off}`);
  return off;
}

/** Of a quarter of a million logits, too many for arguments of a call. */
function maximum(logits) {
  let most = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > most) most = logit;
  return most;
}
