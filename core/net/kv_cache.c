/* The KV cache: pages, references, rows. The layout and invariants are in kv_cache.h. */
#include "core/net/kv_cache.h"

#include <string.h>

size_t kv_bytes_per_position(const kv_layout *layout) {
  return layout->page_bytes / KV_PAGE_POSITIONS;
}

bool kv_layout_make(const onekv_config *config, onekv_cache_type type, kv_layout *layout) {
  static const size_t element_bytes[ONEKV_CACHE_TYPE_COUNT] = {2, 4, 1};
  size_t scale_bytes = type == ONEKV_CACHE_I8 ? sizeof(float) : 0;
  *layout = (kv_layout){.type = type, .n_layers = config->n_layers};
  layout->n_streams = config_shares_kv(config) ? 1 : 2;
  layout->n_kv_heads = config->n_kv_heads;
  layout->head_width = config->head_width;
  layout->row_bytes = config->head_width * element_bytes[type] + scale_bytes;
  size_t n_tiles = 0;
  return size_multiply(layout->row_bytes, KV_PAGE_POSITIONS, &layout->tile_bytes) &&
         size_multiply(layout->n_streams * layout->n_layers, layout->n_kv_heads, &n_tiles) &&
         size_multiply(n_tiles, layout->tile_bytes, &layout->page_bytes);
}

void kv_pool_init(kv_pool *pool, memory_ledger *memory, const kernel_table *kernels,
                  const kv_layout *layout) {
  *pool = (kv_pool){.memory = memory, .kernels = kernels, .layout = *layout};
}

void kv_pool_trim(kv_pool *pool) {
  while (pool->free_pages != NULL) {
    kv_page *page = pool->free_pages;
    pool->free_pages = page->next_free;
    pool->n_free--;
    memory_give_back(pool->memory, MEMORY_CACHE, page->tiles, pool->layout.page_bytes);
    memory_give_back(pool->memory, MEMORY_TABLES, page, sizeof *page);
  }
}

/* A page with one reference, its content unspecified; NULL without memory. */
static kv_page *page_take(kv_pool *pool) {
  kv_page *page = pool->free_pages;
  if (page != NULL) {
    pool->free_pages = page->next_free;
    pool->n_free--;
  } else {
    page = memory_take(pool->memory, MEMORY_TABLES, sizeof *page);
    if (page == NULL) return NULL;
    page->tiles = memory_take(pool->memory, MEMORY_CACHE, pool->layout.page_bytes);
    if (page->tiles == NULL) {
      memory_give_back(pool->memory, MEMORY_TABLES, page, sizeof *page);
      return NULL;
    }
  }
  page->n_references = 1;
  pool->n_used++;
  return page;
}

static void page_release(kv_pool *pool, kv_page *page) {
  if (--page->n_references > 0) return;
  page->next_free = pool->free_pages;
  pool->free_pages = page;
  pool->n_free++;
  pool->n_used--;
}

static size_t pages_for(size_t n_positions) {
  return (n_positions + KV_PAGE_POSITIONS - 1) / KV_PAGE_POSITIONS;
}

onekv_status kv_cache_open(kv_pool *pool, size_t n_positions_max, kv_cache *cache) {
  *cache = (kv_cache){.pool = pool, .n_pages_max = pages_for(n_positions_max)};
  size_t n_bytes = cache->n_pages_max * sizeof *cache->pages;
  cache->pages = memory_take(pool->memory, MEMORY_SESSIONS, n_bytes);
  return cache->pages == NULL ? ONEKV_OUT_OF_MEMORY : ONEKV_OK;
}

void kv_cache_close(kv_cache *cache) {
  if (cache->pages == NULL) return;
  kv_cache_truncate(cache, 0);
  size_t n_bytes = cache->n_pages_max * sizeof *cache->pages;
  memory_give_back(cache->pool->memory, MEMORY_SESSIONS, cache->pages, n_bytes);
  cache->pages = NULL;
}

/* The last, partly filled page gets a copy of its own if others refer to it too. */
static bool unshare_last_page(kv_cache *cache) {
  if (cache->n_positions % KV_PAGE_POSITIONS == 0) return true;
  kv_page **slot = &cache->pages[cache->n_positions / KV_PAGE_POSITIONS];
  if ((*slot)->n_references == 1) return true;
  kv_page *copy = page_take(cache->pool);
  if (copy == NULL) return false;
  memcpy(copy->tiles, (*slot)->tiles, cache->pool->layout.page_bytes);
  memcpy(copy->tokens, (*slot)->tokens, sizeof copy->tokens);
  page_release(cache->pool, *slot);
  *slot = copy;
  return true;
}

onekv_status kv_cache_reserve(kv_cache *cache, size_t n) {
  if (n > cache->n_pages_max * KV_PAGE_POSITIONS - cache->n_positions) return ONEKV_CONTEXT_FULL;
  size_t n_pages = pages_for(cache->n_positions + n);
  size_t n_pages_before = cache->n_pages;
  bool has_memory = true;
  while (has_memory && cache->n_pages < n_pages) {
    kv_page *page = page_take(cache->pool);
    has_memory = page != NULL;
    if (has_memory) cache->pages[cache->n_pages++] = page;
  }
  /* Last, because it cannot be taken back. */
  if (has_memory && (n == 0 || unshare_last_page(cache))) return ONEKV_OK;
  while (cache->n_pages > n_pages_before) {
    page_release(cache->pool, cache->pages[--cache->n_pages]);
  }
  return ONEKV_OUT_OF_MEMORY;
}

static uint8_t *tile_at(const kv_cache *cache, size_t page, size_t layer, kv_stream stream,
                        size_t head) {
  const kv_layout *layout = &cache->pool->layout;
  size_t tile = (layer * layout->n_streams + (size_t)stream) * layout->n_kv_heads + head;
  return cache->pages[page]->tiles + tile * layout->tile_bytes;
}

static void *row_at(const kv_layout *layout, uint8_t *tile, size_t row) {
  size_t scale_bytes = layout->type == ONEKV_CACHE_I8 ? sizeof(float) : 0;
  return tile + row * (layout->row_bytes - scale_bytes);
}

/* Scales stand behind the tile's rows. */
static float *scales_of(const kv_layout *layout, uint8_t *tile) {
  return row_at(layout, tile, KV_PAGE_POSITIONS);
}

void kv_cache_write(kv_cache *cache, size_t layer, kv_stream stream, size_t position,
                    const float *row) {
  const kv_layout *layout = &cache->pool->layout;
  const kernel_table *kernels = cache->pool->kernels;
  size_t index = position % KV_PAGE_POSITIONS;
  for (size_t head = 0; head < layout->n_kv_heads; head++) {
    uint8_t *tile = tile_at(cache, position / KV_PAGE_POSITIONS, layer, stream, head);
    void *out = row_at(layout, tile, index);
    const float *x = row + head * layout->head_width;
    switch (layout->type) {
      case ONEKV_CACHE_F16:
        kernels->f16_encode(x, layout->head_width, out);
        break;
      case ONEKV_CACHE_I8:
        kernels->i8_encode(x, layout->head_width, out, &scales_of(layout, tile)[index]);
        break;
      default:
        memcpy(out, x, layout->head_width * sizeof *x);
    }
  }
}

void kv_cache_advance(kv_cache *cache, const int32_t *tokens, size_t n) {
  for (size_t i = 0; tokens != NULL && i < n; i++) {
    size_t position = cache->n_positions + i;
    cache->pages[position / KV_PAGE_POSITIONS]->tokens[position % KV_PAGE_POSITIONS] = tokens[i];
  }
  cache->n_positions += n;
}

void kv_cache_tokens(const kv_cache *cache, size_t first, size_t n, int32_t *tokens) {
  for (size_t i = 0; i < n; i++) {
    size_t position = first + i;
    tokens[i] = cache->pages[position / KV_PAGE_POSITIONS]->tokens[position % KV_PAGE_POSITIONS];
  }
}

void kv_cache_truncate(kv_cache *cache, size_t n_positions) {
  size_t n_pages = pages_for(n_positions);
  while (cache->n_pages > n_pages) page_release(cache->pool, cache->pages[--cache->n_pages]);
  cache->n_positions = n_positions;
}

void kv_cache_share(const kv_cache *cache, size_t n_positions, kv_cache *clone) {
  clone->n_pages = pages_for(n_positions);
  clone->n_positions = n_positions;
  for (size_t i = 0; i < clone->n_pages; i++) {
    clone->pages[i] = cache->pages[i];
    clone->pages[i]->n_references++;
  }
}

const float *kv_cache_read(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                           size_t page, size_t n, float *scratch) {
  const kv_layout *layout = &cache->pool->layout;
  const kernel_table *kernels = cache->pool->kernels;
  uint8_t *tile = tile_at(cache, page, layer, stream, head);
  size_t width = layout->head_width;
  if (layout->type == ONEKV_CACHE_F32) return row_at(layout, tile, 0);
  if (layout->type == ONEKV_CACHE_F16) {
    kernels->f16_decode(row_at(layout, tile, 0), n * width, scratch);
    return scratch;
  }
  const float *scales = scales_of(layout, tile);
  for (size_t i = 0; i < n; i++) {
    kernels->i8_decode(row_at(layout, tile, i), width, scales[i], scratch + i * width);
  }
  return scratch;
}

void kv_cache_touch(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                    size_t page) {
  enum { LINE_BYTES = 64 };
  /* Volatile: a read whose value nobody wants is to stay. */
  const volatile uint8_t *tile = tile_at(cache, page, layer, stream, head);
  size_t n_bytes = cache->pool->layout.tile_bytes;
  for (size_t i = 0; i < n_bytes; i += LINE_BYTES) (void)tile[i];
}

size_t kv_cache_saved_bytes(const kv_cache *cache) {
  return cache->n_positions * kv_bytes_per_position(&cache->pool->layout);
}

/* Calls for every tile of every page the copy between tile and block, in one fixed order. */
static void copy_tiles(const kv_cache *cache, size_t n_positions, uint8_t *block, bool saving) {
  const kv_layout *layout = &cache->pool->layout;
  size_t n_tiles = layout->page_bytes / layout->tile_bytes;
  size_t scale_bytes = layout->type == ONEKV_CACHE_I8 ? sizeof(float) : 0;
  for (size_t page = 0; page < pages_for(n_positions); page++) {
    size_t n_left = n_positions - page * KV_PAGE_POSITIONS;
    size_t n_rows = n_left < KV_PAGE_POSITIONS ? n_left : KV_PAGE_POSITIONS;
    for (size_t i = 0; i < n_tiles; i++) {
      uint8_t *tile = cache->pages[page]->tiles + i * layout->tile_bytes;
      uint8_t *parts[2] = {tile, (uint8_t *)scales_of(layout, tile)};
      size_t n_bytes[2] = {n_rows * (layout->row_bytes - scale_bytes), n_rows * scale_bytes};
      for (size_t part = 0; part < 2; part++) {
        if (n_bytes[part] == 0) continue;
        memcpy(saving ? block : parts[part], saving ? parts[part] : block, n_bytes[part]);
        block += n_bytes[part];
      }
    }
  }
}

void kv_cache_save(const kv_cache *cache, uint8_t *out) {
  copy_tiles(cache, cache->n_positions, out, true);
}

onekv_status kv_cache_load(kv_cache *cache, const int32_t *tokens, size_t n_positions,
                           const uint8_t *bytes) {
  onekv_status status = kv_cache_reserve(cache, n_positions);
  if (status != ONEKV_OK) return status;
  /* The block is only read when loading; one walk serves both directions. */
  copy_tiles(cache, n_positions, (uint8_t *)(uintptr_t)bytes, false);
  kv_cache_advance(cache, tokens, n_positions);
  return ONEKV_OK;
}
