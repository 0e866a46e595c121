/* The KV cache as bytes, and its bytes as numbers. */
#include <assert.h>
#include <string.h>

#include "core/net/kv_cache.h"

size_t kv_cache_page_bytes(const kv_cache *cache, bool own_only) {
  const kv_layout *layout = &cache->pool->layout;
  size_t sum = 0;
  for (size_t i = 0; i < layout->n_spans; i++) {
    const kv_table *table = &cache->tables[i];
    size_t n = 0;
    for (size_t page = table->first; page < table->end; page++) {
      n += !own_only || table->pages[page]->n_references == 1;
    }
    sum += n * layout->spans[i].page_bytes;
  }
  return sum;
}

uint64_t kv_saved_bytes(const kv_layout *layout, size_t n_positions) {
  uint64_t sum = 0;
  for (size_t i = 0; i < layout->n_spans; i++) {
    size_t n_before = kv_first_needed(&layout->spans[i], n_positions) * KV_PAGE_POSITIONS;
    sum += (uint64_t)(n_positions - n_before) * layout->spans[i].position_bytes;
  }
  return sum;
}

/* Copies the first n_rows rows of a tile, and their scales, between it and the block; gives the
 * end of what they take there. */
static uint8_t *copy_tile(const kv_stream_layout *rows, uint8_t *tile, size_t n_rows,
                          uint8_t *block, bool saving) {
  size_t values_bytes = rows->row_bytes - rows->scale_bytes;
  uint8_t *parts[2] = {tile, tile + KV_PAGE_POSITIONS * values_bytes};
  size_t n_bytes[2] = {n_rows * values_bytes, n_rows * rows->scale_bytes};
  for (size_t part = 0; part < 2; part++) {
    if (n_bytes[part] == 0) continue;
    memcpy(saving ? block : parts[part], saving ? parts[part] : block, n_bytes[part]);
    block += n_bytes[part];
  }
  return block;
}

/* All tiles of one page, in the order in which they lie there. */
static uint8_t *copy_page(const kv_cache *cache, size_t span, size_t page, size_t n_rows,
                          uint8_t *block, bool saving) {
  const kv_layout *layout = &cache->pool->layout;
  uint8_t *tiles = cache->tables[span].pages[page]->tiles;
  size_t done = 0; /* a layer that reads another's has tiles that were copied before */
  for (size_t n = 0; n < layout->n_layers; n++) {
    const kv_layer *layer = &layout->layers[n];
    for (size_t s = 0; s < layer->n_streams && layer->span == span; s++) {
      const kv_stream_layout *rows = &layer->streams[s];
      if (rows->offset < done) continue;
      for (size_t head = 0; head < layer->n_kv_heads; head++) {
        uint8_t *tile = tiles + rows->offset + head * rows->tile_bytes;
        block = copy_tile(rows, tile, n_rows, block, saving);
      }
      done = rows->offset + layer->n_kv_heads * rows->tile_bytes;
    }
  }
  assert(done == layout->spans[span].page_bytes);
  return block;
}

/* All that a sequence of n_positions saves, in one fixed order. */
static void copy_pages(const kv_cache *cache, size_t n_positions, uint8_t *block, bool saving) {
  const kv_layout *layout = &cache->pool->layout;
  for (size_t span = 0; span < layout->n_spans; span++) {
    size_t page = kv_first_needed(&layout->spans[span], n_positions);
    for (; page * KV_PAGE_POSITIONS < n_positions; page++) {
      size_t n_left = n_positions - page * KV_PAGE_POSITIONS;
      size_t n_rows = n_left < KV_PAGE_POSITIONS ? n_left : KV_PAGE_POSITIONS;
      block = copy_page(cache, span, page, n_rows, block, saving);
    }
  }
}

void kv_cache_save(const kv_cache *cache, uint8_t *out) {
  copy_pages(cache, cache->n_positions, out, true);
}

onekv_status kv_cache_load(kv_cache *cache, const int32_t *tokens, size_t n_positions,
                           const uint8_t *bytes) {
  assert(cache->n_positions == 0);
  onekv_status status = kv_cache_reserve_from(cache, n_positions);
  if (status != ONEKV_OK) return status;
  /* The block is only read when loading; one walk serves both directions. */
  copy_pages(cache, n_positions, (uint8_t *)(uintptr_t)bytes, false);
  kv_cache_advance(cache, tokens, n_positions);
  return ONEKV_OK;
}
