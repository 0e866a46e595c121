// Shapes of models to measure with: named dimensions, and the paper's variants of them.
//
// A shape says how large a model is, a ShapedModel which variant of it, in which element type. The
// weights are random (random-model.ts): speed and memory do not ask what a model has learned.
import { headsName, projections } from '../engine/description.js';
import type { Projection } from '../api/description.js';
import { checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';

export const shapeTypes = ['q8_0', 'q4_0', 'f16', 'f32'] as const;
/** Element type of the matrices. */
export type ShapeType = (typeof shapeTypes)[number];

const architectures = ['llama', 'gpt2'] as const;

interface Shape {
  /** llama: RMSNorm, RoPE, SwiGLU. gpt2: the paper's: LayerNorm, learned positions, GELU erf,
   * biases. */
  architecture: (typeof architectures)[number];
  layers: number;
  /** d, a multiple of `heads` and of 32, the length of a quantised block. */
  width: number;
  /** Query heads H; their width is d/H. */
  heads: number;
  feedForward: number;
  vocabulary: number;
  /** Longest sequence. */
  context: number;
}

export interface ShapedModel extends Shape {
  /** For messages and file names. */
  shape: string;
  projection: Projection;
  /** H: MHA, 1: MQA; a divisor of H. */
  kvHeads: number;
  type: ShapeType;
  /** Shared projections are written as copies, as an ordinary file for any runtime. */
  expand: boolean;
  /** The same seed gives the same file. */
  seed: number;
}

const llama = { architecture: 'llama', vocabulary: 32000, context: 32768 } as const;
const paper = { architecture: 'gpt2', vocabulary: 50304, context: 2048 } as const;

/** S, M and L have some 15, 110 and 415 million parameters; the others are the paper's. */
export const shapes: Readonly<Record<string, Shape>> = {
  S: { ...llama, layers: 6, width: 288, heads: 6, feedForward: 768 },
  M: { ...llama, layers: 12, width: 768, heads: 12, feedForward: 2048 },
  L: { ...llama, layers: 28, width: 1024, heads: 16, feedForward: 3072 },
  'paper-300M': { ...paper, layers: 20, width: 1024, heads: 16, feedForward: 4096 },
  'paper-1.2B': { ...paper, layers: 22, width: 2048, heads: 32, feedForward: 8192 },
};

export type ShapeOptions = Partial<ShapedModel>;

function checkDimensions(model: ShapedModel): void {
  checkOneOf('architecture', model.architecture, architectures);
  checkInteger('layers', model.layers, 1, 1024);
  checkInteger('heads', model.heads, 1, 1024);
  checkInteger('width', model.width, 32, 65536);
  checkInteger('feedForward', model.feedForward, 32, 2 ** 20);
  checkInteger('vocabulary', model.vocabulary, 512, 2 ** 20);
  checkInteger('context', model.context, 1, 2 ** 20);
  checkInteger('seed', model.seed, 0, 2 ** 32 - 1);
  if (model.width % model.heads !== 0 || (model.width / model.heads) % 2 !== 0) {
    throw invalidArgument('width', model.width, `an even multiple of ${model.heads} heads`);
  }
  if (model.width % 32 !== 0 || model.feedForward % 32 !== 0) {
    throw invalidArgument('width, feedForward', `${model.width}, ${model.feedForward}`,
      'multiples of 32');
  }
  checkOneOf('projection', model.projection, projections);
  checkOneOf('type', model.type, shapeTypes);
  checkInteger('kvHeads', model.kvHeads, 1, model.heads);
  if (model.heads % model.kvHeads !== 0) {
    throw invalidArgument('kvHeads', model.kvHeads, `a divisor of ${model.heads}`);
  }
}

/**
 * A variant of a named shape, any dimension of it replaced; a name that is not known stands for
 * what the options say alone. Default: QKV with MHA in q8_0, seed 1. Error: INVALID_ARGUMENT.
 */
export function shapedModel(shape: string, options: ShapeOptions = {}): ShapedModel {
  const known: Partial<Shape> | undefined = Object.hasOwn(shapes, shape) ? shapes[shape] : llama;
  const dimensions = { ...known, ...options } as Shape;
  const model: ShapedModel = {
    projection: 'QKV', type: 'q8_0', expand: false, seed: 1, kvHeads: dimensions.heads,
    ...dimensions, shape,
  };
  checkDimensions(model);
  return model;
}


const headsOf = ({ heads, kvHeads }: ShapedModel): string => headsName(heads, kvHeads);

/** "M Q-K=V MQA q8_0", for tables. */
export function titleOf(model: ShapedModel): string {
  return [model.shape, model.projection, headsOf(model), model.type,
    ...(model.expand ? ['expanded'] : [])].join(' ');
}

const fileWords: Record<Projection, string> = {
  QKV: 'qkv', 'Q-K=V': 'keqv', 'Q=K-V': 'qeqk', 'Q=K=V': 'qeqkeqv',
};

/** "m-keqv-mqa-expanded.q8_0.gguf". */
export function fileNameOf(model: ShapedModel): string {
  const words = [model.shape.toLowerCase(), fileWords[model.projection],
    headsOf(model).toLowerCase(), ...(model.expand ? ['expanded'] : [])];
  return `${words.join('-')}.${model.type}.gguf`;
}
