// Steps of a model: tokens for several sessions, and choices from their logits, in as few calls of
// core as there is room for. What goes wrong is told for each session by itself.
import { stepItemsMax } from './bindings.js';
import { checkInteger, invalidArgument } from '../api/errors.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import type { Model } from './model.js';
import type { Session } from './session.js';

export interface AdvanceOptions {
  /** Gives also the natural logarithms of the chosen token's probability and of those of this
   * many likeliest tokens; default 0, which gives neither. */
  logprobs?: number | undefined;
  /** May change a session's logits before the choice (a grammar's mask). The row is the module's
   * memory: it must not be kept. */
  mask?: ((logits: Float32Array, session: Session) => void) | undefined;
}

const advanceNames: NamesOf<AdvanceOptions> = { logprobs: true, mask: 'function' };

/** A chosen token. */
export interface Choice {
  token: number;
  /** With options.logprobs: log p(token), before temperature and penalties. */
  logprob?: number;
  /** With options.logprobs: the likeliest tokens, likeliest first. */
  top?: { token: number; logprob: number }[];
}

export interface AppendRequest {
  session: Session;
  /** Checked (checkTokens), at least one. */
  tokens: Int32Array;
}

export interface AdvanceRequest {
  session: Session;
  options: AdvanceOptions;
}

export type AdvanceOutcome = { choice: Choice } | { error: unknown };

/** One item of a step: an onekv_item of core/onekv.h. */
interface StepItem {
  session: number;
  tokens: Int32Array;
  logits: number;
}

const noTokens = new Int32Array(0);

/** One step of core; addresses of the items' logits. Errors: those of onekv_step. */
export function runStep(model: Model, items: readonly StepItem[]): number[] {
  const { bindings, handle } = model;
  const headInts = 4 * items.length;
  const count = items.reduce((sum, item) => sum + item.tokens.length, 0);
  return bindings.withMemory(4 * (headInts + count), (at) => {
    const ints = bindings.ints(at, headInts + count);
    let next = headInts;
    items.forEach(({ session, tokens, logits }, i) => {
      ints.set([session, tokens.length, logits, 0], 4 * i);
      ints.set(tokens, next);
      next += tokens.length;
    });
    bindings.check(bindings.exports._js_step(handle, items.length, at, at + 4 * headInts));
    const heads = bindings.ints(at, headInts);
    return items.map((_, i) => bindings.address(heads[4 * i + 3] as number));
  });
}

function checkSessions(model: Model, requests: readonly { session: Session }[]): void {
  const sessions = new Set(requests.map(({ session }) => session));
  if (sessions.size === requests.length && [...sessions].every((s) => s.model === model)) return;
  throw invalidArgument('sessions', 'a session twice or of another model', 'one of each');
}

/** Groups of at most that many requests, each as one step; a group that fails is taken apart, so
 * that each by itself tells whose failure it was: nothing has changed before. */
function inGroups<Request, Outcome>(requests: readonly Request[], most: number,
  run: (group: readonly Request[]) => Outcome[],
  fail: (error: unknown) => Outcome): Outcome[] {
  const runGroup = (group: readonly Request[]): Outcome[] => {
    try {
      return run(group);
    } catch (error) {
      if (group.length === 1) return [fail(error)];
      return group.flatMap((request) => runGroup([request]));
    }
  };
  const outcomes: Outcome[] = [];
  for (let first = 0; first < requests.length; first += most) {
    for (const outcome of runGroup(requests.slice(first, first + most))) outcomes.push(outcome);
  }
  return outcomes;
}

/** Model.appendEach. */
export function appendEach(model: Model, requests: readonly AppendRequest[]): unknown[] {
  checkSessions(model, requests);
  return inGroups(requests, stepItemsMax, (group) => {
    runStep(model, group.map(({ session, tokens }) =>
      ({ session: session.handle, tokens, logits: 0 })));
    return group.map(() => undefined);
  }, (error) => error);
}

/** Chooses from the session's logits at that address, and appends. Error: NOT_FINITE. */
function choose(model: Model, { session, options }: AdvanceRequest, logits: number): Choice {
  const { bindings, description: { outputs } } = model;
  options.mask?.(bindings.floats(logits, outputs), session);
  const token = bindings.exports._js_choose(model.handle, session.handle, logits);
  if (token < 0) throw bindings.error(bindings.exports._js_error_status());
  const count = options.logprobs ?? 0;
  if (count === 0) return { token };
  checkInteger('logprobs', count, 0, outputs);
  const logprob = bindings.exports._onekv_logprob(logits, outputs, token);
  const top = bindings.address(bindings.exports._onekv_model_top(model.handle, logits, count));
  const floats = bindings.floats(top, 2 * count);
  const ints = bindings.ints(top, 2 * count);
  return {
    token,
    logprob,
    top: Array.from({ length: count }, (_, i) => ({
      token: ints[2 * i + 1] as number, logprob: floats[2 * i] as number,
    })),
  };
}

/** Model.advanceEach; `batch`: rows of logits that a step has room for. */
export function advanceEach(model: Model, batch: number,
  requests: readonly AdvanceRequest[]): AdvanceOutcome[] {
  checkSessions(model, requests);
  for (const { options } of requests) checkOptions('advance', options, advanceNames);
  // Together with others a session does not draft: the batch is filled already.
  const alone = requests.length === 1 ? requests[0]?.session : undefined;
  alone?.drafts?.begin(alone);
  const outcomes = inGroups<AdvanceRequest, AdvanceOutcome>(requests, batch, (group) => {
    const rows = runStep(model, group.map(({ session }) =>
      ({ session: session.handle, tokens: noTokens, logits: 1 })));
    return group.map((request, i) => {
      try {
        return { choice: choose(model, request, rows[i] as number) };
      } catch (error) {
        return { error };
      }
    });
  }, (error) => ({ error }));
  alone?.drafts?.hear(alone);
  return outcomes;
}
