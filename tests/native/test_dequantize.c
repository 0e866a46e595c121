/* Dequantisers: every variant against vectors that the `gguf` Python package made
 * (tests/golden/dequantize/TYPE.bin), and against scalar on random bytes, bit for bit.
 *
 * A file is "OKVD", u32 type, u32 n_elements, u32 n_bytes, blocks[n_bytes],
 * f32 expected[n_elements], little-endian. The formats say the result exactly: d · q rounds
 * once, d · q + m twice, and so does numpy; so there is no tolerance. */
#include "tests/native/check.h"
#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "core/kernels/kernels.h"

enum { PATH_MAX_BYTES = 128, FILE_MAX_BYTES = 1 << 22, HEAD_BYTES = 16, RANDOM_BLOCKS = 40 };

static const char *const FOLDER = "tests/golden/dequantize/";

/* The whole file in an exact-sized block, or NULL. */
static uint8_t *read_file(const char *path, size_t *n_bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  uint8_t *space = (uint8_t *)check_allocate(FILE_MAX_BYTES);
  *n_bytes = fread(space, 1, FILE_MAX_BYTES, file);
  fclose(file);
  return space;
}

/* Runs the dequantiser on blocks at an odd address with nothing readable behind them. */
static void check_blocks(const kernel_table *table, uint32_t type, const uint8_t *blocks,
                         size_t n_bytes, const float *expected, size_t n) {
  uint8_t *space = (uint8_t *)check_allocate(n_bytes + 1);
  if (n_bytes > 0) memcpy(space + 1, blocks, n_bytes);
  check_guard guard = check_guard_take(n * sizeof(float), 4 * check_random_below(4));
  float *out = (float *)(void *)guard.start;
  table->dequantize[type](space + 1, n, out);
  CHECK_SAME_FLOATS(out, expected, n);
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  free(space);
}

static void test_golden(const kernel_table *table, uint32_t type) {
  tensor_type_info info = tensor_type_describe(type);
  char path[PATH_MAX_BYTES];
  snprintf(path, sizeof path, "%s%s.bin", FOLDER, info.name);
  size_t n_file = 0;
  uint8_t *file = read_file(path, &n_file);
  if (!CHECK(file != NULL)) {
    printf("  %s cannot be read; run from the root of the checkout\n", path);
    return;
  }
  bool is_whole = n_file > HEAD_BYTES && memcmp(file, "OKVD", 4) == 0;
  size_t n = is_whole ? load_u32(file + 8) : 0;
  size_t n_bytes = is_whole ? load_u32(file + 12) : 0;
  size_t row_bytes = 0;
  is_whole = is_whole && load_u32(file + 4) == type && n > 0 && n % info.block_elements == 0 &&
             tensor_row_bytes(type, n, &row_bytes) && row_bytes == n_bytes &&
             HEAD_BYTES + n_bytes + n * sizeof(float) == n_file;
  if (CHECK(is_whole)) {
    const uint8_t *blocks = file + HEAD_BYTES;
    float *expected = (float *)check_allocate(n * sizeof(float));
    for (size_t i = 0; i < n; i++) expected[i] = f32_from_bits(load_u32(blocks + n_bytes + 4 * i));
    check_blocks(table, type, blocks, n_bytes, expected, n);
    check_blocks(table, type, blocks, info.block_bytes, expected, info.block_elements);
    check_blocks(table, type, blocks, 0, expected, 0);
    free(expected);
  }
  free(file);
}

/* Any bytes: NaN and infinite scales, every bit pattern of the packed fields. */
static void test_random(const kernel_table *table, const kernel_table *scalar, uint32_t type) {
  tensor_type_info info = tensor_type_describe(type);
  enum { BYTES_MAX = 256, ELEMENTS_MAX = 256 };
  uint8_t blocks[RANDOM_BLOCKS * BYTES_MAX];
  float *expected = (float *)check_allocate(RANDOM_BLOCKS * ELEMENTS_MAX * sizeof(float));
  for (size_t n_blocks = 0; n_blocks <= RANDOM_BLOCKS; n_blocks++) {
    size_t n_bytes = n_blocks * info.block_bytes;
    for (size_t i = 0; i < n_bytes; i++) blocks[i] = (uint8_t)check_random_u32();
    scalar->dequantize[type](blocks, n_blocks * info.block_elements, expected);
    check_blocks(table, type, blocks, n_bytes, expected, n_blocks * info.block_elements);
  }
  free(expected);
}

/* Every value of the two-byte types. */
static void test_all_halves(const kernel_table *table, const kernel_table *scalar, uint32_t type) {
  enum { N = 65536 };
  uint8_t *halves = (uint8_t *)check_allocate(2 * N);
  float *expected = (float *)check_allocate(N * sizeof(float));
  for (size_t i = 0; i < N; i++) {
    halves[2 * i] = (uint8_t)(i & 255);
    halves[2 * i + 1] = (uint8_t)(i >> 8);
  }
  scalar->dequantize[type](halves, N, expected);
  check_blocks(table, type, halves, 2 * N, expected, N);
  free(halves);
  free(expected);
}

int main(void) {
  kernel_table scalar;
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  check_seed(20261122);
  for (int level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)level);
    printf("kernels: %s\n", table.name);
    for (uint32_t type = 0; type < TENSOR_TYPE_END; type++) {
      const char *name = tensor_type_describe(type).name;
      check_state.context = name;
      CHECK((table.dequantize[type] == NULL) == (name == NULL && type != TENSOR_F16_NORMAL));
      if (name == NULL) continue;
      test_golden(&table, type);
      test_random(&table, &scalar, type);
    }
    test_all_halves(&table, &scalar, TENSOR_F16);
    test_all_halves(&table, &scalar, TENSOR_F16_NORMAL);
    test_all_halves(&table, &scalar, TENSOR_BF16);
  }
  return check_finish();
}
