/* Kernels that must give the same bits in every variant: additions, rotations, encodings.
 *
 * What the bits must be is checked against definitions written another way: a rotation and its
 * inverse, f16 rounding by exact arithmetic in double, i8 and i4 codes by their distance. */
#include "tests/native/check.h"
#include "core/base/f16.h"
#include "core/kernels/kernels.h"

#include <float.h>

enum { SIZE_MAX_TESTED = 70 };

static kernel_table scalar;

/* n floats, up to 3 floats off a vector boundary, in an exact-sized block. */
typedef struct floats {
  float *block;
  float *x;
} floats;

static floats floats_take(size_t n, float limit) {
  size_t shift = check_random_below(4);
  floats taken = {(float *)check_allocate((n + shift) * sizeof(float)), NULL};
  taken.x = taken.block + shift;
  for (size_t i = 0; i < n; i++) taken.x[i] = check_random_float(limit);
  return taken;
}

static void floats_free(floats taken) {
  free(taken.block);
}

static check_guard guard_of_copy(const float *x, size_t n) {
  check_guard guard = check_guard_take(n * sizeof(float), 4 * check_random_below(4));
  if (n > 0) memcpy(guard.start, x, n * sizeof(float));
  return guard;
}

static float *guard_floats(const check_guard *guard) {
  return (float *)(void *)guard->start;
}

static void test_add(const kernel_table *table, size_t n) {
  check_state.context = "f32_add";
  floats x = floats_take(n, 3.0f);
  floats y = floats_take(n, 3.0f);
  check_guard guard = guard_of_copy(x.x, n);
  table->f32_add(guard_floats(&guard), y.x, n);
  for (size_t c = 0; c < n; c++) x.x[c] += y.x[c];
  CHECK_SAME_FLOATS(guard_floats(&guard), x.x, n);
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(x);
  floats_free(y);
}

typedef void (*rotation)(const float *x, size_t n_rows, size_t stride, const float *cosines,
                         const float *sines, size_t angle_stride, size_t n_pairs, bool inverse,
                         float *y);

/* Rows to another place and back in place; the columns behind the pairs stay. */
static void test_rotation(rotation variant, rotation reference, size_t n_pairs, bool adjacent) {
  check_state.context = adjacent ? "f32_rotate_adjacent" : "f32_rotate_halves";
  size_t n_rows = check_random_below(4);
  size_t stride = 2 * n_pairs + check_random_below(3);
  size_t angle_stride = check_random_below(2) * (n_pairs + check_random_below(2));
  size_t n = n_rows * stride;
  size_t n_angles = n_pairs + n_rows * angle_stride;
  floats x = floats_take(n, 2.0f);
  floats cosines = floats_take(n_angles, 1.0f);
  floats sines = floats_take(n_angles, 1.0f);
  floats expected = floats_take(n, 1.0f);
  for (size_t i = 0; i < n_angles; i++) {
    float angle = 3.0f * cosines.x[i];
    cosines.x[i] = cosf(angle);
    sines.x[i] = sinf(angle);
  }
  check_guard guard = guard_of_copy(expected.x, n);
  float *y = guard_floats(&guard);
  variant(x.x, n_rows, stride, cosines.x, sines.x, angle_stride, n_pairs, false, y);
  reference(x.x, n_rows, stride, cosines.x, sines.x, angle_stride, n_pairs, false, expected.x);
  CHECK_SAME_FLOATS(y, expected.x, n);
  for (size_t i = 0; i < n_rows * n_pairs; i++) {
    size_t row = i / n_pairs;
    size_t pair = i % n_pairs;
    size_t first = row * stride + (adjacent ? 2 * pair : pair);
    double a = (double)x.x[first] * (double)cosines.x[row * angle_stride + pair];
    double b = (double)x.x[adjacent ? first + 1 : first + n_pairs] *
               (double)sines.x[row * angle_stride + pair];
    CHECK_CLOSE(y[first], a - b, 4e-7);
  }
  variant(y, n_rows, stride, cosines.x, sines.x, angle_stride, n_pairs, true, y);
  reference(expected.x, n_rows, stride, cosines.x, sines.x, angle_stride, n_pairs, true,
            expected.x);
  CHECK_SAME_FLOATS(y, expected.x, n);
  for (size_t i = 0; i < n; i++) {
    if (i % stride < 2 * n_pairs) CHECK_CLOSE(y[i], x.x[i], 2e-6);
  }
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(x);
  floats_free(cosines);
  floats_free(sines);
  floats_free(expected);
}

/* x rounded to the grid of f16 in double, where every step is exact. */
static double f16_rounded(double x) {
  double magnitude = fabs(x);
  if (magnitude >= 65520.0) return x > 0.0 ? (double)INFINITY : -(double)INFINITY;
  int exponent = 0;
  frexp(magnitude, &exponent);
  if (exponent < -13) exponent = -13; /* subnormals: steps of 2^-24 */
  double step = ldexp(1.0, exponent - 11);
  double rounded = nearbyint(magnitude / step) * step;
  return signbit(x) ? -rounded : rounded;
}

static void check_f16(const kernel_table *table, const float *x, size_t n) {
  check_guard encoded = check_guard_take(n * sizeof(uint16_t), 2 * check_random_below(8));
  uint16_t *halves = (uint16_t *)(void *)encoded.start;
  check_guard decoded = check_guard_take(n * sizeof(float), 4 * check_random_below(4));
  float *y = guard_floats(&decoded);
  table->f16_encode(x, n, halves);
  table->f16_decode(halves, n, y);
  bool same = true;
  for (size_t c = 0; c < n; c++) {
    same = same && halves[c] == f32_to_f16(x[c]);
    float expected = isnan(x[c]) ? NAN : (float)f16_rounded((double)x[c]);
    if (!check_is_close((double)y[c], (double)expected, 0.0)) CHECK_CLOSE(y[c], expected, 0.0);
    same = same && signbit(y[c]) == signbit(x[c]);
  }
  CHECK(same);
  CHECK(check_guard_is_whole(&encoded));
  CHECK(check_guard_is_whole(&decoded));
  check_guard_free(&encoded);
  check_guard_free(&decoded);
}

static void test_f16(const kernel_table *table) {
  check_state.context = "f16";
  for (size_t n = 0; n < SIZE_MAX_TESTED; n++) {
    floats x = floats_take(n, n % 2 == 0 ? 1e-4f : 7e4f);
    check_f16(table, x.x, n);
    floats_free(x);
  }
  enum { N = 65536 };
  float *x = (float *)check_allocate(N * sizeof(float));
  for (size_t i = 0; i < N; i++) x[i] = f32_from_bits(check_random_u32()); /* any float at all */
  check_f16(table, x, N);
  /* Every f16 value, the floats next to it and next to the middle to its neighbour: all ties. */
  static const uint32_t STEPS[] = {0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff};
  for (size_t step = 0; step < sizeof STEPS / sizeof STEPS[0]; step++) {
    for (size_t i = 0; i < N; i++) {
      x[i] = f32_from_bits(f32_to_bits(f32_from_f16((uint16_t)i)) + STEPS[step]);
    }
    check_f16(table, x, N);
  }
  /* Ties between subnormals, where a step of f32 bits is not a step of f16. */
  for (size_t i = 0; i < N; i++) x[i] = (float)i * 0x1p-26f * (i % 2 == 0 ? 1.0f : -1.0f);
  check_f16(table, x, N);
  uint16_t *halves = (uint16_t *)check_allocate(N * sizeof(uint16_t));
  for (size_t i = 0; i < N; i++) halves[i] = (uint16_t)i;
  table->f16_decode(halves, N, x);
  size_t n_back = 0;
  for (size_t i = 0; i < N; i++) n_back += isnan(x[i]) || f32_to_f16(x[i]) == i;
  CHECK(n_back == N);
  free(halves);
  free(x);
}

/* Codes of n floats: those of scalar, nearest to x / scale, and the decoded row. */
static void check_i8(const kernel_table *table, const float *x, size_t n) {
  check_guard guard = check_guard_take(n, check_random_below(16));
  int8_t *codes = (int8_t *)guard.start;
  int8_t *expected = (int8_t *)check_allocate(n);
  floats decoded = floats_take(n, 1.0f);
  floats reference = floats_take(n, 1.0f);
  float scale = -1.0f;
  float expected_scale = -2.0f;
  table->i8_encode(x, n, codes, &scale);
  scalar.i8_encode(x, n, expected, &expected_scale);
  CHECK_SAME_FLOATS(&scale, &expected_scale, 1);
  CHECK(n == 0 || memcmp(codes, expected, n) == 0);
  table->i8_decode(codes, n, scale, decoded.x);
  scalar.i8_decode(codes, n, scale, reference.x);
  CHECK_SAME_FLOATS(decoded.x, reference.x, n);
  if (scale >= FLT_MIN && scale < INFINITY) {
    bool near = true;
    double step = (double)scale;
    for (size_t c = 0; c < n; c++) {
      near = near && fabs((double)x[c] - codes[c] * step) <= 0.50001 * step;
    }
    CHECK(near);
  }
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  free(expected);
  floats_free(decoded);
  floats_free(reference);
}

static void test_i8(const kernel_table *table) {
  check_state.context = "i8";
  for (size_t n = 0; n < SIZE_MAX_TESTED; n++) {
    static const float LIMITS[] = {0.0f, 1e-44f, 1e-38f, 1.0f, 1e38f};
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
      floats x = floats_take(n, LIMITS[i]);
      check_i8(table, x.x, n);
      floats_free(x);
    }
    if (n == 0) continue;
    floats x = floats_take(n, 1.0f);
    x.x[check_random_below(n)] = -INFINITY;
    check_i8(table, x.x, n);
    x.x[check_random_below(n)] = NAN;
    check_i8(table, x.x, n);
    int8_t codes[SIZE_MAX_TESTED];
    float scale = 0.0f;
    table->i8_encode(x.x, n, codes, &scale);
    CHECK(isnan(scale) && codes[0] == 0); /* decodes to NaN: seen, not hidden */
    floats_free(x);
  }
  /* Ties go to even: with a largest value of 127 the scale is 1. */
  const float ties[] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f};
  const int8_t even[] = {127, 0, 2, 2, 0, -2, -2, 126, -126};
  int8_t codes[9];
  float scale = 0.0f;
  table->i8_encode(ties, 9, codes, &scale);
  CHECK(scale == 1.0f && memcmp(codes, even, 9) == 0);
}

/* The codes and scales of n floats: those of scalar, and each decoded number the nearest that its
 * group has. V of IQ4_NL ends at -127 and 113, and no two of its values are more than 24 apart: an
 * element is off by half of that, or by 14 beyond 113, of 127ths of its group's largest, and by as
 * much as f16 rounds that (2^-11). */
static void check_i4(const kernel_table *table, const float *x, size_t n) {
  size_t n_bytes = i4_code_bytes(n);
  check_guard codes = check_guard_take(n_bytes, check_random_below(16));
  check_guard scales = check_guard_take(i4_groups(n) * sizeof(uint16_t), 2);
  uint8_t *expected = (uint8_t *)check_allocate(n_bytes + 1);
  uint16_t expected_scales[SIZE_MAX_TESTED / I4_GROUP + 1];
  floats decoded = floats_take(n, 1.0f);
  floats reference = floats_take(n, 1.0f);
  uint16_t *found_scales = (uint16_t *)(void *)scales.start;
  table->i4_encode(x, n, codes.start, found_scales);
  scalar.i4_encode(x, n, expected, expected_scales);
  CHECK(n == 0 || memcmp(codes.start, expected, n_bytes) == 0);
  CHECK(n == 0 || memcmp(found_scales, expected_scales, i4_groups(n) * sizeof(uint16_t)) == 0);
  table->i4_decode(codes.start, found_scales, n, decoded.x);
  scalar.i4_decode(expected, expected_scales, n, reference.x);
  CHECK_SAME_FLOATS(decoded.x, reference.x, n);
  for (size_t c = 0; c < n; c++) {
    double scale = fabs((double)f32_from_f16(expected_scales[c / I4_GROUP]));
    if (!(scale >= 0x1p-14 && isfinite(scale))) continue;
    double off = fabs((double)decoded.x[c] - (double)x[c]) / scale;
    CHECK_SAY(off <= 14.6 / 127.0, "element %zu of %zu: off by %g", c, n, off);
  }
  CHECK(check_guard_is_whole(&codes) && check_guard_is_whole(&scales));
  check_guard_free(&codes);
  check_guard_free(&scales);
  free(expected);
  floats_free(decoded);
  floats_free(reference);
}

static void test_i4(const kernel_table *table) {
  check_state.context = "i4";
  for (size_t n = 0; n < SIZE_MAX_TESTED; n++) {
    static const float LIMITS[] = {0.0f, 1e-44f, 1e-7f, 1e-5f, 1.0f, 6e4f, 1e38f};
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
      floats x = floats_take(n, LIMITS[i]);
      check_i4(table, x.x, n);
      if (n > 0) x.x[check_random_below(n)] = -0.0f;
      check_i4(table, x.x, n);
      floats_free(x);
    }
    if (n == 0) continue;
    static const float ODD[] = {-INFINITY, NAN, 1e6f};
    for (size_t i = 0; i < 3; i++) {
      floats x = floats_take(n, 1.0f);
      size_t at = check_random_below(n);
      x.x[at] = ODD[i];
      check_i4(table, x.x, n);
      uint8_t codes[SIZE_MAX_TESTED];
      uint16_t scales[SIZE_MAX_TESTED / I4_GROUP + 1];
      table->i4_encode(x.x, n, codes, scales);
      table->i4_decode(codes, scales, n, x.x);
      CHECK(!isfinite(x.x[at])); /* seen, not hidden */
      floats_free(x);
    }
  }
  /* The values themselves, either way up, and what a tie of the largest does. */
  float x[I4_GROUP];
  float found[I4_GROUP];
  uint8_t codes[I4_GROUP / 2];
  uint16_t scale = 0;
  for (int sign = -1; sign <= 1; sign += 2) {
    float step = (float)sign * I4_STEP;
    for (size_t i = 0; i < I4_GROUP; i++) x[i] = (float)PACKED_VALUES[VALUES_IQ4][i % 16] * step;
    table->i4_encode(x, I4_GROUP, codes, &scale);
    for (size_t i = 0; i < 16; i++) CHECK(codes[i] == 17 * i);
    table->i4_decode(codes, &scale, I4_GROUP, found);
    CHECK_SAME_FLOATS(found, x, I4_GROUP);
  }
  const float tie[2] = {2.0f, -2.0f};
  table->i4_encode(tie, 2, codes, &scale);
  CHECK(f32_from_f16(scale) == -2.0f && (codes[0] & 15) == 15 && codes[0] >> 4 == 0);
}

int main(void) {
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  check_seed(20261123);
  for (int level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)level);
    printf("kernels: %s\n", table.name);
    for (size_t n = 0; n < SIZE_MAX_TESTED; n++) {
      test_add(&table, n);
      test_rotation(table.f32_rotate_adjacent, scalar.f32_rotate_adjacent, n, true);
      test_rotation(table.f32_rotate_halves, scalar.f32_rotate_halves, n, false);
    }
    test_f16(&table);
    test_i8(&table);
    test_i4(&table);
  }
  return check_finish();
}
