/* The fields of the structs that cross over to JavaScript as rows of doubles, X(name, value) each.
 * Their order is the protocol: web/src/engine/bindings.ts has the same one, and a test compares
 * the names. `value` reads the struct by the letter that exports.c has for it. */
#ifndef ONEKV_WASM_FIELDS_H
#define ONEKV_WASM_FIELDS_H

#define CONFIG_FIELDS(X)                                   \
  X(layers, c->n_layers)                                   \
  X(contextWindow, c->context_window)                      \
  X(embedding, c->n_embedding)                             \
  X(feedForward, c->kinds[0].n_feed_forward)               \
  X(queryHeads, c->kinds[0].n_heads)                       \
  X(kvHeads, c->kinds[0].n_kv_heads)                       \
  X(headWidth, c->kinds[0].key_width)                      \
  X(latent, c->kinds[0].latent.rank)                       \
  X(outputs, c->n_outputs)                                 \
  X(vocabulary, c->n_vocabulary)                           \
  X(features, c->n_features)                               \
  X(projection, onekv_sharing_of(&c->kinds[0]))            \
  X(keyTime, c->kinds[0].keys)                             \
  X(position, c->position)                                 \
  X(norm, c->norm)                                         \
  X(activation, c->activation)                             \
  X(gated, c->is_gated)                                    \
  X(causal, c->causal)                                     \
  X(head, c->has_head)                                     \
  X(pooling, c->pooling)                                   \
  X(poolsFirst, c->pools_first)                            \
  X(separateHead, c->has_separate_head)                    \
  X(qkNorm, c->has_qk_norm)                                \
  X(scoreMap, c->has_score_map)                            \
  X(window, onekv_window(c))                               \
  X(windowedLayers, onekv_n_windowed(c))                   \
  X(convolutions, onekv_n_convolutions(c))

#define ESTIMATE_FIELDS(X)                                 \
  X(parameters, e->n_parameters)                           \
  X(weightBytes, e->weight_bytes)                          \
  X(rowBytes, e->row_bytes)                                \
  X(scratchBytes, e->scratch_bytes)

#define MEMORY_FIELDS(X)                                   \
  X(weights, m->weights)                                   \
  X(cache, m->cache)                                       \
  X(scratch, m->scratch)                                   \
  X(sessions, m->sessions)                                 \
  X(tables, m->tables)                                     \
  X(total, m->total)                                       \
  X(peak, m->peak)                                         \
  X(cacheUsed, m->cache_used)                              \
  X(cachePooled, m->cache_pooled)                          \
  X(openSessions, m->n_sessions)

#define SESSION_FIELDS(X)                                  \
  X(tokens, s->n_cached)                                   \
  X(tokensHeld, s->n_held)                                 \
  X(keys, s->cached.by_kind[ONEKV_CACHED_KEYS])            \
  X(values, s->cached.by_kind[ONEKV_CACHED_VALUES])        \
  X(shared, s->cached.by_kind[ONEKV_CACHED_SHARED])        \
  X(cacheUsed, s->cached.total)                            \
  X(cachePages, s->cache_pages)                            \
  X(cacheOwn, s->cache_own)

#define BYTES_FIELDS(X)                                    \
  X(keys, b->by_kind[ONEKV_CACHED_KEYS])                   \
  X(values, b->by_kind[ONEKV_CACHED_VALUES])               \
  X(shared, b->by_kind[ONEKV_CACHED_SHARED])               \
  X(total, b->total)

/* Read from the buffer, not written: X(name, field, type). */
#define SAMPLING_FIELDS(X)                                 \
  X(temperature, temperature, float)                       \
  X(topK, top_k, uint32_t)                                 \
  X(topP, top_p, float)                                    \
  X(minP, min_p, float)                                    \
  X(repetitionPenalty, repetition_penalty, float)          \
  X(presencePenalty, presence_penalty, float)              \
  X(frequencyPenalty, frequency_penalty, float)            \
  X(penaltyWindow, penalty_window, uint32_t)               \
  X(order, order, uint32_t)                                \
  X(biases, n_biases, uint32_t)

#endif
