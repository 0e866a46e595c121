// The tools that a page has registered for agents (WebMCP), as those of a session.
//
// They are executed by the browser, on the document that registered them. Browsers give an input's
// schema as an object or as the text of one, and what a tool gave as text.
import { OneKVError, invalidArgument } from '../api/errors.js';
import type { ModelContext, PageTool, Tool } from '../api/tools.js';

function schemaOf({ name, inputSchema }: PageTool): object | undefined {
  if (typeof inputSchema !== 'string') return inputSchema;
  try {
    return inputSchema === '' ? undefined : JSON.parse(inputSchema) as object;
  } catch (error) {
    throw new OneKVError('INVALID_ARGUMENT', `inputSchema of the tool ${name}: found no JSON`,
      { cause: error });
  }
}

/** TypeScript's own types have no such document yet. */
const ownContext = () => (globalThis as { document?: { modelContext?: ModelContext } })
  .document?.modelContext;

/** Errors: INVALID_ARGUMENT, those of `context`. */
export async function pageTools(context = ownContext()): Promise<Tool[]> {
  if (typeof context?.getTools !== 'function') {
    throw invalidArgument('document.modelContext', context,
      'one of WebMCP: this browser has none, or the page is not secure');
  }
  return [...await context.getTools()].map((tool): Tool => ({
    name: tool.name,
    description: tool.description,
    inputSchema: schemaOf(tool),
    execute: (input: object, { signal }) => context.executeTool(tool, input, { signal }),
  }));
}
