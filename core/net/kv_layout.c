/* The layout of a cache: which layers share pages, where their rows lie, and what they take. */
#include <assert.h>

#include "core/net/kv_cache.h"

/* Of that kind's rows in a cache of that type: a convolution's are f16 at least, because its sums
 * of few rows average nothing out. */
static onekv_cache_type type_of_row(onekv_cache_type type, const layer_kind *kind) {
  bool has_scales = type == ONEKV_CACHE_I8 || type == ONEKV_CACHE_I4;
  return kind->n_taps > 0 && has_scales ? ONEKV_CACHE_F16 : type;
}

/* Of the scales of a part of a row of that many elements. */
static size_t bytes_of_scales(onekv_cache_type type, size_t n) {
  if (type == ONEKV_CACHE_I4) return i4_groups(n) * sizeof(uint16_t);
  return type == ONEKV_CACHE_I8 && n > 0 ? sizeof(float) : 0;
}

static size_t bytes_of_part(onekv_cache_type type, size_t n) {
  static const size_t ELEMENT_BYTES[ONEKV_CACHE_TYPE_COUNT] = {2, 4, 1, 0};
  size_t n_bytes = type == ONEKV_CACHE_I4 ? i4_code_bytes(n) : n * ELEMENT_BYTES[type];
  return n_bytes + bytes_of_scales(type, n);
}

/* Of a head's row whose first elements are a part of their own, or all of it. */
static size_t bytes_of_row(onekv_cache_type type, size_t width, size_t first_part) {
  return bytes_of_part(type, first_part) + bytes_of_part(type, width - first_part);
}

static size_t first_part_of(const layer_kind *kind) {
  return kind->latent.rank > 0 ? kind->latent.rank : kind->key_width;
}

/* The span of that window, made when it is new. */
static uint8_t span_of(kv_layout *layout, size_t window) {
  for (size_t i = 0; i < layout->n_spans; i++) {
    if (layout->spans[i].window == window) return (uint8_t)i;
  }
  assert(layout->n_spans < KV_SPANS_MAX);
  layout->spans[layout->n_spans] = (kv_span){.window = window};
  return (uint8_t)layout->n_spans++;
}

/* A stream of rows at the end of the span's page; first_part as in kv_stream_layout. */
static bool add_stream(onekv_cache_type type, kv_span *span, size_t n_kv_heads, size_t width,
                       size_t first_part, kv_stream_layout *stream) {
  size_t n_bytes = 0;
  stream->type = type;
  stream->offset = span->page_bytes;
  stream->width = width;
  stream->first_part = first_part;
  stream->row_bytes = bytes_of_row(type, width, first_part);
  stream->scale_bytes =
      bytes_of_scales(type, first_part) + bytes_of_scales(type, width - first_part);
  return size_multiply(stream->row_bytes, KV_PAGE_POSITIONS, &stream->tile_bytes) &&
         size_multiply(stream->tile_bytes, n_kv_heads, &n_bytes) &&
         size_add(span->page_bytes, n_bytes, &span->page_bytes);
}

bool kv_layout_make(const onekv_config *config, onekv_cache_type type, kv_layout *layout) {
  layout->type = type;
  layout->n_layers = config->n_layers;
  layout->n_spans = 1;
  layout->spans[0] = (kv_span){.window = 0};
  for (size_t n = 0; n < config->n_layers; n++) {
    const layer_kind *kind = config_kind(config, n);
    kv_layer *layer = &layout->layers[n];
    if (config->cached_by[n] != n) {
      assert(config->cached_by[n] < n);
      *layer = layout->layers[config->cached_by[n]];
      continue;
    }
    *layer = (kv_layer){.span = span_of(layout, kind->window),
                        .n_streams = kind->shares_row ? 1 : 2,
                        .n_kv_heads = kind->n_kv_heads};
    kv_span *span = &layout->spans[layer->span];
    onekv_cache_type row_type = type_of_row(type, kind);
    if (!add_stream(row_type, span, kind->n_kv_heads, kind->key_width, first_part_of(kind),
                    &layer->streams[KV_ROW])) {
      return false;
    }
    if (kind->shares_row) continue;
    if (!add_stream(row_type, span, kind->n_kv_heads, kind->value_width, kind->value_width,
                    &layer->streams[KV_VALUE])) {
      return false;
    }
  }
  for (size_t i = 0; i < layout->n_spans; i++) {
    layout->spans[i].position_bytes = layout->spans[i].page_bytes / KV_PAGE_POSITIONS;
  }
  return true;
}

size_t kv_first_kept(size_t window, size_t n_positions) {
  if (window == 0 || n_positions + 1 <= window + KV_WINDOW_SLACK) return 0;
  size_t first = n_positions + 1 - window - KV_WINDOW_SLACK;
  return first / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
}

size_t kv_first_needed(const kv_span *span, size_t n_positions) {
  if (span->window == 0 || n_positions < span->window) return 0;
  return (n_positions + 1 - span->window) / KV_PAGE_POSITIONS;
}

/* n_rows of one KV head each, of a layer of that kind. */
static void add_rows(const layer_kind *kind, onekv_cache_type type, bool shares_row,
                     uint64_t n_rows, kv_bytes *sums) {
  if (kind->n_taps > 0) {
    sums->values += n_rows * bytes_of_part(type_of_row(type, kind), kind->key_width);
  } else if (shares_row) {
    sums->shared += n_rows * bytes_of_row(type, kind->key_width, first_part_of(kind));
  } else {
    sums->keys += n_rows * bytes_of_part(type, kind_query_width(kind));
    sums->values += n_rows * bytes_of_part(type, kind_output_width(kind));
  }
}

kv_bytes kv_cache_bytes(const onekv_config *config, onekv_cache_type type,
                        size_t n_standard_heads, bool whole_pages, size_t n_positions) {
  kv_bytes sums = {0, 0, 0};
  bool is_standard = n_standard_heads > 0;
  uint64_t end = n_positions;
  if (whole_pages) end = (end + KV_PAGE_POSITIONS - 1) / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
  for (size_t n = 0; n < config->n_layers; n++) {
    const layer_kind *kind = config_kind(config, n);
    if (!is_standard && config->cached_by[n] != n) continue;
    uint64_t n_rows = end - kv_first_kept(kind->window, n_positions);
    n_rows *= is_standard && kind->n_taps == 0 ? n_standard_heads : kind->n_kv_heads;
    add_rows(kind, type, kind->shares_row && !is_standard, n_rows, &sums);
  }
  return sums;
}

kv_bytes kv_cache_used(const kv_cache *cache, const onekv_config *config) {
  const kv_layout *layout = &cache->pool->layout;
  kv_bytes sums = {0, 0, 0};
  for (size_t n = 0; n < config->n_layers; n++) {
    const layer_kind *kind = config_kind(config, n);
    if (config->cached_by[n] != n) continue;
    const kv_table *table = &cache->tables[layout->layers[n].span];
    uint64_t n_rows = cache->n_positions - table->first * KV_PAGE_POSITIONS;
    add_rows(kind, layout->type, kind->shares_row, n_rows * kind->n_kv_heads, &sums);
  }
  return sums;
}
