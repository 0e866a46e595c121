// Chat templates: what @huggingface/jinja does otherwise than Jinja comes out as Jinja prints it
// (the expected texts are Jinja 3.1's), and what is left is refused when the template is read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatTemplate } from '../../dist/src/engine-entry-node.js';

const make = (chatTemplate) =>
  new ChatTemplate({ chatTemplate, bos: 0, eos: 1, tokens: ['<s>', '</s>'] });
const messages = ['system', 'user', 'assistant', 'user'].map((role, i) =>
  ({ role, content: `text ${i}` }));
const tools = [{ type: 'function', function: { name: 'f', parameters: { a: [1, null, true] } } }];
const render = (source, items = {}) =>
  make(source).renderItems({ messages, add_generation_prompt: true, ...items });

test('break and continue keep what was printed', () => {
  assert.equal(render('{% for m in messages %}{{ m.role }},{% if m.role == "user" %}{% break %}' +
    '{% endif %}after;{% endfor %}end'), 'system,after;user,end');
  assert.equal(render('{% for m in messages %}{{ loop.index }}{% if m.role == "user" %}u' +
    '{% continue %}lost{% else %}e{% endif %};{% endfor %}'), '1e;2u3e;4u');
  assert.equal(render('{% for m in messages %}{% for n in messages %}{{ n.role[0] }}' +
    '{% if n.role == m.role %}{% break %}{% endif %}{% endfor %}{% if m.role == "assistant" %}' +
    '{% break %}{% endif %}.{% endfor %}'), 's.su.sua');
});

test('what is undefined is empty', () => {
  assert.equal(render('{% for t in tools %}x{% endfor %}{{ nothing | trim }}' +
    '{{ nothing | length }}{{ "a" ~ nothing ~ 1 }}' +
    '{% for t in tools if t.x %}x{% else %}none{% endfor %}' +
    '{% if none | selectattr("a") | list %}x{% endif %}'), '0a1none');
});

test('filters and methods that were missing', () => {
  assert.equal(render('{{ tools[0].function | string }}', { tools }),
    "{'name': 'f', 'parameters': {'a': [1, None, True]}}");
  assert.equal(render('{{ [3, 1, 2] | min }}{{ [3, 1, 2] | max }}{{ [1, 2] | count }}'), '132');
  assert.equal(render('{{ "<{}:{}>".format("a", 2) }}{{ "%s %d%%" % ("x", 5) }}'), '<a:2>x 5%');
  assert.equal(render('{% for a, b in [("x", 1), ("y", 2)] %}{{ a }}{{ b }}{% endfor %}'), 'x1y2');
  assert.equal(render('{{ "<b>"|safe + "<i> & \\"" }}'), '<b>&lt;i&gt; &amp; &#34;');
});

test('ends of lines are those of Jinja', () => {
  assert.equal(render('{%- for m in messages %}\r\n{{ m.role }}\r\n{%- endfor %}\r\nend\r\n'),
    render('{%- for m in messages %}\n{{ m.role }}\n{%- endfor %}\nend\n'));
});

test('variables of the template, and tools', () => {
  assert.equal(render('{% if enable_thinking is false %}off{% endif %}{{ tools | length }}' +
    '{{ bos_token }}{{ messages | length }}',
  { tools, enable_thinking: false }), 'off1<s>4');
});

test('what is not supported is refused by name when the template is read', () => {
  const refuses = (source, message) =>
    assert.throws(() => make(source), { code: 'BAD_CHAT_TEMPLATE', message });
  refuses('{% set m = {1: "a"} %}', /a mapping whose keys are numbers is not supported/);
  refuses('{% for m in messages %}{% filter trim %}{% break %}{% endfilter %}{% endfor %}',
    /a break or continue inside of FilterStatement/);
});
