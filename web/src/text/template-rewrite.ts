// What chat templates use of Jinja and @huggingface/jinja does otherwise, put in terms of what it
// does the same, once, in the parsed template:
//
//   {% break %}, {% continue %}   lost what the turn had printed: a namespace says what to skip
//   for x in undefined            threw: an empty list
//   undefined|trim, undefined ~   threw: empty text, or an empty list
//   |string of a mapping          threw: as Python writes it
//   |min, |max, |count            were unknown
//   '…'.format(x), '…' % x        were unknown; `{}` and `%s` and `%d` alone
//   'a'|safe + b                  was not escaped: what is added to safe text is, as HTML
//   for a, b in [(x, y)]          threw: tuples are lists, but on the left of an assignment
//
// What is left is refused with its name when the template is read, before any message. Nodes are
// plain data with a `type`: the library looks at nothing else.
import { OneKVError } from '../api/errors.js';

interface Node {
  type: string;
  [field: string]: unknown;
}

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';

const identifier = (value: string): Node => ({ type: 'Identifier', value });
const text = (value: string): Node => ({ type: 'StringLiteral', value });
const call = (callee: Node, ...args: Node[]): Node => ({ type: 'CallExpression', callee, args });
const filter = (operand: Node, name: Node): Node =>
  ({ type: 'FilterExpression', operand, filter: name });
const member = (object: string, property: string): Node => ({ type: 'MemberExpression',
  object: identifier(object), property: identifier(property), computed: false });
const set = (assignee: Node, value: Node): Node => ({ type: 'Set', assignee, value, body: [] });
const unless = (name: string, body: Node[]): Node => ({ type: 'If',
  test: { type: 'UnaryExpression', operator: { type: 'UnaryOperator', value: 'not' },
    argument: member(name, 'skips') },
  body, alternate: [] });

/** The operand, or that where it is undefined; `falsy`: or false, or nothing. */
function orElse(operand: Node, instead: Node, falsy = false): Node {
  const always = falsy ? [identifier('true')] : [];
  return filter(operand, call(identifier('default'), instead, ...always));
}

const emptyText = text('');
const emptyList: Node = { type: 'ArrayLiteral', value: [] };
const ofTexts = ['trim', 'upper', 'lower', 'title', 'capitalize', 'string', 'replace', 'indent'];
const ofLists = ['length', 'selectattr', 'rejectattr', 'map', 'join', 'list', 'sort', 'reverse',
  'unique', 'select', 'reject'];

/** Functions that rewritten templates call; items of their rendering. */
export const templateFunctions: Record<string, (...args: never[]) => unknown> = {
  onekv_repr: (value: unknown) => repr(value),
  onekv_min: (list: { value: number }[]) =>
    list.reduce((least, { value }) => Math.min(least, value), Number.POSITIVE_INFINITY),
  onekv_max: (list: { value: number }[]) =>
    list.reduce((most, { value }) => Math.max(most, value), Number.NEGATIVE_INFINITY),
  onekv_escape: (value: unknown) => repr(value, true).replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&#34;')
    .replaceAll("'", '&#39;'),
  onekv_format: (pattern: string, ...args: unknown[]) => {
    let at = 0;
    return pattern.replace(/\{(\d*)\}/g, (_, index: string) =>
      repr(args[index === '' ? at++ : Number(index)], true));
  },
  onekv_percent: (pattern: string, arg: unknown) => {
    const args = Array.isArray(arg) ? [...arg as unknown[]] : [arg];
    return pattern.replace(/%([sd%])/g, (_, kind: string) =>
      (kind === '%' ? '%' : repr(args.shift(), true)));
  },
};

/** As Python's repr writes a value of the library's, or str where `plain`. */
function repr(value: unknown, plain = false): string {
  if (typeof value === 'object' && value !== null && 'value' in value) {
    return 'type' in value && value.type === 'NullValue' ? 'None' : repr(value.value, plain);
  }
  if (value === undefined) return '';
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map((part) => repr(part)).join(', ')}]`;
  if (value instanceof Map) {
    return `{${[...value].map(([key, part]) => `${repr(key)}: ${repr(part)}`).join(', ')}}`;
  }
  if (typeof value !== 'string' || plain) return String(value);
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const escaped = value.replaceAll('\\', '\\\\').replaceAll(quote, `\\${quote}`)
    .replaceAll('\n', '\\n').replaceAll('\t', '\\t').replaceAll('\r', '\\r');
  return quote + escaped + quote;
}

function refuse(what: string): never {
  throw new OneKVError('BAD_CHAT_TEMPLATE', `tokenizer.chat_template: ${what} is not supported`);
}

/** Fields that are not expressions. */
const kept = ['operator', 'loopvar', 'assignee'];

/** What Jinja marks as safe HTML, to which it adds nothing else. */
function isSafe(node: Node): boolean {
  if (node.type === 'BinaryExpression') return isSafe(node['left'] as Node);
  return node.type === 'FilterExpression' && (node['filter'] as Node)['value'] === 'safe';
}

class Rewriter {
  #loops = 0;

  /** Children first. */
  rewrite(value: unknown): unknown {
    if (Array.isArray(value)) return this.#list(value);
    if (value instanceof Map) {
      return new Map([...value].map(([key, part]) => [this.rewrite(key), this.rewrite(part)]));
    }
    if (!isNode(value)) return value;
    const node = Object.fromEntries(Object.entries(value).map(([name, part]) =>
      [name, kept.includes(name) ? part : this.rewrite(part)])) as Node;
    return this.#node(node);
  }

  /** A loop that is skipped through gets its namespace before it. */
  #list(values: unknown[]): unknown[] {
    return values.flatMap((value) => {
      const made = this.rewrite(value);
      if (!isNode(made) || made.type !== 'For') return [made];
      const name = this.#skipping(made);
      return name === undefined ? [made] : [name, made];
    });
  }

  #node(node: Node): Node {
    switch (node.type) {
      case 'For': return this.#for(node);
      case 'FilterExpression': return this.#filter(node);
      case 'BinaryExpression': return this.#binary(node);
      case 'CallExpression': return this.#call(node);
      case 'TupleLiteral': return { ...node, type: 'ArrayLiteral' };
      case 'ObjectLiteral': {
        const keys = [...(node['value'] as Map<Node, Node>).keys()];
        if (keys.some(({ type }) => type === 'IntegerLiteral' || type === 'FloatLiteral')) {
          refuse('a mapping whose keys are numbers');
        }
        return node;
      }
      default: return node;
    }
  }

  #for(loop: Node): Node {
    const iterable = loop['iterable'] as Node;
    // Each turn is a step (template-run.ts), also one of nothing.
    const node = { ...loop, body: [emptyText, ...loop['body'] as Node[]] };
    if (iterable.type === 'SelectExpression') {
      const lhs = orElse(iterable['lhs'] as Node, emptyList);
      return { ...node, iterable: { ...iterable, lhs } };
    }
    return { ...node, iterable: orElse(iterable, emptyList) };
  }

  #filter(node: Node): Node {
    const own = node['filter'] as Node;
    const operand = node['operand'] as Node;
    const name = String((own.type === 'CallExpression' ? own['callee'] as Node : own)['value']);
    if (name === 'min' || name === 'max') return call(identifier(`onekv_${name}`), operand);
    if (name === 'count') return filter(orElse(operand, emptyList), identifier('length'));
    if (name === 'string') {
      return { type: 'Ternary',
        condition: { type: 'TestExpression', operand, negate: false, test: identifier('mapping') },
        trueExpr: call(identifier('onekv_repr'), operand),
        falseExpr: filter(orElse(operand, emptyText), own) };
    }
    if (ofTexts.includes(name)) return filter(orElse(operand, emptyText), own);
    const isAttribute = name === 'selectattr' || name === 'rejectattr';
    return ofLists.includes(name) ? filter(orElse(operand, emptyList, isAttribute), own) : node;
  }

  #binary(node: Node): Node {
    const { value } = node['operator'] as { value: string };
    const left = node['left'] as Node;
    const right = node['right'] as Node;
    if (value === '%' && left.type === 'StringLiteral') {
      return call(identifier('onekv_percent'), left, right);
    }
    if (value === '+' && isSafe(left) && !isSafe(right)) {
      return { ...node, right: call(identifier('onekv_escape'), right) };
    }
    return value !== '~' ? node
      : { ...node, left: orElse(left, emptyText), right: orElse(right, emptyText) };
  }

  #call(node: Node): Node {
    const { type, object, property } = node['callee'] as Node;
    const isFormat = type === 'MemberExpression' && (property as Node)['value'] === 'format';
    return !isFormat ? node
      : call(identifier('onekv_format'), object as Node, ...node['args'] as Node[]);
  }

  /** Takes break and continue out of a loop's body; gives what makes the namespace for it. */
  #skipping(loop: Node): Node | undefined {
    const body = loop['body'] as Node[];
    if (!leaves(body)) return undefined;
    this.#loops += 1;
    const name = `onekv_loop${this.#loops}`;
    const guarded = guard(body, name);
    loop['body'] = [{
      type: 'If', test: member(name, 'stops'), body: [], alternate: [
        set(member(name, 'skips'), identifier('false')), ...guarded],
    }];
    return set(identifier(name), call(identifier('namespace')));
  }
}

/** Whether a break or continue of this loop is in a list of statements. */
function leaves(list: readonly Node[]): boolean {
  return list.some((node) => node.type === 'Break' || node.type === 'Continue' ||
    ['body', 'alternate'].some((field) => node.type !== 'For' && Array.isArray(node[field]) &&
      leaves(node[field] as Node[])));
}

function guard(list: readonly Node[], name: string): Node[] {
  const at = list.findIndex((node) => leaves([node]));
  const node = list[at];
  if (node === undefined) return [...list];
  const before = list.slice(0, at);
  const skip = set(member(name, 'skips'), identifier('true'));
  if (node.type === 'Continue') return [...before, skip];
  const stop = set(member(name, 'stops'), identifier('true'));
  if (node.type === 'Break') return [...before, skip, stop];
  if (node.type !== 'If') refuse(`a break or continue inside of ${node.type}`);
  const inner = { ...node, body: guard(node['body'] as Node[], name),
    alternate: guard(node['alternate'] as Node[], name) };
  const rest = guard(list.slice(at + 1), name);
  return [...before, inner, ...(rest.length === 0 ? [] : [unless(name, rest)])];
}

/** A parsed template that prints what Jinja prints. Error: BAD_CHAT_TEMPLATE. */
export function rewriteTemplate<T>(program: T): T {
  return new Rewriter().rewrite(program) as T;
}
