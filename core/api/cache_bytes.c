/* Bytes of caches, computed: of a model's own, and of the standard attention that it is compared
 * with. What the allocator has handed out is counted elsewhere (model.c, session.c); a test
 * compares the two.
 *
 * The standard counterpart of a model has the same layers and head width, and separate keys and
 * values in each KV head. */
#include "core/api/model.h"

/* Of n positions; every layer is alike. */
static void count_positions(const kv_layout *layout, uint64_t n, onekv_bytes *out) {
  uint64_t stream = (uint64_t)layout->n_layers * layout->n_kv_heads * layout->row_bytes * n;
  bool is_shared = layout->n_streams == 1;
  *out = (onekv_bytes){0};
  out->by_kind[is_shared ? ONEKV_CACHED_SHARED : ONEKV_CACHED_KEYS] = stream;
  out->by_kind[ONEKV_CACHED_VALUES] = is_shared ? 0 : stream;
  out->total = is_shared ? stream : 2 * stream;
}

static kv_layout layout_of(const onekv_config *config, const onekv_cache_plan *plan) {
  onekv_config standard = *config;
  kv_layout layout;
  if (plan->n_standard_heads > 0) {
    standard.projection = ONEKV_QKV;
    standard.n_kv_heads = plan->n_standard_heads;
  }
  /* Sizes that overflow are those of pages, and are not asked for here. */
  (void)kv_layout_make(&standard, plan->type, &layout);
  return layout;
}

void onekv_cache_bytes(const onekv_config *config, const onekv_cache_plan *plan, size_t n_tokens,
                       onekv_bytes *out) {
  kv_layout layout = layout_of(config, plan);
  uint64_t n = n_tokens;
  if (plan->whole_pages) n = (n + KV_PAGE_POSITIONS - 1) / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
  count_positions(&layout, n, out);
}

/* Bytes grow with tokens, so the answer is found by halving. */
size_t onekv_cache_tokens(const onekv_config *config, const onekv_cache_plan *plan,
                          uint64_t n_bytes) {
  size_t least = 0;
  size_t most = config->n_context;
  while (least < most) {
    size_t middle = most - (most - least) / 2;
    onekv_bytes bytes;
    onekv_cache_bytes(config, plan, middle, &bytes);
    if (bytes.total <= n_bytes) least = middle;
    else most = middle - 1;
  }
  return least;
}
