// The paper's own figures: Table 4 and Table 7 of arXiv 2606.04032, its 300M models on SlimPajama.
//
// Cache is at bf16, from the shapes: KV heads × 2 tensors × 20 layers × 64 × 2 bytes. Its
// perplexities include padding, so they compare among themselves only.

export interface PaperRow {
  /** As in models/study/table.py. */
  variant: string;
  /** As the page calls it. */
  name: string;
  /** As the benchmark's reports call it. */
  model: string;
  perplexity: number;
  /** Percent against QKV. */
  change: number | undefined;
  bytesPerToken: number;
}

export const paperRows: readonly PaperRow[] = [
  { variant: 'QKV', name: 'QKV', model: 'QKV MHA',
    perplexity: 5.11, change: undefined, bytesPerToken: 81_920 },
  { variant: 'Q-K=V', name: 'Q-K=V', model: 'Q-K=V MHA',
    perplexity: 5.27, change: 3.1, bytesPerToken: 40_960 },
  { variant: 'Q=K-V', name: 'Q=K-V', model: 'Q=K-V MHA',
    perplexity: 5.36, change: 4.9, bytesPerToken: 81_920 },
  { variant: 'Q=K=V', name: 'Q=K=V', model: 'Q=K=V MHA',
    perplexity: 6.41, change: 25.4, bytesPerToken: 40_960 },
  { variant: 'GQA-4', name: 'QKV GQA-4', model: 'QKV GQA-4',
    perplexity: 5.15, change: 0.7, bytesPerToken: 20_480 },
  { variant: 'MQA', name: 'QKV MQA', model: 'QKV MQA',
    perplexity: 5.19, change: 1.5, bytesPerToken: 5_120 },
  { variant: 'Q-GQA-4', name: 'Q-K=V GQA-4', model: 'Q-K=V GQA-4',
    perplexity: 5.32, change: 3.9, bytesPerToken: 10_240 },
  { variant: 'Q-MQA', name: 'Q-K=V MQA', model: 'Q-K=V MQA',
    perplexity: 5.36, change: 4.8, bytesPerToken: 2_560 },
];
