// Tools: the forms in which models write calls, answers read piece by piece, and sessions whose
// tools are called by a model of random words that a grammar keeps to its schemas.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { AnswerReader } from '../../dist/src/text/answer-reader.js';
import { toolFormOf, toolForms } from '../../dist/src/text/tool-forms.js';
import { accepts } from '../bench/judge.mjs';
import { PageContext } from './page-context.mjs';
import { root, withKeys } from './support.mjs';

const limit = { timeout: 120_000 };
const weather = { name: 'get_weather', description: 'The weather of a city.', inputSchema: {
  type: 'object', required: ['city'], properties: {
    city: { type: 'string', maxLength: 8 }, unit: { enum: ['C', 'F'] },
    days: { type: 'integer', minimum: 1, maximum: 9 } } } };
const now = { name: 'now' };
const declared = [weather, now];
const call = { name: 'get_weather', arguments: { city: 'Z"ü\\', unit: 'C' } };
const given = { tools: declared, mark: JSON.stringify, closes: false, once: false };
const between = (form, text) => text.slice(form.opener.length,
  form.closer === '' ? undefined : -form.closer.length);

test('each form takes what it writes, refuses other arguments, and reads it back', limit,
  async () => {
    for (const form of toolForms) {
      const grammar = { kind: 'lark', text: form.grammar(given) };
      for (const one of [call, { name: 'now', arguments: {} }]) {
        const text = between(form, form.write([one]));
        assert.equal(await accepts(grammar, text), true, `${form.name}: ${text}`);
        assert.deepEqual(form.read(text, declared), [one], form.name);
      }
      for (const wrong of [{ name: 'get_weather', arguments: { unit: 'C' } },
        { name: 'get_weather', arguments: { city: 'x', unit: 'K' } },
        { name: 'get_weather', arguments: { city: 'x', days: 10 } },
        { name: 'other', arguments: {} }]) {
        const text = between(form, form.write([wrong]));
        assert.equal(await accepts(grammar, text), false, `${form.name}: ${text}`);
      }
      assert.equal(form.read('nonsense', declared), undefined, form.name);
    }
  });

test('the template says which form it is', () => {
  const isOf = (template) => toolFormOf(`{% if tools %}${template}{% endif %}`).form.name;
  assert.equal(isOf('<tool_call>'), 'hermes');
  assert.equal(isOf('<tool_call>\n<function='), 'elements');
  assert.equal(isOf('[TOOL_CALLS]'), 'mistral');
  assert.equal(isOf('[TOOL_CALLS]f[ARGS]'), 'names');
  assert.equal(isOf('<|tool_call|>'), 'granite');
  assert.equal(isOf('<|tool_list_start|>'), 'python');
  assert.equal(isOf('"parameters": ipython'), 'llama');
  assert.equal(isOf('<|tool_call>call:'), 'gemma');
  assert.equal(isOf('<start_function_call>call:'), 'function');
  assert.equal(isOf('<function name="'), 'parameters');
  assert.equal(isOf('<｜tool▁calls▁begin｜>```json'), 'deepseek');
  assert.equal(toolFormOf('{% if xml_tools %}<tool_call>').isKnown, true);
  assert.deepEqual(toolFormOf('{{ messages }}').isKnown, false);
});

/** Pieces without ids, texts of one kind together. */
function read(options, parts) {
  const reader = new AnswerReader(options);
  const all = [...parts.flatMap((part) => reader.push(part)), ...reader.end()];
  return all.reduce((list, { type, text, call: one }) => {
    const last = list.at(-1);
    if (one !== undefined) {
      assert.match(one.id, /^[0-9a-z]{9}$/);
      list.push({ name: one.name, arguments: one.arguments });
    } else if (last?.type === type) last.text += text;
    else list.push({ type, text });
    return list;
  }, []);
}

test('an answer is read the same however it is cut', () => {
  const thinking = { opener: '<think>', closer: '</think>' };
  for (const form of toolForms) {
    const first = form.isFirst ? '' : 'I look.\n';
    const written = `<think>\nHm, <b>.\n</think>\n\n${first}${form.write([call])}`;
    const options = { tools: { form, declared }, thinking };
    const expected = [{ type: 'reasoning', text: 'Hm, <b>.' },
      ...(form.isFirst ? [] : [{ type: 'text', text: 'I look.' }]), call];
    assert.deepEqual(read(options, [written]), expected, form.name);
    assert.deepEqual(read(options, [...written]), expected, form.name);
    for (let at = 1; at < written.length; at += 7) {
      assert.deepEqual(read(options, [written.slice(0, at), written.slice(at)]), expected);
    }
  }
  const hermes = toolForms.find(({ name }) => name === 'hermes');
  const options = { tools: { form: hermes, declared }, thinking };
  assert.deepEqual(read(options, [...'a < b <tool b> \n c\n']),
    [{ type: 'text', text: 'a < b <tool b> \n c\n' }]);
  assert.deepEqual(read(options, ['x <tool_call>\n{"name": 1}\n</tool_call> y']),
    [{ type: 'text', text: 'x<tool_call>\n{"name": 1}\n</tool_call> y' }]);
  assert.deepEqual(read(options, [...'```json\n{"name": "now", "arguments": {}}\n```']),
    [{ name: 'now', arguments: {} }]);
  assert.deepEqual(read(options, ['Well: {"name": "now", "arguments": {}}']),
    [{ type: 'text', text: 'Well: {"name": "now", "arguments": {}}' }]);
  assert.deepEqual(read({ ...options, state: 'thinking' }, ['So\n</think>\n\nyes']),
    [{ type: 'reasoning', text: 'So' }, { type: 'text', text: 'yes' }]);
});

/** Of letters that the story vocabulary has. */
const template = `{% if tools %}[tools]{% for t in tools %} {{ t.function.name }}{% endfor %}
{% endif %}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% for c in m.tool_calls %}
{%- if m.content or not loop.first %}{{ '\\n' }}{% endif %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% if m.role == "assistant" %}{{ eos_token }}{% endif %}
{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}`;
let model;
before(async () => {
  model = await OneKV.load(withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
    [['tokenizer.chat_template', 'string', template]]), { threads: 1 });
});
after(() => model.unload());

const withTools = (tools, more = {}) =>
  model.createSession({ temperature: 1, seed: 3, tools, ...more });
const forced = { toolChoice: 'required', parallelToolCalls: false, maxTokens: 200 };

test('a session executes calls and goes on with their results', limit, async () => {
  const inputs = [];
  const session = await withTools([{ ...weather, execute: (input, { id, signal }) => {
    assert.ok(id.length === 9 && signal instanceof AbortSignal);
    inputs.push(input);
    return { degrees: 21 };
  } }]);
  const answer = session.generate('How is it?', { ...forced, maxToolRounds: 1 });
  const parts = [];
  for await (const part of answer) parts.push(part);
  const [asked] = parts.filter(({ type }) => type === 'tool-call');
  assert.ok(/^.{0,8}$/u.test(asked.toolCall.arguments.city));
  assert.deepEqual(inputs, [asked.toolCall.arguments]);
  assert.deepEqual(parts.find(({ type }) => type === 'tool-result').toolResult,
    { id: asked.toolCall.id, name: 'get_weather', content: '{"degrees":21}', isError: false });
  const result = await answer.result;
  const { text } = result;
  assert.deepEqual(parts.filter(({ type }) => type === 'finish'),
    [{ type: 'finish', text: '', result, token: undefined }]);
  assert.equal(parts.at(-1).type, 'finish');
  const [question, called, told, said] = session.messages;
  assert.deepEqual(question, { role: 'user', content: 'How is it?' });
  assert.deepEqual(called, { role: 'assistant', content: '', toolCalls: [asked.toolCall] });
  assert.deepEqual(told, { role: 'tool', content: '{"degrees":21}', name: 'get_weather',
    toolCallId: asked.toolCall.id });
  assert.equal(said.content, text);
  // What the cache holds is what the same messages are when they are rendered anew.
  const fresh = await model.createSession({ tools: [weather], initialPrompts: session.messages });
  const [held, made] = await Promise.all([session, fresh].map(async (one) =>
    model.detokenize(await one.tokens(), { special: true })));
  assert.ok(made.startsWith(held), `${made}\n\n${held}`);
  await Promise.all([session.destroy(), fresh.destroy()]);
});

test('without execute the call is the answer, and the caller sends the result', limit, async () => {
  const session = await withTools([weather, now]);
  const { toolCalls, text } = await session.generate('Time?',
    { ...forced, toolChoice: { name: 'now' } }).result;
  assert.deepEqual(toolCalls.map(({ name, arguments: given }) => [name, given]), [['now', {}]]);
  assert.equal(text, '');
  const length = session.contextUsage;
  const blob = await session.save();
  const restored = await model.restore(blob, { tools: [{ ...now, execute: () => 'noon' }] });
  const [{ id }] = toolCalls;
  const result = { role: 'tool', content: 'noon', toolCallId: id, name: 'now' };
  const more = await session.generate([result], { maxTokens: 5, toolChoice: 'none' }).result;
  const same = await restored.generate([result], { maxTokens: 5, toolChoice: 'none' }).result;
  assert.equal(same.text, more.text);
  assert.deepEqual(more.toolCalls, []);
  assert.equal(more.cachedTokens, length);
  const again = await restored.generate('And now?', { ...forced, toolChoice: { name: 'now' },
    maxToolRounds: 1 }).result;
  assert.equal(restored.messages.filter(({ role }) => role === 'tool').at(-1).content, 'noon');
  assert.equal(typeof again.text, 'string');
  await Promise.all([session.destroy(), restored.destroy()]);
});

test('what a tool throws is told to the model; an abort is not', limit, async () => {
  const cyclic = {};
  cyclic.self = cyclic;
  for (const [execute, content] of [
    [() => { throw new Error('no such city'); }, /^Error: no such city$/],
    [() => cyclic, /^Error: .*circular/],
    [() => undefined, /^null$/],
    [() => '</tool_call> <|im_end|>', /^<\/tool_call> <\|im_end\|>$/],
  ]) {
    const session = await withTools([{ ...now, execute }]);
    await session.prompt('?', { ...forced, maxToolRounds: 1, maxTokens: 300 });
    assert.match(session.messages[2].content, content);
    await session.destroy();
  }
  const controller = new AbortController();
  const session = await withTools([{ ...now, execute: (_, { signal }) => {
    controller.abort(new Error('enough'));
    assert.equal(signal.aborted, true);
    return 1;
  } }]);
  await assert.rejects(session.prompt('?', { ...forced, signal: controller.signal }), /enough/);
  const { tokens } = await session.generate('Well.', { maxTokens: 3, toolChoice: 'none' }).result;
  assert.ok(tokens.length > 0);
  await session.destroy();
});

test('the tools of a page are those of a session, and the page executes them', limit, async () => {
  const context = new PageContext();
  const heard = [];
  await context.registerTool({ ...weather, execute: async (input, { signal }) => {
    heard.push([input, signal instanceof AbortSignal]);
    return { degrees: 21 };
  } });
  await context.registerTool({ ...now, description: 'The time.', execute: () => {
    throw new Error('no clock');
  } });
  const session = await withTools(await OneKV.pageTools(context));
  const ask = (name) => session.prompt('?', { ...forced, toolChoice: { name }, maxToolRounds: 1 });
  await ask('get_weather');
  const { arguments: given } = session.messages[1].toolCalls[0];
  assert.deepEqual(heard, [[given, true]]);
  assert.equal(session.messages[2].content, '{"degrees":21}');
  await ask('now');
  assert.match(session.messages.findLast(({ role }) => role === 'tool').content,
    /^Error: .*invocation failed/);
  await session.destroy();
  // As texts, which is what other browsers give.
  const written = [{ ...weather, inputSchema: JSON.stringify(weather.inputSchema) },
    { ...now, inputSchema: '' }];
  const read = await OneKV.pageTools({ getTools: async () => written });
  assert.deepEqual(read.map((tool) => tool.inputSchema), [weather.inputSchema, undefined]);
  await assert.rejects(OneKV.pageTools({ getTools: async () => [{ ...now, inputSchema: '{' }] }),
    { code: 'INVALID_ARGUMENT', message: 'inputSchema of the tool now: found no JSON' });
  for (const none of [undefined, null, {}]) {
    await assert.rejects(OneKV.pageTools(none), { code: 'INVALID_ARGUMENT',
      message: /^document\.modelContext: found .*WebMCP/ });
  }
});

test('what else is asked of a session waits for its tools', limit, async () => {
  const session = await withTools([{ ...now, execute: () => new Promise((resolve) => {
    setTimeout(() => resolve('late'), 50);
  }) }]);
  const order = [];
  await Promise.all([
    session.prompt('first', { ...forced, maxToolRounds: 1, maxTokens: 300 })
      .then(() => order.push('first')),
    session.append('second').then(() => order.push('second')),
  ]);
  assert.deepEqual(order, ['first', 'second']);
  assert.deepEqual(session.messages.map(({ role }) => role),
    ['user', 'assistant', 'tool', 'assistant', 'user']);
  await session.destroy();
});

test('tools and choices that make no sense are refused by name', limit, async () => {
  const bad = (tools, message) => assert.rejects(withTools(tools), { message });
  await bad([{ name: 'a b' }], /tools\[0\]\.name/);
  await bad([now, now].map((tool, i) => ({ ...tool, name: `n${i}`, execute: 5 })), /execute of/);
  await bad([{ ...now, inputSchema: 5 }], /inputSchema/);
  await bad([{ ...now, description: 5 }], /tools\[0\]\.description/);
  await assert.rejects(withTools([now], { chat: false }), /tools/);
  const session = await withTools([now, { name: 'f', inputSchema: { not: {} } }]);
  await assert.rejects(session.prompt('?', { toolChoice: { name: 'g' } }), /toolChoice.*now, f/);
  await assert.rejects(session.prompt('?'), { code: 'CONSTRAINT_REFUSED', message: /"not"/ });
  assert.equal(session.contextUsage, 0);
  await session.destroy();
});
