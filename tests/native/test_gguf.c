/* The GGUF parser: a file with everything in it, every prefix of it, every byte of it changed,
 * the largest tables, typed reading, and the files of tests/fuzz/refused. */
#include "tests/native/check.h"
#include "core/base/bytes.h"
#include "core/base/gguf.h"

#include <dirent.h>

enum { FILE_MAX_BYTES = 1 << 16, PATH_MAX_BYTES = 512 };

static const char *const REFUSED = "tests/fuzz/refused/";

/* --- a writer ------------------------------------------------------------------------------- */

typedef struct writer {
  uint8_t *bytes;
  size_t n;
} writer;

static void put(writer *w, uint64_t value, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes; i++) w->bytes[w->n++] = (uint8_t)(value >> (8 * i));
}

static void put_string(writer *w, const char *text) {
  put(w, strlen(text), 8);
  memcpy(w->bytes + w->n, text, strlen(text));
  w->n += strlen(text);
}

static void put_key(writer *w, const char *name, gguf_type type) {
  put_string(w, name);
  put(w, (uint64_t)type, 4);
}

static void put_number(writer *w, const char *name, gguf_type type, uint64_t bits, size_t n_bytes) {
  put_key(w, name, type);
  put(w, bits, n_bytes);
}

static void put_tensor(writer *w, const char *name, uint64_t columns, uint64_t rows,
                       tensor_type type, uint64_t offset) {
  put_string(w, name);
  put(w, 2, 4);
  put(w, columns, 8);
  put(w, rows, 8);
  put(w, (uint64_t)type, 4);
  put(w, offset, 8);
}

static void put_start(writer *w, size_t n_tensors, size_t n_keys) {
  memcpy(w->bytes, "GGUF", 4);
  w->n = 4;
  put(w, 3, 4);
  put(w, n_tensors, 8);
  put(w, n_keys, 8);
}

/* Every value type, numbers of every sign, tensors out of order with a gap between them. */
static writer full_file(void) {
  writer w = {(uint8_t *)check_allocate(FILE_MAX_BYTES), 0};
  put_start(&w, 3, 17);
  put_number(&w, "u8", GGUF_U8, 200, 1);
  put_number(&w, "i8", GGUF_I8, (uint64_t)-3, 1);
  put_number(&w, "u16", GGUF_U16, 60000, 2);
  put_number(&w, "i16", GGUF_I16, 1234, 2);
  put_number(&w, "u32", GGUF_U32, 4000000000u, 4);
  put_number(&w, "i32", GGUF_I32, (uint64_t)-1, 4);
  put_number(&w, "f32", GGUF_F32, 0x3fc00000, 4);
  put_number(&w, "bool", GGUF_BOOL, 1, 1);
  put_key(&w, "string", GGUF_STRING);
  put_string(&w, "a text");
  put_number(&w, "u64", GGUF_U64, 77, 8);
  put_number(&w, "i64", GGUF_I64, (uint64_t)-77, 8);
  put_number(&w, "f64", GGUF_F64, 0x4004000000000000, 8);
  put_number(&w, "f64.nan", GGUF_F64, 0x7ff8000000000000, 8);
  put_number(&w, "u64.large", GGUF_U64, (uint64_t)1 << 32, 8);
  put_key(&w, "array", GGUF_ARRAY);
  put(&w, GGUF_U16, 4);
  put(&w, 3, 8);
  put(&w, 0x000300020001, 6);
  put_key(&w, "strings", GGUF_ARRAY);
  put(&w, GGUF_STRING, 4);
  put(&w, 2, 8);
  put_string(&w, "");
  put_string(&w, "second");
  put_number(&w, "general.alignment", GGUF_U32, 64, 4);
  put_tensor(&w, "last", 32, 3, TENSOR_Q8_0, 320);
  put_tensor(&w, "first", 5, 2, TENSOR_F32, 0);
  put_tensor(&w, "middle", 3, 7, TENSOR_F16, 128);
  return w;
}

/* --- parsing -------------------------------------------------------------------------------- */

static void *allocate_never(void *context, size_t n_bytes) {
  (void)context;
  (void)n_bytes;
  return NULL;
}

static void release_never(void *context, void *block, size_t n_bytes) {
  (void)context;
  (void)block;
  (void)n_bytes;
}

/* Parses an exact-sized copy, and sees that memory is balanced and the outcome consistent. */
static onekv_status parse_copy(const uint8_t *bytes, size_t n, size_t *needed, onekv_error *error) {
  memory_ledger memory;
  memory_init(&memory, NULL);
  uint8_t *copy = (uint8_t *)check_allocate(n);
  if (n > 0) memcpy(copy, bytes, n);
  gguf *file = NULL;
  error->status = ONEKV_OK;
  onekv_status status = gguf_parse(&memory, copy, n, &file, needed, error);
  bool is_consistent = (status == ONEKV_OK) == (file != NULL) && error->status == status;
  if (status == ONEKV_OK) {
    is_consistent = is_consistent && memory.n_bytes[MEMORY_TABLES] == file->n_table_bytes;
    gguf_free(&memory, file);
  }
  CHECK(is_consistent && memory.n_bytes_total == 0);
  free(copy);
  return status;
}

static void test_values(const gguf *file) {
  onekv_error error;
  uint32_t number = 5;
  float real = 0.0f;
  gguf_string text = {NULL, 0};
  CHECK(gguf_read_u32(file, "u8", true, &number, &error) == ONEKV_OK && number == 200);
  CHECK(gguf_read_u32(file, "u16", true, &number, &error) == ONEKV_OK && number == 60000);
  CHECK(gguf_read_u32(file, "i16", true, &number, &error) == ONEKV_OK && number == 1234);
  CHECK(gguf_read_u32(file, "u32", true, &number, &error) == ONEKV_OK && number == 4000000000u);
  CHECK(gguf_read_u32(file, "u64", true, &number, &error) == ONEKV_OK && number == 77);
  static const char *const BAD[] = {"i8",  "i32",    "i64",   "u64.large",
                                    "f32", "string", "array", "bool"};
  for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
    CHECK(gguf_read_u32(file, BAD[i], false, &number, &error) == ONEKV_BAD_KEY);
    CHECK(number == 77 && strstr(error.message, BAD[i]) != NULL);
  }
  CHECK(gguf_read_f32(file, "f32", true, &real, &error) == ONEKV_OK && real == 1.5f);
  CHECK(gguf_read_f32(file, "f64", true, &real, &error) == ONEKV_OK && real == 2.5f);
  CHECK(gguf_read_f32(file, "f64.nan", true, &real, &error) == ONEKV_BAD_KEY && real == 2.5f);
  CHECK(gguf_read_f32(file, "u32", true, &real, &error) == ONEKV_BAD_KEY);
  CHECK(gguf_read_string(file, "string", true, &text, &error) == ONEKV_OK);
  CHECK(text.n_bytes == 6 && memcmp(text.bytes, "a text", 6) == 0);
  CHECK(gguf_read_string(file, "u8", true, &text, &error) == ONEKV_BAD_KEY);
  CHECK(gguf_read_u32(file, "none", false, &number, &error) == ONEKV_OK && number == 77);
  CHECK(gguf_read_u32(file, "none", true, &number, &error) == ONEKV_MISSING_KEY);
  CHECK(gguf_read_f32(file, "none", true, &real, NULL) == ONEKV_MISSING_KEY);
  CHECK(gguf_read_string(file, "", true, &text, &error) == ONEKV_MISSING_KEY);
  const gguf_value *array = gguf_find(file, "array");
  CHECK(array != NULL && array->type == GGUF_ARRAY && array->item_type == GGUF_U16);
  CHECK(array->n_items == 3 && array->n_bytes == 6 && load_u16(array->bytes + 4) == 3);
  const gguf_value *strings = gguf_find(file, "strings");
  CHECK(strings != NULL && strings->item_type == GGUF_STRING && strings->n_items == 2);
  CHECK(strings->n_bytes == 22 && load_u64(strings->bytes) == 0 &&
        load_u64(strings->bytes + 8) == 6);
  CHECK(gguf_find(file, "u") == NULL && gguf_find(file, "u88") == NULL);
}

static void test_full_file(const writer *w) {
  memory_ledger memory;
  memory_init(&memory, NULL);
  onekv_error error;
  size_t needed = 0;
  gguf *file = NULL;
  if (!CHECK(gguf_parse(&memory, w->bytes, w->n, &file, &needed, &error) == ONEKV_OK)) return;
  CHECK(file->n_values == 17 && file->n_tensors == 3 && file->alignment == 64);
  CHECK(file->data_offset == (w->n + 63) / 64 * 64 && file->n_data_bytes == 320 + 3 * 34);
  static const char *const ORDER[] = {"first", "middle", "last"};
  for (size_t i = 0; i < 3; i++) {
    CHECK(gguf_find_tensor(file, ORDER[i]) == &file->tensors[i]);
  }
  const gguf_tensor *middle = &file->tensors[1];
  CHECK(middle->n_columns == 3 && middle->n_rows == 7 && middle->n_bytes == 42);
  CHECK(middle->n_dims == 2 && middle->dims[1] == 7 && middle->dims[2] == 1 &&
        middle->dims[3] == 1);
  CHECK(middle->type == TENSOR_F16 && middle->offset == 128);
  CHECK(gguf_find_tensor(file, "firs") == NULL && gguf_find_tensor(file, "") == NULL);
  test_values(file);
  gguf_free(&memory, file);
  gguf_free(&memory, NULL);
  CHECK(memory.n_bytes_total == 0);
  memory_init(&memory, &(onekv_allocator){NULL, allocate_never, release_never});
  CHECK(gguf_parse(&memory, w->bytes, w->n, &file, &needed, &error) == ONEKV_OUT_OF_MEMORY);
}

/* Every prefix asks for more, and never for more than there is; a stream that follows the
 * answers arrives. */
static void test_prefixes(const writer *w) {
  onekv_error error;
  for (size_t n = 0; n < w->n; n++) {
    size_t needed = 0;
    CHECK(parse_copy(w->bytes, n, &needed, &error) == ONEKV_TRUNCATED);
    CHECK(needed > n && needed <= w->n);
  }
  size_t needed = 0;
  size_t n_steps = 0;
  while (parse_copy(w->bytes, needed, &needed, &error) == ONEKV_TRUNCATED) n_steps++;
  CHECK(needed == w->n && n_steps < w->n / 4);
}

/* Each byte in turn takes other values: any verdict will do, the sanitizers watch. */
static void test_changes(const writer *w) {
  static const uint8_t VALUES[] = {0, 1, 0x7f, 0x80, 0xff};
  uint8_t *bytes = (uint8_t *)check_allocate(w->n);
  memcpy(bytes, w->bytes, w->n);
  onekv_error error;
  for (size_t i = 0; i < w->n; i++) {
    for (size_t v = 0; v <= sizeof VALUES; v++) {
      size_t needed = 0;
      bytes[i] = v < sizeof VALUES ? VALUES[v] : (uint8_t)(w->bytes[i] ^ 1u);
      onekv_status status = parse_copy(bytes, w->n, &needed, &error);
      if (status == ONEKV_TRUNCATED) CHECK(needed > w->n && needed <= GGUF_HEADER_MAX);
    }
    bytes[i] = w->bytes[i];
  }
  free(bytes);
}

/* As many keys and tensors as there may be, in falling order of their names and offsets; with a
 * duplicate the two are at the ends. */
static void test_largest(bool has_duplicate) {
  enum { N = GGUF_ENTRIES_MAX, ENTRY_BYTES = 64 };
  writer w = {(uint8_t *)check_allocate((size_t)N * 2 * ENTRY_BYTES), 0};
  char name[32];
  put_start(&w, N, N);
  for (size_t i = 0; i < N; i++) {
    snprintf(name, sizeof name, "k%05zu", N - 1 - i);
    put_number(&w, name, GGUF_U8, 1, 1);
  }
  for (size_t i = 0; i < N; i++) {
    snprintf(name, sizeof name, "t%05zu", has_duplicate && i == N - 1 ? (size_t)N - 1 : N - 1 - i);
    put_tensor(&w, name, 8, 1, TENSOR_F32, 32 * (N - 1 - i));
  }
  onekv_error error;
  size_t needed = 0;
  onekv_status status = parse_copy(w.bytes, w.n, &needed, &error);
  CHECK(status == (has_duplicate ? ONEKV_CORRUPT : ONEKV_OK));
  CHECK(!has_duplicate || strcmp(error.message, "tensor 't65535' appears twice") == 0);
  free(w.bytes);
}

static void test_labels(void) {
  char label[GGUF_LABEL_MAX];
  CHECK(strcmp(gguf_label((gguf_string){"a\n\x80\0b", 5}, label), "a???b") == 0);
  CHECK(strcmp(gguf_label((gguf_string){"", 0}, label), "") == 0);
  char longest[GGUF_NAME_MAX];
  memset(longest, 'x', sizeof longest);
  gguf_label((gguf_string){longest, sizeof longest}, label);
  CHECK(strlen(label) < GGUF_LABEL_MAX && strcmp(label + strlen(label) - 4, "x...") == 0);
}

/* --- refused files -------------------------------------------------------------------------- */

/* The name is header-STATUS-what.gguf. */
static void check_refused(const char *name) {
  char path[PATH_MAX_BYTES];
  snprintf(path, sizeof path, "%s%s", REFUSED, name);
  FILE *file = fopen(path, "rb");
  if (!CHECK(file != NULL)) return;
  uint8_t *bytes = (uint8_t *)check_allocate(FILE_MAX_BYTES);
  size_t n = fread(bytes, 1, FILE_MAX_BYTES, file);
  fclose(file);
  onekv_error error;
  size_t needed = 0;
  const char *expected = name + strlen("header-");
  const char *found = onekv_status_name(parse_copy(bytes, n, &needed, &error));
  bool is_same = strncmp(expected, found, strlen(found)) == 0 && expected[strlen(found)] == '-';
  if (!CHECK(is_same)) printf("  %s: found %s\n", name, found);
  CHECK(strlen(error.message) > 8);
  free(bytes);
}

static void test_refused(void) {
  DIR *folder = opendir(REFUSED);
  if (!CHECK(folder != NULL)) return;
  size_t n_files = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strncmp(entry->d_name, "header-", strlen("header-")) != 0) continue;
    check_state.context = entry->d_name;
    check_refused(entry->d_name);
    n_files++;
  }
  closedir(folder);
  CHECK(n_files >= 50);
}

int main(void) {
  writer w = full_file();
  test_full_file(&w);
  test_prefixes(&w);
  test_changes(&w);
  test_largest(false);
  test_largest(true);
  test_labels();
  test_refused();
  free(w.bytes);
  return check_finish();
}
