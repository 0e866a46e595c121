// An image becomes the rows that a vision transformer takes: one per patch.
//
// As models/study/classify/images.py cuts them: patches in row order, each
// [channels][patch][patch], zeros where the image ends; values from 0 to 1.
import type { ImageShape, Pixels } from '../api/image.js';
import { invalidArgument } from '../api/errors.js';

const sideMost = 8192;

function checkPixels({ width, height, data }: Pixels): void {
  const fits = (side: unknown) => Number.isInteger(side) && (side as number) >= 1 &&
    (side as number) <= sideMost;
  if (!fits(width) || !fits(height)) {
    throw invalidArgument('image', `${width} × ${height}`, `sides of 1 to ${sideMost} pixels`);
  }
  const bytes = data instanceof Uint8ClampedArray ? 4 : 1;
  if (!(data instanceof Float32Array) && bytes === 1) {
    throw invalidArgument('image.data', data, 'a Float32Array, or RGBA as Uint8ClampedArray');
  }
  if (data.length !== bytes * width * height) {
    throw invalidArgument('image.data', `${data.length} numbers`, `${bytes * width * height}`);
  }
}

/** Channel c of pixel i. One channel of RGBA is ink: dark is 1, white and transparent are 0. */
function channelOf({ data }: Pixels, channels: number): (i: number, c: number) => number {
  if (data instanceof Float32Array) return (i) => data[i] as number;
  const byte = (at: number) => data[at] as number;
  if (channels > 1) return (i, c) => byte(4 * i + Math.min(c, 2)) / 255;
  return (i) => {
    const luma = 0.299 * byte(4 * i) + 0.587 * byte(4 * i + 1) + 0.114 * byte(4 * i + 2);
    return byte(4 * i + 3) / 255 * (1 - luma / 255);
  };
}

/** What each input pixel weighs in output pixel `to` of `count`: the length they share. */
function shares(to: number, count: number, length: number): [number, number][] {
  const start = to * length / count;
  const end = (to + 1) * length / count;
  const weights: [number, number][] = [];
  for (let i = Math.floor(start); i < Math.min(length, Math.ceil(end)); i++) {
    weights.push([i, (Math.min(i + 1, end) - Math.max(i, start)) / (end - start)]);
  }
  return weights;
}

/** Scaled to size × size by areas: [channels][size][size]. */
function scaled(pixels: Pixels, { size, channels }: ImageShape): Float32Array {
  const { width, height } = pixels;
  const value = channelOf(pixels, channels);
  const columns = Array.from({ length: size }, (_, x) => shares(x, size, width));
  const out = new Float32Array(channels * size * size);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < size; y++) {
      const rows = shares(y, size, height);
      columns.forEach((shared, x) => {
        let sum = 0;
        for (const [row, weight] of rows) {
          for (const [column, share] of shared) {
            sum += weight * share * value(row * width + column, c);
          }
        }
        out[(c * size + y) * size + x] = sum;
      });
    }
  }
  return out;
}

/** The rows [patches][channels · patch · patch] of an image. Error: INVALID_ARGUMENT. */
export function imageRows(pixels: Pixels, shape: ImageShape): Float32Array {
  checkPixels(pixels);
  const { size, patch, channels } = shape;
  const image = scaled(pixels, shape);
  const across = Math.ceil(size / patch);
  const rows = new Float32Array(across * across * channels * patch * patch);
  let next = 0;
  for (let p = 0; p < across * across; p++) {
    const [top, left] = [Math.floor(p / across) * patch, p % across * patch];
    for (let c = 0; c < channels; c++) {
      for (let y = top; y < top + patch; y++) {
        for (let x = left; x < left + patch; x++) {
          rows[next++] = y < size && x < size ? image[(c * size + y) * size + x] as number : 0;
        }
      }
    }
  }
  return rows;
}
