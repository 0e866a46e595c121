/* The paged cache against a plain array: what was written is read, whatever was shared, cut,
 * saved or refused memory in between.
 *
 * Rows hold the values of IQ4_NL, with the largest in each head, which f32, f16, i8 (scale 1) and
 * i4 all keep exactly, and are a function of their token, so the plain model of a sequence is its
 * list of tokens. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { LAYERS = 2, HEADS = 2, WIDTH = 5, CACHES = 6, POSITIONS = 100, N_OPERATIONS = 4000 };

typedef struct plain_cache {
  kv_cache cache;
  bool is_open;
  size_t n;
  int32_t tokens[POSITIONS];
} plain_cache;

typedef struct bench {
  counted_memory counted;
  memory_ledger memory;
  kernel_table kernels;
  kv_pool pool;
  int32_t next_token;
} bench;

static onekv_config config_of(bool shares_row) {
  return (onekv_config){.n_layers = LAYERS,
                        .n_kinds = 1,
                        .cached_by = {0, 1},
                        .kinds = {{.n_heads = 2 * HEADS,
                                   .n_kv_heads = HEADS,
                                   .key_width = WIDTH,
                                   .value_width = WIDTH,
                                   .shares_row = shares_row}}};
}

static void open_bench(bench *b, onekv_cache_type type, bool shares_row) {
  *b = (bench){.next_token = 1};
  onekv_config config = config_of(shares_row);
  onekv_allocator allocator = counted_allocator(&b->counted);
  kernels_select(&b->kernels, ONEKV_LEVEL_BEST);
  memory_init(&b->memory, &allocator);
  CHECK(kv_pool_open(&b->pool, &b->memory, &b->kernels, &config, type) == ONEKV_OK);
}

static size_t used_pages(const bench *b) { return b->pool.shelves[0].n_used; }
static size_t free_pages(const bench *b) { return b->pool.shelves[0].n_free; }
static size_t streams_of(const kv_cache *cache) {
  return cache->pool->layout.layers[0].n_streams;
}

static void close_bench(bench *b) {
  CHECK(used_pages(b) == 0);
  kv_pool_close(&b->pool);
  CHECK_SAY(b->counted.n_bytes == 0 && b->counted.n_blocks == 0 && !b->counted.is_damaged,
            "%zu bytes left", b->counted.n_bytes);
  CHECK(b->memory.n_bytes_total == 0);
}

static float value_of(int32_t token, size_t layer, size_t stream, size_t column) {
  if (column % WIDTH == 0) return -127.0f;
  uint32_t x = (uint32_t)token * 2654435761u + (uint32_t)(layer * 7919 + stream * 104729 + column);
  x ^= x >> 15;
  x *= 2246822519u;
  return (float)PACKED_VALUES[VALUES_IQ4][x % 16];
}

static void write_token(kv_cache *cache, size_t position, int32_t token) {
  float row[HEADS * WIDTH];
  for (size_t layer = 0; layer < LAYERS; layer++) {
    for (size_t stream = 0; stream < streams_of(cache); stream++) {
      for (size_t c = 0; c < HEADS * WIDTH; c++) row[c] = value_of(token, layer, stream, c);
      kv_cache_write(cache, layer, (kv_stream)stream, position, row);
    }
  }
}

static bool tile_is_right(const plain_cache *plain, size_t layer, size_t stream, size_t page) {
  float scratch[KV_PAGE_POSITIONS * WIDTH];
  size_t n_left = plain->n - page * KV_PAGE_POSITIONS;
  size_t n = n_left < KV_PAGE_POSITIONS ? n_left : KV_PAGE_POSITIONS;
  for (size_t head = 0; head < HEADS; head++) {
    const float *rows =
        kv_cache_read(&plain->cache, layer, (kv_stream)stream, head, page, n, scratch);
    for (size_t i = 0; i < n * WIDTH; i++) {
      int32_t token = plain->tokens[page * KV_PAGE_POSITIONS + i / WIDTH];
      if (rows[i] != value_of(token, layer, stream, head * WIDTH + i % WIDTH)) return false;
    }
  }
  return true;
}

static bool is_right(const plain_cache *plain) {
  int32_t tokens[POSITIONS];
  if (plain->cache.n_positions != plain->n) return false;
  kv_cache_tokens(&plain->cache, 0, plain->n, tokens);
  if (memcmp(tokens, plain->tokens, plain->n * sizeof *tokens) != 0) return false;
  for (size_t layer = 0; layer < LAYERS; layer++) {
    for (size_t stream = 0; stream < streams_of(&plain->cache); stream++) {
      for (size_t page = 0; page * KV_PAGE_POSITIONS < plain->n; page++) {
        if (!tile_is_right(plain, layer, stream, page)) return false;
      }
    }
  }
  return true;
}

/* Pages that the caches refer to, each once, and how often: against the pool's own figures. */
static void check_counts(const bench *b, const plain_cache *plains, size_t n) {
  const kv_page *pages[CACHES * 8];
  size_t n_pages = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t p = 0; plains[i].is_open && p < plains[i].cache.tables[0].end; p++) {
      const kv_page *page = plains[i].cache.tables[0].pages[p];
      size_t n_references = 0;
      bool is_known = false;
      for (size_t j = 0; j < n_pages; j++) is_known |= pages[j] == page;
      if (!is_known) pages[n_pages++] = page;
      for (size_t j = 0; j < n; j++) {
        for (size_t q = 0; plains[j].is_open && q < plains[j].cache.tables[0].end; q++) {
          n_references += plains[j].cache.tables[0].pages[q] == page;
        }
      }
      CHECK(n_references == page->n_references);
    }
  }
  CHECK_SAY(used_pages(b) == n_pages, "%zu pages counted, %zu there", used_pages(b), n_pages);
  size_t n_held = used_pages(b) + free_pages(b);
  CHECK(b->memory.n_bytes[MEMORY_CACHE] == n_held * b->pool.layout.spans[0].page_bytes);
  CHECK(b->memory.n_bytes[MEMORY_TABLES] ==
        n_held * sizeof(kv_page) + LAYERS * sizeof(kv_layer));
  CHECK(b->memory.n_bytes_total == b->counted.n_bytes);
  CHECK(b->memory.n_bytes_peak == b->counted.n_bytes_peak);
}

static onekv_status append(bench *b, plain_cache *plain, size_t n) {
  onekv_status status = kv_cache_reserve(&plain->cache, n);
  if (status != ONEKV_OK) return status;
  for (size_t i = 0; i < n; i++) {
    plain->tokens[plain->n + i] = b->next_token++;
    write_token(&plain->cache, plain->n + i, plain->tokens[plain->n + i]);
  }
  kv_cache_advance(&plain->cache, plain->tokens + plain->n, n);
  plain->n += n;
  return ONEKV_OK;
}

static onekv_status open_plain(bench *b, plain_cache *plain) {
  onekv_status status = kv_cache_open(&b->pool, POSITIONS, &plain->cache);
  plain->is_open = status == ONEKV_OK;
  plain->n = 0;
  return status;
}

static onekv_status clone_plain(bench *b, const plain_cache *from, size_t n, plain_cache *to) {
  onekv_status status = open_plain(b, to);
  if (status != ONEKV_OK) return status;
  kv_cache_share(&from->cache, n, &to->cache);
  memcpy(to->tokens, from->tokens, n * sizeof *to->tokens);
  to->n = n;
  return ONEKV_OK;
}

/* A copy through bytes, of exactly the bytes that are promised. */
static onekv_status copy_saved(bench *b, const plain_cache *from, plain_cache *to) {
  size_t n_bytes = (size_t)kv_saved_bytes(&b->pool.layout, from->n);
  CHECK(n_bytes == from->n * b->pool.layout.spans[0].position_bytes);
  check_guard saved = check_guard_take(n_bytes, 1);
  kv_cache_save(&from->cache, saved.start);
  CHECK(check_guard_is_whole(&saved));
  onekv_status status = open_plain(b, to);
  if (status == ONEKV_OK) {
    status = kv_cache_load(&to->cache, from->tokens, from->n, saved.start);
    if (status != ONEKV_OK) {
      CHECK(to->cache.n_positions == 0 && to->cache.tables[0].end == 0);
      kv_cache_close(&to->cache);
      to->is_open = false;
    }
  }
  if (status == ONEKV_OK) {
    memcpy(to->tokens, from->tokens, from->n * sizeof *to->tokens);
    to->n = from->n;
  }
  check_guard_free(&saved);
  return status;
}

/* One random operation on random caches. */
static onekv_status operate(bench *b, plain_cache *plains) {
  plain_cache *one = &plains[check_random_below(CACHES)];
  plain_cache *other = &plains[check_random_below(CACHES)];
  if (!one->is_open) return open_plain(b, one);
  switch (check_random_below(9)) {
    case 0:
      kv_cache_close(&one->cache);
      one->is_open = false;
      return ONEKV_OK;
    case 1:
      one->n = check_random_below(one->n + 1);
      kv_cache_truncate(&one->cache, one->n);
      return ONEKV_OK;
    case 2:
      return other->is_open ? ONEKV_OK
                            : clone_plain(b, one, check_random_below(one->n + 1), other);
    case 3:
      return other->is_open ? ONEKV_OK : copy_saved(b, one, other);
    case 4:
      if (check_random_below(8) == 0) kv_pool_trim(&b->pool);
      return ONEKV_OK;
    default:
      return append(b, one, check_random_below(POSITIONS - one->n + 1) % 40);
  }
}

static void close_all(plain_cache *plains) {
  for (size_t i = 0; i < CACHES; i++) {
    if (plains[i].is_open) kv_cache_close(&plains[i].cache);
    plains[i].is_open = false;
  }
}

static void check_random_operations(onekv_cache_type type, bool shares_row) {
  bench b;
  open_bench(&b, type, shares_row);
  static plain_cache plains[CACHES];
  memset(plains, 0, sizeof plains);
  for (size_t i = 0; i < N_OPERATIONS; i++) {
    /* Every fifth operation meets an allocator that fails soon. */
    b.counted.fail_at = i % 5 == 0 ? b.counted.n_calls + 1 + check_random_below(3) : 0;
    onekv_status status = operate(&b, plains);
    CHECK(status == ONEKV_OK || (status == ONEKV_OUT_OF_MEMORY && b.counted.fail_at > 0));
    if (i % 8 != 0 && status == ONEKV_OK) continue;
    check_counts(&b, plains, CACHES);
    for (size_t j = 0; j < CACHES; j++) {
      CHECK_SAY(!plains[j].is_open || is_right(&plains[j]), "operation %zu, cache %zu", i, j);
    }
  }
  close_all(plains);
  close_bench(&b);
}

/* --- single properties ------------------------------------------------------------------------ */

static void check_layout(void) {
  static const size_t ROW_BYTES[ONEKV_CACHE_TYPE_COUNT] = {2 * WIDTH, 4 * WIDTH, WIDTH + 4,
                                                           (WIDTH + 1) / 2 + 2};
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    for (int shares_row = 0; shares_row < 2; shares_row++) {
      bench b;
      open_bench(&b, (onekv_cache_type)type, shares_row != 0);
      const kv_layout *layout = &b.pool.layout;
      size_t n_streams = shares_row != 0 ? 1 : 2;
      CHECK(layout->n_spans == 1 && layout->layers[1].n_streams == n_streams);
      CHECK(layout->layers[1].streams[KV_ROW].row_bytes == ROW_BYTES[type]);
      CHECK(layout->spans[0].position_bytes == LAYERS * n_streams * HEADS * ROW_BYTES[type]);
      CHECK(layout->spans[0].page_bytes == layout->spans[0].position_bytes * KV_PAGE_POSITIONS);
      close_bench(&b);
    }
  }
  onekv_config huge = config_of(false);
  huge.kinds[0].n_kv_heads = SIZE_MAX / 64;
  kv_layer layers[LAYERS];
  kv_layout layout = {.layers = layers};
  CHECK(!kv_layout_make(&huge, ONEKV_CACHE_F32, &layout));
}

/* Numbers that do not fit exactly: to nearest in f16, within half a step in i8 and i4. */
static void check_rounding(onekv_cache_type type) {
  bench b;
  open_bench(&b, type, true);
  plain_cache plain;
  float row[HEADS * WIDTH];
  float scratch[KV_PAGE_POSITIONS * WIDTH];
  CHECK(open_plain(&b, &plain) == ONEKV_OK && kv_cache_reserve(&plain.cache, 1) == ONEKV_OK);
  for (size_t c = 0; c < HEADS * WIDTH; c++) row[c] = check_random_float(3.0f);
  kv_cache_write(&plain.cache, 1, KV_ROW, 0, row);
  for (size_t head = 0; head < HEADS; head++) {
    const float *found = kv_cache_read(&plain.cache, 1, KV_ROW, head, 0, 1, scratch);
    double largest = 0.0;
    for (size_t c = 0; c < WIDTH; c++) largest = fmax(largest, fabs((double)row[head * WIDTH + c]));
    /* Half a step: 2^-10 for f16 numbers below 4, 1/254 of the row's largest for i8, of i4 up to
     * 14/127 (test_kernels_exact.c). */
    const double bounds[ONEKV_CACHE_TYPE_COUNT] = {1.0 / 1024, 0.0, largest / 253.9,
                                                   largest * 14.6 / 127.0};
    double bound = bounds[type];
    for (size_t c = 0; c < WIDTH; c++) CHECK_CLOSE(found[c], row[head * WIDTH + c], bound);
  }
  kv_cache_close(&plain.cache);
  close_bench(&b);
}

/* A clone costs its page table; the first write into a shared page copies that page only. */
static void check_copy_on_write(void) {
  bench b;
  open_bench(&b, ONEKV_CACHE_F16, true);
  plain_cache origin = {0};
  plain_cache clone = {0};
  CHECK(open_plain(&b, &origin) == ONEKV_OK && append(&b, &origin, 70) == ONEKV_OK);
  CHECK(used_pages(&b) == 3);
  CHECK(clone_plain(&b, &origin, 70, &clone) == ONEKV_OK && used_pages(&b) == 3);
  CHECK(append(&b, &clone, 1) == ONEKV_OK && used_pages(&b) == 4);
  CHECK(clone.cache.tables[0].pages[1] == origin.cache.tables[0].pages[1]);
  CHECK(clone.cache.tables[0].pages[2] != origin.cache.tables[0].pages[2]);
  CHECK(append(&b, &origin, 2) == ONEKV_OK && used_pages(&b) == 4);
  CHECK(is_right(&origin) && is_right(&clone));
  /* Cut inside a full page: writing there copies it; cut at its end: nothing is copied. */
  clone.n = 40;
  kv_cache_truncate(&clone.cache, 40);
  CHECK(used_pages(&b) == 3 && append(&b, &clone, 1) == ONEKV_OK && used_pages(&b) == 4);
  CHECK(clone.cache.tables[0].pages[1] != origin.cache.tables[0].pages[1]);
  clone.n = 32;
  kv_cache_truncate(&clone.cache, 32);
  CHECK(append(&b, &clone, 1) == ONEKV_OK);
  CHECK(clone.cache.tables[0].pages[0] == origin.cache.tables[0].pages[0]);
  CHECK(is_right(&origin) && is_right(&clone));
  kv_cache_close(&origin.cache);
  CHECK(is_right(&clone) && used_pages(&b) == 2);
  kv_cache_close(&clone.cache);
  CHECK(used_pages(&b) == 0 && free_pages(&b) > 0);
  close_bench(&b);
}

static void check_limits(void) {
  bench b;
  open_bench(&b, ONEKV_CACHE_I8, false);
  plain_cache plain = {0};
  CHECK(open_plain(&b, &plain) == ONEKV_OK && append(&b, &plain, 33) == ONEKV_OK);
  CHECK(kv_cache_reserve(&plain.cache, 128 - 33 + 1) == ONEKV_CONTEXT_FULL);
  CHECK(kv_cache_reserve(&plain.cache, SIZE_MAX) == ONEKV_CONTEXT_FULL);
  CHECK(kv_cache_reserve(&plain.cache, SIZE_MAX - 20) == ONEKV_CONTEXT_FULL);
  CHECK(used_pages(&b) == 2 && is_right(&plain));
  /* What was reserved and not used goes back to the pool and is used again. */
  CHECK(kv_cache_reserve(&plain.cache, 64) == ONEKV_OK && used_pages(&b) == 4);
  kv_cache_truncate(&plain.cache, plain.n);
  CHECK(used_pages(&b) == 2 && free_pages(&b) == 2);
  size_t n_calls = b.counted.n_calls;
  CHECK(append(&b, &plain, 64) == ONEKV_OK && b.counted.n_calls == n_calls);
  kv_cache_close(&plain.cache);
  kv_cache_close(&plain.cache);
  CHECK(free_pages(&b) == 4);
  close_bench(&b);
}

/* The same story with the allocator failing at its n-th call, for every n: a failed call leaves
 * everything as it was, down to the number of pages, and succeeds when it is made again. */
static void check_out_of_memory(onekv_cache_type type) {
  for (size_t fail_at = 1;; fail_at++) {
    bench b;
  open_bench(&b, type, true);
    plain_cache plains[3] = {{.n = 0}};
    bool has_failed = false;
    b.counted.fail_at = fail_at;
    for (size_t step = 0; step < 7; step++) {
      onekv_status status = ONEKV_OUT_OF_MEMORY;
      for (size_t attempt = 0; attempt < 2 && status != ONEKV_OK; attempt++) {
        size_t n_used = used_pages(&b);
        status = step == 0   ? open_plain(&b, &plains[0])
                 : step == 1 ? append(&b, &plains[0], 45)
                 : step == 2 ? clone_plain(&b, &plains[0], 45, &plains[1])
                 : step == 3 ? append(&b, &plains[1], 50)
                 : step == 4 ? copy_saved(&b, &plains[1], &plains[2])
                 : step == 5 ? append(&b, &plains[0], 1)
                             : append(&b, &plains[2], 3);
        has_failed |= status != ONEKV_OK;
        CHECK(status == ONEKV_OK || (status == ONEKV_OUT_OF_MEMORY && used_pages(&b) == n_used));
        check_counts(&b, plains, 3);
        for (size_t i = 0; i < 3; i++) CHECK(!plains[i].is_open || is_right(&plains[i]));
      }
      CHECK(status == ONEKV_OK);
    }
    for (size_t i = 0; i < 3; i++) kv_cache_close(&plains[i].cache);
    close_bench(&b);
    if (!has_failed) break;
  }
}

int main(void) {
  check_seed(20260721);
  check_layout();
  check_copy_on_write();
  check_limits();
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    check_rounding((onekv_cache_type)type);
    check_out_of_memory((onekv_cache_type)type);
    check_random_operations((onekv_cache_type)type, true);
    check_random_operations((onekv_cache_type)type, false);
  }
  return check_finish();
}
