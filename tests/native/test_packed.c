/* Packed matrices and integer products.
 *
 * Packing: a row that was packed and is read back has the bits of the dequantiser, for random
 * blocks of every type and every row of a strip.
 *
 * Products: every variant gives the bits of the scalar one, whatever the number of tokens, and
 * the scalar one stands by the exact product. Bound for a block: rounding x moves
 * it by at most scale / 2 = max|x| / (2 · limit), so a product by sum |w| of that; float operations
 * add 4 roundings a block (the sum's, which may have more than 24 bits, and three products') and
 * one for each addition: (n_blocks + 6) u sum |w x|, u = 2^-24, over the parts that are added,
 * which for a type with minima are value · scale and minimum apart, and for tokens of two rows
 * the high and the low part: their sizes add up to at most 1.01 of the values'. */
#include "tests/native/check.h"
#include "core/base/f16.h"
#include "core/kernels/kernels.h"
#include "tests/native/packed_bench.h"

enum { ROWS = PACKED_ROWS, TOKENS_MAX = 13 };

static const double U = 1.0 / 16777216.0;

static const packed_form FORMS[] = {
#define X(type, ...) PACKED_##type,
    PACKED_FORM_LIST(X)
#undef X
};
static const tensor_type TYPES[] = {
#define X(type, ...) TENSOR_##type,
    PACKED_FORM_LIST(X)
#undef X
};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static kernel_table scalar;

/* Where a block's f16 factors are: random bits there would be huge numbers. */
static void set_factors(tensor_type type, uint8_t *block) {
  if (type == TENSOR_MXFP4) { /* some of them far apart, the smallest too */
    *block = check_random_below(8) == 0 ? (uint8_t)check_random_below(4)
                                        : (uint8_t)(118 + check_random_below(8));
    return;
  }
  size_t place = type == TENSOR_Q6_K    ? 208
                 : type == TENSOR_Q2_K  ? 80
                 : type == TENSOR_Q3_K  ? 108
                 : type == TENSOR_TQ2_0 ? 64
                                        : 0;
  size_t n = PACKED_GEOMETRY[packed_form_of(type)].has_minimum ? 2 : 1;
  for (size_t i = 0; i < n; i++, place += sizeof(uint16_t)) {
    /* Every third is a subnormal half, as most factors of K types are in trained models. */
    float largest = check_random_below(3) == 0 ? 0x1p-14f : 0.02f;
    uint16_t half = f32_to_f16(check_random_float(largest));
    memcpy(block + place, &half, sizeof half);
  }
}

/* A strip of random rows: the file's bytes and the packed ones. */
typedef struct strip {
  tensor_type type;
  packed_form form;
  size_t n_columns;
  size_t n_blocks; /* of a row */
  uint8_t *rows;   /* [16][row_bytes] */
  uint8_t *packed; /* [n_blocks][block_bytes], exactly as large */
  float *weights;  /* [16][n_columns] by the dequantiser */
} strip;

static strip strip_make(tensor_type type, size_t n_columns) {
  strip out = {.type = type, .form = packed_form_of(type), .n_columns = n_columns};
  tensor_type_info info = tensor_type_describe(type);
  out.n_blocks = n_columns / info.block_elements;
  size_t row_bytes = out.n_blocks * info.block_bytes;
  size_t block_bytes = packed_block_bytes(out.form);
  out.rows = check_allocate(ROWS * row_bytes);
  out.packed = check_allocate(out.n_blocks * block_bytes);
  out.weights = check_allocate(ROWS * n_columns * sizeof(float));
  memset(out.packed, 0xc3, out.n_blocks * block_bytes);
  for (size_t i = 0; i < ROWS * row_bytes; i++) out.rows[i] = (uint8_t)check_random_u32();
  bool all_finite = true;
  for (size_t i = 0; i < ROWS * out.n_blocks; i++) {
    uint8_t *block = out.rows + i * info.block_bytes;
    set_factors(type, block);
    all_finite &= packed_write(out.form, block, 1, i / out.n_blocks,
                               out.packed + i % out.n_blocks * block_bytes);
  }
  CHECK(all_finite);
  CHECK((double)block_bytes <= 1.03 * PACKED_ROWS * (double)info.block_bytes);
  for (size_t r = 0; r < ROWS; r++) {
    scalar.dequantize[type](out.rows + r * row_bytes, n_columns, out.weights + r * n_columns);
  }
  return out;
}

static void strip_free(strip *made) {
  free(made->rows);
  free(made->packed);
  free(made->weights);
}

static void test_reading(const strip *made) {
  size_t n_blocks = made->n_blocks;
  float *row = check_allocate(made->n_columns * sizeof *row);
  for (size_t r = 0; r < ROWS; r++) {
    packed_read(made->form, made->packed, r, n_blocks, row);
    CHECK_SAME_FLOATS(row, made->weights + r * made->n_columns, made->n_columns);
  }
  size_t n_bytes = n_blocks * packed_block_bytes(made->form);
  uint8_t *cleared = check_allocate(n_bytes);
  memcpy(cleared, made->packed, n_bytes);
  packed_clear(made->form, 5, n_blocks, cleared);
  for (size_t r = 0; r < ROWS; r++) {
    packed_read(made->form, cleared, r, n_blocks, row);
    for (size_t c = 0; r == 5 && c < made->n_columns; c++) CHECK(row[c] == 0.0f);
    if (r == 5) continue;
    CHECK_SAME_FLOATS(row, made->weights + r * made->n_columns, made->n_columns);
  }
  free(cleared);
  free(row);
}

typedef struct input {
  float *x; /* [TOKENS_MAX][n_columns] */
  packed_activations packed;
} input;

static input input_make(const kernel_table *table, size_t n_columns, size_t block_columns,
                        size_t rows_per_token, const float *given) {
  size_t n = TOKENS_MAX * n_columns;
  size_t n_all = n * rows_per_token;
  input out = {.x = check_allocate(n * sizeof(float)),
               .packed = {.n_columns = n_columns, .block_columns = block_columns,
                          .rows_per_token = rows_per_token}};
  out.packed.n_slab_rows = table->packed_has_slabs ? TOKENS_MAX * rows_per_token : 0;
  size_t n_slabs = packed_slabs_of(n_columns) * TOKENS_MAX * rows_per_token;
  out.packed.slabs = check_allocate((n_slabs + PACKED_SLAB_TILE - 1) * sizeof(packed_slab));
  out.packed.n_table_rows = TOKENS_MAX * rows_per_token / 2; /* the rest by tiles */
  out.packed.values = check_allocate(n_all * sizeof(int8_t));
  out.packed.wide = check_allocate(n_all * sizeof(int16_t));
  out.packed.scales = check_allocate(n_all / block_columns * sizeof(float));
  out.packed.pairs = check_allocate(n_all / 8 * sizeof(int16_t));
  out.packed.sums = check_allocate(n_all / 32 * sizeof(int16_t));
  out.packed.tables = check_allocate(out.packed.n_table_rows * PACKED_TABLE_BYTES * n_columns);
  for (size_t i = 0; i < n; i++) out.x[i] = given != NULL ? given[i] : check_random_float(3.0f);
  for (size_t t = 0; t < TOKENS_MAX; t++) {
    table->packed_encode(out.x + t * n_columns, t, &out.packed);
  }
  return out;
}

static void input_free(input *made) {
  free(made->x);
  free(made->packed.values);
  free(made->packed.wide);
  free(made->packed.scales);
  free(made->packed.pairs);
  free(made->packed.sums);
  free(made->packed.tables);
  free(made->packed.slabs);
}

/* The scalar product against the exact one, as bounded above. */
static void test_accuracy(const strip *made, const input *in, const float *y) {
  size_t n_blocks = made->n_blocks;
  size_t n_block_columns = made->n_columns / n_blocks;
  size_t per_token = in->packed.rows_per_token;
  bool close = true;
  for (size_t t = 0; t < TOKENS_MAX; t++) {
    for (size_t r = 0; r < ROWS; r++) {
      const float *w = made->weights + r * made->n_columns;
      const float *x = in->x + t * made->n_columns;
      double exact = 0.0;
      double bound = 0.0;
      for (size_t b = 0; b < n_blocks; b++) {
        double largest = 0.0;
        double weights = 0.0;
        double lowest = 0.0;
        double highest = 0.0;
        for (size_t c = b * n_block_columns; c < (b + 1) * n_block_columns; c++) {
          exact += (double)w[c] * (double)x[c];
          largest = fmax(largest, fabs((double)x[c]));
          weights += fabs((double)w[c]);
          lowest = fmin(lowest, (double)w[c]);
          highest = fmax(highest, (double)w[c]);
        }
        /* A minimum is at most one range of 63 steps away from the weights: sums of value · scale
         * and of minima are within the block's columns × 4 times the largest weight. */
        double parts = 4.04 * (double)n_block_columns * fmax(highest, -lowest) * largest;
        bound += weights * largest / (2.0 * packed_limit(per_token)) +
                 ((double)n_blocks + 6.0) * U * parts;
      }
      const float *found = y + t * per_token * ROWS + r;
      double sum = (double)found[0] + (per_token == 2 ? (double)found[ROWS] : 0.0);
      close = close && fabs(sum - exact) <= bound;
    }
  }
  CHECK(close);
}

static void test_products(const kernel_table *table, const strip *made, size_t rows_per_token) {
  size_t block_columns = made->n_columns / made->n_blocks;
  size_t n_all = TOKENS_MAX * rows_per_token;
  input in = input_make(table, made->n_columns, block_columns, rows_per_token, NULL);
  float *expected = check_allocate(n_all * ROWS * sizeof *expected);
  scalar.packed_matmul[made->form](made->packed, &in.packed, n_all, expected, ROWS);
  if (table->name[0] == 's' && table->name[1] == 'c') test_accuracy(made, &in, expected);
  for (size_t n_rows = 0; n_rows <= n_all; n_rows++) {
    size_t stride = ROWS + check_random_below(3);
    check_guard guard = check_guard_take(n_rows * stride * sizeof(float),
                                         4 * check_random_below(4));
    float *y = (float *)(void *)guard.start;
    table->packed_matmul[made->form](made->packed, &in.packed, n_rows, y, stride);
    bool untouched = true;
    for (size_t t = 0; t < n_rows; t++) {
      CHECK_SAME_FLOATS(y + t * stride, expected + t * ROWS, ROWS);
      for (size_t r = ROWS; r < stride; r++) {
        untouched = untouched && *(uint8_t *)&y[t * stride + r] == CHECK_CANARY;
      }
    }
    CHECK(untouched && check_guard_is_whole(&guard));
    check_guard_free(&guard);
  }
  free(expected);
  input_free(&in);
}

/* All codes and scales the largest or the smallest that the type has, all activations of one sign
 * and of the largest size: no sum leaves its range. */
static void test_extremes(const kernel_table *table, const strip *made, size_t rows_per_token) {
  size_t block_columns = made->n_columns / made->n_blocks;
  size_t n = TOKENS_MAX * made->n_columns;
  size_t n_all = TOKENS_MAX * rows_per_token;
  float *x = check_allocate(n * sizeof *x);
  float *expected = check_allocate(2 * n_all * ROWS * sizeof *expected);
  uint8_t *packed = check_allocate(made->n_blocks * packed_block_bytes(made->form));
  for (int k = 0; k < 6; k++) {
    for (size_t i = 0; i < n; i++) x[i] = k % 2 == 0 ? 1.0f : -1.0f;
    for (size_t b = 0; b < made->n_blocks; b++) {
      uint8_t *block = packed + b * packed_block_bytes(made->form);
      size_t n_factors = packed_scales_offset(PACKED_GEOMETRY[made->form]);
      memset(block, k < 2 ? 0x00 : k < 4 ? 0x7f : 0xff, packed_block_bytes(made->form));
      for (size_t i = 0; i < n_factors; i += 2) block[i + 1] = 0x3c;
      for (size_t i = 0; i < n_factors; i += 2) block[i] = 0x00;
    }
    input in = input_make(table, made->n_columns, block_columns, rows_per_token, x);
    scalar.packed_matmul[made->form](packed, &in.packed, n_all, expected, ROWS);
    table->packed_matmul[made->form](packed, &in.packed, n_all, expected + n_all * ROWS, ROWS);
    CHECK_SAME_FLOATS(expected + n_all * ROWS, expected, n_all * ROWS);
    input_free(&in);
  }
  free(packed);
  free(expected);
  free(x);
}

/* Codes are the scalar ones, near x, in their places; what is not finite shows. */
static void test_encoding(const kernel_table *table, size_t block_columns, size_t rows_per_token) {
  enum { N = 512, N_ALL = TOKENS_MAX * N };
  static const float LIMITS[] = {0.0f, 1e-44f, 1e-40f, 1e-38f, 1.0f, 1e38f};
  static float x[N_ALL];
  check_state.context = "encoding";
  for (size_t k = 0; k < sizeof LIMITS / sizeof *LIMITS; k++) {
    for (size_t i = 0; i < N_ALL; i++) x[i] = check_random_float(LIMITS[k]);
    if (k == 4) {
      x[block_columns + 8] = NAN;
      x[N + 3] = -INFINITY;
      x[2 * N] = (float)packed_limit(rows_per_token); /* a scale of 1: ties, to even */
      x[2 * N + 1] = 0.5f;
      x[2 * N + 2] = -1.5f;
    }
    input found = input_make(table, N, block_columns, rows_per_token, x);
    input expected = input_make(&scalar, N, block_columns, rows_per_token, x);
    const packed_activations *a = &found.packed;
    const packed_activations *b = &expected.packed;
    size_t n = N_ALL * rows_per_token;
    size_t n_scales = n / block_columns;
    CHECK(memcmp(a->values, b->values, n) == 0);
    CHECK(memcmp(a->wide, b->wide, n * sizeof *a->wide) == 0);
    CHECK(memcmp(a->pairs, b->pairs, n / 8 * sizeof *a->pairs) == 0);
    CHECK(memcmp(a->sums, b->sums, n / 32 * sizeof *a->sums) == 0);
    CHECK_SAME_FLOATS(a->scales, b->scales, n_scales);
    size_t first_wrong = N_ALL;
    for (size_t i = 0; i < N_ALL; i++) {
      size_t high = i / N * rows_per_token * N + i % N;
      size_t low = high + (rows_per_token - 1) * N;
      static const size_t PLACE[4] = {0, 2, 1, 3};
      float scale = a->scales[low / block_columns];
      int code = rows_per_token == 1 ? a->values[high] : 128 * a->values[high] + a->values[low];
      bool is_right = a->wide[low / 4 * 4 + PLACE[low % 4]] == a->values[low];
      if (!isfinite(scale)) {
        size_t block = i / block_columns;
        is_right &= code == 0 && (block == 1 || block == N / block_columns);
      } else if (scale >= 1.2e-38f) {
        is_right &= fabs((double)x[i] - (double)scale * code) <= 0.502 * (double)scale;
        if (rows_per_token == 2) is_right &= a->scales[high / block_columns] == 128.0f * scale;
      }
      if (!is_right && first_wrong == N_ALL) first_wrong = i;
    }
    CHECK_SAY(first_wrong == N_ALL, "limit %g, blocks of %zu: number %zu", (double)LIMITS[k],
              block_columns, first_wrong);
    if (k == 4) {
      CHECK(isnan(a->scales[1]) && isinf(a->scales[rows_per_token * N / block_columns]));
      size_t low = (3 * rows_per_token - 1) * N;
      CHECK(a->values[low + 1] == 0 && a->values[low + 2] == -2);
    }
    input_free(&found);
    input_free(&expected);
  }
}

static void test_table(const kernel_table *table) {
  static const size_t SHORTEST[] = {[32] = 96, [128] = 384, [256] = 256}; /* columns by block */
  for (size_t rows_per_token = 1; rows_per_token <= 2; rows_per_token++) {
    test_encoding(table, 32, rows_per_token);
    test_encoding(table, 128, rows_per_token);
    test_encoding(table, 256, rows_per_token);
  }
  for (size_t i = 0; i < N_TYPES; i++) {
    check_state.context = tensor_type_describe(TYPES[i]).name;
    for (size_t k = 0; k < 2; k++) {
      size_t block = tensor_type_describe(TYPES[i]).block_elements;
      size_t n_columns = k == 0 ? SHORTEST[block] : 768;
      strip made = strip_make(TYPES[i], n_columns);
      test_reading(&made);
      for (size_t rows_per_token = 1; rows_per_token <= 2; rows_per_token++) {
        test_products(table, &made, rows_per_token);
        test_extremes(table, &made, rows_per_token);
      }
      strip_free(&made);
    }
  }
}

int main(int argc, char **argv) {
  bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  if (bench) bench_limits();
  check_seed(20261122);
  for (int level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)level);
    printf("kernels: %s\n", table.name);
    test_table(&table); /* first right, then fast */
    if (bench && level > ONEKV_LEVEL_SCALAR) bench_packed(&table, argc > 2 ? argv[2] : NULL);
#if ONEKV_HAVE_RELAXED
    /* Both ways to multiply bytes, also the one that is not the faster here. In Node 20, whose
     * first compiler errs with them, they are not taken. */
    for (size_t way = 0; level == ONEKV_LEVEL_RELAXED && way < 2; way++) {
      kernels_select(&table, ONEKV_LEVEL_SIMD128);
      void (*before)(const uint8_t *, const packed_activations *, size_t, float *, size_t) =
          table.packed_matmul[PACKED_Q4_0];
      if (way == 0) kernels_fill_packed_shorts(&table);
      if (way == 1) kernels_fill_packed_dot(&table);
#ifndef __EMSCRIPTEN__
      CHECK(table.packed_matmul[PACKED_Q4_0] != before);
#endif
      if (table.packed_matmul[PACKED_Q4_0] != before) test_table(&table);
    }
#endif
  }
  for (uint32_t type = 0; type < TENSOR_TYPE_END; type++) {
    bool is_listed = false;
    for (size_t i = 0; i < N_TYPES; i++) is_listed = is_listed || TYPES[i] == type;
    CHECK(is_listed == (packed_form_of((tensor_type)type) != PACKED_NONE));
  }
  for (size_t i = 0; i < N_TYPES; i++) {
    CHECK(packed_form_of(TYPES[i]) == FORMS[i]);
  }
  return check_finish();
}
