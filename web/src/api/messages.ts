// Messages of a chat.
import type { ToolCall } from './tools.js';

export interface ChatMessage {
  /** 'system', 'user', 'assistant', or what else the template knows. */
  role: string;
  content: string;
  /** Of the role 'assistant': the tools that it called. */
  toolCalls?: readonly ToolCall[] | undefined;
  /** Of the role 'tool': which call this is the result of, and of which tool. */
  toolCallId?: string | undefined;
  name?: string | undefined;
  /** Of the role 'assistant': its thoughts, which are not in `content`. */
  reasoning?: string | undefined;
  /** true: the answer goes on from this content, and is given without it. Only on the last message
   * of a prompt, of the role 'assistant'. */
  prefix?: boolean | undefined;
}
