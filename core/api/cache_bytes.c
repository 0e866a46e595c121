/* Bytes of caches, computed: of a model's own, and of the standard attention that it is compared
 * with. What the allocator has handed out is counted elsewhere (model.c, session.c); a test
 * compares the two.
 *
 * The standard counterpart of a model has the same layers, head widths and windows, and separate
 * keys and values in each KV head of each layer. */
#include "core/api/model.h"

onekv_bytes bytes_by_kind(kv_bytes bytes) {
  onekv_bytes out = {.total = bytes.keys + bytes.values + bytes.shared};
  out.by_kind[ONEKV_CACHED_KEYS] = bytes.keys;
  out.by_kind[ONEKV_CACHED_VALUES] = bytes.values;
  out.by_kind[ONEKV_CACHED_SHARED] = bytes.shared;
  return out;
}

void onekv_cache_bytes(const onekv_config *config, const onekv_cache_plan *plan, size_t n_tokens,
                       onekv_bytes *out) {
  kv_bytes bytes = kv_cache_bytes(config, plan->type, plan->n_standard_heads, plan->whole_pages,
                                  n_tokens);
  *out = bytes_by_kind(bytes);
}

/* Sequences of up to n tokens take at most n_bytes. A window gives pages back, so that 31 tokens
 * fewer may take more; 32 tokens fewer do not. */
static bool all_fit(const onekv_config *config, const onekv_cache_plan *plan, size_t n,
                    uint64_t n_bytes) {
  for (size_t i = 0; i < KV_PAGE_POSITIONS && i <= n; i++) {
    onekv_bytes bytes;
    onekv_cache_bytes(config, plan, n - i, &bytes);
    if (bytes.total > n_bytes) return false;
  }
  return true;
}

size_t onekv_cache_tokens(const onekv_config *config, const onekv_cache_plan *plan,
                          uint64_t n_bytes) {
  size_t least = 0;
  size_t most = config->context_window;
  while (least < most) {
    size_t middle = most - (most - least) / 2;
    if (all_fit(config, plan, middle, n_bytes)) least = middle;
    else most = middle - 1;
  }
  return least;
}
