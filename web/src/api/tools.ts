// Tools that a model may call, and its calls.

/** A tool as the model is told of it. */
export interface ToolDeclaration {
  /** Letters, digits, `_`, `-` and `.`, at most 128. */
  name: string;
  description?: string | undefined;
  /** A JSON schema of an object: the call's arguments. Default: no arguments. */
  inputSchema?: object | undefined;
}

export interface ToolContext {
  /** The answer's: it is aborted with the call. */
  signal: AbortSignal;
  /** Of the call. */
  id: string;
}

/** The same shape in sessions, in the Prompt API and in WebMCP. */
export interface Tool extends ToolDeclaration {
  /** What the call gives: text, or what JSON can write. What it throws is told to the model.
   * Without it the call is a part of the answer, and the caller sends the result back in a message
   * of the role 'tool'. */
  execute?: ((input: never, context: ToolContext) => unknown) | undefined;
}

export interface ToolCall {
  /** Nine letters and digits, unique in the session. */
  id: string;
  name: string;
  /** Of the tool's schema. */
  arguments: Record<string, unknown>;
}

export interface ToolResult {
  /** The call's. */
  id: string;
  name: string;
  /** As the model is told it. */
  content: string;
  /** execute threw: content is the error. */
  isError: boolean;
}

/** 'auto': the model decides. 'none': no call. 'required': a call, of any tool; or of this one. */
export type ToolChoice = 'auto' | 'none' | 'required' | { name: string };

/** A tool that a page has registered, as WebMCP lists it. */
export interface PageTool {
  name: string;
  description?: string | undefined;
  /** Or the text of its JSON. */
  inputSchema?: object | string | undefined;
}

/** What of WebMCP's `document.modelContext` is used. */
export interface ModelContext {
  getTools(): Promise<readonly PageTool[]>;
  executeTool(tool: PageTool, input: object, options: { signal: AbortSignal }): Promise<unknown>;
}
