// Tools at the page's end: what the worker is told of them, and their execution.
import { invalidArgument, jsonText, reasonOf } from '../api/errors.js';
import { checkKind } from '../api/options.js';
import type { Tool, ToolCall, ToolDeclaration, ToolResult } from '../api/tools.js';
import { unlessAborted } from '../util/on-abort.js';

/** By name. Error: INVALID_ARGUMENT. */
export function toolsByName(tools: readonly Tool[] = []): ReadonlyMap<string, Tool> {
  if (!Array.isArray(tools)) throw invalidArgument('tools', tools, 'a list of tools');
  const byName = new Map<string, Tool>();
  tools.forEach((tool: Tool, i) => {
    checkKind(`tools[${i}]`, tool, 'object');
    const { name, execute } = tool;
    if (byName.has(name)) throw invalidArgument(`tools[${i}].name`, name, 'another for each tool');
    if (execute !== undefined) checkKind(`execute of the tool ${name}`, execute, 'function');
    byName.set(name, tool);
  });
  return byName;
}

/** Without functions. Error: INVALID_ARGUMENT: a schema that JSON cannot write. */
export function wireTools(tools: ReadonlyMap<string, Tool>): ToolDeclaration[] {
  return [...tools.values()].map(({ name, description, inputSchema }) => {
    if (inputSchema === undefined) return { name, description };
    return { name, description,
      inputSchema: JSON.parse(jsonText(`inputSchema of the tool ${name}`, inputSchema)) };
  });
}

/** What a tool gave, as text. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value) ?? 'null';
}

/** Executes a call; what it throws becomes the result, but for an abort. */
export async function execute(tool: Tool, call: ToolCall,
  signal: AbortSignal): Promise<ToolResult> {
  const { id, name } = call;
  try {
    const work = tool.execute as (input: unknown, context: object) => unknown;
    // One that never ends must not keep an aborted answer.
    const value = await unlessAborted((async () =>
      work.call(tool, call.arguments, { signal, id }))(), signal);
    return { id, name, content: textOf(value), isError: false };
  } catch (error) {
    signal.throwIfAborted();
    return { id, name, content: `Error: ${reasonOf(error)}`, isError: true };
  }
}
