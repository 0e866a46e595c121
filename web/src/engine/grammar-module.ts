// The grammar module (wasm/grammar): vocabularies and matchers in WebAssembly, as objects.
//
// An instance that trapped (its memory is full, or a panic) is broken for good: each later call on
// it throws. Whoever uses it makes a new one of the same module.
import { OneKVError, reasonOf } from '../api/errors.js';
import { grammarKinds } from '../api/grammar.js';
import type { GrammarKind } from '../api/grammar.js';

interface Exports {
  memory: WebAssembly.Memory;
  grammar_alloc(size: number): number;
  grammar_free(at: number, size: number): void;
  grammar_said(): number;
  grammar_said_length(): number;
  grammar_vocabulary(bytes: number, ends: number, count: number, stops: number,
    stopCount: number): number;
  grammar_compile(vocabulary: number, kind: number, text: number, length: number): number;
  grammar_clone(matcher: number): number;
  grammar_delete(matcher: number): void;
  grammar_mask(matcher: number, out: number, words: number): number;
  grammar_accept(matcher: number, token: number): number;
}

/** What a grammar needs to know of a model's tokens. */
export interface TokenBytes {
  /** Of the row of logits. */
  count: number;
  /** None: a token that no grammar allows. */
  bytesOf(token: number): Uint8Array;
  /** Those of control tokens too, which a trigger may have. */
  markBytesOf(token: number): Uint8Array;
  /** Tokens that end a text, at least one. */
  ends: readonly number[];
}

function tooComplex(said: string): OneKVError {
  return new OneKVError('CONSTRAINT_TOO_COMPLEX', `constraint: ${said}`);
}

/** The module's words for its limits. */
const limits = /too (many|large|complex|deep|big)|max is|limit|exceed|fuel/i;

/** An instance with one vocabulary. */
export class GrammarInstance {
  readonly #exports: Exports;
  readonly #vocabulary: number;
  readonly words: number;
  readonly #mask: number;
  isBroken = false;

  /** `module`: a WebAssembly.Module, of which not all programs have the type. Takes some tenths of
   * a second. Error: CONSTRAINT_TOO_COMPLEX (its memory is full). */
  constructor(module: object, tokens: TokenBytes) {
    const instance = new WebAssembly.Instance(module as WebAssembly.Module, {});
    this.#exports = instance.exports as unknown as Exports;
    this.words = Math.ceil(tokens.count / 32);
    const words = Array.from({ length: tokens.count }, (_, token) => tokens.bytesOf(token));
    const total = words.reduce((sum, { length }) => sum + length, 0);
    const bytes = new Uint8Array(total);
    const ends = new Uint32Array(tokens.count);
    let at = 0;
    words.forEach((word, token) => {
      bytes.set(word, at);
      at += word.length;
      ends[token] = at;
    });
    this.#mask = this.#call(() => this.#exports.grammar_alloc(4 * this.words));
    this.#vocabulary = this.#lend(bytes, (a) => this.#lend(bytesOf(ends), (b) =>
      this.#lend(bytesOf(Uint32Array.from(tokens.ends)), (c) => this.#call(() =>
        this.#exports.grammar_vocabulary(a, b, tokens.count, c, tokens.ends.length)))));
    if (this.#vocabulary === 0) throw tooComplex(this.#said());
  }

  /** Bytes of WebAssembly memory that it takes. */
  get bytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  #said(): string {
    const { memory, grammar_said: at, grammar_said_length: length } = this.#exports;
    return new TextDecoder().decode(new Uint8Array(memory.buffer, at(), length()));
  }

  #call(work: () => number): number {
    if (this.isBroken) throw tooComplex('the grammar module broke down');
    try {
      return work() >>> 0;
    } catch (error) {
      this.isBroken = true;
      let said = '';
      try {
        said = this.#said();
      } catch {
        // The text is lost with the rest.
      }
      throw tooComplex(`the grammar module gave up: ${said || reasonOf(error)}`);
    }
  }

  /** Copies bytes in for as long as the work takes. */
  #lend(bytes: Uint8Array, work: (at: number) => number): number {
    const at = this.#call(() => this.#exports.grammar_alloc(bytes.length));
    if (at === 0) throw tooComplex('no memory is left for it');
    new Uint8Array(this.#exports.memory.buffer).set(bytes, at);
    const result = work(at);
    this.#call(() => {
      this.#exports.grammar_free(at, bytes.length);
      return 0;
    });
    return result;
  }

  /** A matcher at the beginning of a grammar, which can begin. Errors: CONSTRAINT_REFUSED in the
   * module's words, CONSTRAINT_TOO_COMPLEX. */
  compile(kind: GrammarKind, text: string): Matcher {
    const bytes = new TextEncoder().encode(text);
    const handle = this.#lend(bytes, (at) => this.#call(() => this.#exports.grammar_compile(
      this.#vocabulary, grammarKinds.indexOf(kind), at, bytes.length)));
    if (handle !== 0) return new Matcher(this, handle);
    const said = this.#said().split('\n')[0] ?? '';
    if (limits.test(said)) throw tooComplex(said);
    // A word alone is the state in which its parser stopped.
    throw new OneKVError('CONSTRAINT_REFUSED', /^\w+$/.test(said)
      ? `constraint: no text can be of it (${said})` : `constraint: ${said}`);
  }

  /** @internal */
  clone(matcher: number): number {
    return this.#call(() => this.#exports.grammar_clone(matcher));
  }

  /** @internal */
  delete(matcher: number): void {
    if (this.isBroken) return;
    this.#call(() => {
      this.#exports.grammar_delete(matcher);
      return 0;
    });
  }

  /** @internal */
  maskOf(matcher: number): Uint32Array {
    const status = this.#call(() => this.#exports.grammar_mask(matcher, this.#mask, this.words));
    if (status !== 0) throw tooComplex(this.#said());
    return new Uint32Array(this.#exports.memory.buffer, this.#mask, this.words).slice();
  }

  /** @internal */
  accept(matcher: number, token: number): number {
    const status = this.#call(() => this.#exports.grammar_accept(matcher, token));
    if (status > 2) throw tooComplex(this.#said());
    return status;
  }
}

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer);
}

/** A place in a grammar. */
export class Matcher {
  readonly instance: GrammarInstance;
  #handle: number;

  /** @internal */
  constructor(instance: GrammarInstance, handle: number) {
    this.instance = instance;
    this.#handle = handle;
  }

  clone(): Matcher {
    return new Matcher(this.instance, this.instance.clone(this.#handle));
  }

  /** Bit t % 32 of word t / 32: token t may come. The caller's. */
  mask(): Uint32Array {
    return this.instance.maskOf(this.#handle);
  }

  /** 'over': only an end can follow. 'refused': the token was not allowed, nothing changed. */
  accept(token: number): 'open' | 'over' | 'refused' {
    return (['refused', 'open', 'over'] as const)[this.instance.accept(this.#handle, token)] ??
      'refused';
  }

  delete(): void {
    if (this.#handle !== 0) this.instance.delete(this.#handle);
    this.#handle = 0;
  }
}
