// How an answer with tools and thoughts is written and read: the grammar that calls keep to, the
// opener that forces one, the end of thoughts, the reader of what comes.
import { checkInteger, invalidArgument } from '../api/errors.js';
import type { LazyGrammar, LazyPart, PlainGrammar } from '../api/grammar.js';
import type { ToolCall, ToolChoice, ToolDeclaration } from '../api/tools.js';
import { AnswerReader } from '../text/answer-reader.js';
import type { AnswerPiece } from '../text/answer-reader.js';
import type { Choice } from '../engine/step.js';
import type { GeneratedPart } from '../api/session.js';
import { encodeChat } from '../text/chat-template.js';
import { quoted } from '../text/tool-grammar.js';
import { formsOf } from '../text/tool-forms.js';
import type { ToolForm } from '../text/tool-forms.js';
import type { Model } from '../engine/model.js';
import type { WireGenerateOptions } from '../wire/protocol.js';
import type { Settings } from './saved-session.js';
import type { ReasoningMode } from '../api/session.js';

interface ToolAnswer {
  /** Calls and their grammars. None: no tools, or a constraint of the whole answer. */
  parts: readonly LazyPart[];
  once: boolean;
  /** What comes so that a call follows: at the prompt's end, or behind thoughts. */
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
  // A control token has no text: a grammar asks for it by its number.
  const mark = (text: string) => {
    const id = tokenizer.idOf(text);
    return id !== undefined && tokenizer.isControl(id) ? `<[${id}]>` : quoted(text);
  };
  return { kind: 'lark', text: form.grammar({ tools, mark, closes: form.closer !== '', once }) };
}

/** What an answer's options come to. Errors: INVALID_ARGUMENT. */
export function toolAnswerOf(model: Model, declared: readonly ToolDeclaration[],
  options: WireGenerateOptions): ToolAnswer {
  const { kind, tools } = chosen(options.toolChoice, declared);
  const isConstrained = options.grammar !== undefined || options.constrained === true;
  if (tools.length === 0 || isConstrained) {
    return { parts: [], once: false, opener: undefined, reads: false };
  }
  const form = model.chatTemplate.toolForm;
  const once = options.parallelToolCalls === false;
  const parts = formsOf(form).map((one) => ({ trigger: one.opener, isFirst: one.isFirst,
    grammar: kind === 'none' ? undefined : grammarOf(model, one, tools, once) }));
  return { parts, once, opener: kind === 'required' ? form.opener : undefined,
    reads: kind !== 'none' };
}

/** What an answer's tokens keep to. */
export interface Keeping {
  answer: ToolAnswer;
  /** Of the whole answer; thoughts come before it. */
  constraint?: PlainGrammar | undefined;
  /** The prompt's end, as text. */
  promptEnd: string;
  /** Tokens for thoughts. */
  budget: number | undefined;
}

/** Error: INVALID_ARGUMENT. */
export function checkBudget(budget: number | undefined): void {
  if (budget !== undefined) checkInteger('reasoningBudget', budget, 0, 2 ** 31 - 1);
}

/** Tokens for thoughts. Error: INVALID_ARGUMENT. */
export function budgetOf({ reasoningBudget: own }: WireGenerateOptions,
  { reasoning, reasoningBudget }: Settings): number | undefined {
  checkBudget(own);
  return own ?? reasoningBudget ?? (reasoning === 'off' ? 0 : undefined);
}

/** undefined: anything may come, or the constraint is all there is. */
export function grammarOfAnswer({ tokenizer, chatTemplate }: Model,
  { answer, constraint, promptEnd, budget }: Keeping): LazyGrammar | undefined {
  const { thinkingForm: form } = chatTemplate;
  const isInside = chatTemplate.endsInThoughts(promptEnd);
  if (constraint !== undefined && !isInside) return undefined;
  const parts = constraint === undefined ? answer.parts : [{ trigger: '', grammar: constraint }];
  const isForced = constraint !== undefined || answer.opener !== undefined;
  const once = answer.once || constraint !== undefined;
  const needsThoughts = parts.length > 0 || budget !== undefined;
  if (form === undefined || !needsThoughts) {
    return parts.length === 0 ? undefined
      : { kind: 'lazy', once, parts, starts: isForced ? [0] : [] };
  }
  const ending = encodeChat(tokenizer, form.ending, true);
  const thoughts = { trigger: form.opener, isFirst: true,
    thought: { closer: form.closer, ending, budget } };
  return { kind: 'lazy', once, parts: [thoughts, ...parts],
    starts: [...isInside ? [0] : [], ...isForced ? [1] : []],
    opening: encodeChat(tokenizer, answer.opener ?? '', true) };
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

/** What reads an answer, and what comes before its tokens: the prompt opened the thoughts that are
 * to be in the text. */
export interface Reading {
  reader: AnswerReader;
  opening: string;
}

interface ReadingOptions {
  tools: readonly ToolDeclaration[];
  reasoning: ReasoningMode;
  /** The prompt's end, as text. */
  promptEnd: string;
  answer: ToolAnswer;
  /** The caller's beginning of the answer. */
  prefix?: string | undefined;
}

export function readingOf(model: Model,
  { tools, reasoning, promptEnd, answer, prefix = '' }: ReadingOptions): Reading {
  const { toolForm, thinkingForm } = model.chatTemplate;
  const thinking = reasoning === 'include' ? undefined : thinkingForm;
  const isInside = model.chatTemplate.endsInThoughts(promptEnd);
  const reader = new AnswerReader({ thinking,
    tools: answer.reads ? { form: toolForm, declared: tools } : undefined,
    state: !isInside ? answer.opener === undefined ? 'text' : 'call'
      : thinking === undefined ? 'text' : 'thinking' });
  const isOpened = isInside && thinking === undefined && prefix === '';
  return { reader, opening: !isOpened ? ''
    : promptEnd.slice(promptEnd.lastIndexOf(thinkingForm?.opener.trim() ?? '')) };
}
