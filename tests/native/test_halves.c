/* One token and rows of halves (token_matmul), and one query's weighted sum of them (f16_attend):
 * the bits of the decoded rows' product in each variant, also where a half is not finite or a
 * factor is very large, which the quick way of F16 is wrong for. */
#include "tests/native/check.h"
#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "core/kernels/kernels.h"

enum { COLUMNS_MAX = 33 };

static uint16_t random_half(tensor_type type) {
  float value = check_random_float(check_random_below(5) == 0 ? 1e-5f : 2.0f);
  if (type == TENSOR_F16_NORMAL) return f16_normal_from_f32(f32_from_f16(f32_to_f16(value)));
  return type == TENSOR_F16 ? f32_to_f16(value) : (uint16_t)(f32_to_bits(value) >> 16);
}

static void check_token(const kernel_table *table, tensor_type type, size_t n_rows, size_t n) {
  size_t n_halves = n_rows * n;
  uint8_t *space = check_allocate(2 * n_halves + 1);
  uint8_t *w = space + 1; /* an odd address */
  float *x = check_allocate(n * sizeof *x);
  float *rows = check_allocate(n_halves * sizeof *rows);
  float *expected = check_allocate(n_rows * sizeof *expected);
  check_guard guard = check_guard_take(n_rows * sizeof(float), 4 * check_random_below(4));
  float *y = (float *)(void *)guard.start;
  for (size_t c = 0; c < n; c++) x[c] = check_random_float(2.0f);
  for (size_t has_infinity = 0; has_infinity < 3; has_infinity++) {
    if (has_infinity == 2 && n > 0) x[check_random_below((uint32_t)n)] = 1e6f; /* 2^112: infinite */
    for (size_t i = 0; i < n_halves; i++) store_u16(w + 2 * i, random_half(type));
    if (has_infinity == 1 && n_halves > 0 && type != TENSOR_F16_NORMAL) {
      size_t place = check_random_below((uint32_t)n_halves);
      store_u16(w + 2 * place, type == TENSOR_F16 ? 0xfc00 : 0xff80);
    }
    table->dequantize[type](w, n_halves, rows);
    table->f32_matmul(rows, n, n_rows, x, n, 1, n, expected, n_rows);
    table->token_matmul[type](w, n_rows, x, n, y);
    CHECK_SAME_FLOATS(y, expected, n_rows);
  }
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  free(expected);
  free(rows);
  free(x);
  free(space);
}

static void check_attend(const kernel_table *table, size_t n_positions, size_t n) {
  size_t n_halves = n_positions * n;
  uint16_t *v = check_allocate(n_halves * sizeof *v);
  float *rows = check_allocate(n_halves * sizeof *rows);
  float *weights = check_allocate(n_positions * sizeof *weights);
  float *expected = check_allocate(n * sizeof *expected);
  check_guard guard = check_guard_take(n * sizeof(float), 4 * check_random_below(4));
  float *out = (float *)(void *)guard.start;
  for (size_t has_infinity = 0; has_infinity < 2; has_infinity++) {
    for (size_t i = 0; i < n_halves; i++) v[i] = random_half(TENSOR_F16);
    for (size_t p = 0; p < n_positions; p++) weights[p] = check_random_float(2.0f);
    for (size_t c = 0; c < n; c++) out[c] = expected[c] = check_random_float(2.0f);
    if (has_infinity == 1 && n_halves > 0) v[check_random_below((uint32_t)n_halves)] = 0x7c00;
    float factor = check_random_float(1.0f);
    table->f16_decode(v, n_halves, rows);
    table->f32_attend(weights, n_positions, 1, rows, n, n_positions, n, &factor, expected, n);
    table->f16_attend(weights, v, n_positions, n, factor, out);
    CHECK_SAME_FLOATS(out, expected, n);
  }
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  free(expected);
  free(weights);
  free(rows);
  free(v);
}

/* All halves that F16_NORMAL has keep their value, and none is a subnormal float on the way. */
static void check_normal(void) {
  size_t n = 0;
  for (uint32_t half = 0; half < 0x10000; half++) {
    float value = f32_from_f16((uint16_t)half);
    if (!(value < F16_NORMAL_LIMIT && value > -F16_NORMAL_LIMIT)) continue;
    uint16_t code = f16_normal_from_f32(value);
    CHECK(f32_to_bits(f32_from_f16_normal(code)) == f32_to_bits(value));
    CHECK((code & 0x7fff) == 0 || (code & 0x7fff) >= 0x0400);
    n++;
  }
  CHECK(n == 2 * 22 * 1024); /* exponents up to 2^6, and the subnormals with 0 */
}

int main(void) {
  check_seed(20261128);
  check_normal();
  for (int level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)level);
    printf("kernels: %s\n", table.name);
    bool is_scalar = strcmp(table.name, "scalar") == 0;
    for (uint32_t type = 0; type < TENSOR_TYPE_END; type++) {
      bool is_there = !is_scalar && (type == TENSOR_F16 || type == TENSOR_F16_NORMAL ||
                                     type == TENSOR_BF16);
      CHECK((table.token_matmul[type] != NULL) == is_there);
      if (!is_there) continue;
      check_state.context = type == TENSOR_F16_NORMAL ? "F16_NORMAL" :
                                                        tensor_type_describe(type).name;
      for (size_t n = 0; n <= COLUMNS_MAX; n++) {
        for (size_t n_rows = 0; n_rows <= 9; n_rows++) {
          check_token(&table, (tensor_type)type, n_rows, n);
        }
      }
      check_token(&table, (tensor_type)type, 16, 1023);
    }
    CHECK((table.f16_attend != NULL) == !is_scalar);
    if (is_scalar) continue;
    check_state.context = "f16_attend";
    for (size_t n = 0; n <= 3 * COLUMNS_MAX; n++) {
      for (size_t n_positions = 0; n_positions <= 33; n_positions += 11) {
        check_attend(&table, n_positions, n);
      }
    }
  }
  return check_finish();
}
