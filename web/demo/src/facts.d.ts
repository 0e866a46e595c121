// What build/facts.mjs finds out when the page is built.
declare module 'virtual:facts' {
  import type { CacheType, ModelDescription } from 'onekv';

  /** Computed by core: bytes of one token (where there are points: of a further one) and of the
   * whole context. */
  export interface CacheFacts {
    token: number;
    full: number;
    /** [tokens, bytes], where windows bend the growth; between them and behind it is even. */
    points?: [number, number][];
  }

  export interface ShippedFacts {
    file: string;
    bytes: number;
    sha256: string;
    description: ModelDescription;
    parameters: number;
    /** As core holds them. */
    weightBytes: number;
    /** One row is key and value. */
    sharesRow: boolean;
    cache: Record<CacheType, { own: CacheFacts;
      standard: Record<'MHA' | 'GQA-8' | 'GQA-4' | 'GQA-3' | 'MQA', CacheFacts> }>;
  }

  export type ShippedName = 'stories-q-mqa' | 'stories-qkv' | 'table-q-kv' | 'table-qk-v' |
    'digits-keqv' | 'digits-qkv';

  /** A shape of the paper in some of its variants, with weights in q8_0; or a published model's. */
  export interface ShapeFacts {
    name: string;
    isPublished?: boolean;
    /** Of a weight, where they are not 8. */
    bits?: number;
    /** Tokens of a full conversation. */
    context: number;
    variants: { name: string; weightBytes: number; cache: Record<CacheType, CacheFacts> }[];
  }

  /** A row of our table of language models. */
  export interface TableRow {
    parameters: number;
    variant: string;
    perplexity: number;
    /** Largest minus smallest of the seeds. */
    spread: number;
    /** Against QKV, in percent. */
    change: number | null;
    bytesPerToken: number;
    seeds: number;
  }

  export interface TaskRow {
    task: string;
    variant: string;
    /** Accuracy, mean of the seeds. */
    mean: number;
    spread: number;
    seeds: number;
    paper: number | null;
  }

  /** The cache of 32 Ki tokens in the paper's 300M shape, f16, as the allocator counted it. */
  export interface MemoryRow {
    /** 'Q-K=V GQA-4' */
    model: string;
    bytes: number;
    /** How it was computed, where it did not fit. */
    computed: string | undefined;
  }

  /** Perplexities of the two shipped models. */
  export interface LossRow {
    weights: string;
    cache: string;
    one: number;
    std: number;
  }

  export interface BenchFile {
    file: string;
    what: string;
    engine: string;
    date: string;
    cpu: string;
  }

  /** A head that the build searched for, with what it gives to the word that was asked for. */
  export interface FoundHead {
    layer: number;
    head: number;
    weight: number;
    row: number;
    /** Of the model, all. */
    heads: number;
    /** What a token keeps for itself, mean of all heads. */
    own: number;
  }

  /** One measurement of one shape in several runtimes, fastest first. */
  export interface PeersBars {
    what: string;
    engines: { engine: string; version: string | undefined; median: number }[];
  }

  /** One model in several runtimes, with two threads; median in tokens/s. */
  export interface PeersRun {
    title: string;
    command: string;
    bars: PeersBars[];
    file: string;
    browser: string;
    cpu: string;
    date: string;
  }

  /** A published model's shape: bytes of 32 Ki tokens in f16, here, in llama.cpp, and as keys and
   * values of all heads. */
  export interface PublishedModel {
    name: string;
    architecture: string;
    parameters: number;
    /** Bytes of a further token, here. */
    token: number;
    here: number;
    llamaCpp: number;
    expanded: number;
  }

  const facts: {
    models: Record<ShippedName, ShippedFacts>;
    paperShapes: ShapeFacts[];
    publishedShapes: ShapeFacts[];
    /** undefined until models/study/table.py has collected. */
    table: TableRow[] | undefined;
    /** The same of models with equal parameters (models/study/results/equal.json). */
    equal: TableRow[] | undefined;
    attention: { sentence: string; asks: string; wanted: string; one: FoundHead;
      std: FoundHead };
    memory: MemoryRow[];
    losses: LossRow[];
    benches: BenchFile[];
    peers: PeersRun[];
    tasks: { suite: string; rows: TaskRow[] }[];
    /** Of the package, and of the checkout that the page was built from. */
    version: string;
    commit: string | null;
    published: PublishedModel[];
    layers: Record<'shared' | 'mla' | 'gemma', { bytes: number; standard: number }>;
    suggested: { file: string; bytes: number; sha256: string; url: string };
  };
  export default facts;
}
