// Messages and tools as chat templates know them: with OpenAI's names where a template writes calls
// and results itself, else as text that says the same.
import type { ChatMessage } from '../api/messages.js';
import type { ToolDeclaration } from '../api/tools.js';
import { toolFormOf } from './tool-forms.js';

interface TemplateMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** A tool in OpenAI's words. */
function templateTool({ name, description, inputSchema }: ToolDeclaration): object {
  return { type: 'function', function: { name, description: description ?? '',
    parameters: { type: 'object', properties: {}, ...inputSchema } } };
}

/** For templates that list no tools: hermes, in words that many models were trained on. */
function explained(tools: readonly ToolDeclaration[]): string {
  return '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' +
    'You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n' +
    `${tools.map((tool) => JSON.stringify(templateTool(tool))).join('\n')}\n</tools>\n\n` +
    'For each function call, return a json object with function name and arguments within ' +
    '<tool_call></tool_call> XML tags:\n<tool_call>\n' +
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>';
}

function withSystem(messages: TemplateMessage[], text: string, role: string): TemplateMessage[] {
  const at = messages.findIndex((message) => message.role === role);
  const { content = '' } = messages[at] ?? {};
  const joined = { role, content: role === 'user' ? `${text}\n\n${content}`
    : [content, text].filter(Boolean).join('\n\n') };
  return at < 0 ? [joined, ...messages] : messages.with(at, joined);
}

/** Results that follow each other are one message: templates may want turns to alternate. */
function pushResult(list: TemplateMessage[], content: string): void {
  const text = `<tool_response>\n${content}\n</tool_response>`;
  const last = list.at(-1);
  if (last?.['isResult'] === true) last.content += `\n${text}`;
  else list.push({ role: 'user', content: text, isResult: true });
}

/**
 * What a template is rendered with. `hasSystem`: it knows a system's message; else what has to be
 * told of tools is told by the user.
 */
export function templateItems(source: string, messages: readonly ChatMessage[],
  tools: readonly ToolDeclaration[], hasSystem: boolean):
{ messages: object[]; tools?: object[]; xml_tools?: object[] } {
  const { form, isKnown } = toolFormOf(source);
  const knowsCalls = isKnown && source.includes('tool_calls');
  const knowsResults = isKnown && /['"]tool['"]/.test(source);
  const list: TemplateMessage[] = [];
  for (const { role, content, toolCalls, toolCallId, name, reasoning } of messages) {
    const thoughts = reasoning === undefined ? {} : { reasoning_content: reasoning };
    if (role === 'tool' && !knowsResults) pushResult(list, content);
    else if (role === 'tool') {
      list.push({ role, content, ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
        ...(name === undefined ? {} : { name }) });
    } else if (toolCalls === undefined || toolCalls.length === 0) {
      list.push({ role, content, ...thoughts });
    } else if (knowsCalls) {
      list.push({ role, content, ...thoughts, tool_calls: toolCalls.map((call) => ({
        type: 'function', id: call.id,
        function: { name: call.name, arguments: call.arguments } })) });
    } else {
      list.push({ role, ...thoughts,
        content: [content, form.write(toolCalls)].filter(Boolean).join('\n') });
    }
  }
  const clean = list.map(({ isResult: _, ...message }) => message as TemplateMessage);
  if (tools.length === 0) return { messages: clean };
  const listed = tools.map(templateTool);
  // SmolLM3's name for them.
  return isKnown ? { messages: clean, tools: listed, xml_tools: listed }
    : { messages: withSystem(clean, explained(tools), hasSystem ? 'system' : 'user') };
}
