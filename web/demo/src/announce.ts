// What a screen reader is told: beginnings and ends, never the stream between them.
import { find, setText } from './dom.js';

let pending: ReturnType<typeof setTimeout> | undefined;

/** The latest of what is said within a moment. */
export function announce(text: string): void {
  clearTimeout(pending);
  pending = setTimeout(() => setText(find('#announcer'), text), 150);
}
