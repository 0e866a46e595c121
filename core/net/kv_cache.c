/* The KV cache: pages, references, rows. The layout and invariants are in kv_cache.h. */
#include "core/net/kv_cache.h"

#include <assert.h>
#include <string.h>

static size_t pages_for(size_t n_positions) {
  return (n_positions + KV_PAGE_POSITIONS - 1) / KV_PAGE_POSITIONS;
}

onekv_status kv_pool_open(kv_pool *pool, memory_ledger *memory, const kernel_table *kernels,
                          const onekv_config *config, onekv_cache_type type) {
  *pool = (kv_pool){.memory = memory, .kernels = kernels};
  kv_layout *layout = &pool->layout;
  size_t n_bytes = config->n_layers * sizeof *layout->layers;
  layout->layers = memory_take(memory, MEMORY_TABLES, n_bytes);
  if (layout->layers == NULL) return ONEKV_OUT_OF_MEMORY;
  if (kv_layout_make(config, type, layout)) return ONEKV_OK;
  memory_give_back(memory, MEMORY_TABLES, layout->layers, n_bytes);
  *pool = (kv_pool){.memory = memory};
  return ONEKV_OUT_OF_MEMORY;
}

static void shelf_trim(kv_pool *pool, size_t span) {
  kv_shelf *shelf = &pool->shelves[span];
  while (shelf->free_pages != NULL) {
    kv_page *page = shelf->free_pages;
    shelf->free_pages = page->next_free;
    shelf->n_free--;
    memory_give_back(pool->memory, MEMORY_CACHE, page->tiles,
                     pool->layout.spans[span].page_bytes);
    memory_give_back(pool->memory, MEMORY_TABLES, page, sizeof *page);
  }
}

void kv_pool_trim(kv_pool *pool) {
  for (size_t i = 0; i < pool->layout.n_spans; i++) shelf_trim(pool, i);
}

void kv_pool_close(kv_pool *pool) {
  kv_layout *layout = &pool->layout;
  if (layout->layers == NULL) return;
  kv_pool_trim(pool);
  memory_give_back(pool->memory, MEMORY_TABLES, layout->layers,
                   layout->n_layers * sizeof *layout->layers);
  layout->layers = NULL;
}

size_t kv_pool_used_bytes(const kv_pool *pool) {
  size_t sum = 0;
  for (size_t i = 0; i < pool->layout.n_spans; i++) {
    sum += pool->shelves[i].n_used * pool->layout.spans[i].page_bytes;
  }
  return sum;
}

size_t kv_pool_free_bytes(const kv_pool *pool) {
  size_t sum = 0;
  for (size_t i = 0; i < pool->layout.n_spans; i++) {
    sum += pool->shelves[i].n_free * pool->layout.spans[i].page_bytes;
  }
  return sum;
}

/* A page with one reference, its content unspecified; NULL without memory. */
static kv_page *page_take(kv_pool *pool, size_t span) {
  kv_shelf *shelf = &pool->shelves[span];
  size_t n_bytes = pool->layout.spans[span].page_bytes;
  kv_page *page = shelf->free_pages;
  if (page != NULL) {
    shelf->free_pages = page->next_free;
    shelf->n_free--;
  } else {
    page = memory_take(pool->memory, MEMORY_TABLES, sizeof *page);
    if (page == NULL) return NULL;
    page->tiles = n_bytes > 0 ? memory_take(pool->memory, MEMORY_CACHE, n_bytes) : NULL;
    if (page->tiles == NULL && n_bytes > 0) {
      memory_give_back(pool->memory, MEMORY_TABLES, page, sizeof *page);
      return NULL;
    }
  }
  page->n_references = 1;
  shelf->n_used++;
  return page;
}

static void page_release(kv_pool *pool, size_t span, kv_page *page) {
  assert(page->n_references > 0);
  if (--page->n_references > 0) return;
  kv_shelf *shelf = &pool->shelves[span];
  page->next_free = shelf->free_pages;
  shelf->free_pages = page;
  shelf->n_free++;
  shelf->n_used--;
}

onekv_status kv_cache_open(kv_pool *pool, size_t n_positions_max, kv_cache *cache) {
  *cache = (kv_cache){.pool = pool, .n_pages_max = pages_for(n_positions_max)};
  size_t n_bytes = cache->n_pages_max * sizeof(kv_page *);
  size_t n_spans = pool->layout.n_spans;
  kv_page **pages = memory_take(pool->memory, MEMORY_SESSIONS, n_spans * n_bytes);
  if (pages == NULL) return ONEKV_OUT_OF_MEMORY;
  for (size_t i = 0; i < n_spans; i++) cache->tables[i].pages = pages + i * cache->n_pages_max;
  return ONEKV_OK;
}

void kv_cache_close(kv_cache *cache) {
  if (cache->tables[0].pages == NULL) return;
  kv_pool *pool = cache->pool;
  kv_cache_truncate(cache, 0);
  size_t n_bytes = pool->layout.n_spans * cache->n_pages_max * sizeof(kv_page *);
  memory_give_back(pool->memory, MEMORY_SESSIONS, cache->tables[0].pages, n_bytes);
  cache->tables[0].pages = NULL;
}

/* End of the pages that are to be held when positions up to n_reserved are to be written. In a
 * window these are no more than are needed at a time, which are used again and again; pages that
 * are shared cannot be, and come on top. */
static size_t end_needed(const kv_cache *cache, size_t span, size_t n_reserved) {
  const kv_table *table = &cache->tables[span];
  size_t window = cache->pool->layout.spans[span].window;
  size_t end = pages_for(n_reserved);
  if (window == 0) return end;
  size_t n_most = pages_for(window + KV_WINDOW_SLACK + KV_BATCH_MAX) + 2;
  for (size_t page = table->first; page < table->end; page++) {
    n_most += table->pages[page]->n_references > 1;
  }
  return end > table->first + n_most ? table->first + n_most : end;
}

/* A copy for the cache of its own of the last, partly filled page, where others refer to it too;
 * NULL with has_memory when there is none to make. */
static kv_page *copy_of_last(kv_cache *cache, size_t span, bool *has_memory) {
  if (cache->n_positions % KV_PAGE_POSITIONS == 0) return NULL;
  const kv_page *last = cache->tables[span].pages[cache->n_positions / KV_PAGE_POSITIONS];
  if (last->n_references == 1) return NULL;
  kv_page *copy = page_take(cache->pool, span);
  *has_memory = copy != NULL;
  if (copy == NULL) return NULL;
  size_t n_bytes = cache->pool->layout.spans[span].page_bytes;
  if (n_bytes > 0) memcpy(copy->tiles, last->tiles, n_bytes);
  memcpy(copy->tokens, last->tokens, sizeof copy->tokens);
  return copy;
}

static void release_from(kv_cache *cache, size_t span, size_t end) {
  kv_table *table = &cache->tables[span];
  while (table->end > end && table->end > table->first) {
    kv_page **slot = &table->pages[--table->end];
    page_release(cache->pool, span, *slot);
    *slot = NULL;
  }
}

onekv_status kv_cache_reserve(kv_cache *cache, size_t n) {
  if (n > cache->n_pages_max * KV_PAGE_POSITIONS - cache->n_positions) return ONEKV_CONTEXT_FULL;
  kv_pool *pool = cache->pool;
  size_t n_spans = pool->layout.n_spans;
  size_t n_reserved = cache->n_positions + n;
  size_t ends_before[KV_SPANS_MAX];
  kv_page *copies[KV_SPANS_MAX] = {NULL};
  bool has_memory = true;
  for (size_t i = 0; i < n_spans; i++) ends_before[i] = cache->tables[i].end;
  for (size_t i = 0; i < n_spans && has_memory; i++) {
    kv_table *table = &cache->tables[i];
    size_t end = end_needed(cache, i, n_reserved);
    if (n > 0) copies[i] = copy_of_last(cache, i, &has_memory);
    while (has_memory && table->end < end) {
      kv_page *page = page_take(pool, i);
      has_memory = page != NULL;
      if (has_memory) table->pages[table->end++] = page;
    }
  }
  for (size_t i = 0; i < n_spans; i++) {
    if (!has_memory) release_from(cache, i, ends_before[i]);
    if (copies[i] == NULL) continue;
    kv_page **slot = &cache->tables[i].pages[cache->n_positions / KV_PAGE_POSITIONS];
    kv_page *dropped = has_memory ? *slot : copies[i];
    if (has_memory) *slot = copies[i];
    page_release(pool, i, dropped);
  }
  if (!has_memory) return ONEKV_OUT_OF_MEMORY;
  if (n_reserved > cache->n_reserved) cache->n_reserved = n_reserved;
  return ONEKV_OK;
}

onekv_status kv_cache_reserve_from(kv_cache *cache, size_t n) {
  const kv_layout *layout = &cache->pool->layout;
  for (size_t i = 1; i < layout->n_spans; i++) {
    kv_table *table = &cache->tables[i];
    assert(table->first == table->end);
    table->first = table->end = kv_first_needed(&layout->spans[i], n);
  }
  onekv_status status = kv_cache_reserve(cache, n);
  if (status != ONEKV_OK) kv_cache_truncate(cache, 0);
  return status;
}

static uint8_t *tile_at(const kv_cache *cache, size_t page, const kv_layer *layer,
                        kv_stream stream, size_t head) {
  const kv_table *table = &cache->tables[layer->span];
  const kv_stream_layout *rows = &layer->streams[stream];
  assert(page >= table->first && page < table->end);
  assert(stream < layer->n_streams && head < layer->n_kv_heads);
  return table->pages[page]->tiles + rows->offset + head * rows->tile_bytes;
}

/* Row of a tile: without the scales, which stand behind all rows. */
static void *row_at(const kv_stream_layout *rows, uint8_t *tile, size_t row) {
  return tile + row * (rows->row_bytes - rows->scale_bytes);
}

static void *scales_of(const kv_stream_layout *rows, uint8_t *tile, size_t row) {
  uint8_t *scales = row_at(rows, tile, KV_PAGE_POSITIONS);
  return scales + row * rows->scale_bytes;
}

static void encode_i8(const kernel_table *kernels, const kv_stream_layout *rows, const float *x,
                      int8_t *out, float *scales) {
  size_t n = rows->first_part;
  kernels->i8_encode(x, n, out, &scales[0]);
  if (n < rows->width) kernels->i8_encode(x + n, rows->width - n, out + n, &scales[1]);
}

static void encode_i4(const kernel_table *kernels, const kv_stream_layout *rows, const float *x,
                      uint8_t *out, uint16_t *scales) {
  size_t n = rows->first_part;
  kernels->i4_encode(x, n, out, scales);
  if (n == rows->width) return;
  kernels->i4_encode(x + n, rows->width - n, out + i4_code_bytes(n), scales + i4_groups(n));
}

static void decode_i4(const kernel_table *kernels, const kv_stream_layout *rows, const uint8_t *x,
                      const uint16_t *scales, float *out) {
  size_t n = rows->first_part;
  kernels->i4_decode(x, scales, n, out);
  if (n == rows->width) return;
  kernels->i4_decode(x + i4_code_bytes(n), scales + i4_groups(n), rows->width - n, out + n);
}

static void decode_i8(const kernel_table *kernels, const kv_stream_layout *rows, const int8_t *x,
                      const float *scales, float *out) {
  size_t n = rows->first_part;
  kernels->i8_decode(x, n, scales[0], out);
  if (n < rows->width) kernels->i8_decode(x + n, rows->width - n, scales[1], out + n);
}

void kv_cache_write(kv_cache *cache, size_t layer_index, kv_stream stream, size_t position,
                    const float *row) {
  const kernel_table *kernels = cache->pool->kernels;
  const kv_layer *layer = &cache->pool->layout.layers[layer_index];
  const kv_stream_layout *rows = &layer->streams[stream];
  size_t index = position % KV_PAGE_POSITIONS;
  for (size_t head = 0; head < layer->n_kv_heads; head++) {
    uint8_t *tile = tile_at(cache, position / KV_PAGE_POSITIONS, layer, stream, head);
    void *out = row_at(rows, tile, index);
    const float *x = row + head * rows->width;
    switch (rows->type) {
      case ONEKV_CACHE_F16:
        kernels->f16_encode(x, rows->width, out);
        break;
      case ONEKV_CACHE_I8:
        encode_i8(kernels, rows, x, out, scales_of(rows, tile, index));
        break;
      case ONEKV_CACHE_I4:
        encode_i4(kernels, rows, x, out, scales_of(rows, tile, index));
        break;
      default:
        memcpy(out, x, rows->width * sizeof *x);
    }
  }
}

/* Pages behind the window go back, or are the next to be written when positions are reserved that
 * have no page yet. */
static void move_window(kv_cache *cache, size_t span) {
  kv_table *table = &cache->tables[span];
  size_t window = cache->pool->layout.spans[span].window;
  size_t first = kv_first_kept(window, cache->n_positions) / KV_PAGE_POSITIONS;
  size_t end = pages_for(cache->n_reserved);
  for (; table->first < first; table->first++) {
    kv_page *page = table->pages[table->first];
    table->pages[table->first] = NULL;
    if (table->end < end && page->n_references == 1) {
      table->pages[table->end++] = page;
    } else {
      page_release(cache->pool, span, page);
    }
  }
}

void kv_cache_advance(kv_cache *cache, const int32_t *tokens, size_t n) {
  const kv_table *all = &cache->tables[0];
  assert(cache->n_positions + n <= cache->n_reserved);
  for (size_t i = 0; tokens != NULL && i < n; i++) {
    size_t position = cache->n_positions + i;
    all->pages[position / KV_PAGE_POSITIONS]->tokens[position % KV_PAGE_POSITIONS] = tokens[i];
  }
  cache->n_positions += n;
  for (size_t i = 1; i < cache->pool->layout.n_spans; i++) move_window(cache, i);
}

void kv_cache_tokens(const kv_cache *cache, size_t first, size_t n, int32_t *tokens) {
  kv_page *const *pages = cache->tables[0].pages;
  for (size_t i = 0; i < n; i++) {
    size_t position = first + i;
    tokens[i] = pages[position / KV_PAGE_POSITIONS]->tokens[position % KV_PAGE_POSITIONS];
  }
}

bool kv_cache_can_truncate(const kv_cache *cache, size_t n_positions) {
  const kv_layout *layout = &cache->pool->layout;
  if (n_positions == 0) return true;
  for (size_t i = 1; i < layout->n_spans; i++) {
    if (cache->tables[i].first > kv_first_needed(&layout->spans[i], n_positions)) return false;
  }
  return true;
}

void kv_cache_truncate(kv_cache *cache, size_t n_positions) {
  assert(n_positions <= cache->n_positions && kv_cache_can_truncate(cache, n_positions));
  for (size_t i = 0; i < cache->pool->layout.n_spans; i++) {
    release_from(cache, i, pages_for(n_positions));
    if (n_positions == 0) cache->tables[i].first = cache->tables[i].end = 0;
  }
  cache->n_positions = n_positions;
  cache->n_reserved = n_positions;
}

void kv_cache_share(const kv_cache *cache, size_t n_positions, kv_cache *clone) {
  assert(kv_cache_can_truncate(cache, n_positions) && clone->n_positions == 0);
  for (size_t i = 0; i < cache->pool->layout.n_spans && n_positions > 0; i++) {
    kv_table *table = &clone->tables[i];
    table->first = cache->tables[i].first;
    table->end = pages_for(n_positions);
    for (size_t page = table->first; page < table->end; page++) {
      table->pages[page] = cache->tables[i].pages[page];
      table->pages[page]->n_references++;
    }
  }
  clone->n_positions = n_positions;
  clone->n_reserved = n_positions;
}

/* n rows of a tile, from `first`, as f32 [n][width]. */
static void decode_rows(const kv_cache *cache, const kv_stream_layout *rows, uint8_t *tile,
                        size_t first, size_t n, float *out) {
  const kernel_table *kernels = cache->pool->kernels;
  const void *from = row_at(rows, tile, first);
  if (rows->type == ONEKV_CACHE_F32) {
    memcpy(out, from, n * rows->width * sizeof *out);
  } else if (rows->type == ONEKV_CACHE_F16) {
    kernels->f16_decode(from, n * rows->width, out);
  } else {
    bool is_i4 = rows->type == ONEKV_CACHE_I4;
    for (size_t i = first; i < first + n; i++, out += rows->width) {
      const void *codes = row_at(rows, tile, i);
      const void *scales = scales_of(rows, tile, i);
      if (is_i4) decode_i4(kernels, rows, codes, scales, out);
      else decode_i8(kernels, rows, codes, scales, out);
    }
  }
}

const float *kv_cache_read(const kv_cache *cache, size_t layer_index, kv_stream stream,
                           size_t head, size_t page, size_t n, float *scratch) {
  const kv_layer *layer = &cache->pool->layout.layers[layer_index];
  const kv_stream_layout *rows = &layer->streams[stream];
  uint8_t *tile = tile_at(cache, page, layer, stream, head);
  if (rows->type == ONEKV_CACHE_F32) return row_at(rows, tile, 0);
  decode_rows(cache, rows, tile, 0, n, scratch);
  return scratch;
}

const void *kv_cache_tile(const kv_cache *cache, size_t layer_index, kv_stream stream,
                          size_t head, size_t page, const kv_stream_layout **rows) {
  const kv_layer *layer = &cache->pool->layout.layers[layer_index];
  *rows = &layer->streams[stream];
  return tile_at(cache, page, layer, stream, head);
}

void kv_cache_row(const kv_cache *cache, size_t layer_index, kv_stream stream, size_t head,
                  size_t position, float *out) {
  const kv_layer *layer = &cache->pool->layout.layers[layer_index];
  uint8_t *tile = tile_at(cache, position / KV_PAGE_POSITIONS, layer, stream, head);
  decode_rows(cache, &layer->streams[stream], tile, position % KV_PAGE_POSITIONS, 1, out);
}

void kv_cache_touch(const kv_cache *cache, size_t layer_index, kv_stream stream, size_t head,
                    size_t page) {
  enum { LINE_BYTES = 64 };
  const kv_layer *layer = &cache->pool->layout.layers[layer_index];
  /* volatile, so that the compiler keeps a read whose value is unused. */
  const volatile uint8_t *tile = tile_at(cache, page, layer, stream, head);
  size_t n_bytes = layer->streams[stream].tile_bytes;
  for (size_t i = 0; i < n_bytes; i += LINE_BYTES) (void)tile[i];
}
