// A stand-in of WebMCP's document.modelContext, as Chromium 156 has it: schemas are objects,
// results are texts, and what a tool throws is not told.
export class PageContext {
  #tools = new Map();

  async registerTool({ inputSchema, ...tool }) {
    const copy = inputSchema === undefined ? {} : { inputSchema: structuredClone(inputSchema) };
    this.#tools.set(tool.name, { ...tool, ...copy });
  }

  async getTools() {
    return [...this.#tools.values()].map(({ execute: _, ...tool }) => tool);
  }

  async executeTool({ name }, input, { signal }) {
    signal.throwIfAborted();
    try {
      const value = await this.#tools.get(name).execute(structuredClone(input), { signal });
      return typeof value === 'string' ? value : String(JSON.stringify(value));
    } catch {
      throw new DOMException('Tool was executed but the invocation failed.', 'UnknownError');
    }
  }
}
