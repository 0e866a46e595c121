// Tools at the page's end: what the worker is told of them, and their execution.
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import type { Tool, ToolCall, ToolDeclaration, ToolResult } from '../api/tools.js';

/** By name. Error: INVALID_ARGUMENT. */
export function toolsByName(tools: readonly Tool[] = []): ReadonlyMap<string, Tool> {
  if (!Array.isArray(tools)) throw invalidArgument('tools', tools, 'a list of tools');
  return new Map(tools.map((tool: Tool) => {
    const execute = tool?.execute as unknown;
    if (execute === undefined || typeof execute === 'function') return [tool?.name, tool];
    throw invalidArgument(`execute of the tool ${tool.name}`, execute, 'a function');
  }));
}

/** Without functions. Error: INVALID_ARGUMENT: a schema that JSON cannot write. */
export function wireTools(tools: ReadonlyMap<string, Tool>): ToolDeclaration[] {
  return [...tools.values()].map(({ name, description, inputSchema }) => {
    try {
      return { name, ...(description === undefined ? {} : { description }),
        ...(inputSchema === undefined ? {}
          : { inputSchema: JSON.parse(JSON.stringify(inputSchema)) as object }) };
    } catch (error) {
      throw new OneKVError('INVALID_ARGUMENT', `inputSchema of the tool ${name}: ` +
        reasonOf(error), { cause: error });
    }
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
    const value = await work.call(tool, call.arguments, { signal, id });
    return { id, name, content: textOf(value), isError: false };
  } catch (error) {
    signal.throwIfAborted();
    return { id, name, content: `Error: ${reasonOf(error)}`, isError: true };
  }
}
