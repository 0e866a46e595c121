/* The KV cache: paged, counted, copied on write.
 *
 * Layers that keep the same positions form a *span* and share a page table. Span 0 keeps every
 * position: its pages hold the tokens, and the layers without a window. Each other span is that of
 * a window and gives pages back when they are behind it (kv_first_kept).
 *
 * A page holds KV_PAGE_POSITIONS positions for all layers of its span. Inside it, one tile after
 * the other, [layer][stream][KV head], each tile [position][width] in the cache's element type. A
 * row with a latent is two parts, which differ in size; any other row is one. An i8 tile is
 * followed by its f32 scales [position][parts], an i4 tile, whose parts begin at bytes, by its f16
 * scales [position][groups of the parts] (kernels.h). A convolution's rows are f16 at least.
 * A layer has one stream when the value is a part of the key's row (K=V), else two (keys, values),
 * and none when it reads another layer's.
 *
 * Pages come from a pool that several sessions share, and are counted by reference: a clone
 * shares all pages with its origin, and a session that writes into a shared page gets a copy first.
 * Invariants: the positions of a cache's pages below n_positions are written in every tile; those
 * that the next query can see are there; a page that has more than one reference is never
 * written. */
#ifndef ONEKV_KV_CACHE_H
#define ONEKV_KV_CACHE_H

#include "core/net/config.h"

enum {
  KV_PAGE_POSITIONS = 32,
  KV_SPANS_MAX = ONEKV_KINDS_MAX + 1,
  /* Positions behind a window that stay: so many can be cut off the end at no cost. */
  KV_WINDOW_SLACK = 32,
  KV_BATCH_MAX = 256 /* most rows of one sequence between two advances, where there is a window */
};

/* The row: of a key, or of one tensor that is key and value. */
typedef enum kv_stream { KV_ROW, KV_VALUE, KV_STREAM_COUNT } kv_stream;

typedef struct kv_stream_layout {
  onekv_cache_type type;
  size_t offset;     /* of KV head 0's tile in a page */
  size_t width;      /* elements of a row */
  size_t first_part; /* of these, those of the first part; the rest, if any, is another */
  size_t row_bytes;  /* of one position's head: its scales included */
  size_t scale_bytes; /* of these, the scales */
  size_t tile_bytes; /* KV_PAGE_POSITIONS rows */
} kv_stream_layout;

typedef struct kv_layer {
  uint8_t span;
  uint8_t n_streams; /* also when it reads another layer's */
  size_t n_kv_heads;
  kv_stream_layout streams[KV_STREAM_COUNT];
} kv_layer;

typedef struct kv_span {
  size_t window;         /* 0: everything is kept */
  size_t page_bytes;     /* all tiles */
  size_t position_bytes; /* page_bytes / KV_PAGE_POSITIONS */
} kv_span;

typedef struct kv_layout {
  onekv_cache_type type;
  size_t n_layers;
  kv_layer *layers; /* [n_layers]; where a layer reads another's, a copy of its */
  size_t n_spans;
  kv_span spans[KV_SPANS_MAX];
} kv_layout;

/* Fills *layout, whose `layers` [n_layers] the caller provides. False when a size overflows. */
bool kv_layout_make(const onekv_config *config, onekv_cache_type type, kv_layout *layout);

/* First position that a sequence of n_positions keeps in a span of that window. */
size_t kv_first_kept(size_t window, size_t n_positions);

/* Cached bytes by kind of tensor. */
typedef struct kv_bytes {
  uint64_t keys;   /* rows that are keys alone */
  uint64_t values; /* also a convolution's rows */
  uint64_t shared; /* rows that are key and value */
} kv_bytes;

/* What a sequence of n_positions keeps, or, with n_standard_heads > 0, what it keeps in the model's
 * standard counterpart: the same layers, widths and windows, but every layer that attends caches
 * keys and values of its own, of that many KV heads, and those that a latent stands for.
 * whole_pages: of the pages that hold these positions. With a window it is less after a page was
 * given back than before, by 32 positions at most. */
kv_bytes kv_cache_bytes(const onekv_config *config, onekv_cache_type type,
                        size_t n_standard_heads, bool whole_pages, size_t n_positions);

typedef struct kv_page {
  struct kv_page *next_free;
  size_t n_references;
  int32_t tokens[KV_PAGE_POSITIONS]; /* span 0: what stands at these positions; unused for
                                        features */
  uint8_t *tiles;                    /* [page_bytes of its span]; NULL when those are 0 */
} kv_page;

/* Pages of one span. */
typedef struct kv_shelf {
  kv_page *free_pages;
  size_t n_free;
  size_t n_used;
} kv_shelf;

typedef struct kv_pool {
  memory_ledger *memory;
  const kernel_table *kernels;
  kv_layout layout;
  kv_shelf shelves[KV_SPANS_MAX];
} kv_pool;

/* A pool for a model's caches; kv_pool_close after all of them are closed. Errors: OUT_OF_MEMORY,
 * also when a size overflows; *pool is zeroed then. */
onekv_status kv_pool_open(kv_pool *pool, memory_ledger *memory, const kernel_table *kernels,
                          const onekv_config *config, onekv_cache_type type);
void kv_pool_close(kv_pool *pool);

/* Gives all pages that no cache uses back to the allocator. */
void kv_pool_trim(kv_pool *pool);

/* Bytes of the pages that caches refer to, and of those that wait. */
size_t kv_pool_used_bytes(const kv_pool *pool);
size_t kv_pool_free_bytes(const kv_pool *pool);

/* Pages [first, end) are held; NULL elsewhere. */
typedef struct kv_table {
  kv_page **pages; /* [n_pages_max] */
  size_t first;
  size_t end;
} kv_table;

typedef struct kv_cache {
  kv_pool *pool;
  kv_table tables[KV_SPANS_MAX];
  size_t n_pages_max;
  size_t n_positions;
  size_t n_reserved; /* positions below it can be written, at most KV_BATCH_MAX before an advance */
} kv_cache;

/* An empty cache for at most n_positions_max positions; takes the page tables' memory only.
 * Error: OUT_OF_MEMORY. kv_cache_close releases pages and tables. */
onekv_status kv_cache_open(kv_pool *pool, size_t n_positions_max, kv_cache *cache);
void kv_cache_close(kv_cache *cache);

/* Makes positions [n_positions, n_positions + n) writable: takes pages, copies shared ones. Where
 * there is a window it takes no more pages than it will hold at a time: what falls behind the
 * window while the positions are written is used again.
 * CONTEXT_FULL, OUT_OF_MEMORY: the cache is as it was. */
onekv_status kv_cache_reserve(kv_cache *cache, size_t n);

/* The same for an empty cache that is filled at once with n positions: pages that the next query
 * cannot see are not taken. */
onekv_status kv_cache_reserve_from(kv_cache *cache, size_t n);

/* Writes all KV heads of one reserved position: row [KV heads × width]. */
void kv_cache_write(kv_cache *cache, size_t layer, kv_stream stream, size_t position,
                    const float *row);

/* Counts n reserved and written positions as present; tokens [n] or NULL are kept beside. Pages
 * behind a window go back. */
void kv_cache_advance(kv_cache *cache, const int32_t *tokens, size_t n);

/* tokens [n] of positions [first, first + n), all present. */
void kv_cache_tokens(const kv_cache *cache, size_t first, size_t n, int32_t *tokens);

/* What a query at position n_positions (at most those present) can see is still there: a cache
 * without windows says yes, with one it does for the last KV_WINDOW_SLACK positions at least. */
bool kv_cache_can_truncate(const kv_cache *cache, size_t n_positions);

/* Keeps the first n_positions, releases pages that hold none of them; asserts can_truncate. */
void kv_cache_truncate(kv_cache *cache, size_t n_positions);

/* Lets `clone`, opened on the same pool and empty, share the first n_positions (to which this one
 * can be truncated); it must have room. */
void kv_cache_share(const kv_cache *cache, size_t n_positions, kv_cache *clone);

/* The first n positions of a tile as f32 [n][width]: inside the page for f32, else decoded into
 * scratch [KV_PAGE_POSITIONS][width]. */
const float *kv_cache_read(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                           size_t page, size_t n, float *scratch);

/* A tile as it lies in the page, and how its rows lie there. */
const void *kv_cache_tile(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                          size_t page, const kv_stream_layout **rows);

/* One head's row of a position that is written, as f32: out [width]. */
void kv_cache_row(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                  size_t position, float *out);

/* Brings a tile into the processor's cache, as far as it has one: tiles of a head lie a whole page
 * apart, where no prefetcher finds the next one, and WebAssembly has no instruction that asks. */
void kv_cache_touch(const kv_cache *cache, size_t layer, kv_stream stream, size_t head,
                    size_t page);

/* The rows that the cache holds: those of kv_cache_bytes, or fewer of layers with a window when
 * the sequence was cut or loaded. */
kv_bytes kv_cache_used(const kv_cache *cache, const onekv_config *config);

/* Bytes of the cache's pages, all or those that no other cache refers to. */
size_t kv_cache_page_bytes(const kv_cache *cache, bool own_only);

/* First page that a query at position n_positions can see in a span. */
size_t kv_first_needed(const kv_span *span, size_t n_positions);

/* A sequence's rows as one block: span by span, page by page from the first that the next query can
 * see, tile by tile: rows, then scales. Its size depends on n_positions alone. */
uint64_t kv_saved_bytes(const kv_layout *layout, size_t n_positions);
void kv_cache_save(const kv_cache *cache, uint8_t *out);

/* Fills an empty cache with n_positions from kv_cache_save's bytes (the caller has checked their
 * number). CONTEXT_FULL, OUT_OF_MEMORY: the cache is as it was. */
onekv_status kv_cache_load(kv_cache *cache, const int32_t *tokens, size_t n_positions,
                           const uint8_t *bytes);

#endif
