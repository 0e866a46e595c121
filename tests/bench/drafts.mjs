// Prompt look-up over plain decoding, in Node:
//
//   npm run bench:drafts -- EDITOR.gguf FILE.gguf… [--threads 2] [--rounds 5]
//
// With --draft SMALL.gguf that model guesses, which must have the same tokens as all others.
//
// The first model is asked to rename a variable in a function, which must be at least 1.5 times as
// fast with drafts; all are asked for texts that repeat little, which must be 0.95 times as fast at
// least. Plain and drafted answers take turns, every second round backwards; the first round warms
// up. The two must be the same tokens. Status 1: one of these does not hold.
import { parseArgs } from 'node:util';
import { Engine, encodeChat, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { summarise } from '../../dist/src/bench/statistics.js';

const code = `def average(numbers):
    total = 0
    count = 0
    for number in numbers:
        if number < 0:
            continue
        total += number
        count += 1
    if count == 0:
        return 0
    return total / count
`;
const editing = { name: 'rename a variable', least: 1.5,
  text: `\`\`\`python\n${code}\`\`\`\n\nRename the variable \`total\` to \`amount\`.` };
const others = [
  { name: 'write a function', least: 0.95,
    text: 'Write a function that tells whether a string is a palindrome.' },
  { name: 'tell of the moon', least: 0.95, text: 'Tell me about the moon.' },
  { name: 'tell of it, sampled', least: 0.95, text: 'Tell me about the moon.',
    sampling: { temperature: 0.8, topP: 0.95, seed: 1 } },
];

const { values, positionals: files } = parseArgs({ allowPositionals: true,
  options: { threads: { type: 'string', default: '2' }, rounds: { type: 'string', default: '5' },
    draft: { type: 'string' },
    tokens: { type: 'string', default: '96' } } });

async function answer(model, { text, sampling }, draft) {
  const { tokenizer } = model;
  const prompt = !model.hasChatTemplate ? tokenizer.encode(text)
    : encodeChat(tokenizer, model.chatTemplate.render([{ role: 'user', content: text }]));
  const session = model.openSession({ ...sampling, draft });
  try {
    const parts = generate(session, tokenizer, prompt, { maxTokens: Number(values.tokens) });
    for (;;) {
      const { done, value } = await parts.next();
      if (done) return value;
    }
  } finally {
    session.destroy();
  }
}

/** A row of the table; whether the answers agree and the ratio is large enough. */
async function measure(model, task) {
  const ways = ['off', 'lookup'];
  const rates = { off: [], lookup: [] };
  const ratios = [];
  const last = {};
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
      last[way] = await answer(model, task, way === 'off' ? 'off' : small ?? way);
      last[way].rate = 1000 * last[way].tokens.length / last[way].decodeMs;
      if (round > 0) rates[way].push(last[way].rate);
    }
    if (round > 0) ratios.push(last.lookup.rate / last.off.rate);
  }
  const isSame = String(last.off.tokens) === String(last.lookup.tokens);
  const ratio = summarise(ratios).median;
  const { tokens, acceptedTokens, draftedTokens } = last.lookup;
  const cells = [model.name, task.name, tokens.length, `${acceptedTokens} of ${draftedTokens}`,
    ...ways.map((way) => summarise(rates[way]).median.toFixed(1)),
    ratio.toFixed(2), isSame ? 'the same' : 'ANOTHER'];
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
  return isSame && ratio >= task.least;
}

const engine = await Engine.open({ threads: Number(values.threads) });
const small = values.draft === undefined ? undefined : await loadModel(engine, values.draft);
process.stdout.write(`${engine.simd}, ${engine.threads} threads; tokens/s, medians\n\n` +
  `| model | task | tokens | guesses right | plain | ${small?.name ?? 'look-up'} | ratio | ` +
  'text |\n' +
  '|---|---|--:|--:|--:|--:|--:|---|\n');
for (const [i, file] of files.entries()) {
  const model = await loadModel(engine, file);
  for (const task of i === 0 ? [editing, ...others] : others) {
    if (!await measure(model, task)) process.exitCode = 1;
  }
  model.destroy();
}
engine.destroy();
