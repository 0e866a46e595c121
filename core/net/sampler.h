/* The choice of the next token from a row of logits.
 *
 * Order: logit bias, penalties, temperature, top-k, top-p, min-p, then one draw; or, with
 * ONEKV_TEMPERATURE_LAST, temperature after min-p: what is cut then does not depend on it. Equal
 * logits are ordered by token id and all sums run in that order in double precision, so the same
 * seed gives the same tokens. */
#ifndef ONEKV_SAMPLER_H
#define ONEKV_SAMPLER_H

#include "core/base/status.h"

typedef struct sampler_state {
  onekv_sampling sampling;
  uint64_t random_state;
} sampler_state;

/* Range checks: INVALID_ARGUMENT names the field. Restarts the random numbers at the seed. */
onekv_status sampler_init(sampler_state *sampler, const onekv_sampling *sampling,
                          size_t n_vocabulary, onekv_error *error);

/* How many last tokens the penalties of this sampler want to see; 0 without penalties. */
size_t sampler_n_history(const sampler_state *sampler);

/* Chooses from logits [n]; history [n_history] holds the last tokens; candidates [n] is working
 * memory. Error: NOT_FINITE when the largest logit is not a finite number. */
onekv_status sampler_choose(sampler_state *sampler, const float *logits, size_t n,
                            const int32_t *history, size_t n_history,
                            onekv_candidate *candidates, int32_t *token);

/* The n_top likeliest tokens, likeliest first, with `logit` the log probability of each:
 * written to the front of candidates [n]. */
void sampler_top(const float *logits, size_t n, size_t n_top,
                        onekv_candidate *candidates);

#endif
