/* The sampler against a slow reference that sorts everything and works in double precision.
 *
 * The reference gives each token its probability; the sampler must never draw a token that the
 * reference excludes, and its frequencies must fit the probabilities (chi-square). Where a cut
 * falls within rounding of a token's share, either side of it is right; the reference then knows
 * the token as doubtful and both answers pass. */
#include "core/net/sampler.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { N = 24, HISTORY = 12, DRAWS = 4000 };

typedef struct reference {
  double p[N];      /* 0: excluded */
  bool doubtful[N]; /* at a cut: may be in or out */
} reference;

typedef struct ranked {
  double logit;
  int token;
} ranked;

static int by_rank(const void *a, const void *b) {
  const ranked *left = a;
  const ranked *right = b;
  if (left->logit != right->logit) return left->logit > right->logit ? -1 : 1;
  return left->token - right->token;
}

/* Logits with bias and penalties, by the definitions in sampler.h. */
static void adjust(const onekv_sampling *s, const float *logits, const int32_t *history,
                   size_t n_history, ranked *out) {
  for (int i = 0; i < N; i++) {
    double logit = isnan(logits[i]) ? -(double)INFINITY : (double)logits[i];
    size_t n_seen = 0;
    for (uint32_t b = 0; b < s->n_biases; b++) {
      if (s->biases[b].token == i) logit += (double)s->biases[b].bias;
    }
    for (size_t h = 0; h < n_history; h++) n_seen += history[h] == i;
    double repetition = s->repetition_penalty == 0.0f ? 1.0 : (double)s->repetition_penalty;
    if (n_seen > 0) {
      logit = logit > 0.0 ? logit / repetition : logit * repetition;
      logit -= (double)s->presence_penalty + (double)s->frequency_penalty * (double)n_seen;
    }
    out[i] = (ranked){logit, i};
  }
  qsort(out, N, sizeof *out, by_rank);
}

static reference reference_of(const onekv_sampling *s, const float *logits,
                              const int32_t *history, size_t n_history) {
  reference out = {{0}, {false}};
  ranked ranks[N];
  adjust(s, logits, history, n_history, ranks);
  if (s->temperature == 0.0f) {
    out.p[ranks[0].token] = 1.0;
    return out;
  }
  size_t n = s->top_k > 0 && s->top_k < N ? s->top_k : N;
  double p[N];
  double total = 0.0;
  bool is_last = s->order == ONEKV_TEMPERATURE_LAST;
  for (size_t i = 0; i < n; i++) {
    double temperature = is_last ? 1.0 : (double)s->temperature;
    p[i] = exp((ranks[i].logit - ranks[0].logit) / temperature);
    total += p[i];
  }
  double top_p = s->top_p == 0.0f ? 1.0 : (double)s->top_p;
  double before = 0.0;
  size_t n_kept = 0;
  for (; n_kept < n; n_kept++) {
    double slack = 1e-6; /* logits are f32: a share is known to about 1e-7 */
    if (top_p < 1.0 && before >= top_p * total * (1.0 + slack)) break;
    if (p[n_kept] < (double)s->min_p * (1.0 - slack)) break;
    out.doubtful[ranks[n_kept].token] =
        (top_p < 1.0 && before >= top_p * total * (1.0 - slack)) ||
        (s->min_p > 0.0f && p[n_kept] < (double)s->min_p * (1.0 + slack));
    before += p[n_kept];
  }
  double mass = is_last ? 0.0 : before;
  for (size_t i = 0; i < n_kept && is_last; i++) {
    p[i] = exp((ranks[i].logit - ranks[0].logit) / (double)s->temperature);
    mass += p[i];
  }
  for (size_t i = 0; i < n_kept; i++) out.p[ranks[i].token] = p[i] / mass;
  return out;
}

static sampler_state open_sampler(const onekv_sampling *sampling) {
  sampler_state sampler;
  onekv_error error = {ONEKV_OK, ""};
  CHECK_SAY(sampler_init(&sampler, sampling, N, &error) == ONEKV_OK, "%s", error.message);
  return sampler;
}

/* Draws many times and compares with the reference. With k - 1 degrees of freedom chi-square has
 * mean k - 1 and deviation √(2(k - 1)); 8 deviations and 10 more are beyond 1e-7 for every k here,
 * so that with fixed seeds a failure means a wrong distribution. Tokens that are expected less
 * than 5 times are put together. */
static void check_draws(const onekv_sampling *sampling, const float *logits,
                        const int32_t *history, size_t n_history, const char *what) {
  reference expected = reference_of(sampling, logits, history, n_history);
  sampler_state sampler = open_sampler(sampling);
  size_t n_seen = sampler_n_history(&sampler);
  if (n_seen > n_history) n_seen = n_history;
  expected = reference_of(sampling, logits, history + (n_history - n_seen), n_seen);
  size_t counts[N] = {0};
  onekv_candidate candidates[N];
  for (size_t i = 0; i < DRAWS; i++) {
    int32_t token = -1;
    onekv_status status = sampler_choose(&sampler, logits, N, history + (n_history - n_seen),
                                         n_seen, candidates, &token);
    CHECK(status == ONEKV_OK && token >= 0 && token < N);
    if (token >= 0 && token < N) counts[token]++;
  }
  double chi = 0.0;
  double rare_expected = 0.0;
  double rare_found = 0.0;
  size_t n_cells = 0;
  bool has_doubt = false;
  for (size_t i = 0; i < N; i++) {
    has_doubt |= expected.doubtful[i];
    CHECK_SAY(expected.p[i] > 0.0 || counts[i] == 0, "%s: token %zu was drawn", what, i);
    double n_expected = expected.p[i] * DRAWS;
    if (n_expected < 5.0) {
      rare_expected += n_expected;
      rare_found += (double)counts[i];
      continue;
    }
    double difference = (double)counts[i] - n_expected;
    chi += difference * difference / n_expected;
    n_cells++;
  }
  if (rare_expected >= 5.0) {
    chi += (rare_found - rare_expected) * (rare_found - rare_expected) / rare_expected;
    n_cells++;
  }
  double freedom = n_cells > 1 ? (double)n_cells - 1.0 : 0.0;
  double limit = freedom + 8.0 * sqrt(2.0 * freedom) + 10.0;
  CHECK_SAY(has_doubt || chi <= limit, "%s: chi-square %g, at most %g", what, chi, limit);
}

static void random_logits(float *logits) {
  float limit = check_random_below(4) == 0 ? 40.0f : 4.0f;
  for (size_t i = 0; i < N; i++) logits[i] = check_random_float(limit);
  if (check_random_below(3) == 0) logits[check_random_below(N)] = logits[check_random_below(N)];
  if (check_random_below(3) == 0) logits[check_random_below(N)] = -INFINITY;
  if (check_random_below(3) == 0) logits[check_random_below(N)] = NAN;
}

/* Each parameter alone (bit i of `which`), and all the others in any mix. */
static onekv_sampling random_sampling(uint32_t which) {
  static const float PENALTIES[] = {1.3f, 0.7f, 2.5f};
  onekv_sampling s = {.temperature = 1.0f, .seed = check_random_u32()};
  if (which & 1) s.temperature = 0.3f + 0.2f * (float)check_random_below(10);
  if (which & 2) s.top_k = 1 + (uint32_t)check_random_below(N + 4);
  if (which & 4) s.top_p = 0.05f + 0.05f * (float)check_random_below(19);
  if (which & 8) s.min_p = 0.02f * (float)check_random_below(45);
  if (which & 16) s.repetition_penalty = PENALTIES[check_random_below(3)];
  if (which & 32) s.presence_penalty = check_random_float(2.0f);
  if (which & 64) s.frequency_penalty = check_random_float(1.0f);
  if (which & 128) s.penalty_window = 1 + (uint32_t)check_random_below(HISTORY);
  if (which & 256) {
    s.n_biases = 3;
    s.biases[0] = (onekv_logit_bias){3, -INFINITY};
    s.biases[1] = (onekv_logit_bias){5, 2.0f};
    s.biases[2] = (onekv_logit_bias){5, check_random_float(3.0f)};
  }
  if (which & 512) s.temperature = 0.0f;
  if (which & 1024) s.order = ONEKV_TEMPERATURE_LAST;
  return s;
}

static void check_parameters(void) {
  float logits[N];
  int32_t history[HISTORY];
  char what[64];
  for (size_t i = 0; i < 300; i++) {
    uint32_t which = i < 11 ? 1u << i >> 1 : check_random_u32() % 1024;
    if (i >= 150) which |= 1024;
    onekv_sampling s = random_sampling(which);
    random_logits(logits);
    for (size_t h = 0; h < HISTORY; h++) history[h] = (int32_t)check_random_below(N / 2);
    snprintf(what, sizeof what, "case %zu, parameters 0x%x", i, which);
    check_draws(&s, logits, history, check_random_below(HISTORY + 1), what);
  }
}

/* --- edges ------------------------------------------------------------------------------------ */

static int32_t choose(const onekv_sampling *sampling, const float *logits, onekv_status expected) {
  sampler_state sampler = open_sampler(sampling);
  onekv_candidate candidates[N];
  int32_t token = -7;
  onekv_status status = sampler_choose(&sampler, logits, N, NULL, 0, candidates, &token);
  CHECK_SAY(status == expected, "found %s", onekv_status_name(status));
  return token;
}

/* Probabilities 0.6, 0.3, 0.1: top-p 0.5 keeps the first alone by the model's own distribution,
 * and all three at a temperature that makes them nearly equal. */
static void check_order(void) {
  float logits[N];
  bool was_drawn[2][N] = {{false}};
  for (size_t i = 0; i < N; i++) logits[i] = -INFINITY;
  logits[2] = logf(0.6f);
  logits[5] = logf(0.3f);
  logits[9] = logf(0.1f);
  for (uint32_t order = 0; order < 2; order++) {
    for (uint64_t seed = 0; seed < 200; seed++) {
      onekv_sampling s = {.temperature = 50.0f, .top_p = 0.5f, .order = order, .seed = seed};
      int32_t token = choose(&s, logits, ONEKV_OK);
      if (token >= 0 && token < N) was_drawn[order][token] = true;
    }
  }
  CHECK(was_drawn[ONEKV_TEMPERATURE_FIRST][2] && was_drawn[ONEKV_TEMPERATURE_FIRST][5]);
  CHECK(was_drawn[ONEKV_TEMPERATURE_LAST][2] && !was_drawn[ONEKV_TEMPERATURE_LAST][5] &&
        !was_drawn[ONEKV_TEMPERATURE_LAST][9]);
}

static void check_edges(void) {
  const onekv_sampling greedy = {.temperature = 0.0f};
  onekv_sampling warm = {.temperature = 1.0f, .seed = 5};
  float logits[N] = {0};
  CHECK(choose(&greedy, logits, ONEKV_OK) == 0); /* all equal: the smallest id */
  logits[7] = logits[9] = 1.0f;
  CHECK(choose(&greedy, logits, ONEKV_OK) == 7);
  warm.top_k = 1;
  CHECK(choose(&warm, logits, ONEKV_OK) == 7);
  /* The coldest temperatures are greedy, the hottest uniform; neither overflows. */
  static const float COLD[] = {1e-45f, 1e-38f, 1e-9f, 1e-4f};
  for (size_t i = 0; i < 4; i++) {
    float steep[N];
    for (size_t j = 0; j < N; j++) steep[j] = -3e38f + 1e37f * (float)j;
    steep[11] = 3e38f;
    onekv_sampling cold = {.temperature = COLD[i], .seed = i, .top_p = i % 2 == 0 ? 0.9f : 0.0f};
    CHECK(choose(&cold, steep, ONEKV_OK) == 11);
    steep[11] = 1e-30f;
    for (size_t j = 0; j < N; j++) steep[j] = j == 11 ? 1.0f : 0.5f;
    CHECK(choose(&cold, steep, ONEKV_OK) == 11);
  }
  for (size_t i = 0; i < N; i++) logits[i] = NAN;
  CHECK(choose(&greedy, logits, ONEKV_NOT_FINITE) == -7);
  logits[3] = -INFINITY;
  CHECK(choose(&warm, logits, ONEKV_NOT_FINITE) == -7);
  logits[4] = -80.0f;
  CHECK(choose(&warm, logits, ONEKV_OK) == 4 && choose(&greedy, logits, ONEKV_OK) == 4);
  logits[5] = INFINITY;
  CHECK(choose(&warm, logits, ONEKV_NOT_FINITE) == -7);
  /* A forbidden token is forbidden even there, first in the row or not. */
  warm.top_k = 3;
  warm.n_biases = 1;
  warm.biases[0] = (onekv_logit_bias){5, -INFINITY};
  CHECK(choose(&warm, logits, ONEKV_OK) == 4);
  for (size_t i = 0; i < N; i++) logits[i] = i == 0 ? INFINITY : (float)i;
  warm.top_k = 1;
  warm.biases[0].token = 0;
  CHECK(choose(&warm, logits, ONEKV_OK) == N - 1);
  logits[1] = NAN;
  CHECK(choose(&warm, logits, ONEKV_OK) == N - 1);
}

static void check_ranges(void) {
  static const float WRONG[] = {-0.01f, 1e9f, NAN, INFINITY};
  for (size_t i = 0; i < 4; i++) {
    sampler_state sampler = open_sampler(&(onekv_sampling){.seed = 99});
    float x = WRONG[i];
    float beyond = i == 0 ? -101.0f : x;
    const onekv_sampling refused[] = {
        {.temperature = x},           {.top_p = x},  {.min_p = x}, {.repetition_penalty = x},
        {.presence_penalty = beyond}, {.frequency_penalty = beyond},
        {.penalty_window = 257},      {.n_biases = 65},
        {.n_biases = 1, .biases = {{-1, 0.0f}}}, {.n_biases = 1, .biases = {{N, 0.0f}}},
        {.n_biases = 1, .biases = {{1, INFINITY}}}, {.n_biases = 1, .biases = {{1, NAN}}},
    };
    static const char *const NAMES[] = {
        "temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty",
        "frequency_penalty", "penalty_window", "n_biases", "biases.token", "biases.token",
        "biases.bias", "biases.bias"};
    for (size_t j = 0; j < sizeof NAMES / sizeof NAMES[0]; j++) {
      onekv_error error = {ONEKV_OK, ""};
      onekv_status status = sampler_init(&sampler, &refused[j], N, &error);
      CHECK_SAY(status == ONEKV_INVALID_ARGUMENT && strstr(error.message, NAMES[j]) != NULL,
                "%s: %s", NAMES[j], error.message);
      CHECK(sampler.random_state == 99 && sampler.sampling.seed == 99);
    }
  }
}

/* The same seed draws the same tokens, another does not, and history counts from the end. */
static void check_determinism(void) {
  float logits[N];
  int32_t drawn[3][64];
  for (size_t i = 0; i < N; i++) logits[i] = check_random_float(1.0f);
  for (size_t run = 0; run < 3; run++) {
    sampler_state sampler = open_sampler(&(onekv_sampling){.temperature = 1, .seed = run / 2});
    onekv_candidate candidates[N];
    for (size_t i = 0; i < 64; i++) {
      CHECK(sampler_choose(&sampler, logits, N, NULL, 0, candidates, &drawn[run][i]) == ONEKV_OK);
    }
  }
  CHECK(memcmp(drawn[0], drawn[1], sizeof drawn[0]) == 0);
  CHECK(memcmp(drawn[0], drawn[2], sizeof drawn[0]) != 0);
  sampler_state none = open_sampler(&(onekv_sampling){.repetition_penalty = 1.0f});
  sampler_state some = open_sampler(&(onekv_sampling){.presence_penalty = 0.1f});
  sampler_state few = open_sampler(&(onekv_sampling){.frequency_penalty = 1, .penalty_window = 3});
  CHECK(sampler_n_history(&none) == 0 && sampler_n_history(&some) == 64 &&
        sampler_n_history(&few) == 3);
}

static void check_top_logprobs(void) {
  for (size_t n_top = 0; n_top <= N + 1; n_top++) {
    float logits[N];
    ranked ranks[N];
    onekv_candidate candidates[N];
    random_logits(logits);
    logits[2] = 1.0f; /* one number at least */
    double sum = 0.0;
    for (int i = 0; i < N; i++) {
      if (isnan(logits[i])) logits[i] = 0.5f;
      ranks[i] = (ranked){(double)logits[i], i};
      sum += exp((double)logits[i]);
    }
    qsort(ranks, N, sizeof *ranks, by_rank);
    sampler_top(logits, N, n_top, candidates);
    double mass = 0.0;
    for (size_t i = 0; i < n_top && i < N; i++) {
      double expected = ranks[i].logit - log(sum);
      CHECK_SAY(i > 0 ? candidates[i - 1].logit >= candidates[i].logit : true, "rank %zu", i);
      CHECK_CLOSE(candidates[i].logit, expected, 1e-5);
      CHECK_CLOSE(onekv_logprob(logits, N, candidates[i].token), candidates[i].logit, 0.0);
      mass += exp((double)candidates[i].logit);
    }
    if (n_top >= N) CHECK_CLOSE(mass, 1.0, 1e-5);
    CHECK(n_top == 0 || mass <= 1.0 + 1e-5);
  }
  const float equal[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  onekv_candidate candidates[4];
  sampler_top(equal, 4, 3, candidates);
  for (int32_t i = 0; i < 3; i++) CHECK(candidates[i].token == i);
  CHECK_CLOSE(candidates[0].logit, -1.3862944, 1e-6);
}

int main(void) {
  check_seed(20260722);
  check_parameters();
  check_order();
  check_edges();
  check_ranges();
  check_determinism();
  check_top_logprobs();
  return check_finish();
}
