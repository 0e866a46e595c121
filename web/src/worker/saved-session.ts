// A saved session: what page and worker know about it (messages, settings), and its tokens or
// core's own snapshot.
//
//   "OneKVs3\n"                          8 bytes
//   u32 hash of all that follows (little-endian), u32 bytes of the description
//   description                          JSON, UTF-8
//   format 'cache': Session.save();  format 'tokens': i32 tokens
//
// The hash (FNV-1a, 32 bits) finds damage. Whatever else is wrong is SNAPSHOT_REFUSED too.
import { checkMessages } from './messages.js';
import type { Past } from './plan.js';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { SamplingOptions } from '../api/sampling.js';
import { draftModes, reasoningModes } from '../api/session.js';
import type { DraftMode, ReasoningMode } from '../api/session.js';
import type { ToolDeclaration } from '../api/tools.js';
import { checkTools } from '../text/tool-forms.js';

/** How a session was opened. */
export interface Settings {
  /** In tokens; 0: the model's. */
  contextWindow: number;
  overflow: 'error' | 'slide';
  keep: number;
  sampling: SamplingOptions;
  tools: readonly ToolDeclaration[];
  templateArguments: Readonly<Record<string, unknown>>;
  reasoning: ReasoningMode;
  reasoningBudget?: number | undefined;
  draft: DraftMode;
  /** When the session began, in milliseconds since 1970: what a template says of the day stays
   * true to the tokens that are there. */
  date: number;
}

interface Saved {
  format: 'cache' | 'tokens';
  /** Model.hash. */
  model: string;
  past: Past;
  settings: Settings;
  /** Session.save(), or i32 tokens. */
  payload: Uint8Array;
}

const magic = new TextEncoder().encode('OneKVs3\n');
const headBytes = magic.length + 8;

function hashOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) {
    hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
  }
  return hash >>> 0;
}

/** JSON has neither bigint nor -Infinity: those are written as strings. */
function writeSampling({ seed, logitBias, ...numbers }: SamplingOptions): object {
  const entries = logitBias instanceof Map ? [...logitBias as Map<number, number>]
    : Object.entries(logitBias ?? {});
  return { ...numbers, seed: String(seed ?? 0),
    logitBias: entries.map(([token, bias]) => [Number(token), String(bias)]) };
}

function readSampling(value: unknown): SamplingOptions {
  const { seed, logitBias, ...numbers } = value as
    { seed: string; logitBias: [number, string][] } & SamplingOptions;
  return { ...numbers, seed: BigInt(seed),
    logitBias: new Map(logitBias.map(([token, bias]) => [token, Number(bias)])) };
}

export function writeSaved(saved: Saved): Uint8Array<ArrayBuffer> {
  const { payload, settings, ...rest } = saved;
  const description = new TextEncoder().encode(JSON.stringify({ ...rest,
    settings: { ...settings, sampling: writeSampling(settings.sampling) } }));
  const bytes = new Uint8Array(headBytes + description.length + payload.length);
  bytes.set(magic);
  bytes.set(description, headBytes);
  bytes.set(payload, headBytes + description.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(magic.length + 4, description.length, true);
  view.setUint32(magic.length, hashOf(bytes.subarray(magic.length + 4)), true);
  return bytes;
}

export function refused(reason: string): OneKVError {
  return new OneKVError('SNAPSHOT_REFUSED', `the saved session ${reason}`);
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}

function checkPast(value: unknown): Past {
  const { chat, messages, text, ends, turns = [], forgotten = 0 } = value as Past;
  const isPlain = typeof chat === 'boolean' && typeof text === 'string' &&
    [...ends, ...turns, forgotten].every(isCount) && ends.length === messages.length;
  if (!isPlain) throw new TypeError('the past has other fields');
  return { chat, messages: checkMessages(messages), text, ends, turns, forgotten };
}

function checkSettings(value: unknown): Settings {
  const { contextWindow, overflow, keep, sampling, tools = [], templateArguments = {},
    date = Date.now(), reasoning = 'separate', reasoningBudget, draft = 'off' } =
    value as Partial<Settings>;
  const isPlain = isCount(contextWindow) && isCount(keep) && isCount(date) &&
    (overflow === 'error' || overflow === 'slide') && typeof templateArguments === 'object' &&
    templateArguments !== null && reasoningModes.includes(reasoning) &&
    draftModes.includes(draft) &&
    (reasoningBudget === undefined || isCount(reasoningBudget));
  if (!isPlain) throw new TypeError('the settings have other fields');
  return { contextWindow: contextWindow as number, overflow, keep: keep as number, date,
    templateArguments, reasoning, reasoningBudget, draft, tools: checkTools(tools),
    sampling: readSampling(sampling) };
}

/** Errors: SNAPSHOT_REFUSED. */
export function readSaved(bytes: Uint8Array, modelHash: string): Saved {
  if (bytes.length < headBytes || !magic.every((byte, i) => bytes[i] === byte)) {
    throw refused('does not begin as one of this version');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (hashOf(bytes.subarray(magic.length + 4)) !== view.getUint32(magic.length, true)) {
    throw refused('is damaged');
  }
  const length = view.getUint32(magic.length + 4, true);
  if (length > bytes.length - headBytes) throw refused('ends too early');
  const all = bytes.subarray(headBytes);
  let saved: Saved;
  try {
    const description = JSON.parse(new TextDecoder().decode(all.slice(0, length))) as Saved;
    const { format, model, past, settings } = description;
    if (format !== 'cache' && format !== 'tokens') throw new TypeError(`format ${format}`);
    saved = { format, model, past: checkPast(past), settings: checkSettings(settings),
      payload: all.slice(length) };
  } catch (error) {
    throw refused(`has no description that can be read: ${reasonOf(error)}`);
  }
  if (saved.model === modelHash) return saved;
  throw refused(`is of model ${saved.model}, and this one is ${modelHash}`);
}
