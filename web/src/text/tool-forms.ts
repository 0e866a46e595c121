// How models write calls of tools: one table, in which the file's chat template finds its row. What
// a row knows: the text that begins a call, the grammar of what follows, and how to read it.
//
//   hermes     <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>     Qwen, Hermes, Granite 4
//              and the same without tags, or in a fence of JSON, as the first of an answer
//   elements   <tool_call>\n<function=f>\n<parameter=a>\n…\n</parameter>…    Qwen3-Coder, Qwen 3.5
//   llama      {"name": …, "parameters": {…}}, as the first of an answer     Llama 3
//   python     <|tool_call_start|>[f(a="x")]<|tool_call_end|>                LFM2
//   granite    <|tool_call|>[{"name": …, "arguments": {…}}]                  Granite 3
//   mistral    [TOOL_CALLS][{"name": …, "arguments": {…}}]                   Mistral
//   names      [TOOL_CALLS]f[ARGS]{…}                                        Mistral Small 3.2
//
// A template that knows no tools gets hermes, explained in the system message (chat-tools.ts).
import { invalidArgument } from '../api/errors.js';
import { plainObject } from '../api/json.js';
import type { ToolCall, ToolDeclaration } from '../api/tools.js';
import { schemaRule, listOf, quoted, schemaOf } from './tool-grammar.js';
import { readPython, writePython } from './tool-python.js';

export type PlainCall = Pick<ToolCall, 'name' | 'arguments'>;

export interface ToolForm {
  readonly name: string;
  /** A call begins with it… */
  readonly opener: string;
  /** …and only at the beginning of an answer. */
  readonly isFirst?: boolean;
  /** A call ends with it; '': with the answer. */
  readonly closer: string;
  /** What small models write in its place, at the beginning of an answer. */
  readonly also?: readonly ToolForm[];
  isOf(template: string): boolean;
  /** Lark rules of what stands between opener and closer, `start` first; `end`: what is to stand
   * there too. `once`: of a list one call alone. */
  grammar(tools: readonly ToolDeclaration[], end?: string, once?: boolean): string;
  /** Calls, from what stands between opener and closer; undefined: it is none. */
  read(text: string, tools: readonly ToolDeclaration[]): PlainCall[] | undefined;
  /** Calls as the model would have written them, for templates that do not. */
  write(calls: readonly PlainCall[]): string;
}

const space = (value: unknown): string => JSON.stringify(value)
  .replace(/("(?:[^"\\]|\\.)*")|([,:])/g, (_, text: string | undefined, mark: string) =>
    text ?? `${mark} `);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An object, or a list of them, of a name and arguments. */
function readJson(text: string): PlainCall[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const calls = list.map((call) => {
    if (!isObject(call) || typeof call['name'] !== 'string') return undefined;
    const given = call['arguments'] ?? call['parameters'] ?? {};
    return isObject(given) ? { name: call['name'], arguments: given } : undefined;
  });
  return calls.every((call) => call !== undefined) && calls.length > 0 ? calls : undefined;
}

/** A rule for a call of each tool: `before` + name + `between` + arguments + `after`. */
function rules(tools: readonly ToolDeclaration[], before: string, between: string,
  after: string, isSpaced = false): string {
  return `call: ${tools.map((_, i) => `call${i}`).join(' | ')}\n${tools.map((tool, i) =>
    `call${i}: ${quoted(before + tool.name + between)} arguments${i} ${quoted(after)}\n` +
    `arguments${i}: ${schemaRule(schemaOf(tool), isSpaced)}\n`).join('')}`;
}

/** A call without its tags, in a fence or not. */
function bare(opener: string, between: string, closer: string): ToolForm {
  return {
    name: 'bare', opener, isFirst: true, closer: closer.trim(),
    isOf: () => false,
    grammar: (tools) => `start: call\n${rules(tools, '', `"${between}"arguments": `, `}${closer}`,
      between.includes('\n'))}`,
    read: (text) => readJson(`{"name": "${text}`),
    write: (calls) => hermes.write(calls),
  };
}

const hermes: ToolForm = {
  name: 'hermes',
  opener: '<tool_call>',
  closer: '</tool_call>',
  isOf: (template) => template.includes('<tool_call>') && !template.includes('<function='),
  grammar: (tools, end = '') => `start: ${quoted('\n')} call ${quoted(`\n${end}`)}\n${
    rules(tools, '{"name": "', '", "arguments": ', '}')}`,
  read: readJson,
  also: [
    bare('{"name": "', ', ', ''),
    bare('```json\n{"name": "', ', ', '\n```'),
    bare('```json\n{\n  "name": "', ',\n  ', '\n```'),
  ],
  write: (calls) => calls.map((call) => `<tool_call>\n{"name": ${JSON.stringify(call.name)}, ` +
    `"arguments": ${space(call.arguments)}}\n</tool_call>`).join('\n'),
};

const llama: ToolForm = {
  name: 'llama',
  opener: '{"name": "',
  isFirst: true,
  closer: '',
  isOf: (template) => template.includes('"parameters": ') &&
    /ipython|<\|python_tag\|>/.test(template),
  grammar: (tools) => `start: call\n${rules(tools, '', '", "parameters": ', '}')}`,
  read: (text) => readJson(`{"name": "${text}`),
  write: ([call]) => (call === undefined ? ''
    : `{"name": ${JSON.stringify(call.name)}, "parameters": ${space(call.arguments)}}`),
};

/** A list of calls in JSON behind a mark. */
function jsonList(name: string, opener: string, isOf: ToolForm['isOf']): ToolForm {
  return {
    name, opener, closer: '', isOf,
    grammar: (tools, _, once) => `start: ${listOf('[', ']', once)}\n${
      rules(tools, '{"name": "', '", "arguments": ', '}')}`,
    read: readJson,
    write: (calls) => `${opener}[${calls.map((call) => `{"name": ${JSON.stringify(call.name)}, ` +
      `"arguments": ${space(call.arguments)}}`).join(', ')}]`,
  };
}

const names: ToolForm = {
  name: 'names',
  opener: '[TOOL_CALLS]',
  closer: '',
  isOf: (template) => template.includes('[TOOL_CALLS]') && template.includes('[ARGS]'),
  grammar: (tools) => `start: call\n${rules(tools, '', '[ARGS]', '')}`,
  read: (text) => {
    const pattern = /^([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]([^]*)$/;
    const [, name, given = ''] = pattern.exec(text.trim()) ?? [];
    return name === undefined ? undefined
      : readJson(`{"name": ${JSON.stringify(name)}, "arguments": ${given}}`);
  },
  write: (calls) => calls.map((call) =>
    `[TOOL_CALLS]${call.name}[ARGS]${space(call.arguments)}`).join(''),
};

const python: ToolForm = {
  name: 'python',
  opener: '<|tool_call_start|>',
  closer: '<|tool_call_end|>',
  isOf: (template) =>
    /<\|tool_(?:call|list)_start\|>|"List of tools: \["/.test(template),
  grammar: (tools, end = '', once) => `start: ${listOf('[', `]${end}`, once)}\ncall: ${
    tools.map((_, i) => `call${i}`).join(' | ')}\n${tools.map((tool, i) =>
    namedArguments(tool, i)).join('')}`,
  read: readPython,
  write: (calls) => `<|tool_call_start|>${writePython(calls)}<|tool_call_end|>`,
};

/** `f(a="x", b=1)`: those that are required, and any of the others, in the schema's order. */
function namedArguments(tool: ToolDeclaration, i: number): string {
  const { properties = {}, required = [], ...rest } = schemaOf(tool) as {
    properties?: Record<string, object>; required?: string[] };
  const keys = Object.keys(properties);
  const value = (key: string, at: number) => `${quoted(`${key}=`)} value${i}x${at}`;
  const lines = keys.flatMap((key, at) => {
    const isOptional = !required.includes(key);
    const more = `after${i}x${at + 1}`;
    return [
      `first${i}x${at}: ${value(key, at)} ${more}${isOptional ? ` | first${i}x${at + 1}` : ''}\n`,
      `after${i}x${at}: ", " ${value(key, at)} ${more}${isOptional ? ` | ${more}` : ''}\n`,
      `value${i}x${at}: ${schemaRule({ ...rest, type: undefined, additionalProperties: undefined,
        ...properties[key] })}\n`,
    ];
  });
  return `call${i}: ${quoted(`${tool.name}(`)} first${i}x0 ")"\n${lines.join('')}` +
    `first${i}x${keys.length}: ""\nafter${i}x${keys.length}: ""\n`;
}

/** Text as it is up to the end tag; everything but texts as JSON. */
const elements: ToolForm = {
  name: 'elements',
  opener: '<tool_call>',
  closer: '</tool_call>',
  isOf: (template) => template.includes('<tool_call>') && template.includes('<function='),
  grammar: (tools, end = '') => `start: ${quoted('\n')} call ${quoted(`\n${end}`)}\ncall: ${
    tools.map((_, i) => `call${i}`).join(' | ')}\n${tools.map(elementRules).join('')}`,
  read: readElements,
  write: (calls) => calls.map((call) => `<tool_call>\n<function=${call.name}>\n${
    Object.entries(call.arguments).map(([key, value]) => `<parameter=${key}>\n${
      typeof value === 'string' ? value : space(value)}\n</parameter>\n`).join('')
  }</function>\n</tool_call>`).join('\n'),
};

const isText = (schema: unknown) => isObject(schema) && schema['type'] === 'string' &&
  !('enum' in schema);

function elementRules(tool: ToolDeclaration, i: number): string {
  const { properties = {}, required = [], ...rest } = schemaOf(tool) as {
    properties?: Record<string, object>; required?: string[] };
  const keys = Object.keys(properties);
  const fields = keys.map((key, at) => {
    const field = `field${i}x${at}`;
    return required.includes(key) ? field : `${field}?`;
  });
  const lines = keys.map((key, at) => {
    const open = quoted(`<parameter=${key}>\n`);
    const schema = properties[key];
    if (isText(schema)) {
      return `field${i}x${at}: ${open} value${i}x${at}\n` +
        `value${i}x${at}[suffix="\\n</parameter>\\n"]: /(?s:.*)/\n`;
    }
    const listed: unknown = isObject(schema) ? schema['enum'] : undefined;
    const options = Array.isArray(listed) && listed.every((one) => typeof one === 'string')
      ? listed as string[] : undefined;
    return `field${i}x${at}: ${open} value${i}x${at} "\\n</parameter>\\n"\nvalue${i}x${at}: ${
      options === undefined ? schemaRule({ ...rest, type: undefined,
        additionalProperties: undefined, ...schema })
        : options.map(quoted).join(' | ')}\n`;
  });
  return `call${i}: ${quoted(`<function=${tool.name}>\n`)} ${fields.join(' ')} "</function>"\n` +
    lines.join('');
}

function readElements(text: string, tools: readonly ToolDeclaration[]): PlainCall[] | undefined {
  const [, name, body] = /^\s*<function=([^>\s]+)>([^]*)<\/function>\s*$/.exec(text) ?? [];
  if (name === undefined || body === undefined) return undefined;
  const { properties = {} } = schemaOf(tools.find((tool) => tool.name === name) ?? { name }) as {
    properties?: Record<string, unknown> };
  const entries = [...body.matchAll(/<parameter=([^>\s]+)>\n?([^]*?)\n?<\/parameter>/g)]
    .map(([, key, value]): [string, unknown] => {
      const schema = properties[key as string];
      const isPlain = isText(schema) || (isObject(schema) && 'enum' in schema);
      if (isPlain) return [key as string, value];
      try {
        return [key as string, JSON.parse(value as string)];
      } catch {
        return [key as string, value];
      }
    });
  return [{ name, arguments: Object.fromEntries(entries) }];
}

/** What came in a message. Error: INVALID_ARGUMENT. */
export function checkTools(tools: unknown): ToolDeclaration[] {
  if (!Array.isArray(tools)) throw invalidArgument('tools', tools, 'a list of tools');
  const names = new Set<string>();
  return tools.map((tool: unknown, i) => {
    const { name, description, inputSchema } = (tool ?? {}) as Partial<ToolDeclaration>;
    const isNamed = typeof name === 'string' && /^[\w.-]{1,64}$/.test(name) && !names.has(name);
    if (!isNamed) {
      throw invalidArgument(`tools[${i}].name`, name,
        'another name for each tool, of at most 64 letters, digits, _, - and .');
    }
    names.add(name);
    if (description !== undefined && typeof description !== 'string') {
      throw invalidArgument(`tools[${i}].description`, description, 'text');
    }
    return { name, ...(description === undefined ? {} : { description }),
      ...(inputSchema === undefined ? {}
        : { inputSchema: plainObject(`tools[${i}].inputSchema`, inputSchema) }) };
  });
}

export const toolForms: readonly ToolForm[] = [
  elements, hermes, names,
  jsonList('mistral', '[TOOL_CALLS]', (template) => template.includes('[TOOL_CALLS]')),
  jsonList('granite', '<|tool_call|>', (template) => template.includes('<|tool_call|>')),
  python, llama,
];

/** The row of a template; hermes where it knows none. `isKnown`: it lists tools itself. */
export function toolFormOf(template: string): { form: ToolForm; isKnown: boolean } {
  const form = /\btools\b/.test(template) ? toolForms.find((row) => row.isOf(template)) : undefined;
  return { form: form ?? hermes, isKnown: form !== undefined };
}

/** All that stands for a call. */
export const formsOf = (form: ToolForm): readonly ToolForm[] => [form, ...form.also ?? []];
