// How models write calls of tools: one table, in which the file's chat template finds its row. What
// a row knows: the text that begins a call, the grammar of what follows, and how to read it.
//
//   hermes      <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>    Qwen, Hermes, Granite 4
//               and the same without tags, or in a fence of JSON, as the first of an answer
//   elements    <tool_call>\n<function=f>\n<parameter=a>\n…\n</parameter>…   Qwen3-Coder, Qwen 3.5
//   parameters  <function name="f"><param name="a">…</param></function>     MiniCPM5
//   llama       {"name": …, "parameters": {…}}, as the first of an answer    Llama 3
//   python      <|tool_call_start|>[f(a="x")]<|tool_call_end|>               LFM2
//   gemma       <|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>                Gemma 4
//   function    <start_function_call>call:f{a:<escape>x<escape>}<end_…>      FunctionGemma
//   granite     <|tool_call|>[{"name": …, "arguments": {…}}]                 Granite 3
//   mistral     [TOOL_CALLS][{"name": …, "arguments": {…}}]                  Mistral
//   names       [TOOL_CALLS]f[ARGS]{…}                                       Mistral Small 3.2
//   deepseek    <｜tool▁calls▁begin｜>…function<｜tool▁sep｜>f\n```json\n{…}   DeepSeek R1
//
// A template that knows no tools gets hermes, explained in the system message (chat-tools.ts).
import { invalidArgument } from '../api/errors.js';
import { plainObject } from '../api/json.js';
import type { ToolCall, ToolDeclaration } from '../api/tools.js';
import { bracesForm } from './tool-braces.js';
import { elements, parameters } from './tool-elements.js';
import { RuleList, listOf, quoted, schemaOf, schemaOfField, schemaRule } from './tool-grammar.js';
import type { CallGrammar } from './tool-grammar.js';
import { readJson, spaced } from './tool-json.js';
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
  /** Lark rules of what stands between opener and closer, and of the closer. Error:
   * CONSTRAINT_REFUSED. */
  grammar(given: CallGrammar): string;
  /** Calls, from what stands between opener and closer; undefined: it is none. */
  read(text: string, tools: readonly ToolDeclaration[]): PlainCall[] | undefined;
  /** Calls as the model would have written them, for templates that do not. */
  write(calls: readonly PlainCall[]): string;
}

/** A rule for a call of each tool: `before` + name + `between` + arguments + `after`. */
function rules(tools: readonly ToolDeclaration[], before: string, between: string,
  after: string, isSpaced = false): string {
  return `call: ${tools.map((_, i) => `call${i}`).join(' | ')}\n${tools.map((tool, i) =>
    `call${i}: ${quoted(before + tool.name + between)} arguments${i} ${quoted(after)}\n` +
    `arguments${i}: ${schemaRule(schemaOf(tool), isSpaced)}\n`).join('')}`;
}

/** A call as JSON without tags, or in a fence: what small models write in place of their form. */
function bare(opener: string, between: string, closer: string): ToolForm {
  return {
    name: 'bare', opener, isFirst: true, closer: closer.trim(),
    isOf: () => false,
    grammar: ({ tools }) => `start: call\n${rules(tools, '', `"${between}`, `}${closer}`,
      between.includes('\n'))}`,
    read: (text) => readJson(`{"name": "${text}`),
    write: (calls) => hermes.write(calls),
  };
}

const objectOf = (call: PlainCall): string =>
  `{"name": ${JSON.stringify(call.name)}, "arguments": ${spaced(call.arguments)}}`;

const hermes: ToolForm = {
  name: 'hermes',
  opener: '<tool_call>',
  closer: '</tool_call>',
  isOf: (template) => template.includes('<tool_call>') && !template.includes('<function='),
  grammar: ({ tools, mark, closes }) => `start: ${quoted('\n')} call ${quoted('\n')}${
    closes ? ` ${mark('</tool_call>')}` : ''}\n${
    rules(tools, '{"name": "', '", "arguments": ', '}')}`,
  read: readJson,
  also: [
    bare('{"name": "', ', "arguments": ', ''),
    bare('```json\n{"name": "', ', "arguments": ', '\n```'),
    bare('```json\n{\n  "name": "', ',\n  "arguments": ', '\n```'),
  ],
  write: (calls) => calls.map((call) => `<tool_call>\n${objectOf(call)}\n</tool_call>`).join('\n'),
};

const llama: ToolForm = {
  name: 'llama',
  opener: '{"name": "',
  isFirst: true,
  closer: '',
  isOf: (template) => template.includes('"parameters": ') &&
    /ipython|<\|python_tag\|>/.test(template),
  grammar: ({ tools }) => `start: call\n${rules(tools, '', '", "parameters": ', '}')}`,
  read: (text) => readJson(`{"name": "${text}`),
  also: [
    bare('{"type": "function", "name": "', ', "parameters": ', ''),
    bare('<|python_tag|>{"name": "', ', "parameters": ', ''),
  ],
  write: ([call]) => (call === undefined ? ''
    : `{"name": ${JSON.stringify(call.name)}, "parameters": ${spaced(call.arguments)}}`),
};

/** A list of calls in JSON behind a mark. */
function jsonList(name: string, opener: string, isOf: ToolForm['isOf']): ToolForm {
  return {
    name, opener, closer: '', isOf,
    grammar: ({ tools, once }) => `start: ${listOf('[', ']', once)}\n${
      rules(tools, '{"name": "', '", "arguments": ', '}')}`,
    read: readJson,
    write: (calls) => `${opener}[${calls.map(objectOf).join(', ')}]`,
  };
}

const names: ToolForm = {
  name: 'names',
  opener: '[TOOL_CALLS]',
  closer: '',
  isOf: (template) => template.includes('[TOOL_CALLS]') && template.includes('[ARGS]'),
  grammar: ({ tools, mark }) => `start: ${tools.map((_, i) => `call${i}`).join(' | ')}\n${
    tools.map((tool, i) => `call${i}: ${quoted(tool.name)} ${mark('[ARGS]')} arguments${i}\n` +
      `arguments${i}: ${schemaRule(schemaOf(tool))}\n`).join('')}`,
  read: (text) => {
    const pattern = /^([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]([^]*)$/;
    const [, name, given = ''] = pattern.exec(text.trim()) ?? [];
    return name === undefined ? undefined
      : readJson(`{"name": ${JSON.stringify(name)}, "arguments": ${given}}`);
  },
  write: (calls) => calls.map((call) =>
    `[TOOL_CALLS]${call.name}[ARGS]${spaced(call.arguments)}`).join(''),
};

/** `f(a="x", b=1)`: those that are required, and any of the others, in the schema's order. */
function namedArguments(tool: ToolDeclaration, list: RuleList): string {
  const schema = schemaOf(tool);
  const { properties = {}, required = [] } = schema as
    { properties?: object; required?: string[] };
  const fields = Object.keys(properties).map((key) => ({
    term: `${quoted(`${key}=`)} ${list.add(schemaRule(schemaOfField(schema, key)))}`,
    isOptional: !required.includes(key) }));
  return list.add(`${quoted(`${tool.name}(`)} ${list.addFields(fields, ', ')} ")"`);
}

const python: ToolForm = {
  name: 'python',
  opener: '<|tool_call_start|>',
  closer: '<|tool_call_end|>',
  isOf: (template) =>
    /<\|tool_(?:call|list)_start\|>|"List of tools: \["/.test(template),
  grammar: ({ tools, mark, closes, once }) => {
    const list = new RuleList();
    const calls = tools.map((tool) => namedArguments(tool, list));
    return `start: ${listOf('[', ']', once)}${closes ? ` ${mark('<|tool_call_end|>')}` : ''}\n` +
      `call: ${calls.join(' | ')}\n${String(list)}`;
  },
  read: readPython,
  write: (calls) => `<|tool_call_start|>${writePython(calls)}<|tool_call_end|>`,
};

const deepseekMarks = { begin: '<｜tool▁call▁begin｜>', separator: '<｜tool▁sep｜>',
  end: '<｜tool▁call▁end｜>' };

/** Several calls between two marks. */
const deepseek: ToolForm = {
  name: 'deepseek',
  opener: '<｜tool▁calls▁begin｜>',
  closer: '<｜tool▁calls▁end｜>',
  isOf: (template) => template.includes('<｜tool▁calls▁begin｜>') && template.includes('```json'),
  grammar: ({ tools, mark, closes, once }) => {
    const { begin, separator, end } = deepseekMarks;
    const item = tools.map((tool, i) => `call${i}: ${mark(begin)} "function" ${mark(separator)} ${
      quoted(`${tool.name}\n\`\`\`json\n`)} arguments${i} ${quoted('\n```')} ${mark(end)}\n` +
      `arguments${i}: ${schemaRule(schemaOf(tool))}\n`);
    return `start: call${once ? '' : ` (${quoted('\n')} call)*`}${
      closes ? ` ${mark('<｜tool▁calls▁end｜>')}` : ''}\n` +
      `call: ${tools.map((_, i) => `call${i}`).join(' | ')}\n${item.join('')}`;
  },
  read: (text) => {
    const { begin, separator, end } = deepseekMarks;
    const call = new RegExp(`\\s*${begin}function${separator}([\\w.-]+)\n\`\`\`json\n([^]*?)\n` +
      `\`\`\`${end}\\s*`, 'g');
    if (text.replace(call, '') !== '') return undefined;
    const calls = [...text.matchAll(call)].map(([, name, given]) =>
      readJson(`{"name": ${JSON.stringify(name)}, "arguments": ${given}}`)?.[0]);
    return calls.length > 0 && calls.every((one) => one !== undefined) ? calls : undefined;
  },
  write: (calls) => `<｜tool▁calls▁begin｜>${calls.map((call) =>
    `<｜tool▁call▁begin｜>function<｜tool▁sep｜>${call.name}\n\`\`\`json\n${
      spaced(call.arguments)}\n\`\`\`<｜tool▁call▁end｜>`).join('\n')}<｜tool▁calls▁end｜>`,
};

/** What came in a message. Error: INVALID_ARGUMENT. */
export function checkTools(tools: unknown): ToolDeclaration[] {
  if (!Array.isArray(tools)) throw invalidArgument('tools', tools, 'a list of tools');
  const names = new Set<string>();
  return tools.map((tool: unknown, i) => {
    const { name, description, inputSchema } = (tool ?? {}) as Partial<ToolDeclaration>;
    const isNamed = typeof name === 'string' && /^[\w.-]{1,128}$/.test(name) && !names.has(name);
    if (!isNamed) {
      throw invalidArgument(`tools[${i}].name`, name,
        'another name for each tool, of at most 128 letters, digits, _, - and .');
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
  bracesForm('gemma', '<|tool_call>', '<tool_call|>', '<|"|>'),
  bracesForm('function', '<start_function_call>', '<end_function_call>', '<escape>'),
  parameters, elements, hermes, names,
  jsonList('mistral', '[TOOL_CALLS]', (template) => template.includes('[TOOL_CALLS]')),
  jsonList('granite', '<|tool_call|>', (template) => template.includes('<|tool_call|>')),
  deepseek, python, llama,
];

/** The row of a template; hermes where it knows none. `isKnown`: it lists tools itself. */
export function toolFormOf(template: string): { form: ToolForm; isKnown: boolean } {
  const lists = /\b(?:xml_)?tools\b/.test(template);
  const form = lists ? toolForms.find((row) => row.isOf(template)) : undefined;
  return { form: form ?? hermes, isKnown: form !== undefined };
}

/** All that stands for a call. */
export const formsOf = (form: ToolForm): readonly ToolForm[] => [form, ...form.also ?? []];
