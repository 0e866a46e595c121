/* The second part of the SIMD body: exp and what is made of it. Same rules as floats_simd.h,
 * which includes this file.
 *
 * exp(x) = 2^k · exp(r), k = round(x / ln 2), |r| <= ln 2 / 2. exp(r) = 1 + r + r² p(r) with p
 * the degree-4 Chebyshev fit, relative error 1.2e-8, below the rounding of the last steps.
 * Results below 2^-126 become 0, above 2^127.5 infinity; NaN stays NaN. No value is ever
 * converted to an integer: k is read out of the float's own bits, so nothing is undefined.
 *
 * erf enters as Phi(-|x|) = exp(-x²/2) · t · s(t), t = 1 / (1 + 0.3 |x|), with s the degree-7
 * Chebyshev fit for 0 <= |x| <= 14, absolute error 5.3e-8. Since t <= 1 and |x| exp(-x²/2) <=
 * 0.61 the error of gelu(x) is below 4e-8 plus roundings in proportion to |gelu(x)|. */
#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

#include <math.h>

/* The constants of exp, loaded once before a loop (simd_hide). */
typedef struct KERNEL(exp_constants) {
  v128_t lowest, highest, log2_e, magic, ln2_high, ln2_low, p[5], one;
} KERNEL(exp_constants);

SIMD_INLINE KERNEL(exp_constants) KERNEL(load_exp_constants)(void) {
  static const float VALUES[] = {
      -87.33654f,     /* ln 2^-126 */
      89.0f,          /* k = 128: infinity; NaN passes */
      1.44269504f,    /* 1 / ln 2 */
      12582912.0f,    /* 1.5 · 2^23: units are integers */
      -0.693359375f,  /* -ln 2 in two parts: k times the first is exact */
      2.12194440e-4f,
      1.3926927e-3f,  /* p, highest degree first */
      8.363774e-3f,   4.166655e-2f, 1.6666573e-1f, 0.5f,
      1.0f,           /* its bits are 127 << 23 */
  };
  const float *v = (const float *)simd_hide(VALUES);
  KERNEL(exp_constants) k;
  k.lowest = wasm_v128_load32_splat(v);
  k.highest = wasm_v128_load32_splat(v + 1);
  k.log2_e = wasm_v128_load32_splat(v + 2);
  k.magic = wasm_v128_load32_splat(v + 3);
  k.ln2_high = wasm_v128_load32_splat(v + 4);
  k.ln2_low = wasm_v128_load32_splat(v + 5);
  for (size_t i = 0; i < 5; i++) k.p[i] = wasm_v128_load32_splat(v + 6 + i);
  k.one = wasm_v128_load32_splat(v + 11);
  return k;
}

SIMD_INLINE v128_t KERNEL(f32x4_exp)(v128_t x, const KERNEL(exp_constants) *k) {
  v128_t below = wasm_f32x4_lt(x, k->lowest);
  x = wasm_f32x4_pmin(x, k->highest);
  v128_t shifted = EXP_MULTIPLY_ADD(x, k->log2_e, k->magic);
  v128_t power = wasm_f32x4_sub(shifted, k->magic);
  v128_t r = EXP_MULTIPLY_ADD(power, k->ln2_high, x);
  r = EXP_MULTIPLY_ADD(power, k->ln2_low, r);
  v128_t p = EXP_MULTIPLY_ADD(k->p[0], r, k->p[1]);
  p = EXP_MULTIPLY_ADD(p, r, k->p[2]);
  p = EXP_MULTIPLY_ADD(p, r, k->p[3]);
  p = EXP_MULTIPLY_ADD(p, r, k->p[4]);
  p = EXP_MULTIPLY_ADD(wasm_f32x4_mul(r, r), p, r);
  p = wasm_f32x4_add(p, k->one);
  v128_t scale = wasm_i32x4_add(wasm_i32x4_shl(shifted, 23), k->one);
  return wasm_v128_andnot(wasm_f32x4_mul(p, scale), below);
}

SIMD_INLINE v128_t KERNEL(f32x4_gelu_erf)(v128_t x, const KERNEL(exp_constants) *k) {
  const v128_t one = wasm_f32x4_splat(1.0f);
  v128_t magnitude = wasm_f32x4_abs(x);
  v128_t slope = wasm_f32x4_splat(0.3f);
  v128_t t = wasm_f32x4_div(one, wasm_f32x4_add(wasm_f32x4_mul(magnitude, slope), one));
  v128_t s = wasm_f32x4_splat(0.0374184819f);
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(-0.164318517f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(0.218315458f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(-0.0643743031f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(0.134021148f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(0.0983277682f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(0.120995561f));
  s = EXP_MULTIPLY_ADD(s, t, wasm_f32x4_splat(0.119614435f));
  v128_t half_square = wasm_f32x4_mul(wasm_f32x4_mul(x, x), wasm_f32x4_splat(-0.5f));
  v128_t tail = wasm_f32x4_mul(wasm_f32x4_mul(s, t), KERNEL(f32x4_exp)(half_square, k));
  v128_t is_negative = wasm_f32x4_lt(x, wasm_f32x4_splat(0.0f));
  return wasm_f32x4_mul(x, wasm_v128_bitselect(tail, wasm_f32x4_sub(one, tail), is_negative));
}

/* 0.5 x (1 + tanh u) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x³) */
SIMD_INLINE v128_t KERNEL(f32x4_gelu_tanh)(v128_t x, const KERNEL(exp_constants) *k) {
  const v128_t one = wasm_f32x4_splat(1.0f);
  v128_t cubic = wasm_f32x4_splat(0.044715f);
  v128_t inner = EXP_MULTIPLY_ADD(wasm_f32x4_mul(x, x), cubic, one);
  v128_t minus_2_u = wasm_f32x4_mul(wasm_f32x4_mul(x, inner), wasm_f32x4_splat(-1.5957691f));
  return wasm_f32x4_div(x, wasm_f32x4_add(KERNEL(f32x4_exp)(minus_2_u, k), one));
}

SIMD_INLINE v128_t KERNEL(f32x4_silu)(v128_t x, const KERNEL(exp_constants) *k) {
  v128_t power = KERNEL(f32x4_exp)(wasm_f32x4_neg(x), k);
  return wasm_f32x4_div(x, wasm_f32x4_add(power, wasm_f32x4_splat(1.0f)));
}

static void KERNEL(f32_gelu_erf)(float *x, size_t n) {
  const KERNEL(exp_constants) k = KERNEL(load_exp_constants)();
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    wasm_v128_store(x + c, KERNEL(f32x4_gelu_erf)(wasm_v128_load(x + c), &k));
  }
  v128_t rest = f32x4_load_partial(x + c, n - c, wasm_f32x4_splat(0.0f));
  f32x4_store_partial(x + c, n - c, KERNEL(f32x4_gelu_erf)(rest, &k));
}

static void KERNEL(f32_gelu_tanh)(float *x, size_t n) {
  const KERNEL(exp_constants) k = KERNEL(load_exp_constants)();
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    wasm_v128_store(x + c, KERNEL(f32x4_gelu_tanh)(wasm_v128_load(x + c), &k));
  }
  v128_t rest = f32x4_load_partial(x + c, n - c, wasm_f32x4_splat(0.0f));
  f32x4_store_partial(x + c, n - c, KERNEL(f32x4_gelu_tanh)(rest, &k));
}

static void KERNEL(f32_silu)(float *x, size_t n) {
  const KERNEL(exp_constants) k = KERNEL(load_exp_constants)();
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    wasm_v128_store(x + c, KERNEL(f32x4_silu)(wasm_v128_load(x + c), &k));
  }
  v128_t rest = f32x4_load_partial(x + c, n - c, wasm_f32x4_splat(0.0f));
  f32x4_store_partial(x + c, n - c, KERNEL(f32x4_silu)(rest, &k));
}

/* The largest of *x and `largest`; like the scalar comparison it passes over a NaN. */
static float KERNEL(maximum)(const float *x, size_t n, float largest) {
  v128_t best = wasm_f32x4_splat(largest);
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) best = wasm_f32x4_pmax(best, wasm_v128_load(x + c));
  best = wasm_f32x4_pmax(best, f32x4_load_partial(x + c, n - c, best));
  best = wasm_f32x4_pmax(best, wasm_i32x4_shuffle(best, best, 2, 3, 0, 1));
  best = wasm_f32x4_pmax(best, wasm_i32x4_shuffle(best, best, 1, 0, 3, 2));
  return wasm_f32x4_extract_lane(best, 0);
}

static float KERNEL(f32_softmax_step)(float *scores, size_t n, float *maximum, float *sum) {
  const KERNEL(exp_constants) k = KERNEL(load_exp_constants)();
  const v128_t masked = wasm_f32x4_splat(-INFINITY);
  float before = *maximum;
  float after = KERNEL(maximum)(scores, n, before);
  /* All masked so far: -INFINITY - -INFINITY would be NaN where the weight is 0. */
  v128_t shift = wasm_f32x4_splat(after == -INFINITY ? 0.0f : after);
  v128_t total = wasm_f32x4_splat(0.0f);
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    v128_t power = KERNEL(f32x4_exp)(wasm_f32x4_sub(wasm_v128_load(scores + i), shift), &k);
    wasm_v128_store(scores + i, power);
    total = wasm_f32x4_add(total, power);
  }
  v128_t rest = wasm_f32x4_sub(f32x4_load_partial(scores + i, n - i, masked), shift);
  rest = KERNEL(f32x4_exp)(rest, &k); /* 0 in the lanes beyond n */
  f32x4_store_partial(scores + i, n - i, rest);
  float factor = before == after ? 1.0f : expf(before - after);
  *sum = *sum * factor + f32x4_sum(wasm_f32x4_add(total, rest));
  *maximum = after;
  return factor;
}
