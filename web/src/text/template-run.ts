// Runs a parsed chat template with a budget: it comes with a model's file, so it may be made to
// loop for ever or to fill the memory, and nothing can stop the worker in it.
//
// Every node that is evaluated takes one from the budget, and a text as much more as it is long. A
// list weighs what stands in it, at each place again: lists that hold one another twice and would
// only be large when they are written are refused as well. Namespaces alone can be changed, so what
// holds one is weighed whenever it is met.
import { Environment, Interpreter } from '@huggingface/jinja';
import { OneKVError } from '../api/errors.js';

/** A node of a parsed template. */
interface Node {
  type: string;
}

/** A value of the library's: a text, a number, a list or a Map of values, a function. */
interface Value {
  type: string;
  value: unknown;
}

// The library's own types are lost on the way: its declarations name files without an ending.
interface Scope {
  set(name: string, value: unknown): Value;
}
interface Runner {
  evaluate(node: Node | undefined, scope: Scope): Value;
}
const LibraryScope = Environment as unknown as new () => Scope;
const LibraryRunner = Interpreter as unknown as new (scope: Scope) => Runner;

/** Nodes; some seconds. A chat of a thousand messages takes about a hundredth. */
const budget = 5_000_000;
/** Characters of one text. */
const lettersMost = 1 << 24;
/** Characters that are as much as a node. */
const lettersPerNode = 32;
/** Values in one list, and those in them. */
const weightMost = 2_000_000;
/** Lists in lists. */
const levelsMost = 256;

function refuse(what: string): never {
  throw new OneKVError('BAD_CHAT_TEMPLATE', `tokenizer.chat_template: ${what}`);
}

class BoundedRunner extends LibraryRunner {
  #left = budget;
  /** Of lists and mappings that cannot change. */
  readonly #weights = new WeakMap<object, number>();
  #metNamespace = false;

  #take(count: number): void {
    this.#left -= count;
    if (this.#left < 0) refuse(`it takes more than ${budget} steps for these messages`);
  }

  #weigh({ type, value }: Value, level = 0): number {
    if (typeof value === 'string') {
      if (value.length > lettersMost) refuse(`it makes a text of over ${lettersMost} characters`);
      return Math.floor(value.length / lettersPerNode);
    }
    const isList = Array.isArray(value);
    if (!isList && !(value instanceof Map)) return 0;
    const known = this.#weights.get(value);
    if (known !== undefined) return known;
    if (level > levelsMost) refuse(`it puts more than ${levelsMost} lists into each other`);
    const before = this.#metNamespace;
    this.#metNamespace = type === 'NamespaceValue';
    let weight = 0;
    for (const part of (isList ? value : value.values()) as Iterable<Value>) {
      this.#take(1);
      weight += 1 + this.#weigh(part, level + 1);
      if (weight > weightMost) refuse(`it makes a list of more than ${weightMost} values`);
    }
    if (!this.#metNamespace) this.#weights.set(value, weight);
    this.#metNamespace ||= before;
    return weight;
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    this.#take(1);
    const value = super.evaluate(node, scope);
    const weight = this.#weigh(value);
    if (typeof value.value === 'string') this.#take(weight);
    return value;
  }
}

/** As Python's, of whole numbers. */
function range(first: number, end?: number, step = 1): number[] {
  const [start, stop] = end === undefined ? [0, first] : [first, end];
  const count = Math.ceil((stop - start) / step);
  if (!Number.isFinite(count) || count > weightMost) {
    refuse(`range(${start}, ${stop}, ${step}) is too long`);
  }
  return Array.from({ length: Math.max(0, count) }, (_, i) => start + i * step);
}

/** What every template knows. */
const globals = {
  true: true, false: false, none: null, True: true, False: false, None: null, range,
  raise_exception: (message: unknown) => {
    throw new Error(String(message));
  },
};

/** The text of a parsed template for these variables. Errors: BAD_CHAT_TEMPLATE where it takes more
 * than the budget; what the library throws. */
export function runTemplate(program: object, items: object): string {
  const scope = new LibraryScope();
  for (const [name, value] of Object.entries({ ...globals, ...items })) scope.set(name, value);
  return String(new BoundedRunner(scope).evaluate(program as Node, scope).value);
}
