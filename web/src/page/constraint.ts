// What an answer must be, as the worker is told it.
import type { Constraint, ResponseConstraint, TokenConstraint } from '../api/session.js';
import { invalidArgument, jsonText } from '../api/errors.js';
import type { PlainGrammar } from '../api/grammar.js';

/** What Model.constrain gives. */
export class CheckedConstraint implements Constraint {
  readonly kind: PlainGrammar['kind'];
  readonly text: string;
  readonly flags: string;

  constructor({ kind, text, flags = '' }: PlainGrammar) {
    this.kind = kind;
    this.text = text;
    this.flags = flags;
    Object.freeze(this);
  }
}

/** A rule of the caller's own. */
export function isTokenConstraint(value: unknown): value is TokenConstraint {
  const { allowed, accept } = (value ?? {}) as Partial<TokenConstraint>;
  return typeof allowed === 'function' && typeof accept === 'function';
}

/** Error: INVALID_ARGUMENT. */
export function wireGrammar(constraint: ResponseConstraint | Constraint): PlainGrammar {
  if (constraint instanceof CheckedConstraint) {
    const { kind, text, flags } = constraint;
    return { kind, text, flags };
  }
  if (constraint instanceof RegExp) {
    return { kind: 'regex', text: constraint.source, flags: constraint.flags };
  }
  const isObject = typeof constraint === 'object' && constraint !== null &&
    !Array.isArray(constraint);
  if (constraint !== true && !isObject) {
    throw invalidArgument('constraint', constraint, 'a JSON schema, a RegExp or { lark }');
  }
  const { lark, type } = constraint as { lark?: unknown; type?: unknown };
  if (typeof lark === 'string') return { kind: 'lark', text: lark };
  if (type === 'json_object') return { kind: 'json', text: '{"type":"object"}' };
  return { kind: 'json', text: jsonText('constraint', constraint) };
}
