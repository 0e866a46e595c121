// Chat templates that are made to loop for ever or to fill the memory are refused, by a budget that
// long chats and large tools do not come near to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatTemplate } from '../../dist/src/text/chat-template.js';

const limit = { timeout: 120_000 };
const make = (source) => new ChatTemplate({ chatTemplate: source, tokens: [] });
const messages = [{ role: 'user', content: 'hi' }];

const tower = (step) => `{% set ns = namespace(a=[1]) %}${step.repeat(60)}{{ ns.a | tojson }}`;
const nested = (depth, body) => Array.from({ length: depth }, (_, i) =>
  `{% for x${i} in range(1000) %}`).join('') + body + '{% endfor %}'.repeat(depth);

const hostile = {
  'a loop in a loop in a loop': nested(4, 'x'),
  'loops of nothing': nested(4, ''),
  'a loop of breaks': nested(4, '{% break %}'),
  'a long range': '{% for i in range(1000000000000) %}{% endfor %}',
  'a range of tiny steps': '{{ range(0, 1, 0.00000000001) | length }}',
  'a range of no step': '{{ range(0, 1, 0) | length }}',
  'a text that doubles': '{% set ns = namespace(a="x") %}' +
    '{% set ns.a = ns.a ~ ns.a %}'.repeat(60) + '{{ ns.a }}',
  'a list that doubles': tower('{% set ns.a = ns.a + ns.a %}'),
  'lists of the same list': tower('{% set ns.a = [ns.a, ns.a, ns.a] %}'),
  'mappings of the same mapping': tower('{% set ns.a = {"a": ns.a, "b": ns.a} %}'),
  'lists of a namespace that grows': '{% set ns = namespace(a=1) %}' +
    '{% set ns.b = [ns.a, ns.a] %}{% set ns.a = [ns.b, ns.b] %}'.repeat(40) + '{{ ns.a }}',
  'a namespace in itself': '{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}',
  'a macro that calls itself': '{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}',
  'padding': '{{ "a\nb" | indent(400000000) }}',
  'replacing by much': `{% set a = "${'a'.repeat(5000)}" %}` +
    '{% set b = a | replace("a", a) %}{% set c = b | replace("a", b) %}{{ c | length }}',
  'JSON with wide margins': '{{ [[[1]]] | tojson(indent=400000000) }}',
  'slices of a long list': '{% set a = range(1000000) %}' +
    '{% for i in range(1000) %}{% set b = a[1:] %}{% endfor %}',
};

for (const [name, source] of Object.entries(hostile)) {
  test(`refused: ${name}`, limit, () => {
    assert.throws(() => make(source).render(messages), (error) => {
      assert.equal(error.code, 'BAD_CHAT_TEMPLATE');
      assert.match(error.message, /^tokenizer\.chat_template: /);
      return true;
    });
  });
}

test('what is refused says why', limit, () => {
  assert.throws(() => make(hostile['loops of nothing']).render(messages),
    /it takes more than 5000000 steps for these messages/);
  assert.throws(() => make(hostile['a long range']).render(messages),
    /range\(0, 1000000000000, 1\) is too long/);
  assert.throws(() => make(hostile['lists of the same list']).render(messages),
    /it makes a list of more than 2000000 values/);
});

test('a source that takes long to read is refused before it is read', () => {
  const bad = { name: 'OneKVError', code: 'BAD_CHAT_TEMPLATE' };
  assert.throws(() => make('x'.repeat(300_000)), { ...bad, message:
    'tokenizer.chat_template: found 300000 characters of text, expected at most 262144' });
  assert.throws(() => make(`{% if x %}${'\n'.repeat(200_000)}{% endif %}`), { ...bad, message:
    'tokenizer.chat_template: found 200000 characters of white space, expected at most 2048' });
  for (const part of ['{{', '{%', '{{ (', '{{ [', '{% if x %}', '{% for a in b %}', '{{ not ']) {
    assert.throws(() => make(part.repeat(10_000)), bad);
  }
});

test('long chats and large tools are far from the budget', limit, () => {
  const template = make('{% set ns = namespace(last=-1) %}' +
    '{% for m in messages %}{% if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}' +
    '{% endfor %}{% for t in tools %}{{ t | tojson(indent=2) }}{% endfor %}' +
    '{% for m in messages %}{% set before = messages[loop.index0 - 1] %}' +
    '{% if before.role != m.role %}<{{ m.role }}>{% endif %}{{ m.content | trim }}' +
    '{% if loop.index0 == ns.last %}!{% endif %}{% endfor %}');
  const chat = Array.from({ length: 20_000 }, (_, i) =>
    ({ role: i % 2 === 0 ? 'user' : 'assistant', content: `message ${i} ${'word '.repeat(20)}` }));
  const tools = Array.from({ length: 100 }, (_, i) => ({ name: `tool${i}`, description: 'a tool',
    parameters: { type: 'object', properties: Object.fromEntries(Array.from({ length: 50 },
      (__, j) => [`p${j}`, { type: 'string', description: 'a parameter' }])) } }));
  const text = template.render(chat, { tools });
  assert.ok(text.includes('message 19999'));
  assert.ok(text.includes('tool99'));
  assert.equal(make('{{ messages[0].content | length }}').render(
    [{ role: 'user', content: 'x'.repeat(8_000_000) }]), '8000000');
});

test('variables may be called as the template\'s own', () => {
  const templateArguments = { range: 'far' };
  assert.equal(make('{{ range }}').render(messages, { templateArguments }), 'far');
});
