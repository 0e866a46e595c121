/* The choice of the next token: a heap gives candidates in falling order, as many as needed. */
#include "core/net/sampler.h"

#include <float.h>
#include <math.h>

enum { PENALTY_WINDOW_DEFAULT = 64 };

static bool comes_before(const onekv_candidate *a, const onekv_candidate *b) {
  return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

/* Restores "parent comes before its children" below index i of heap [n]. */
static void sift_down(onekv_candidate *heap, size_t n, size_t i) {
  for (;;) {
    size_t first = i;
    for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++) {
      if (comes_before(&heap[child], &heap[first])) first = child;
    }
    if (first == i) return;
    onekv_candidate swapped = heap[i];
    heap[i] = heap[first];
    heap[first] = swapped;
    i = first;
  }
}

static void heapify(onekv_candidate *heap, size_t n) {
  for (size_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
}

/* Moves the first candidate of heap [n] to heap[n - 1]; a heap of n - 1 remains. */
static void pop(onekv_candidate *heap, size_t n) {
  onekv_candidate first = heap[0];
  heap[0] = heap[n - 1];
  heap[n - 1] = first;
  sift_down(heap, n - 1, 0);
}

/* splitmix64 (Steele, Lea & Flood 2014): uniform in [0, 1) with 53 bits. */
static double next_uniform(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1.0p-53;
}

static onekv_status refuse(onekv_error *error, const char *field, float found, const char *range) {
  return error_set(error, ONEKV_INVALID_ARGUMENT, "sampling.%s: found %g, expected %s", field,
                   (double)found, range);
}

static bool is_in(float x, float low, float high) { return x >= low && x <= high; }

onekv_status sampler_init(sampler_state *sampler, const onekv_sampling *sampling,
                          size_t n_vocabulary, onekv_error *error) {
  const onekv_sampling *s = sampling;
  if (!is_in(s->temperature, 0, 100)) {
    return refuse(error, "temperature", s->temperature, "0 to 100");
  }
  if (!is_in(s->top_p, 0, 1)) return refuse(error, "top_p", s->top_p, "0 to 1");
  if (!is_in(s->min_p, 0, 1)) return refuse(error, "min_p", s->min_p, "0 to 1");
  if (!is_in(s->repetition_penalty, 0, 10)) {
    return refuse(error, "repetition_penalty", s->repetition_penalty, "0 to 10");
  }
  if (!is_in(s->presence_penalty, -100, 100)) {
    return refuse(error, "presence_penalty", s->presence_penalty, "-100 to 100");
  }
  if (!is_in(s->frequency_penalty, -100, 100)) {
    return refuse(error, "frequency_penalty", s->frequency_penalty, "-100 to 100");
  }
  if (s->penalty_window > ONEKV_PENALTY_WINDOW_MAX) {
    return refuse(error, "penalty_window", (float)s->penalty_window, "0 to 256");
  }
  if (s->order > ONEKV_TEMPERATURE_LAST) {
    return refuse(error, "order", (float)s->order, "0 or 1");
  }
  if (s->n_biases > ONEKV_BIASES_MAX) {
    return refuse(error, "n_biases", (float)s->n_biases, "0 to 64");
  }
  for (uint32_t i = 0; i < s->n_biases; i++) {
    bool is_token = s->biases[i].token >= 0 && (size_t)s->biases[i].token < n_vocabulary;
    if (!is_token) {
      return refuse(error, "biases.token", (float)s->biases[i].token, "a token of the vocabulary");
    }
    if (!(s->biases[i].bias < INFINITY)) {
      return refuse(error, "biases.bias", s->biases[i].bias, "a number below infinity");
    }
  }
  sampler->sampling = *sampling;
  sampler->random_state = sampling->seed;
  return ONEKV_OK;
}

size_t sampler_n_history(const sampler_state *sampler) {
  const onekv_sampling *s = &sampler->sampling;
  bool repeats = s->repetition_penalty != 0.0f && s->repetition_penalty != 1.0f;
  if (!repeats && s->presence_penalty == 0.0f && s->frequency_penalty == 0.0f) return 0;
  return s->penalty_window != 0 ? s->penalty_window : PENALTY_WINDOW_DEFAULT;
}

static void penalise(const onekv_sampling *s, const int32_t *history, size_t n_history,
                     onekv_candidate *candidates) {
  for (size_t i = 0; i < n_history; i++) {
    size_t n_before = 0;
    size_t n_times = 0;
    for (size_t j = 0; j < n_history; j++) {
      if (history[j] != history[i]) continue;
      n_times++;
      if (j < i) n_before++;
    }
    if (n_before > 0) continue;
    float *logit = &candidates[history[i]].logit;
    if (s->repetition_penalty != 0.0f) {
      *logit = *logit > 0.0f ? *logit / s->repetition_penalty : *logit * s->repetition_penalty;
    }
    *logit -= s->presence_penalty + s->frequency_penalty * (float)n_times;
  }
}

/* Sum of exp(logit) over candidates [n], the largest logit being 0. */
static double mass_of(const onekv_candidate *candidates, size_t n) {
  double mass = 0.0;
  for (size_t i = 0; i < n; i++) mass += exp((double)candidates[i].logit);
  return mass;
}

/* Moves the candidates that top-k, top-p and min-p keep to the end of the array, likeliest last,
 * and returns their number. top-p is a share of what top-k kept. */
static size_t keep_likeliest(const onekv_sampling *s, onekv_candidate *candidates, size_t n) {
  heapify(candidates, n);
  size_t n_most = n;
  size_t n_popped = 0;
  if (s->top_k > 0 && s->top_k < n) {
    n_most = s->top_k;
    while (n_popped < n_most) pop(candidates, n - n_popped++);
  }
  double total = mass_of(candidates + (n - n_most), n_most);
  bool cuts = s->top_p > 0.0f && s->top_p < 1.0f;
  double wanted = cuts ? (double)s->top_p * total : (double)INFINITY;
  double smallest = (double)s->min_p;
  double mass = 0.0;
  size_t n_kept = 0;
  for (; n_kept < n_most && mass < wanted; n_kept++) {
    if (n_kept == n_popped) pop(candidates, n - n_popped++);
    double p = exp((double)candidates[n - 1 - n_kept].logit);
    if (p < smallest) break;
    mass += p;
  }
  return n_kept;
}

static int32_t draw(const onekv_candidate *candidates, size_t n, double uniform) {
  double left = uniform * mass_of(candidates, n);
  int32_t chosen = candidates[n - 1].token;
  for (size_t i = n; i-- > 0;) {
    double p = exp((double)candidates[i].logit);
    if (p <= 0.0) continue;
    chosen = candidates[i].token;
    left -= p;
    if (left < 0.0) break;
  }
  return chosen;
}

/* Logits with bias and penalties; NaN counts as impossible. Returns the first of the largest. */
static onekv_candidate adjust(const sampler_state *sampler, const float *logits, size_t n,
                              const int32_t *history, size_t n_history,
                              onekv_candidate *candidates) {
  const onekv_sampling *s = &sampler->sampling;
  for (size_t i = 0; i < n; i++) {
    float logit = isnan(logits[i]) ? -INFINITY : logits[i];
    candidates[i] = (onekv_candidate){logit, (int32_t)i};
  }
  for (uint32_t i = 0; i < s->n_biases; i++) {
    float *logit = &candidates[s->biases[i].token].logit;
    /* A forbidden token stays so, even where its logit is infinite. */
    *logit = isinf(s->biases[i].bias) ? -INFINITY : *logit + s->biases[i].bias;
  }
  penalise(s, history, n_history, candidates);
  onekv_candidate best = candidates[0];
  for (size_t i = 1; i < n; i++) {
    if (comes_before(&candidates[i], &best)) best = candidates[i];
  }
  return best;
}

/* Distances from the best, which any temperature leaves at 0 and finite. */
static void heat(onekv_candidate *candidates, size_t n, float best, float temperature) {
  for (size_t i = 0; i < n; i++) {
    double distance = (double)candidates[i].logit - (double)best;
    candidates[i].logit = (float)fmax(distance / (double)temperature, -(double)FLT_MAX);
  }
}

onekv_status sampler_choose(sampler_state *sampler, const float *logits, size_t n,
                            const int32_t *history, size_t n_history,
                            onekv_candidate *candidates, int32_t *token) {
  const onekv_sampling *s = &sampler->sampling;
  onekv_candidate best = adjust(sampler, logits, n, history, n_history, candidates);
  if (!isfinite(best.logit)) return ONEKV_NOT_FINITE;
  *token = best.token;
  if (s->temperature == 0.0f) return ONEKV_OK;
  bool is_last = s->order == ONEKV_TEMPERATURE_LAST;
  heat(candidates, n, best.logit, is_last ? 1.0f : s->temperature);
  bool keeps_all = s->top_k == 0 && (s->top_p == 0.0f || s->top_p == 1.0f) && s->min_p == 0.0f;
  size_t n_kept = keeps_all ? n : keep_likeliest(s, candidates, n);
  if (is_last) heat(candidates + (n - n_kept), n_kept, 0.0f, s->temperature);
  double uniform = next_uniform(&sampler->random_state);
  *token = draw(candidates + (n - n_kept), n_kept, uniform);
  return ONEKV_OK;
}

static double log_sum_exp(const float *logits, size_t n) {
  double maximum = -(double)INFINITY;
  double sum = 0.0;
  for (size_t i = 0; i < n; i++) maximum = fmax(maximum, (double)logits[i]);
  for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - maximum);
  return maximum + log(sum);
}

float onekv_logprob(const float *logits, size_t n, int32_t token) {
  return (float)((double)logits[token] - log_sum_exp(logits, n));
}

void sampler_top(const float *logits, size_t n, size_t n_top,
                        onekv_candidate *candidates) {
  double normaliser = log_sum_exp(logits, n);
  for (size_t i = 0; i < n; i++) {
    float logprob = (float)((double)logits[i] - normaliser);
    candidates[i] = (onekv_candidate){isnan(logprob) ? -INFINITY : logprob, (int32_t)i};
  }
  heapify(candidates, n);
  size_t n_popped = n_top < n ? n_top : n;
  for (size_t i = 0; i < n_popped; i++) pop(candidates, n - i);
  for (size_t i = 0, j = n - 1; i < n_popped && i < j; i++, j--) {
    onekv_candidate swapped = candidates[i];
    candidates[i] = candidates[j];
    candidates[j] = swapped;
  }
}
