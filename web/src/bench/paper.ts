// What the paper (arXiv 2606.04032, tables 7 and 10) prints for the cache of its models, and what
// its units mean in bytes.
//
// Its tables mix units: 300M at "32K" are 32000 tokens in decimal GB; of the 1.2B rows, QKV and
// Q-K=V are decimal MB at 32768 tokens and the others MiB. All agree with 2 bytes (bf16) × cached
// elements × layers once that is set right.
import type { Projection } from '../api/description.js';

interface PaperCache {
  shape: string;
  /** The paper's name of the variant. */
  name: string;
  projection: Projection;
  kvHeads: number;
  /** As printed at 32K tokens. */
  printed: string;
  /** Of one printed figure: number, unit in bytes, tokens. */
  reading: readonly [value: number, unit: number, tokens: number];
}

const MB = 1e6;
const GB = 1e9;
const MiB = 2 ** 20;

type Line = readonly [name: string, projection: Projection, kvHeads: number, printed: string,
  value: number, unit: number, tokens: number];

const lines: Record<string, readonly Line[]> = {
  'paper-300M': [
    ['QKV', 'QKV', 16, '2.62 GB', 2.62, GB, 32000],
    ['Q-K=V', 'Q-K=V', 16, '1.31 GB', 1.31, GB, 32000],
    ['Q=K-V', 'Q=K-V', 16, '2.62 GB', 2.62, GB, 32000],
    ['Q=K=V', 'Q=K=V', 16, '1.31 GB', 1.31, GB, 32000],
    ['QKV GQA-4', 'QKV', 4, '0.66 GB', 0.66, GB, 32000],
    ['QKV MQA', 'QKV', 1, '0.16 GB', 0.16, GB, 32000],
    ['Q-K=V GQA-4', 'Q-K=V', 4, '0.33 GB', 0.33, GB, 32000],
    ['Q-K=V MQA', 'Q-K=V', 1, '0.08 GB', 0.08, GB, 32000],
  ],
  'paper-1.2B': [
    ['QKV', 'QKV', 32, '5,900 MB', 5900, MB, 32768],
    ['Q-K=V', 'Q-K=V', 32, '2,950 MB', 2950, MB, 32768],
    ['QKV GQA-8', 'QKV', 8, '1,408 MB', 1408, MiB, 32768],
    ['QKV MQA', 'QKV', 1, '176 MB', 176, MiB, 32768],
    ['Q-K=V GQA-8', 'Q-K=V', 8, 'not given', Number.NaN, MiB, 32768],
    ['Q-K=V MQA', 'Q-K=V', 1, '88 MB', 88, MiB, 32768],
  ],
};

export const paperCaches: readonly PaperCache[] = Object.entries(lines).flatMap(([shape, rows]) =>
  rows.map(([name, projection, kvHeads, printed, ...reading]) =>
    ({ shape, name, projection, kvHeads, printed, reading })));

/** The printed figure as bytes at 32768 tokens. NaN: not given. */
export function paperBytes({ reading: [value, unit, tokens] }: PaperCache): number {
  return value * unit / tokens * 32768;
}
