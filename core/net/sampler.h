/* The choice of the next token from a row of logits.
 *
 * Order: logit bias, penalties, temperature, top-k, top-p, min-p, then one draw; or, with
 * ONEKV_TEMPERATURE_LAST, temperature after min-p: what is cut then does not depend on it. Equal
 * logits are ordered by token id and all sums run in that order in double precision, so the same
 * seed gives the same tokens. */
#ifndef ONEKV_SAMPLER_H
#define ONEKV_SAMPLER_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
  ONEKV_BIASES_MAX = 64,         /* entries of a logit bias */
  ONEKV_PENALTY_WINDOW_MAX = 256 /* tokens that penalties look back over */
};

typedef enum onekv_sampler_order {
  ONEKV_TEMPERATURE_FIRST, /* as Hugging Face Transformers: cuts see the heated distribution */
  ONEKV_TEMPERATURE_LAST   /* as llama.cpp: cuts see the model's own distribution */
} onekv_sampler_order;

typedef struct onekv_logit_bias {
  int32_t token;
  float bias; /* added to the logit; -INFINITY forbids the token */
} onekv_logit_bias;

/* A zeroed struct is greedy decoding without penalties. */
typedef struct onekv_sampling {
  float temperature;        /* 0: greedy; else > 0 */
  uint32_t top_k;           /* keep the k likeliest; 0: all */
  float top_p;              /* keep the smallest set of that probability; 0 or 1: all */
  float min_p;              /* keep tokens of at least min_p × the likeliest's probability */
  float repetition_penalty; /* divides positive, multiplies negative logits of seen tokens
                               (Keskar et al. 2019); 0 or 1: none */
  float presence_penalty;   /* subtracted once from a seen token's logit */
  float frequency_penalty;  /* subtracted for every time it was seen */
  uint32_t penalty_window;  /* "seen" is among this many last tokens; 0: 64 */
  uint32_t order;           /* an onekv_sampler_order */
  uint32_t n_biases;
  onekv_logit_bias biases[ONEKV_BIASES_MAX];
  uint64_t seed;
} onekv_sampling;

typedef struct sampler_state {
  onekv_sampling sampling;
  uint64_t random_state;
} sampler_state;

typedef struct onekv_candidate {
  float logit;
  int32_t token;
} onekv_candidate;

/* Range checks: INVALID_ARGUMENT names the field. Restarts the random numbers at the seed. */
onekv_status sampler_init(sampler_state *sampler, const onekv_sampling *sampling,
                          size_t n_vocabulary, onekv_error *error);

/* How many last tokens the penalties of this sampler want to see; 0 without penalties. */
size_t sampler_n_history(const sampler_state *sampler);

/* Chooses from logits [n]; history [n_history] holds the last tokens; candidates [n] is working
 * memory. Error: NOT_FINITE when the largest logit is no finite number. */
onekv_status sampler_choose(sampler_state *sampler, const float *logits, size_t n,
                            const int32_t *history, size_t n_history,
                            onekv_candidate *candidates, int32_t *token);

/* log softmax(logits)[token]. */
float onekv_logprob(const float *logits, size_t n, int32_t token);

/* The n_top likeliest tokens, likeliest first, with `logit` the log probability of each:
 * written to the front of candidates [n]. */
void onekv_top_logprobs(const float *logits, size_t n, size_t n_top,
                        onekv_candidate *candidates);

#endif
