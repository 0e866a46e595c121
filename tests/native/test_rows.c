/* A table that stays in the file: the same bits as when it is held, without its bytes, and what
 * becomes of a session when the file is gone or damaged in the midst of a step. */
#include "tests/native/check.h"
#include "tests/native/fixture.h"

static onekv_pool *pool;

/* A file that is there for n_reads_left reads, and whose rows are damaged on request. */
typedef struct test_file {
  file_bytes file;
  size_t n_reads_left;
  size_t n_read; /* bytes */
  bool is_damaged;
} test_file;

static bool read_row(void *context, uint64_t offset, size_t n_bytes, uint8_t *out) {
  test_file *from = context;
  if (from->n_reads_left == 0 || offset + n_bytes > from->file.n_bytes) return false;
  from->n_reads_left--;
  from->n_read += n_bytes;
  memcpy(out, from->file.bytes + offset, n_bytes);
  if (from->is_damaged) memset(out, 0xff, n_bytes); /* f32: not a number */
  return true;
}

/* A loader that has got the first n_bytes. */
static onekv_loader *feed(test_file *from, bool leaves, size_t n_logits, size_t n_bytes) {
  onekv_model_options options = {
      .pool = pool, .n_logits_max = n_logits, .cache_type = ONEKV_CACHE_F32};
  onekv_row_source rows = {from, read_row};
  onekv_loader *loader = NULL;
  onekv_error error = {ONEKV_OK, ""};
  CHECK(onekv_loader_open(&options, &loader, &error) == ONEKV_OK);
  if (leaves) CHECK(onekv_loader_rows(loader, &rows) == ONEKV_OK);
  for (size_t done = 0; done < n_bytes; done += 997) {
    size_t n = n_bytes - done < 997 ? n_bytes - done : 997;
    CHECK(onekv_loader_feed(loader, from->file.bytes + done, n, &error) == ONEKV_OK);
  }
  CHECK(onekv_loader_rows(loader, &rows) == ONEKV_WRONG_STATE);
  return loader;
}

static onekv_model *load(test_file *from, bool leaves, size_t n_logits) {
  onekv_loader *loader = feed(from, leaves, n_logits, from->file.n_bytes);
  onekv_model *model = NULL;
  onekv_error error = {ONEKV_OK, ""};
  CHECK_SAY(onekv_loader_finish(loader, &model, &error) == ONEKV_OK, "%s", error.message);
  return model;
}

static onekv_session *open_one(onekv_model *model) {
  onekv_session *session = NULL;
  CHECK(onekv_session_open(model, NULL, &session, NULL) == ONEKV_OK);
  return session;
}

static size_t weight_bytes(const onekv_model *model) {
  onekv_memory memory;
  onekv_model_memory(model, &memory);
  return memory.weights;
}

/* The logits of all rows in one step, and of the last token alone, are those of the held table; a
 * row is read for each token that runs. */
static void check_same(const golden_data *golden, test_file *from, size_t n_table) {
  onekv_model *held = load(from, false, golden->n_rows);
  onekv_model *left = load(from, true, golden->n_rows);
  CHECK_SAY(weight_bytes(held) - weight_bytes(left) == n_table, "%zu and %zu bytes",
            weight_bytes(held), weight_bytes(left));
  onekv_session *expected = open_one(held);
  onekv_session *found = open_one(left);
  onekv_item a = {expected, golden->tokens, golden->n_rows, golden->n_rows, NULL};
  onekv_item b = {found, golden->tokens, golden->n_rows, golden->n_rows, NULL};
  from->n_read = 0;
  CHECK(onekv_step(held, &a, 1, NULL) == ONEKV_OK && from->n_read == 0);
  CHECK(onekv_step(left, &b, 1, NULL) == ONEKV_OK);
  CHECK(from->n_read == n_table / 64 * golden->n_rows); /* a vocabulary of 64 */
  size_t n_all = (size_t)golden->n_rows * golden->n_outputs;
  CHECK_SAME_FLOATS(b.logits, a.logits, n_all);
  CHECK(relative_distance(b.logits, golden->logits, n_all) <= 1e-4);
  b = (onekv_item){found, golden->tokens, 1, 1, NULL};
  a = (onekv_item){expected, golden->tokens, 1, 1, NULL};
  CHECK(onekv_step(held, &a, 1, NULL) == ONEKV_OK);
  CHECK(onekv_step(left, &b, 1, NULL) == ONEKV_OK);
  CHECK_SAME_FLOATS(b.logits, a.logits, golden->n_outputs);
  onekv_session_close(expected);
  onekv_session_close(found);
  CHECK(onekv_model_close(held) == ONEKV_OK && onekv_model_close(left) == ONEKV_OK);
}

/* A step that cannot read a row is an error that names the table; the session goes on when the
 * file is there again, as if nothing had been. */
static void check_lost(const golden_data *golden, test_file *from) {
  onekv_model *model = load(from, true, 1);
  onekv_session *session = open_one(model);
  onekv_session *fresh = open_one(model);
  onekv_error error = {ONEKV_OK, ""};
  onekv_item item = {session, golden->tokens, 20, 1, NULL};
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_OK);
  item = (onekv_item){session, golden->tokens + 20, 10, 1, NULL};
  from->n_reads_left = 7;
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_SOURCE_FAILED);
  CHECK_SAY(strstr(error.message, "per_layer_token_embd.weight") != NULL, "%s", error.message);
  CHECK(onekv_session_n_tokens(session) == 20);
  from->n_reads_left = SIZE_MAX;
  from->is_damaged = true;
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_CORRUPT);
  CHECK_SAY(strstr(error.message, "not finite") != NULL, "%s", error.message);
  CHECK(onekv_session_n_tokens(session) == 20);
  from->is_damaged = false;
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_OK);
  float logits[64];
  memcpy(logits, item.logits, sizeof logits);
  item = (onekv_item){fresh, golden->tokens, 30, 1, NULL};
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_OK);
  CHECK_SAME_FLOATS(item.logits, logits, golden->n_outputs);
  /* Of a long prompt the tokens of the first batch have run. Windows have let go of what was before
   * it: it stays, and with it the token that waited. */
  onekv_session_truncate(session, 0);
  item = (onekv_item){session, golden->tokens, 5, 0, NULL};
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_OK);
  item = (onekv_item){session, golden->tokens + 5, 105, 1, NULL};
  from->n_reads_left = 100;
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_SOURCE_FAILED);
  from->n_reads_left = SIZE_MAX;
  size_t n_there = onekv_session_n_tokens(session);
  CHECK_SAY(n_there == 100, "%zu tokens", n_there);
  int32_t there[110];
  CHECK(onekv_session_tokens(session, 0, n_there, there) == ONEKV_OK);
  CHECK(memcmp(there, golden->tokens, n_there * sizeof *there) == 0);
  item = (onekv_item){session, golden->tokens + n_there, 110 - n_there, 1, NULL};
  CHECK(onekv_step(model, &item, 1, &error) == ONEKV_OK);
  const float *last = golden->logits + 109 * (size_t)golden->n_outputs;
  CHECK(relative_distance(item.logits, last, golden->n_outputs) <= 1e-4);
  onekv_session_close(session);
  onekv_session_close(fresh);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

/* The table's bytes are part of the file, though nothing keeps them. */
static void check_estimate(test_file *from, size_t n_table) {
  onekv_estimate estimates[2];
  onekv_error error = {ONEKV_OK, ""};
  for (size_t i = 0; i < 2; i++) {
    onekv_loader *loader = feed(from, i == 1, 1, from->file.n_bytes - 64);
    onekv_model *model = NULL;
    CHECK(onekv_loader_estimate(loader, &estimates[i]) == ONEKV_OK);
    CHECK(onekv_loader_finish(loader, &model, &error) == ONEKV_TRUNCATED);
    onekv_loader_close(loader);
  }
  CHECK(estimates[0].row_bytes == n_table && estimates[1].row_bytes == n_table);
  CHECK(estimates[0].weight_bytes - estimates[1].weight_bytes == n_table);
  CHECK(estimates[0].n_parameters == estimates[1].n_parameters);
}

int main(void) {
  /* Rows of the table: layers × width, as f32. */
  static const struct {
    const char *name;
    size_t n_table;
  } MODELS[] = {{"gemma4-shared", 64 * 10 * 8 * 4}, {"gemma4-kv-shared", 64 * 6 * 4 * 4}};
  CHECK(onekv_pool_open(NULL, 1, &pool) == ONEKV_OK);
  for (size_t i = 0; i < sizeof MODELS / sizeof MODELS[0]; i++) {
    char path[128];
    check_state.context = MODELS[i].name;
    snprintf(path, sizeof path, "tests/golden/%s.gguf", MODELS[i].name);
    test_file from = {read_file(path), SIZE_MAX, 0, false};
    golden_data golden = golden_read(MODELS[i].name);
    check_same(&golden, &from, MODELS[i].n_table);
    check_lost(&golden, &from);
    check_estimate(&from, MODELS[i].n_table);
    golden_free(&golden);
    free(from.file.bytes);
  }
  onekv_pool_close(pool);
  return check_finish();
}
