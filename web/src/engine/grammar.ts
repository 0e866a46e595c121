// Grammars of a model: the module is fetched at the first of them, and what was compiled is kept
// for the next answers of the same constraint.
//
// A rule is one answer's place in a grammar. When the module broke down under another rule, a new
// instance is made and this one's tokens are gone through again.
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import { grammarKinds } from '../api/grammar.js';
import type { GrammarKind, LazyGrammar, LazyPart, PlainGrammar } from '../api/grammar.js';
import type { TokenConstraint } from '../api/session.js';
import { translateRegExp } from '../text/regex.js';
import { prepareSchema } from '../text/schema.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { yieldToOthers } from '../util/event-loop.js';
import { grammarFile } from '../wasm-files.js';
import { GrammarInstance } from './grammar-module.js';
import type { Matcher, TokenBytes } from './grammar-module.js';
import { LazyRule } from './lazy-rule.js';
import { ThoughtRule } from './thought-rule.js';

/** A token constraint that takes memory until it is freed. */
export interface Rule extends TokenConstraint {
  /** The grammar is over: only an end can follow. */
  readonly isOver: boolean;
  free(): void;
}

/** Compiled grammars that are kept. */
const keptMost = 16;

/** In Node the module is a file, which fetch does not read. */
async function readModule(url: URL): Promise<WebAssembly.Module> {
  try {
    if (url.protocol === 'file:') {
      const bytes = process.getBuiltinModule('node:fs').readFileSync(url);
      return await WebAssembly.compile(bytes);
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (error) {
    throw new OneKVError('WASM_FAILED', `${url.href} could not be loaded: ${reasonOf(error)}`,
      { cause: error });
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

/** What came in a message. Error: INVALID_ARGUMENT. */
function checkPlain(grammar: unknown): PlainGrammar {
  const { kind, text, flags = '' } = (grammar ?? {}) as Record<string, unknown>;
  const isKnown = grammarKinds.some((known) => known === kind);
  if (!isKnown || !isText(text) || !isText(flags)) {
    throw invalidArgument('constraint', grammar, 'a schema, a RegExp or a Lark grammar');
  }
  return { kind: kind as GrammarKind, text, flags };
}

/** What the module reads. Error: CONSTRAINT_REFUSED. */
function moduleText({ kind, text, flags = '' }: PlainGrammar): string {
  if (kind === 'json') return prepareSchema(text);
  return kind === 'regex' ? translateRegExp(text, flags, true) : text;
}

export class Grammars {
  readonly tokens: TokenBytes;
  readonly #url: URL;
  #module: Promise<WebAssembly.Module> | undefined;
  #instance: GrammarInstance | undefined;
  /** By kind and text, the latest used last. */
  readonly #kept = new Map<string, Matcher>();

  /** count: of the row of logits. wasmUrl: folder of the module, if it is another. Error:
   * UNSUPPORTED_TOKENIZER. */
  constructor(tokenizer: Tokenizer, count: number, wasmUrl?: string | URL) {
    if (tokenizer.ends.size === 0) {
      throw new OneKVError('UNSUPPORTED_TOKENIZER',
        'a constraint needs a token that ends a text, which this vocabulary lacks');
    }
    const none = new Uint8Array(0);
    this.#url = grammarFile(wasmUrl);
    this.tokens = {
      count,
      ends: [...tokenizer.ends],
      bytesOf: (token) => (tokenizer.isControl(token) || tokenizer.ends.has(token) ? none
        : tokenizer.bytesOf(token)),
      markBytesOf: (token) => (tokenizer.ends.has(token) ? none : tokenizer.bytesOf(token)),
    };
  }

  /** WebAssembly memory of the module's instance; 0 before the first grammar. */
  get bytes(): number {
    return this.#instance?.bytes ?? 0;
  }

  async #open(signal: AbortSignal | undefined): Promise<GrammarInstance> {
    this.#module ??= readModule(this.#url);
    this.#module.catch(() => { this.#module = undefined; });
    const module = await this.#module;
    // An abort is heard before each step that keeps this thread.
    await yieldToOthers();
    signal?.throwIfAborted();
    if (this.#instance?.isBroken !== false) {
      this.#kept.clear();
      this.#instance = new GrammarInstance(module, this.tokens);
      await yieldToOthers();
      signal?.throwIfAborted();
    }
    return this.#instance;
  }

  /** A new place at the grammar's beginning. @internal */
  async begin(grammar: PlainGrammar, signal?: AbortSignal): Promise<Matcher> {
    const key = `${grammar.kind} ${grammar.flags ?? ''} ${grammar.text}`;
    const text = this.#kept.has(key) ? '' : moduleText(grammar);
    const instance = await this.#open(signal);
    const known = this.#kept.get(key);
    this.#kept.delete(key);
    const first = known ?? instance.compile(grammar.kind, text || moduleText(grammar));
    this.#kept.set(key, first);
    const own = first.clone();
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > keptMost && oldest !== undefined) {
      this.#kept.get(oldest)?.delete();
      this.#kept.delete(oldest);
    }
    await yieldToOthers();
    if (signal?.aborted === true) own.delete();
    signal?.throwIfAborted();
    return own;
  }

  /**
   * The rule of one answer. A grammar that cannot be honoured, or cannot begin, fails here.
   * Errors: INVALID_ARGUMENT, CONSTRAINT_REFUSED, CONSTRAINT_TOO_COMPLEX, WASM_FAILED, the
   * signal's reason.
   */
  async rule(grammar: unknown, signal?: AbortSignal): Promise<Rule> {
    if ((grammar as Partial<LazyGrammar> | undefined)?.kind === 'lazy') {
      throw invalidArgument('constraint', 'parts', 'a schema, a RegExp or a Lark grammar');
    }
    return this.#rule(checkPlain(grammar), signal);
  }

  /** The same of free text with parts that have grammars. */
  async lazyRule({ parts, starts = [], opening = [], once = false }: LazyGrammar,
    signal?: AbortSignal): Promise<Rule> {
    // All of them, now: what cannot be honoured is known before the first token.
    for (const { grammar } of parts) {
      if (grammar !== undefined) (await this.begin(checkPlain(grammar), signal)).delete();
    }
    const begin = ({ grammar, thought }: LazyPart) => {
      if (grammar !== undefined) return () => this.#rule(grammar);
      if (thought === undefined) return undefined;
      const { closer, ending, budget = Number.POSITIVE_INFINITY } = thought;
      const account = { left: budget };
      let then = starts.length > 1 ? opening : [];
      return async () => {
        const rule = new ThoughtRule(this.tokens, { closer, ending, then, account });
        then = [];
        return rule;
      };
    };
    return new LazyRule(this.tokens, parts.map((part) => ({ trigger: part.trigger,
      begin: begin(part), isFirst: part.isFirst === true, isThought: part.thought !== undefined })),
    { starts, once });
  }

  async #rule(grammar: PlainGrammar, signal?: AbortSignal): Promise<Rule> {
    return new GrammarRule(this, grammar, await this.begin(grammar, signal));
  }

  /** As a trap does: this instance is not used any more. @internal */
  breakForTests(): void {
    if (this.#instance !== undefined) this.#instance.isBroken = true;
  }

  /** Gives the memory back; a later grammar starts anew. */
  close(): void {
    this.#kept.clear();
    this.#instance = undefined;
  }
}

class GrammarRule implements Rule {
  readonly #grammars: Grammars;
  readonly #grammar: PlainGrammar;
  #matcher: Matcher;
  readonly #accepted: number[] = [];
  isOver = false;

  constructor(grammars: Grammars, grammar: PlainGrammar, matcher: Matcher) {
    this.#grammars = grammars;
    this.#grammar = grammar;
    this.#matcher = matcher;
  }

  async allowed(): Promise<Uint32Array> {
    if (this.#matcher.instance.isBroken) {
      this.#matcher = await this.#grammars.begin(this.#grammar);
      for (const token of this.#accepted) this.#matcher.accept(token);
    }
    return this.#matcher.mask();
  }

  accept(token: number): void {
    // The matcher has stopped by itself and takes no end any more.
    if (this.isOver && this.#grammars.tokens.ends.includes(token)) return;
    // A broken instance is replaced before the next choice; the token was allowed by its mask.
    const result = this.#matcher.instance.isBroken ? 'open' : this.#matcher.accept(token);
    if (result === 'refused') {
      throw new OneKVError('WRONG_STATE', `constraint: token ${token} was not allowed`);
    }
    this.#accepted.push(token);
    this.isOver = result === 'over';
  }

  free(): void {
    this.#matcher.delete();
  }
}
