// How an answer with tools is written and read: the grammar that calls keep to, the opener that
// forces one, the reader of what comes.
import { invalidArgument } from '../api/errors.js';
import type { LazyGrammar, PlainGrammar } from '../api/grammar.js';
import type { ToolCall, ToolChoice, ToolDeclaration } from '../api/tools.js';
import { AnswerReader } from '../text/answer-reader.js';
import type { AnswerPiece } from '../text/answer-reader.js';
import type { Choice } from '../engine/step.js';
import type { GeneratedPart } from '../api/session.js';
import { formsOf } from '../text/tool-forms.js';
import type { ToolForm } from '../text/tool-forms.js';
import type { Model } from '../engine/model.js';
import type { WireGenerateOptions } from '../wire/protocol.js';
import type { ReasoningMode } from '../api/session.js';

export interface ToolAnswer {
  /** undefined: no tools, or a constraint of the whole answer. */
  grammar: LazyGrammar | undefined;
  /** What the prompt ends with so that a call follows. */
  opener: string | undefined;
  /** Whether calls are looked for. */
  reads: boolean;
}

function chosen(choice: unknown, tools: readonly ToolDeclaration[]): {
  kind: 'auto' | 'none' | 'required'; tools: readonly ToolDeclaration[] } {
  if (choice === undefined || choice === 'auto') return { kind: 'auto', tools };
  if (choice === 'none') return { kind: 'none', tools };
  if (tools.length > 0 && choice === 'required') return { kind: 'required', tools };
  const { name } = (choice ?? {}) as Partial<Exclude<ToolChoice, string>>;
  const only = tools.filter((tool) => tool.name === name);
  if (only.length > 0) return { kind: 'required', tools: only };
  throw invalidArgument('toolChoice', typeof choice === 'object' ? name : choice,
    `'auto', 'none', 'required' or { name } of ${tools.map((tool) => tool.name).join(', ') ||
    'a tool, of which there are none'}`);
}

function grammarOf({ tokenizer }: Model, form: ToolForm, tools: readonly ToolDeclaration[],
  once: boolean): PlainGrammar {
  const closer = tokenizer.idOf(form.closer);
  // A control token has no text that a grammar could ask for; the model writes it by itself.
  const end = closer !== undefined && tokenizer.isControl(closer) ? '' : form.closer;
  return { kind: 'lark', text: form.grammar(tools, end, once) };
}

/** What an answer's options come to. Errors: INVALID_ARGUMENT. */
export function toolAnswerOf(model: Model, declared: readonly ToolDeclaration[],
  options: WireGenerateOptions): ToolAnswer {
  const { kind, tools } = chosen(options.toolChoice, declared);
  const isConstrained = options.grammar !== undefined || options.constrained === true;
  if (tools.length === 0 || isConstrained) {
    return { grammar: undefined, opener: undefined, reads: false };
  }
  const form = model.chatTemplate.toolForm;
  const once = options.parallelToolCalls === false;
  const parts = formsOf(form).map((one) => ({ trigger: one.opener, isFirst: one.isFirst,
    grammar: kind === 'none' ? undefined : grammarOf(model, one, tools, once) }));
  return {
    grammar: { kind: 'lazy', once, starts: kind === 'required', parts },
    opener: kind === 'required' ? form.opener : undefined,
    reads: kind !== 'none',
  };
}

/** What an answer consisted of. */
export interface AnswerContent {
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
}

/** Pieces as the page is told them, added to the content; the first has the token, and there is
 * one at least for each token. */
export function partsOf(pieces: readonly AnswerPiece[], choice: Choice | undefined,
  content: AnswerContent): GeneratedPart[] {
  const parts = pieces.map((piece): GeneratedPart => {
    if (piece.type === 'tool-call') {
      content.toolCalls.push(piece.call);
      return { type: 'tool-call', text: '', toolCall: piece.call, token: undefined };
    }
    content[piece.type] += piece.text;
    return { ...piece, token: undefined };
  });
  if (choice === undefined) return parts;
  const [first = { type: 'text', text: '' }, ...rest] = parts;
  return [{ ...first, ...choice }, ...rest];
}

/** What reads an answer. */
export interface Reading {
  tools: readonly ToolDeclaration[];
  reasoning: ReasoningMode;
  /** The prompt's end, as text. */
  promptEnd: string;
  answer: ToolAnswer;
}

export function readerOf(model: Model,
  { tools, reasoning, promptEnd, answer }: Reading): AnswerReader {
  const { toolForm, thinkingForm } = model.chatTemplate;
  const thinking = reasoning === 'include' ? undefined : thinkingForm;
  const opens = thinking !== undefined && promptEnd.trimEnd().endsWith(thinking.opener.trim());
  return new AnswerReader({ thinking,
    tools: answer.reads ? { form: toolForm, declared: tools } : undefined,
    state: answer.opener !== undefined ? 'call' : opens ? 'thinking' : 'text' });
}
