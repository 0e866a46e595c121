// Images for models that classify them.

/** onekv.image.* of the file. */
export interface ImageShape {
  /** Rows and columns. */
  size: number;
  patch: number;
  channels: number;
}

/** Pixels, row after row: grey values (ink) from 0 to 1, or RGBA bytes. */
export interface Pixels {
  width: number;
  height: number;
  data: Float32Array | Uint8ClampedArray;
}

/** Pixels, row after row: an ImageData, or grey values from 0 (paper) to 1 (ink). */
export interface ImageInput {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array | Uint8ClampedArray;
}

export interface Classification {
  /** Of each class. */
  probabilities: Float32Array;
  /** The likeliest class. */
  best: number;
  /** Names of the classes, where the file has them. */
  labels: readonly string[] | undefined;
}
