/* Every byte: what the reports say is what an independent allocator has handed out.
 *
 * A model's life, from the first fed byte to the last close, is checked call by call: the total,
 * its kinds, the peak, that steps allocate pages and nothing else, and that everything comes
 * back. The paper's claim, 2H : 1 between standard QKV and Q-K=V+MQA, is read off two golden
 * models that differ in nothing else. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

static onekv_pool *pool;

/* The report, after checking it against the allocator. */
static onekv_memory check_report(const onekv_model *model, const counted_memory *counted) {
  onekv_memory report;
  onekv_model_memory(model, &report);
  size_t sum = report.weights + report.cache + report.scratch + report.sessions + report.tables;
  CHECK_SAY(report.total == counted->n_bytes && report.total == sum,
            "report %zu, sum of kinds %zu, handed out %zu", report.total, sum, counted->n_bytes);
  CHECK_SAY(report.peak == counted->n_bytes_peak, "peak: report %zu, counted %zu", report.peak,
            counted->n_bytes_peak);
  CHECK(report.cache == report.cache_used + report.cache_pooled);
  CHECK(!counted->is_damaged);
  return report;
}

/* Loads in pieces; every estimate given after the header is what is taken in the end. */
static onekv_model *load_counted(const char *path, counted_memory *counted,
                                 onekv_cache_type type) {
  file_bytes file = read_file(path);
  onekv_model_options options = {
      .pool = pool, .allocator = counted_allocator(counted), .cache_type = type};
  onekv_loader *loader = NULL;
  onekv_model *model = NULL;
  onekv_estimate estimate = {0};
  CHECK(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK);
  CHECK(onekv_loader_estimate(loader, &estimate) == ONEKV_WRONG_STATE);
  for (size_t done = 0; done < file.n_bytes; done += 100) {
    size_t n = file.n_bytes - done < 100 ? file.n_bytes - done : 100;
    CHECK(onekv_loader_feed(loader, file.bytes + done, n, NULL) == ONEKV_OK);
  }
  CHECK(onekv_loader_estimate(loader, &estimate) == ONEKV_OK);
  CHECK(onekv_loader_finish(loader, &model, NULL) == ONEKV_OK);
  onekv_memory report = check_report(model, counted);
  CHECK(report.weights == estimate.weight_bytes && report.scratch == estimate.scratch_bytes);
  CHECK(report.cache == 0 && report.sessions == 0 && report.n_sessions == 0);
  /* Blocks: model, layout of the cache, weights, scratch. The header and the loader are gone. */
  CHECK_SAY(counted->n_blocks == 4, "%zu blocks", counted->n_blocks);
  free(file.bytes);
  return model;
}

/* Rows of n tokens in the model's own cache. */
static size_t bytes_of(const onekv_model *model, onekv_cache_type type, size_t n, bool whole) {
  onekv_bytes bytes;
  onekv_cache_plan plan = {.type = type, .whole_pages = whole};
  onekv_cache_bytes(onekv_model_config(model), &plan, n, &bytes);
  size_t sum = 0;
  for (size_t i = 0; i < ONEKV_CACHED_COUNT; i++) sum += (size_t)bytes.by_kind[i];
  CHECK(sum == bytes.total);
  return sum;
}

/* onekv_cache_tokens is the other way round: the most that fits, and one byte less holds less. */
static void check_tokens_for(const onekv_model *model, onekv_cache_type type) {
  const onekv_config *config = onekv_model_config(model);
  for (size_t n = 0; n <= config->context_window; n++) {
    onekv_cache_plan plan = {.type = type};
    size_t bytes = bytes_of(model, type, n, false);
    CHECK(onekv_cache_tokens(config, &plan, bytes) == n);
    if (n > 0) CHECK(onekv_cache_tokens(config, &plan, bytes - 1) == n - 1);
  }
  onekv_cache_plan pages = {.type = type, .whole_pages = true};
  size_t page = bytes_of(model, type, 1, true);
  CHECK(page == bytes_of(model, type, KV_PAGE_POSITIONS, false));
  CHECK(onekv_cache_tokens(config, &pages, page - 1) == 0);
  if (config->context_window >= KV_PAGE_POSITIONS) {
    CHECK(onekv_cache_tokens(config, &pages, page) == KV_PAGE_POSITIONS);
  }
  CHECK(onekv_cache_tokens(config, &pages, UINT64_MAX) == config->context_window);
}

static void close_counted(onekv_model *model, const counted_memory *counted) {
  CHECK(onekv_model_close(model) == ONEKV_OK);
  CHECK_SAY(counted->n_bytes == 0 && counted->n_blocks == 0, "%zu bytes in %zu blocks are left",
            counted->n_bytes, counted->n_blocks);
}

/* Steps take a page when a page begins and otherwise nothing. */
static void check_steps(onekv_model *model, counted_memory *counted, onekv_session *session,
                        onekv_cache_type type) {
  const onekv_config *config = onekv_model_config(model);
  size_t n_most = config->context_window < 70 ? config->context_window : 70;
  for (size_t i = onekv_session_n_tokens(session); i < n_most; i++) {
    int32_t token = (int32_t)(i % config->n_vocabulary);
    size_t n_calls = counted->n_calls;
    const float *logits = feed_tokens(session, model, &token, 1);
    CHECK(onekv_sample(session, logits, &token) == ONEKV_OK);
    onekv_model_top(model, logits, 3);
    size_t n_expected = i % KV_PAGE_POSITIONS == 0 ? 2 : 0; /* the page and its tile block */
    CHECK_SAY(counted->n_calls - n_calls == n_expected, "token %zu: %zu allocations", i,
              counted->n_calls - n_calls);
    onekv_memory report = check_report(model, counted);
    size_t n_pages = i / KV_PAGE_POSITIONS + 1;
    CHECK(report.cache_used == bytes_of(model, type, i + 1, true));
    onekv_session_memory_report own;
    onekv_session_memory(session, &own);
    CHECK(own.n_cached == i + 1 && own.cached.total == bytes_of(model, type, i + 1, false));
    CHECK(own.cache_pages == report.cache_used && own.cache_own == own.cache_pages);
    CHECK(own.n_held == n_pages * KV_PAGE_POSITIONS);
  }
}

static void check_clones(onekv_model *model, counted_memory *counted, onekv_session *session,
                         onekv_cache_type type) {
  onekv_session *clone = NULL;
  onekv_session_memory_report own;
  onekv_memory before = check_report(model, counted);
  CHECK(onekv_session_clone(session, &clone) == ONEKV_OK);
  onekv_memory after = check_report(model, counted);
  CHECK(after.cache == before.cache && after.cache_used == before.cache_used);
  CHECK(after.n_sessions == before.n_sessions + 1 && after.sessions > before.sessions);
  onekv_session_memory(clone, &own);
  CHECK(own.cache_own == 0 && own.cache_pages == before.cache_used);
  size_t n = onekv_session_n_tokens(session);
  CHECK(onekv_session_truncate(clone, n - 2) == ONEKV_OK);
  feed_tokens(clone, model, (const int32_t[1]){1}, 1);
  onekv_session_memory(clone, &own);
  size_t page_bytes = bytes_of(model, type, 1, true);
  CHECK(own.cache_own == page_bytes);
  CHECK(check_report(model, counted).cache_used == before.cache_used + page_bytes);
  onekv_session_close(clone);
  after = check_report(model, counted);
  CHECK(after.cache_used == before.cache_used && after.cache_pooled >= page_bytes);
  onekv_model_trim(model);
  after = check_report(model, counted);
  CHECK(after.cache_pooled == 0 && after.total == before.total - before.cache_pooled -
        before.cache_pooled / page_bytes * sizeof(kv_page));
}

/* Reserved pages are there before the tokens, which then allocate nothing. */
static void check_reserve(onekv_model *model, counted_memory *counted, onekv_cache_type type) {
  size_t page_bytes = bytes_of(model, type, 1, true);
  size_t context_window = onekv_model_config(model)->context_window;
  size_t n_pages = (context_window + KV_PAGE_POSITIONS - 1) / KV_PAGE_POSITIONS;
  onekv_memory before = check_report(model, counted);
  onekv_session *session = open_session(model, NULL);
  CHECK(onekv_session_reserve(session, context_window + 1, NULL) == ONEKV_CONTEXT_FULL);
  CHECK(check_report(model, counted).cache_used == before.cache_used);
  CHECK(onekv_session_reserve(session, context_window, NULL) == ONEKV_OK);
  CHECK(check_report(model, counted).cache_used == before.cache_used + n_pages * page_bytes);
  onekv_session_memory_report own;
  onekv_session_memory(session, &own);
  CHECK(own.n_cached == 0 && own.cached.total == 0 && own.cache_pages == n_pages * page_bytes);
  size_t n_calls = counted->n_calls;
  for (size_t i = 0; i < context_window; i++) feed_tokens(session, model, (const int32_t[1]){1}, 1);
  CHECK(counted->n_calls == n_calls);
  CHECK(onekv_session_truncate(session, 0) == ONEKV_OK);
  CHECK(check_report(model, counted).cache_used == before.cache_used);
  onekv_session_close(session);
}

static void check_slides_and_snapshots(onekv_model *model, counted_memory *counted) {
  onekv_session_options options = {.context_window = 6, .slides = true, .n_keep = 1};
  onekv_memory before = check_report(model, counted);
  onekv_session *session = open_session(model, &options);
  for (int32_t i = 0; i < 20; i++) {
    feed_tokens(session, model, &i, 1);
    onekv_memory report = check_report(model, counted);
    onekv_session_memory_report own;
    onekv_session_memory(session, &own);
    CHECK(own.cache_pages == own.cache_own && report.n_sessions == before.n_sessions + 1);
  }
  size_t n = onekv_session_save_bytes(session);
  uint8_t *saved = check_allocate(n);
  onekv_session *restored = NULL;
  onekv_session_save(session, saved);
  CHECK(onekv_session_restore(model, saved, n, &restored, NULL) == ONEKV_OK);
  check_report(model, counted);
  onekv_session_close(session);
  onekv_session_close(restored);
  free(saved);
  onekv_memory after = check_report(model, counted);
  CHECK(after.sessions == before.sessions && after.cache_used == before.cache_used);
}

static void check_causal(const char *path, onekv_cache_type type) {
  counted_memory counted = {0};
  onekv_model *model = load_counted(path, &counted, type);
  onekv_session *session = open_session(model, NULL);
  CHECK(check_report(model, &counted).sessions > 0);
  check_steps(model, &counted, session, type);
  check_tokens_for(model, type);
  check_clones(model, &counted, session, type);
  check_reserve(model, &counted, type);
  check_slides_and_snapshots(model, &counted);
  onekv_session_close(session);
  onekv_memory report = check_report(model, &counted);
  CHECK(report.sessions == 0 && report.cache_used == 0 && report.cache_pooled > 0);
  close_counted(model, &counted);
}

static void check_encoder(const char *name) {
  char path[256];
  counted_memory counted = {0};
  golden_data golden = golden_read(name);
  snprintf(path, sizeof path, "tests/golden/%s.gguf", name);
  onekv_model *model = load_counted(path, &counted, ONEKV_CACHE_F32);
  for (size_t i = 0; i < 3; i++) {
    const float *logits = NULL;
    size_t n_logits = 0;
    CHECK(onekv_encode(model, golden.tokens, golden.features, golden.n_rows, &logits, &n_logits,
                       NULL) == ONEKV_OK);
    onekv_memory report = check_report(model, &counted);
    CHECK(report.cache_used == 0 && report.sessions == 0 && report.cache_pooled > 0);
  }
  golden_free(&golden);
  close_counted(model, &counted);
}

/* The n-th allocation of loading, stepping and encoding fails, for every n: nothing is lost. */
static void check_out_of_memory(const tiny_shape *shape) {
  onekv_status status = ONEKV_OUT_OF_MEMORY;
  gguf_draft draft = tiny_draft(shape);
  const int32_t tokens[3] = {1, 2, 3};
  size_t fail_at = 1;
  for (; status != ONEKV_OK; fail_at++) {
    counted_memory counted = {.fail_at = fail_at};
    onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&counted)};
    onekv_model *model = NULL;
    status = open_draft(&draft, &options, 77, &model, NULL);
    if (model != NULL && onekv_model_config(model)->causal) {
      onekv_session *session = NULL;
      status = onekv_session_open(model, NULL, &session, NULL);
      onekv_item item = {session, tokens, 3, 1, NULL};
      if (status == ONEKV_OK) status = onekv_step(model, &item, 1, NULL);
      if (session != NULL) CHECK(onekv_session_n_tokens(session) == (status == ONEKV_OK ? 3 : 0));
      onekv_session_close(session);
    } else if (model != NULL) {
      const float *logits = NULL;
      size_t n = 0;
      status = onekv_encode(model, tokens, NULL, 3, &logits, &n, NULL);
      CHECK((logits != NULL) == (status == ONEKV_OK) && n == (status == ONEKV_OK ? 3 : 0));
    }
    CHECK(status == ONEKV_OK || status == ONEKV_OUT_OF_MEMORY);
    if (model != NULL) check_report(model, &counted);
    CHECK(onekv_model_close(model) == ONEKV_OK && counted.n_bytes == 0 && !counted.is_damaged);
  }
  CHECK_SAY(fail_at > 10, "only %zu allocations", fail_at);
}

/* 2H : 1 at the same element type, and what is computed for standard attention is what the standard
 * model really takes, row by row and page by page. */
static void check_ratio(onekv_cache_type type) {
  onekv_session_memory_report reports[2];
  static const char *const PATHS[2] = {"tests/golden/llama-qkv-mha.gguf",
                                       "tests/golden/llama-keqv-mqa.gguf"};
  onekv_bytes standard[2];
  onekv_bytes standard_pages[2];
  size_t used[2];
  size_t n_heads = 0;
  for (size_t i = 0; i < 2; i++) {
    counted_memory counted = {0};
    onekv_model *model = load_counted(PATHS[i], &counted, type);
    onekv_session *session = open_session(model, NULL);
    int32_t tokens[40] = {0};
    size_t context_window = onekv_model_config(model)->context_window;
    size_t n = context_window < 40 ? context_window : 40;
    feed_tokens(session, model, tokens, n);
    onekv_session_memory(session, &reports[i]);
    onekv_cache_plan plan = {
        .type = type, .n_standard_heads = onekv_model_config(model)->kinds[0].n_heads};
    onekv_cache_bytes(onekv_model_config(model), &plan, reports[i].n_cached, &standard[i]);
    plan.whole_pages = true;
    onekv_cache_bytes(onekv_model_config(model), &plan, reports[i].n_held, &standard_pages[i]);
    used[i] = check_report(model, &counted).cache_used;
    n_heads = onekv_model_config(model)->kinds[0].n_heads;
    onekv_session_close(session);
    close_counted(model, &counted);
  }
  CHECK(n_heads > 1 && used[0] == 2 * n_heads * used[1]);
  CHECK(reports[0].cached.total == 2 * n_heads * reports[1].cached.total);
  CHECK(reports[1].cached.by_kind[ONEKV_CACHED_SHARED] == reports[1].cached.total);
  CHECK(reports[0].cached.by_kind[ONEKV_CACHED_KEYS] == reports[0].cached.total / 2 &&
        reports[0].cached.by_kind[ONEKV_CACHED_VALUES] == reports[0].cached.total / 2);
  for (size_t i = 0; i < 2; i++) {
    CHECK(standard[i].total == reports[0].cached.total && standard_pages[i].total == used[0]);
  }
}

int main(void) {
  pool = open_pool(2);
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    check_causal("tests/golden/llama-keqv-mqa.gguf", (onekv_cache_type)type);
    check_causal("tests/golden/gpt2-qkv-mha.gguf", (onekv_cache_type)type);
    check_ratio((onekv_cache_type)type);
  }
  check_encoder("encoder-keqv-gqa");
  check_encoder("vit-plus-qeqk-mha");
  check_out_of_memory(&(tiny_shape){.projection = "Q-K=V"});
  check_out_of_memory(&(tiny_shape){.architecture = "onekv-encoder"});
  onekv_pool_close(pool);
  return check_finish();
}
