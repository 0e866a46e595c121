/* Packed matrices and integer products.
 *
 * Packing: a row that was packed and is read back has the bits of the dequantiser, for random
 * blocks of every type and every row of a strip.
 *
 * Products: every variant gives the bits of the scalar one, whatever the number of tokens, and
 * the scalar one stands by the exact product. Bound for a block of 32 columns: rounding x moves
 * it by at most scale / 2 = max|x| / (2 · limit), so a product by sum |w| of that; float operations
 * add 3 roundings a block and one for each addition: (n_blocks + 5) u sum |w x|, u = 2^-24, over
 * the parts that are added, which for a form with minima are value · scale and minimum apart. */
#include "check.h"
#include "core/base/f16.h"
#include "core/kernels/kernels.h"
#include "packed_bench.h"

enum { ROWS = PACKED_ROWS, TOKENS_MAX = 13 };

static const double U = 1.0 / 16777216.0;

static const tensor_type TYPES[] = {TENSOR_Q8_0, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_0,
                                    TENSOR_Q4_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static kernel_table scalar;

/* Where a block's f16 factors are: random bits there would be huge numbers. */
static void set_factors(tensor_type type, uint8_t *block) {
  static const size_t PLACES[][2] = {{0, 0}, {0, 2}, {208, 208}};
  bool has_two = type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q4_K ||
                 type == TENSOR_Q5_K;
  const size_t *places = PLACES[type == TENSOR_Q6_K ? 2 : has_two ? 1 : 0];
  for (size_t i = 0; i < 2; i++) {
    uint16_t half = f32_to_f16(check_random_float(0.02f));
    memcpy(block + places[i], &half, sizeof half);
  }
}

/* A strip of random rows: the file's bytes and the packed ones. */
typedef struct strip {
  tensor_type type;
  packed_form form;
  size_t n_columns;
  uint8_t *rows;   /* [16][row_bytes] */
  uint8_t *packed; /* [n_columns / 32][block_bytes], exactly as large */
  float *weights;  /* [16][n_columns] by the dequantiser */
} strip;

static strip strip_make(tensor_type type, size_t n_columns) {
  strip out = {.type = type, .form = packed_form_of(type), .n_columns = n_columns};
  tensor_type_info info = tensor_type_describe(type);
  size_t n_file_blocks = n_columns / info.block_elements;
  size_t row_bytes = n_file_blocks * info.block_bytes;
  size_t block_bytes = packed_block_bytes(out.form);
  out.rows = check_allocate(ROWS * row_bytes);
  out.packed = check_allocate(n_columns / PACKED_COLUMNS * block_bytes);
  out.weights = check_allocate(ROWS * n_columns * sizeof(float));
  memset(out.packed, 0xc3, n_columns / PACKED_COLUMNS * block_bytes);
  for (size_t i = 0; i < ROWS * row_bytes; i++) out.rows[i] = (uint8_t)check_random_u32();
  for (size_t i = 0; i < ROWS * n_file_blocks; i++) {
    uint8_t *block = out.rows + i * info.block_bytes;
    set_factors(type, block);
    packed_write(type, block, 1, i / n_file_blocks,
                 out.packed + i % n_file_blocks * (info.block_elements / PACKED_COLUMNS) *
                     block_bytes);
  }
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
  size_t n_blocks = made->n_columns / PACKED_COLUMNS;
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
  int32_t *starts;
  packed_activations packed;
} input;

/* The bytes for that table, if it reads them. */
static void input_split(const kernel_table *table, input *made) {
  packed_activations *packed = &made->packed;
  packed->offset = table->packed_offset;
  if (table->packed_split == NULL) return;
  size_t n_columns = packed->n_columns;
  for (size_t t = 0; t < TOKENS_MAX; t++) {
    table->packed_split(packed->values + t * n_columns, n_columns, packed->value_bytes,
                        packed->offset, packed->bytes + t * n_columns * packed->value_bytes);
  }
}

static input input_make(const kernel_table *table, size_t n_columns, size_t value_bytes,
                        const float *given) {
  size_t n = TOKENS_MAX * n_columns;
  size_t n_blocks = n / PACKED_COLUMNS;
  input out = {.x = check_allocate(n * sizeof(float)),
               .packed = {.n_columns = n_columns, .value_bytes = value_bytes}};
  out.packed.values = check_allocate(n * sizeof(int16_t));
  out.packed.scales = check_allocate(n_blocks * sizeof(float));
  out.packed.sums = check_allocate(n_blocks * sizeof(int32_t));
  out.packed.bytes = check_allocate(n * value_bytes);
  out.starts = check_allocate(n_columns * sizeof(int32_t));
  for (size_t i = 0; i < n; i++) out.x[i] = given != NULL ? given[i] : check_random_float(3.0f);
  for (size_t t = 0; t < TOKENS_MAX; t++) {
    size_t first = t * n_columns / PACKED_COLUMNS;
    table->packed_encode(out.x + t * n_columns, n_columns, packed_limit(value_bytes),
                         out.packed.values + t * n_columns, out.packed.scales + first,
                         out.packed.sums + first);
  }
  input_split(table, &out);
  return out;
}

static void input_free(input *made) {
  free(made->x);
  free(made->packed.values);
  free(made->packed.scales);
  free(made->packed.sums);
  free(made->packed.bytes);
  free(made->starts);
}

/* The scalar product against the exact one, as bounded above. */
static void test_accuracy(const strip *made, const input *in, const float *y) {
  size_t n_blocks = made->n_columns / PACKED_COLUMNS;
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
        for (size_t c = b * PACKED_COLUMNS; c < (b + 1) * PACKED_COLUMNS; c++) {
          exact += (double)w[c] * (double)x[c];
          largest = fmax(largest, fabs((double)x[c]));
          weights += fabs((double)w[c]);
          lowest = fmin(lowest, (double)w[c]);
          highest = fmax(highest, (double)w[c]);
        }
        /* A minimum is at most one range of 31 steps away from the weights: sums of value · scale
         * and of minima are within 32 columns × 4 times the largest weight. */
        double parts = 32.0 * 4.0 * fmax(highest, -lowest) * largest;
        bound += weights * largest / (2.0 * packed_limit(in->packed.value_bytes)) +
                 ((double)n_blocks + 5.0) * U * parts;
      }
      close = close && fabs((double)y[t * ROWS + r] - exact) <= bound;
    }
  }
  CHECK(close);
}

static void test_products(const kernel_table *table, const strip *made, size_t value_bytes) {
  size_t n_columns = made->n_columns;
  input in = input_make(&scalar, n_columns, value_bytes, NULL);
  float *expected = check_allocate(TOKENS_MAX * ROWS * sizeof *expected);
  scalar.packed_matmul[made->form](made->packed, &in.packed, TOKENS_MAX, NULL, expected, ROWS);
  if (table->name[0] == 's' && table->name[1] == 'c') test_accuracy(made, &in, expected);
  input_split(table, &in);
  for (size_t n_tokens = 0; n_tokens <= TOKENS_MAX; n_tokens++) {
    size_t stride = ROWS + check_random_below(3);
    check_guard guard = check_guard_take(n_tokens * stride * sizeof(float),
                                         4 * check_random_below(4));
    float *y = (float *)(void *)guard.start;
    table->packed_matmul[made->form](made->packed, &in.packed, n_tokens, in.starts, y, stride);
    bool untouched = true;
    for (size_t t = 0; t < n_tokens; t++) {
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

/* Rows at the edges of what i32 and the dot product can hold: largest codes of one sign. */
static void test_extremes(const kernel_table *table, size_t value_bytes) {
  enum { N = 64 };
  uint8_t rows[34 * 2];
  uint8_t packed[N / PACKED_COLUMNS * 1024];
  static float x[TOKENS_MAX * N];
  float expected[ROWS], found[TOKENS_MAX * ROWS];
  uint16_t one = f32_to_f16(1.0f);
  check_state.context = "extremes";
  for (int sign = -1; sign <= 1; sign += 2) {
    for (size_t r = 0; r < ROWS; r++) {
      memset(rows, r % 2 == 0 ? 0x80 : 0x7f, sizeof rows);
      for (size_t b = 0; b < 2; b++) {
        memcpy(rows + 34 * b, &one, sizeof one);
        packed_write(TENSOR_Q8_0, rows + 34 * b, 1, r, packed + b * packed_block_bytes(PACKED_I8));
      }
      expected[r] = (r % 2 == 0 ? -128.0f : 127.0f) * 64.0f * (float)sign;
    }
    for (size_t i = 0; i < TOKENS_MAX * N; i++) x[i] = (float)sign;
    input in = input_make(table, N, value_bytes, x);
    for (size_t n_tokens = 1; n_tokens <= TOKENS_MAX; n_tokens += TOKENS_MAX - 1) {
      table->packed_matmul[PACKED_I8](packed, &in.packed, n_tokens, in.starts, found, ROWS);
      for (size_t r = 0; r < n_tokens * ROWS; r++) CHECK_CLOSE(found[r], expected[r % ROWS], 1e-3);
    }
    input_free(&in);
  }
}

/* Codes are the scalar ones, near x, in their places; what is not finite shows. */
static void test_encoding(const kernel_table *table, size_t value_bytes) {
  enum { N = 64, N_ALL = TOKENS_MAX * N };
  static const float LIMITS[] = {0.0f, 1e-44f, 1e-40f, 1e-38f, 1.0f, 1e38f};
  static float x[N_ALL];
  check_state.context = "encoding";
  for (size_t k = 0; k < sizeof LIMITS / sizeof *LIMITS; k++) {
    for (size_t i = 0; i < N_ALL; i++) x[i] = check_random_float(LIMITS[k]);
    if (k == 4) {
      x[40] = NAN;
      x[N + 3] = -INFINITY;
      x[2 * N] = (float)packed_limit(value_bytes); /* a scale of 1: ties, to even */
      x[2 * N + 1] = 0.5f;
      x[2 * N + 2] = -1.5f;
    }
    input found = input_make(table, N, value_bytes, x);
    input expected = input_make(&scalar, N, value_bytes, x);
    CHECK(memcmp(found.packed.values, expected.packed.values, N_ALL * sizeof(int16_t)) == 0);
    CHECK(memcmp(found.packed.sums, expected.packed.sums, N_ALL / 32 * sizeof(int32_t)) == 0);
    CHECK_SAME_FLOATS(found.packed.scales, expected.packed.scales, N_ALL / 32);
    for (size_t i = 0; i < N_ALL; i++) {
      float scale = found.packed.scales[i / 32];
      static const size_t PLACE[4] = {0, 2, 1, 3};
      int code = found.packed.values[i / 4 * 4 + PLACE[i % 4]];
      if (!isfinite(scale)) {
        CHECK(code == 0 && i / 32 == (i < N ? 1 : 2));
      } else if (scale >= 1.2e-38f) {
        CHECK(fabs((double)x[i] - (double)scale * code) <= 0.502 * (double)scale);
      }
    }
    if (k == 4) {
      CHECK(isnan(found.packed.scales[1]) && isinf(found.packed.scales[2]));
      CHECK(found.packed.values[2 * N + 2] == 0 && found.packed.values[2 * N + 1] == -2);
    }
    input_free(&found);
    input_free(&expected);
  }
}

static void test_table(const kernel_table *table) {
  static const size_t COLUMNS[] = {256, 768};
  for (size_t value_bytes = 1; value_bytes <= 2; value_bytes++) {
    test_encoding(table, value_bytes);
    test_extremes(table, value_bytes);
  }
  for (size_t i = 0; i < N_TYPES; i++) {
    check_state.context = tensor_type_describe(TYPES[i]).name;
    for (size_t k = 0; k < 2; k++) {
      size_t n_columns = tensor_type_describe(TYPES[i]).block_elements == 32 && k == 0
                             ? 96 : COLUMNS[k];
      strip made = strip_make(TYPES[i], n_columns);
      test_reading(&made);
      for (size_t bytes = 1; bytes <= 2; bytes++) test_products(table, &made, bytes);
      strip_free(&made);
    }
  }
}

int main(int argc, char **argv) {
  bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
  kernels_select(&scalar, KERNELS_SCALAR);
  if (bench) bench_limits();
  check_seed(20261122);
  for (int level = KERNELS_SCALAR; level <= KERNELS_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (kernels_level)level);
    printf("kernels: %s\n", table.name);
    test_table(&table); /* first right, then fast */
    if (bench && level > KERNELS_SCALAR) bench_packed(&table);
#if ONEKV_HAVE_RELAXED
    /* The dot products, also where they are not the faster way. In Node 20, whose first compiler
     * errs with them, they are not taken. */
    if (level == KERNELS_RELAXED && table.packed_split == NULL) {
      kernels_fill_dot(&table);
#ifndef __EMSCRIPTEN__
      CHECK(table.packed_split != NULL);
#endif
      test_table(&table);
    }
#endif
  }
  for (uint32_t type = 0; type < TENSOR_TYPE_END; type++) {
    bool is_listed = false;
    for (size_t i = 0; i < N_TYPES; i++) is_listed = is_listed || TYPES[i] == type;
    CHECK(is_listed == (packed_form_of((tensor_type)type) != PACKED_NONE));
  }
  return check_finish();
}
