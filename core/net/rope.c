/* Rotary positions: tables in double precision, angles by the addition theorem. */
#include "core/net/rope.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* The pair index whose wavelength makes `rotations` turns over the original context (YaRN,
 * eq. 20 solved for the index). */
static double yarn_pair(const onekv_rope *rope, double rotations) {
  double length = (double)rope->n_context_original;
  return (double)rope->n_rotated * log(length / (rotations * 2.0 * PI)) /
         (2.0 * log((double)rope->base));
}

/* How much of the unscaled frequency pair i keeps: 1 for short wavelengths, 0 for long ones. */
static double yarn_share(const onekv_rope *rope, size_t i) {
  double low = floor(yarn_pair(rope, (double)rope->beta_fast));
  double high = ceil(yarn_pair(rope, (double)rope->beta_slow));
  double last = (double)rope->n_rotated - 1.0;
  low = low < 0.0 ? 0.0 : low;
  high = high > last ? last : high;
  double width = high - low > 0.001 ? high - low : 0.001;
  double ramp = ((double)i - low) / width;
  ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
  return 1.0 - ramp;
}

static double pair_frequency(const onekv_rope *rope, const float *frequencies, size_t i) {
  double f = pow((double)rope->base, -2.0 * (double)i / (double)rope->n_rotated);
  if (frequencies != NULL) f /= (double)frequencies[i];
  double share = rope->scaling == ONEKV_ROPE_YARN     ? yarn_share(rope, i)
                 : rope->scaling == ONEKV_ROPE_LINEAR ? 0.0
                                                      : 1.0;
  return f * share + f / (double)rope->factor * (1.0 - share);
}

void rope_tables_make(const onekv_rope *rope, size_t context_window, const float *frequencies,
                      memory_arena *arena, rope_tables *tables) {
  size_t n_pairs = rope->n_rotated / 2;
  size_t n_coarse = context_window / ROPE_STEP + 1;
  float *coarse = arena_take(arena, n_coarse, 2 * n_pairs * sizeof *coarse);
  float *fine = arena_take(arena, ROPE_STEP, 2 * n_pairs * sizeof *fine);
  *tables = (rope_tables){rope->first, n_pairs, rope->halves, coarse, fine};
  if (coarse == NULL || fine == NULL) return;
  double magnitude = (double)rope->attention_factor;
  for (size_t i = 0; i < n_pairs; i++) {
    double f = pair_frequency(rope, frequencies, i);
    for (size_t a = 0; a < n_coarse; a++) {
      double angle = (double)(a * ROPE_STEP) * f;
      coarse[2 * a * n_pairs + i] = (float)(cos(angle) * magnitude);
      coarse[(2 * a + 1) * n_pairs + i] = (float)(sin(angle) * magnitude);
    }
    for (size_t b = 0; b < ROPE_STEP; b++) {
      double angle = (double)b * f;
      fine[2 * b * n_pairs + i] = (float)cos(angle);
      fine[(2 * b + 1) * n_pairs + i] = (float)sin(angle);
    }
  }
}

void rope_angles(const rope_tables *tables, size_t position, float *cosines, float *sines) {
  size_t n_pairs = tables->n_pairs;
  const float *a = tables->coarse + position / ROPE_STEP * 2 * n_pairs;
  const float *b = tables->fine + position % ROPE_STEP * 2 * n_pairs;
  for (size_t i = 0; i < n_pairs; i++) {
    cosines[i] = a[i] * b[i] - a[n_pairs + i] * b[n_pairs + i];
    sines[i] = a[n_pairs + i] * b[i] + a[i] * b[n_pairs + i];
  }
}

/* The kernel for the model's pairs. */
static void rotate_rows(const rope_tables *tables, const kernel_table *kernels, const float *x,
                        size_t n_rows, size_t stride, const float *cosines, const float *sines,
                        size_t angle_stride, bool inverse, float *y) {
  x += tables->first;
  y += tables->first;
  if (tables->halves) {
    kernels->f32_rotate_halves(x, n_rows, stride, cosines, sines, angle_stride, tables->n_pairs,
                               inverse, y);
  } else {
    kernels->f32_rotate_adjacent(x, n_rows, stride, cosines, sines, angle_stride, tables->n_pairs,
                                 inverse, y);
  }
}

void rope_rotate_heads(const rope_tables *tables, const kernel_table *kernels, float *heads,
                       size_t n_heads, size_t head_width, const float *cosines,
                       const float *sines, bool inverse) {
  rotate_rows(tables, kernels, heads, n_heads, head_width, cosines, sines, 0, inverse, heads);
}

void rope_rotate_fine(const rope_tables *tables, const kernel_table *kernels, const float *x,
                      size_t n, size_t head_width, float *y) {
  size_t n_pairs = tables->n_pairs;
  rotate_rows(tables, kernels, x, n, head_width, tables->fine, tables->fine + n_pairs, 2 * n_pairs,
              false, y);
}

void rope_unrotate_coarse(const rope_tables *tables, const kernel_table *kernels, const float *x,
                          size_t n, size_t head_width, size_t step, float *y) {
  const float *cosines = tables->coarse + step * 2 * tables->n_pairs;
  rotate_rows(tables, kernels, x, n, head_width, cosines, cosines + tables->n_pairs, 0, true, y);
}
