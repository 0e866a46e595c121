// Messages of a chat.

export interface ChatMessage {
  /** 'system', 'user', 'assistant', or what else the template knows. */
  role: string;
  content: string;
  /** true: the answer goes on from this content, and is given without it. Only on the last message
   * of a prompt, of the role 'assistant'. */
  prefix?: boolean | undefined;
}
