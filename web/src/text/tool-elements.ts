// Calls as elements of XML, with a text's letters as they are and everything else as JSON.
import type { PlainCall, ToolForm } from './tool-forms.js';
import { checkText, isObject, isText, quoted, schemaOf, schemaOfField, schemaRule, RuleList,
  textPattern } from './tool-grammar.js';
import type { CallGrammar, Json } from './tool-grammar.js';
import type { ToolDeclaration } from '../api/tools.js';
import { spaced } from './tool-json.js';

/** An enumeration of texts, which are not in quotes. */
function optionsOf(schema: unknown): string[] | undefined {
  if (!isObject(schema)) return undefined;
  const listed: unknown = 'const' in schema ? [schema['const']] : schema['enum'];
  return Array.isArray(listed) && listed.every((one) => typeof one === 'string')
    ? listed as string[] : undefined;
}

interface Fields {
  properties: Record<string, unknown>;
  required: string[];
}

function fieldsOf(schema: Json): Fields {
  return { properties: {}, required: [], ...schema } as unknown as Fields;
}

/** The field of each argument; `text` and `options` make what stands for texts. */
function fieldsRule(tool: ToolDeclaration, rules: RuleList,
  { open, close, text, option }: { open: (key: string) => string; close: string;
    text: (schema: Json) => string; option: (text: string) => string }): string {
  const schema = schemaOf(tool);
  const { properties, required } = fieldsOf(schema);
  return Object.keys(properties).map((key) => {
    const own = schemaOfField(schema, key);
    const options = optionsOf(properties[key]);
    const value = options !== undefined ? `${rules.add(options.map(option).join(' | '))} ${close}`
      : isText(properties[key]) ? text(own) : `${rules.add(schemaRule(own))} ${close}`;
    return `${rules.add(`${quoted(open(key))} ${value}`)}${required.includes(key) ? '' : '?'}`;
  }).join(' ');
}

/** The value of an argument, from its letters. */
function valueOf(letters: string, schema: unknown): unknown {
  if (isText(schema) || optionsOf(schema) !== undefined) return letters;
  try {
    return JSON.parse(letters);
  } catch {
    return letters;
  }
}

function propertiesOf(name: string, tools: readonly ToolDeclaration[]): Record<string, unknown> {
  return fieldsOf(schemaOf(tools.find((tool) => tool.name === name) ?? { name })).properties;
}

/** As it stands in an element. */
const letters = (value: unknown): string => (typeof value === 'string' ? value : spaced(value));

function readElements(text: string, tools: readonly ToolDeclaration[]): PlainCall[] | undefined {
  const [, name, body] = /^\s*<function=([^>\s]+)>([^]*)<\/function>\s*$/.exec(text) ?? [];
  if (name === undefined || body === undefined) return undefined;
  const properties = propertiesOf(name, tools);
  const entries = [...body.matchAll(/<parameter=([^>\s]+)>\n?([^]*?)\n?<\/parameter>/g)]
    .map(([, key = '', value = '']) => [key, valueOf(value, properties[key])]);
  return [{ name, arguments: Object.fromEntries(entries) as Record<string, unknown> }];
}

export const elements: ToolForm = {
  name: 'elements',
  opener: '<tool_call>',
  closer: '</tool_call>',
  isOf: (template) => template.includes('<tool_call>') && template.includes('<function='),
  grammar: ({ tools, mark, closes }: CallGrammar) => {
    const rules = new RuleList();
    const close = '\n</parameter>\n';
    const calls = tools.map((tool) => `${quoted(`<function=${tool.name}>\n`)} ${
      fieldsRule(tool, rules, {
        open: (key) => `<parameter=${key}>\n`, close: quoted(close), option: quoted,
        text: (schema) => {
          checkText(schema);
          return rules.add(textPattern(schema), `[suffix=${quoted(close)}]`);
        },
      })} "</function>"`);
    const end = closes ? ` ${mark('</tool_call>')}` : '';
    return `start: ${quoted('\n')} call ${quoted('\n')}${end}\n` +
      `call: ${calls.map((call) => rules.add(call)).join(' | ')}\n${String(rules)}`;
  },
  read: readElements,
  write: (calls) => calls.map((call) => `<tool_call>\n<function=${call.name}>\n${
    Object.entries(call.arguments).map(([key, value]) =>
      `<parameter=${key}>\n${letters(value)}\n</parameter>\n`).join('')
  }</function>\n</tool_call>`).join('\n'),
};

const data = (text: string) => (/[<&\n]/.test(text) ? `<![CDATA[${text}]]>` : text);

function readParameters(text: string, tools: readonly ToolDeclaration[]): PlainCall[] | undefined {
  const [, name, body] = /^([^"]+)">([^]*)$/.exec(text) ?? [];
  if (name === undefined || body === undefined) return undefined;
  const properties = propertiesOf(name, tools);
  const pattern = /<param name="([^"]+)">(?:<!\[CDATA\[([^]*?)\]\]>|([^]*?))<\/param>/g;
  if (body.replace(pattern, '').trim() !== '') return undefined;
  const entries = [...body.matchAll(pattern)].map(([, key = '', raw, plain = '']) =>
    [key, raw ?? valueOf(plain, properties[key])]);
  return [{ name, arguments: Object.fromEntries(entries) as Record<string, unknown> }];
}

export const parameters: ToolForm = {
  name: 'parameters',
  opener: '<function name="',
  closer: '</function>',
  isOf: (template) => template.includes('<function name="'),
  grammar: ({ tools, mark, closes }: CallGrammar) => {
    const rules = new RuleList();
    const close = '"</param>"';
    const text = (schema: Json) => {
      checkText(schema);
      const raw = rules.add(textPattern(schema), '[suffix="]]>"]');
      const inData = rules.add(`"<![CDATA[" ${raw} ${close}`);
      if ('pattern' in schema) return inData;
      return rules.add(`${rules.add(textPattern(schema, '[^<&\\n]'))} ${close} | ${inData}`);
    };
    const calls = tools.map((tool) => rules.add(`${quoted(`${tool.name}">`)} ${
      fieldsRule(tool, rules, { open: (key) => `<param name="${key}">`, close, text,
        option: (one) => quoted(data(one)) })}`));
    return `start: call${closes ? ` ${mark('</function>')}` : ''}\n` +
      `call: ${calls.join(' | ')}\n${String(rules)}`;
  },
  read: readParameters,
  write: (calls) => calls.map((call) => `<function name="${call.name}">${
    Object.entries(call.arguments).map(([key, value]) =>
      `<param name="${key}">${data(letters(value))}</param>`).join('')}</function>`).join('\n'),
};
