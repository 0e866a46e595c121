/* The KV cache: paged, counted, copied on write.
 *
 * A page holds KV_PAGE_POSITIONS positions for all layers. Inside it, one tile after the other,
 * [layer][stream][kv head], each tile [position][head width] in the cache's element type; an i8
 * tile is followed by its f32 scales [position]. There is one stream when K=V is shared (that
 * tensor), else two (keys, values).
 *
 * Pages come from a pool that several sessions share, and are counted by reference: a clone
 * shares all pages with its origin, and whoever writes into a shared page gets a copy first.
 * Invariant: positions [0, n_positions) of a cache are written in every tile; a page that has
 * more than one reference is never written. */
#ifndef ONEKV_KV_CACHE_H
#define ONEKV_KV_CACHE_H

#include "core/net/config.h"
#include "core/kernels/kernels.h"

enum { KV_PAGE_POSITIONS = 32 };

typedef enum onekv_cache_type {
  ONEKV_CACHE_F16, /* first: the default of a zeroed options struct */
  ONEKV_CACHE_F32,
  ONEKV_CACHE_I8, /* int8 with one f32 scale per head and position */
  ONEKV_CACHE_TYPE_COUNT
} onekv_cache_type;

typedef enum kv_stream { KV_KEYS, KV_VALUES } kv_stream; /* KV_KEYS is the shared tensor of K=V */

typedef struct kv_layout {
  onekv_cache_type type;
  size_t n_layers;
  size_t n_streams;  /* 1: K=V shared; 2: K and V */
  size_t n_kv_heads;
  size_t head_width;
  size_t row_bytes;  /* of one position's head: scales included */
  size_t tile_bytes; /* KV_PAGE_POSITIONS rows */
  size_t page_bytes; /* all tiles */
} kv_layout;

/* Bytes of one position over all layers: page_bytes / KV_PAGE_POSITIONS. */
size_t kv_bytes_per_position(const kv_layout *layout);

/* The layout of a model's cache. False when a size overflows. */
bool kv_layout_make(const onekv_config *config, onekv_cache_type type, kv_layout *layout);

typedef struct kv_page {
  struct kv_page *next_free;
  size_t n_references;
  int32_t tokens[KV_PAGE_POSITIONS]; /* what stands at these positions; unused for features */
  uint8_t *tiles;                    /* [page_bytes] */
} kv_page;

typedef struct kv_pool {
  memory_ledger *memory;
  const kernel_table *kernels;
  kv_layout layout;
  kv_page *free_pages;
  size_t n_free;
  size_t n_used;
} kv_pool;

void kv_pool_init(kv_pool *pool, memory_ledger *memory, const kernel_table *kernels,
                  const kv_layout *layout);

/* Gives all pages that no cache uses back to the allocator. */
void kv_pool_trim(kv_pool *pool);

typedef struct kv_cache {
  kv_pool *pool;
  kv_page **pages; /* [n_pages_max]; the first n_pages are set */
  size_t n_pages;
  size_t n_pages_max;
  size_t n_positions;
} kv_cache;

/* An empty cache for at most n_positions_max positions; takes the page table's memory only.
 * Error: OUT_OF_MEMORY. kv_cache_close releases pages and table. */
onekv_status kv_cache_open(kv_pool *pool, size_t n_positions_max, kv_cache *cache);
void kv_cache_close(kv_cache *cache);

/* Makes positions [n_positions, n_positions + n) writable: takes pages, copies a shared one.
 * CONTEXT_FULL, OUT_OF_MEMORY: the cache is as it was. */
onekv_status kv_cache_reserve(kv_cache *cache, size_t n);

/* Writes all KV heads of one reserved position: row [n_kv_heads × head_width]. */
void kv_cache_write(kv_cache *cache, size_t layer, kv_stream stream, size_t position,
                    const float *row);

/* Counts n reserved and written positions as present; tokens [n] or NULL are kept beside. */
void kv_cache_advance(kv_cache *cache, const int32_t *tokens, size_t n);

/* tokens [n] of positions [first, first + n), all present. */
void kv_cache_tokens(const kv_cache *cache, size_t first, size_t n, int32_t *tokens);

/* Keeps the first n_positions (not more than present), releases pages that hold none of them. */
void kv_cache_truncate(kv_cache *cache, size_t n_positions);

/* Lets `clone`, opened on the same pool and empty, share the first n_positions (present here);
 * it must have room. */
void kv_cache_share(const kv_cache *cache, size_t n_positions, kv_cache *clone);

/* The first n positions of a tile as f32 [n][head_width]: inside the page for f32, else decoded
 * into scratch [KV_PAGE_POSITIONS][head_width]. */
const float *kv_cache_read(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                           size_t page, size_t n, float *scratch);

/* Brings a tile into the processor's cache, as far as it has one: tiles of a head lie a whole page
 * apart, where no prefetcher finds the next one, and WebAssembly has no instruction that asks. */
void kv_cache_touch(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                    size_t page);

/* Bytes of the first n_positions as one block, page by page, tile by tile: rows, then scales. */
size_t kv_cache_saved_bytes(const kv_cache *cache);
void kv_cache_save(const kv_cache *cache, uint8_t *out);

/* Fills an empty cache with n_positions from kv_cache_save's bytes (the caller has checked their
 * number). CONTEXT_FULL, OUT_OF_MEMORY: the cache is as it was. */
onekv_status kv_cache_load(kv_cache *cache, const int32_t *tokens, size_t n_positions,
                           const uint8_t *bytes);

#endif
