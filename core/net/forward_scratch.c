/* The working memory of a model: which buffers there are, and how large; see forward.h. */
#include "core/net/forward.h"
#include "core/net/tensors.h"

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

/* The most floats that one row of any layer takes of an extent. */
static size_t widest(const onekv_config *config, slot_extent extent) {
  size_t most = 0;
  for (size_t i = 0; i < config->n_kinds; i++) {
    most = largest(most, slot_extent_of(extent, config, &config->kinds[i]));
  }
  return most;
}

static float *take_rows(memory_arena *arena, size_t n, size_t width) {
  return arena_take(arena, n, width * sizeof(float));
}

/* Of the pairs' frequencies, for a model that is opened for positions below context_window; or
 * NULL. */
static const float *rope_divisors(const onekv_rope *rope, const model_weights *weights,
                                  size_t context_window) {
  if (weights->rope_frequencies != NULL) return weights->rope_frequencies;
  return context_window > rope->n_context_original ? weights->rope_factors_long
                                              : weights->rope_factors_short;
}

void forward_scratch_make(const onekv_config *config, const model_weights *weights,
                          size_t context_window, memory_arena *arena, forward_scratch *scratch) {
  size_t n = scratch->n_rows_max;
  size_t d = config->n_embedding;
  size_t n_mlp = largest(widest(config, EXTENT_MLP), config->n_per_layer);
  size_t n_per_layer = widest(config, EXTENT_ALL_LAYERS);
  size_t n_ones = config->kinds[0].norms_values ? widest(config, EXTENT_VALUES) : 0;
  size_t n_query_rank = widest(config, EXTENT_QUERY_RANK);
  size_t n_sums = widest(config, EXTENT_SUMS);
  size_t n_heads = largest(widest(config, EXTENT_QUERIES), widest(config, EXTENT_HEADS));
  size_t columns = largest(largest(largest(d, n_query_rank), largest(n_heads, n_sums)),
                           largest(n_mlp, config->n_features));
  size_t n_expanded = widest(config, EXTENT_CONVOLUTION);
  if (widest(config, EXTENT_RANK) > 0) n_expanded = largest(n_expanded, n_heads);
  scratch->x = take_rows(arena, n, d);
  scratch->normed = take_rows(arena, n, d);
  scratch->branch = take_rows(arena, n, d);
  scratch->query_latents = take_rows(arena, n, n_query_rank);
  scratch->expanded = take_rows(arena, n, n_expanded);
  scratch->queries = take_rows(arena, n, widest(config, EXTENT_MEETING));
  scratch->rows = take_rows(arena, n, widest(config, EXTENT_KEYS));
  scratch->values = take_rows(arena, n, widest(config, EXTENT_VALUES));
  scratch->heads = take_rows(arena, n, n_sums);
  scratch->gate = take_rows(arena, n, n_mlp);
  scratch->up = take_rows(arena, n, n_mlp);
  scratch->per_layer = take_rows(arena, n, n_per_layer);
  scratch->per_layer_row = take_rows(arena, 1, n_per_layer);
  size_t n_left = weights->left_at > 0 ? weights->per_layer_embedding.row_bytes : 0;
  scratch->per_layer_bytes = arena_take(arena, n_left, 1);
  scratch->ones = take_rows(arena, 1, n_ones);
  for (size_t c = 0; c < n_ones && scratch->ones != NULL; c++) scratch->ones[c] = 1.0f;
  scratch->temperatures = take_rows(arena, n, config->temperature_scale > 0.0f ? 1 : 0);
  scratch->picked = take_rows(arena, scratch->n_logits_max, d);
  scratch->logits = take_rows(arena, scratch->n_logits_max, config->n_outputs);
  scratch->tiles = arena_take(arena, attention_scratch_floats(config, scratch->n_threads_max),
                              sizeof(float));
  matmul_scratch_make(largest(n, scratch->n_logits_max), columns, scratch->n_threads_max, arena,
                      &scratch->matmul);
  for (size_t i = 0; i < config->n_kinds; i++) {
    const onekv_rope *rope = &config->kinds[i].rope;
    scratch->cosines[i] = take_rows(arena, n, rope->n_rotated / 2);
    scratch->sines[i] = take_rows(arena, n, rope->n_rotated / 2);
    if (rope->n_rotated == 0) continue;
    const float *divisors = NULL;
    if (rope->has_divisors) divisors = rope_divisors(rope, weights, context_window);
    rope_tables_make(rope, context_window, divisors, arena, &scratch->rope[i]);
  }
}
