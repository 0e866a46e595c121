// Thoughts: apart from the text, in it, off, or within a budget; and the cache of the next turn,
// from which the template has left them out.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { commonStart } from '../../dist/src/util/common-start.js';
import { root, withKeys } from './support.mjs';

const limit = { timeout: 120_000 };
const path = `${root}models/stories-q-mqa.q8_0.gguf`;

/** As Qwen's: thoughts of the last answer stay while its tools are called, older ones go. */
const template = (opens) => `{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}{{ '[' + m.role + '] ' }}
{%- if m.reasoning_content and loop.index0 > ns.last -%}
{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif -%}
{{ m.content }}
{%- for c in m.tool_calls -%}
{{ '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
{{- c.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{%- endfor -%}
{%- if m.role == 'assistant' -%}{{ eos_token }}{%- endif -%}{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '[assistant] ' }}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{ '<think>\\n\\n</think>\\n\\n' }}{%- elif ${opens} -%}{{ '<think>\\n' }}{%- endif -%}
{%- endif -%}{%- if tools or 'tool' == '' -%}{%- endif -%}`;
/** No text ends by itself: where a sampled one does is another place on another processor. */
const never = { logitBias: { 0: -Infinity } };
const load = (text) => OneKV.load(withKeys(path,
  [['tokenizer.chat_template', 'string', text]]), { threads: 1 });

let model;
let stubborn;
before(async () => {
  model = await load(template('true'));
  // Opens thoughts whatever it is told.
  stubborn = await load('{% for m in messages %}{{ m.content }}\n{% endfor %}<think>\n' +
    '{% if false %}</think>{% endif %}');
});
after(() => Promise.all([model.unload(), stubborn.unload()]));

test('a budget ends thoughts, in tokens, and the answer follows', limit, async () => {
  for (const [budget, seed] of [[0, 1], [1, 2], [7, 3], [20, 4]]) {
    const session = await model.createSession({ ...never, temperature: 1, seed,
      reasoningBudget: budget });
    const answer = session.generate('Why?', { maxTokens: budget + 40 });
    const kinds = [];
    for await (const { type, text } of answer) if (text !== '') kinds.push(type);
    const { reasoning, text, tokens } = await answer.result;
    const thought = await model.detokenize(tokens.slice(0, budget));
    assert.equal(reasoning, thought.trim(), `${budget}`);
    const ending = await model.tokenize('\n</think>\n\n');
    assert.deepEqual(tokens.slice(budget, budget + ending.length), [...ending]);
    const said = await model.detokenize(tokens.slice(budget + ending.length));
    assert.equal(text, said.trimStart());
    assert.deepEqual(kinds, [...kinds].sort());
    assert.equal(session.messages.at(-1).reasoning, reasoning === '' ? undefined : reasoning);
    await session.destroy();
  }
});

test('off, separate and include', limit, async () => {
  const ask = async (of, options) => {
    const session = await of.createSession({ ...never, temperature: 1, seed: 5, ...options });
    const result = await session.generate('Why?', { maxTokens: 30 }).result;
    const held = await of.detokenize(await session.tokens(), { special: true });
    await session.destroy();
    return { ...result, held };
  };
  const off = await ask(model, { reasoning: 'off' });
  assert.equal(off.reasoning, '');
  assert.match(off.held, /\[assistant\] <think>\n\n<\/think>\n\n/);
  assert.ok(off.text.length > 20);
  const closed = await ask(stubborn, { reasoning: 'off' });
  assert.equal(closed.reasoning, '');
  assert.match(closed.held, /<think>\n\n<\/think>\n\n/);
  assert.ok(closed.text.length > 20);
  const separate = await ask(model, { reasoningBudget: 6 });
  const include = await ask(model, { reasoningBudget: 6, reasoning: 'include' });
  assert.deepEqual(include.tokens, separate.tokens);
  assert.equal(include.reasoning, '');
  assert.equal(include.text.replace(/\s*<\/?think>\s*/g, '|').trim(),
    `|${separate.reasoning}|${separate.text}`.trim());
  const endless = await ask(model, {});
  assert.deepEqual([endless.text, endless.tokens.length], ['', 30]);
});

test('the next turn has the tokens of a fresh prefill, and keeps what is the same', limit,
  async () => {
    for (const reasoning of ['separate', 'off', 'include']) {
      const session = await model.createSession({ ...never, temperature: 1, seed: 8, reasoning,
        reasoningBudget: reasoning === 'off' ? undefined : 9, topK: 40 });
      await session.prompt('One?', { maxTokens: 30 });
      const held = await session.tokens();
      const { messages } = session;
      await session.setSampling({ temperature: 0 });
      const second = session.generate('Two?', { maxTokens: 20 });
      const { promptTokens, cachedTokens, tokens } = await second.result;
      const fresh = await model.createSession({ initialPrompts: messages, reasoning,
        reasoningBudget: reasoning === 'off' ? undefined : 9 });
      const anew = await fresh.generate('Two?', { maxTokens: 20 }).result;
      const [ids, expected] = await Promise.all([session.tokens(), fresh.tokens()]);
      const prompt = expected.slice(0, anew.promptTokens);
      if (reasoning === 'include') {
        // Nothing goes: what the model wrote stays as it wrote it.
        assert.equal(cachedTokens, held.length);
        assert.equal(await model.detokenize(ids.slice(0, promptTokens), { special: true }),
          await model.detokenize(prompt, { special: true }));
      } else {
        // The thoughts are cut, empty ones too, and everything behind them.
        assert.deepEqual([...ids.slice(0, promptTokens)], [...prompt]);
        assert.equal(cachedTokens, commonStart(held, prompt));
        assert.ok(cachedTokens < held.length && cachedTokens > 4);
        assert.deepEqual(tokens, anew.tokens);
      }
      await Promise.all([session.destroy(), fresh.destroy()]);
    }
  });

test('calls and constraints come behind thoughts', limit, async () => {
  const now = { name: 'now', inputSchema: { type: 'object', required: ['zone'],
    properties: { zone: { enum: ['a', 'b'] } } } };
  // Greedily, as a constraint needs the end token: no sampled thought ends before its budget.
  const options = { tools: [now], reasoningBudget: 10 };
  const session = await model.createSession(options);
  const forced = await session.generate('Time?', { toolChoice: 'required', maxTokens: 80,
    parallelToolCalls: false }).result;
  assert.equal(forced.toolCalls.length, 1);
  assert.match(forced.toolCalls[0].arguments.zone, /^[ab]$/);
  assert.ok(forced.reasoning.length > 5);
  // With its thoughts, as the template writes those of a turn that is not over.
  const result = { role: 'tool', content: 'noon', name: 'now', toolCallId: forced.toolCalls[0].id };
  const fresh = await model.createSession({ ...options,
    initialPrompts: [...session.messages, result] });
  const { promptTokens } = await session.generate([result],
    { maxTokens: 40, toolChoice: 'none' }).result;
  const [ids2, fresh2] = await Promise.all([session.tokens(), fresh.tokens()]);
  const all = await model.detokenize(fresh2);
  assert.match(all, /<think>\n.+\n<\/think>\n\n<tool_call>/s);
  assert.equal(await model.detokenize(ids2.slice(0, promptTokens)),
    `${all}[assistant] <think>\n`);
  await fresh.destroy();
  const ids = await model.tokenize(session.messages.slice(0, 1), { tools: [now],
    toolChoice: 'required' });
  assert.match(await model.detokenize(ids), /<think>\n$/);
  const anew = await session.generate({ tokens: ids }, { tools: [now], toolChoice: 'required',
    maxTokens: 80, parallelToolCalls: false }).result;
  assert.equal(anew.toolCalls.length, 1);
  const constrained = await session.generate('Count.', { constraint: /\d{3}!/, maxTokens: 60 })
    .result;
  assert.match(constrained.text, /^\d{3}!$/);
  assert.ok(constrained.reasoning.length > 5);
  assert.equal(constrained.reason, 'end');
  await session.destroy();
});

test('variables of the template are given for a session or a prompt', limit, async () => {
  const session = await model.createSession({ ...never, temperature: 1, seed: 5,
    reasoningBudget: 4 });
  const brief = await session.generate('Why?', { maxTokens: 12,
    templateArguments: { enable_thinking: false } }).result;
  assert.equal(brief.reasoning, '');
  const { reasoning } = await session.generate('And?', { maxTokens: 20 }).result;
  assert.notEqual(reasoning, '');
  const cyclic = {};
  cyclic.self = cyclic;
  await assert.rejects(session.prompt('x', { templateArguments: cyclic }), /templateArguments/);
  await session.destroy();
});

test('a budget and its place in a snapshot are checked', limit, async () => {
  for (const wrong of [-1, 1.5, '5', null]) {
    await assert.rejects(model.createSession({ reasoningBudget: wrong }),
      { code: 'INVALID_ARGUMENT', message: /reasoningBudget/ });
  }
  const session = await model.createSession({ reasoningBudget: 3 });
  await assert.rejects(session.prompt('x', { reasoningBudget: -1 }), /reasoningBudget/);
  const restored = await model.restore(await session.save());
  const { tokens, reasoning } = await restored.generate('Why?', { maxTokens: 20 }).result;
  assert.equal(reasoning, (await model.detokenize(tokens.slice(0, 3))).trim());
  await Promise.all([session.destroy(), restored.destroy()]);
});
