/* Attention as a tile product: a block of queries meets ranges and tiles of the cache, with online
 * softmax. What a block takes in and gives out: attention_rows.c. How blocks and ranges are shared
 * out among threads: attention_share.c. */
#include "core/net/attention_block.h"

#include <math.h>
#include <string.h>

/* A tile as both products want it. */
typedef struct tile {
  const float *keys;   /* [n][k] */
  const float *values; /* [n][v], value_stride apart */
  size_t value_stride;
} tile;

/* Keys and values of the first n positions of a page. */
static tile read_tile(const attention_call *call, const query_block *block, size_t page, size_t n,
                      tile_scratch *scratch) {
  const layer_kind *kind = call->kind;
  const kv_cache *cache = block->slice->cache;
  size_t head = block->kv_head;
  if (!kind->shares_row) {
    return (tile){kv_cache_read(cache, call->layer, KV_ROW, head, page, n, scratch->keys),
                  kv_cache_read(cache, call->layer, KV_VALUE, head, page, n, scratch->values),
                  kind->value_width};
  }
  const float *rows = kv_cache_read(cache, call->layer, KV_ROW, head, page, n, scratch->values);
  return (tile){attention_make_keys(call, rows, n, scratch->keys), rows + kind->value_offset,
                kind->key_width};
}

/* The block's queries as the tile's keys want them: turned back by the tile's position. */
static const float *turn_queries(const attention_call *call, size_t n_queries, size_t page,
                                 tile_scratch *scratch) {
  if (call->rope == NULL) return scratch->queries;
  _Static_assert((int)ROPE_STEP == (int)KV_PAGE_POSITIONS, "a page is a coarse step");
  rope_unrotate_coarse(call->rope, call->kernels, scratch->queries, n_queries,
                       call->kind->key_width, page, scratch->turned);
  return scratch->turned;
}

void attention_weigh_tile(const attention_call *call, const query_block *block, size_t page,
                          size_t n, const range_result *range, tile_scratch *scratch) {
  const kernel_table *kernels = call->kernels;
  size_t first = page * KV_PAGE_POSITIONS;
  for (size_t row = 0, q = 0; row < block->n_rows; row++) {
    size_t visible = n_visible(call, block->slice, block->first_row + row);
    size_t n_seen = visible <= first ? 0 : visible - first < n ? visible - first : n;
    size_t before = first_visible(call, block->slice, block->first_row + row);
    size_t n_hidden = before <= first ? 0 : before - first < n_seen ? before - first : n_seen;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float *scores = scratch->scores + q * KV_PAGE_POSITIONS;
      if (call->key_bias != NULL && n_seen > 0) {
        kernels->f32_add(scores, call->key_bias + first, n_seen);
      }
      scratch->factors[q] = 1.0f;
      if (n_seen > n_hidden) {
        scratch->factors[q] = kernels->f32_softmax_step(scores + n_hidden, n_seen - n_hidden,
                                                        &range->maxima[q], &range->sums[q]);
      }
      for (size_t p = 0; p < n_hidden; p++) scores[p] = 0.0f;
      for (size_t p = n_seen; p < n; p++) scores[p] = 0.0f;
    }
  }
}

static void touch_tile(const attention_call *call, const query_block *block, size_t page) {
  const kv_cache *cache = block->slice->cache;
  kv_cache_touch(cache, call->layer, KV_ROW, block->kv_head, page);
  if (call->kind->shares_row) return;
  kv_cache_touch(cache, call->layer, KV_VALUE, block->kv_head, page);
}

/* One query meets halves as they lie in the cache, with the bits of the way below: decoding them
 * into memory first takes longer than both products. Keys that are made at read have to be. */
static bool attend_halves(const attention_call *call, const query_block *block, size_t page,
                          size_t n, const range_result *range, tile_scratch *scratch) {
  const kernel_table *kernels = call->kernels;
  const kv_cache *cache = block->slice->cache;
  size_t head = block->kv_head;
  if (block->n_rows * block->n_heads > 1 || call->kind->shares_row) return false;
  if (kernels->f16_attend == NULL) return false;
  const kv_stream_layout *rows = NULL;
  const void *keys = kv_cache_tile(cache, call->layer, KV_ROW, head, page, &rows);
  if (rows->type != ONEKV_CACHE_F16) return false;
  kernels->token_matmul[TENSOR_F16](keys, n, scratch->queries, call->kind->key_width,
                                    scratch->scores);
  attention_weigh_tile(call, block, page, n, range, scratch);
  kernels->f16_attend(scratch->scores,
                      kv_cache_tile(cache, call->layer, KV_VALUE, head, page, &rows), n,
                      call->kind->value_width, scratch->factors[0], range->out);
  return true;
}

static void attend_tile(const attention_call *call, const query_block *block, size_t page,
                        size_t n, const range_result *range, tile_scratch *scratch) {
  if (attend_halves(call, block, page, n, range, scratch)) return;
  if (attention_in_codes(call, block)) {
    attention_attend_codes(call, block, page, n, range, scratch);
    return;
  }
  size_t k = call->kind->key_width;
  size_t v = call->kind->value_width;
  size_t n_queries = block->n_rows * block->n_heads;
  tile read = read_tile(call, block, page, n, scratch);
  const float *queries = turn_queries(call, n_queries, page, scratch);
  call->kernels->f32_matmul(read.keys, k, n, queries, k, n_queries, k, scratch->scores,
                            KV_PAGE_POSITIONS);
  attention_weigh_tile(call, block, page, n, range, scratch);
  call->kernels->f32_attend(scratch->scores, KV_PAGE_POSITIONS, n_queries, read.values,
                            read.value_stride, n, v, scratch->factors, range->out, v);
}

/* The tiles of a page, one KV head after the other. The processor finds those that lie side by side
 * by itself; where the next page begins it is told. */
static void attend_page(const attention_call *call, const query_block *block, size_t page,
                        size_t n, const range_result *range, const tile_scratch *scratch) {
  size_t v = call->kind->value_width;
  size_t n_queries = block->n_rows * block->n_heads;
  query_block one = *block;
  range_result result = *range;
  tile_scratch own = *scratch;
  one.n_kv_heads = 1;
  for (size_t i = 0; i < block->n_kv_heads; i++) {
    bool has_next = (page + 1) * KV_PAGE_POSITIONS < block->n_positions;
    if (i + 1 == block->n_kv_heads && has_next) touch_tile(call, block, page + 1);
    attend_tile(call, &one, page, n, &result, &own);
    one.kv_head++;
    result.out += n_queries * v;
    result.maxima += n_queries;
    result.sums += n_queries;
    own.queries += n_queries * call->kind->key_width;
    own.turned += n_queries * call->kind->key_width;
    own.query_codes += n_queries * call->kind->key_width;
    own.query_scales += n_queries;
  }
}

/* A result of no positions. */
static void clear(size_t n_queries, size_t v, const range_result *result) {
  memset(result->out, 0, n_queries * v * sizeof *result->out);
  for (size_t q = 0; q < n_queries; q++) {
    result->maxima[q] = -INFINITY;
    result->sums[q] = 0.0f;
  }
}

void attention_begin(const attention_call *call, const query_block *block,
                     const range_result *total) {
  size_t n_queries = n_queries_of(block);
  clear(n_queries, call->kind->value_width, total);
  for (size_t q = 0; q < n_queries && call->sinks != NULL; q++) {
    size_t head = q / (block->n_rows * block->n_heads) * block->n_heads + q % block->n_heads;
    total->maxima[q] = call->sinks[block->first_head + head];
    total->sums[q] = 1.0f; /* of exp(sink - maximum) */
  }
}

void attention_attend_range(const attention_call *call, const query_block *block, size_t index,
                         const range_result *range, tile_scratch *scratch) {
  size_t end = (index + 1) * ATTENTION_RANGE;
  if (end > block->n_positions) end = block->n_positions;
  clear(n_queries_of(block), call->kind->value_width, range);
  size_t first = index * ATTENTION_RANGE;
  if (first < block->first_seen) {
    first = block->first_seen / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
  }
  for (; first < end; first += KV_PAGE_POSITIONS) {
    size_t n = end - first < KV_PAGE_POSITIONS ? end - first : KV_PAGE_POSITIONS;
    attend_page(call, block, first / KV_PAGE_POSITIONS, n, range, scratch);
  }
}

void attention_merge(size_t n_queries, size_t v, const range_result *range,
                  const range_result *total) {
  for (size_t q = 0; q < n_queries; q++) {
    float before = total->maxima[q];
    float found = range->maxima[q];
    if (range->sums[q] == 0.0f) continue;
    bool is_larger = found > before;
    float kept = is_larger ? expf(before - found) : 1.0f;
    float added = is_larger ? 1.0f : expf(found - before);
    float *out = total->out + q * v;
    const float *more = range->out + q * v;
    for (size_t c = 0; c < v; c++) out[c] = out[c] * kept + more[c] * added;
    total->sums[q] = total->sums[q] * kept + range->sums[q] * added;
    if (is_larger) total->maxima[q] = found;
  }
}

void attention_attend_block(const attention_call *call, const query_block *block,
                         tile_scratch *scratch) {
  size_t v = call->kind->value_width;
  size_t n_queries = n_queries_of(block);
  attention_gather(call, block, scratch);
  attention_begin(call, block, &scratch->total);
  for (size_t i = block->first_seen / ATTENTION_RANGE; i < n_ranges(block->n_positions); i++) {
    attention_attend_range(call, block, i, &scratch->range, scratch);
    attention_merge(n_queries, v, &scratch->range, &scratch->total);
  }
  attention_scatter(call, block, &scratch->total);
}
