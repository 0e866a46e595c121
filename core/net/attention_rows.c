/* The rows that attention takes in and gives out: keys made of what the cache holds, a block's
 * queries, its heads' sums divided and put in their places. */
#include "core/net/attention_block.h"

#include <string.h>

const float *attention_make_keys(const attention_call *call, const float *rows, size_t n,
                                 float *keys) {
  size_t k = call->kind->key_width;
  if (call->key_norm == NULL && call->key_gain == NULL && call->rope == NULL) return rows;
  if (call->key_gain != NULL) {
    memcpy(keys, rows, n * k * sizeof *keys);
    for (size_t i = 0; i < n; i++) call->kernels->f32_multiply(keys + i * k, call->key_gain, k);
    rows = keys;
  }
  if (call->key_norm != NULL) {
    for (size_t i = 0; i < n; i++) {
      call->kernels->f32_rms_norm(rows + i * k, call->key_norm, call->config->norm_epsilon, k,
                                  keys + i * k);
    }
    rows = keys;
  }
  if (call->rope == NULL) return keys;
  bool has_rest = 2 * call->rope->n_pairs < k;
  if (has_rest && rows != keys) memcpy(keys, rows, n * k * sizeof *keys);
  rope_rotate_fine(call->rope, call->kernels, rows, n, k, keys);
  return keys;
}

void attention_gather(const attention_call *call, const query_block *block,
                      tile_scratch *scratch) {
  size_t k = call->kind->key_width;
  size_t row_floats = call->kind->n_heads * k;
  for (size_t i = 0; i < block->n_kv_heads * block->n_rows; i++) {
    size_t batch_row = block->slice->first_row + block->first_row + i % block->n_rows;
    size_t head = block->first_head + i / block->n_rows * block->n_heads;
    const float *source = call->queries + batch_row * row_floats + head * k;
    float *queries = scratch->queries + i * block->n_heads * k;
    for (size_t c = 0; c < block->n_heads * k; c++) queries[c] = source[c] * call->score_scale;
  }
  /* What is not rotated is the same for all tiles. */
  size_t n_queries = n_queries_of(block);
  if (attention_in_codes(call, block)) attention_encode_queries(call, block, scratch);
  if (call->rope != NULL && 2 * call->rope->n_pairs < k) {
    memcpy(scratch->turned, scratch->queries, n_queries * k * sizeof *scratch->queries);
  }
}

void attention_scatter(const attention_call *call, const query_block *block,
                       const range_result *total) {
  size_t v = call->kind->value_width;
  size_t row_floats = call->kind->n_heads * v;
  for (size_t i = 0, q = 0; i < block->n_kv_heads * block->n_rows; i++) {
    size_t batch_row = block->slice->first_row + block->first_row + i % block->n_rows;
    size_t first_head = block->first_head + i / block->n_rows * block->n_heads;
    float *out = call->out + batch_row * row_floats + first_head * v;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float inverse_sum = 1.0f / total->sums[q];
      for (size_t c = 0; c < v; c++) out[head * v + c] = total->out[q * v + c] * inverse_sum;
    }
  }
}
