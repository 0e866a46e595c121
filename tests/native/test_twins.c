/* A file with shared projections and its expanded standard twin compute the same.
 *
 * tests/real/twins holds golden models written out by models/format/expand.py, so that each has
 * every projection; their logits must be the golden ones. The shipped Q-K=V+MQA model must tell the
 * stories that llama.cpp told with its expanded twin (tests/real/expanded.json). */
#include "core/net/config.h"
#include "tests/native/check.h"
#include "tests/native/real.h"

enum { N_RECORDINGS_MAX = 8, N_ROWS_MAX = 65 };

static const char *const RECORDED = "tests/real/expanded.json";

static const char *const TWINS[] = {
    "llama-keqv-mha", "llama-keqv-gqa",    "llama-keqv-mqa",   "llama-keqv-yarn",
    "llama-qeqk-gqa", "llama-qeqkeqv-mqa", "gpt2-keqv-mqa",    "gpt2-qeqkeqv-gqa",
    "qwen2-keqv-mqa", "qwen3-keqv-mqa",    "qwen3-qeqk-gqa",
};

/* As for the golden models: another order of sums, no other arithmetic. */
static const double TOLERANCE = 1e-4;
/* Of a logit; logits reach 14. Measured: tests/real/README.md. */
static const double LOGIT_TOLERANCES[] = {
    [ONEKV_INT8] = 0.2, [ONEKV_INT16] = 2e-3, [ONEKV_F32] = 1e-4};
static const char *const NAMES[] = {
    [ONEKV_INT8] = "int8", [ONEKV_INT16] = "int16", [ONEKV_F32] = "f32"};

static onekv_model *open_model(const char *folder, const char *name, onekv_pool *pool,
                               size_t n_logits) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
  onekv_model_options options = {.pool = pool,
                                 .arithmetic = ONEKV_F32,
                                 .cache_type = ONEKV_CACHE_F32,
                                 .n_logits_max = n_logits};
  return load_file(path, &options);
}

/* The golden tokens' logits, a copy: free it. */
static float *logits_of(onekv_model *model, const golden_data *golden) {
  onekv_session *session = NULL;
  CHECK(onekv_session_open(model, NULL, &session, NULL) == ONEKV_OK);
  onekv_item item = {session, golden->tokens, golden->n_rows, golden->n_rows, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  size_t n_bytes = (size_t)golden->n_rows * golden->n_outputs * sizeof(float);
  float *logits = check_allocate(n_bytes);
  memcpy(logits, item.logits, n_bytes);
  onekv_session_close(session);
  return logits;
}

static void check_twin(const char *name, onekv_pool *pool) {
  check_state.context = name;
  golden_data golden = golden_read(name);
  onekv_model *shared = open_model("tests/golden", name, pool, golden.n_rows);
  onekv_model *twin = open_model("tests/real/twins", name, pool, golden.n_rows);
  CHECK(onekv_sharing_of(&onekv_model_config(shared)->kinds[0]) != ONEKV_SHARE_NONE);
  CHECK(onekv_sharing_of(&onekv_model_config(twin)->kinds[0]) == ONEKV_SHARE_NONE);
  float *of_shared = logits_of(shared, &golden);
  float *of_twin = logits_of(twin, &golden);
  size_t n = (size_t)golden.n_rows * golden.n_outputs;
  double apart = relative_distance(of_twin, of_shared, n);
  double away = relative_distance(of_twin, golden.logits, n);
  CHECK_SAY(apart <= TOLERANCE, "twins are %g apart", apart);
  CHECK_SAY(away <= TOLERANCE, "the twin is %g away from the reference", away);
  free(of_shared);
  free(of_twin);
  CHECK(onekv_model_close(shared) == ONEKV_OK);
  CHECK(onekv_model_close(twin) == ONEKV_OK);
  golden_free(&golden);
}

/* The shared file against llama.cpp's text with the expanded one. */
static void check_shipped(onekv_pool *pool, onekv_arithmetic arithmetic, bool is_short) {
  char name[128] = "";
  char hash[32] = "";
  char path[PATH_BYTES];
  check_state.context = RECORDED;
  CHECK(recording_string(RECORDED, "file", name, sizeof name));
  CHECK(recording_string(RECORDED, "hash", hash, sizeof hash));
  snprintf(path, sizeof path, "models/%s", name);
  onekv_model_options options = {.pool = pool,
                                 .arithmetic = arithmetic,
                                 .cache_type = ONEKV_CACHE_F32,
                                 .n_logits_max = N_ROWS_MAX};
  onekv_model *model = load_file(path, &options);
  char own[32];
  snprintf(own, sizeof own, "%016llx", (unsigned long long)onekv_model_hash(model));
  CHECK_SAY(strcmp(own, hash) == 0, "%s is not the file that was recorded (%s, not %s): "
            "python tests/real/record.py expanded", path, own, hash);
  static recording expected[N_RECORDINGS_MAX];
  size_t n = recordings_read(RECORDED, "exact", expected, N_RECORDINGS_MAX);
  CHECK_SAY(n >= 3, "only %zu recordings", n);
  if (is_short) n = 1;
  /* Two logits that may each be wrong by the tolerance change places below twice of it; the finer
   * arithmetics have to choose the recorded tokens, however close. */
  double tie = arithmetic == ONEKV_INT8 ? 2 * LOGIT_TOLERANCES[arithmetic] : 0.0;
  double distance = 0.0;
  for (size_t i = 0; i < n; i++) {
    agreement prefill = recording_prefill(model, &expected[i], tie);
    agreement decode = recording_decode(model, &expected[i], tie);
    CHECK_SAY(prefill.status == ONEKV_OK && prefill.n_wrong == 0, "prefill: step %zu of text %zu",
              prefill.first_wrong, i);
    CHECK_SAY(decode.status == ONEKV_OK && decode.n_wrong == 0, "decode: step %zu of text %zu",
              decode.first_wrong, i);
    distance = fmax(distance, fmax(prefill.distance, decode.distance));
  }
  CHECK_SAY(distance <= LOGIT_TOLERANCES[arithmetic], "logits are %g apart", distance);
  printf("%s, %s: %g from llama.cpp with the expanded file\n", name,
         NAMES[arithmetic], distance);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

/* The short form: one text instead of all. */
int main(int argc, char **argv) {
  bool is_short = check_is_short(argc, argv);
  onekv_pool *pool = NULL;
  CHECK(onekv_pool_open(NULL, 2, &pool) == ONEKV_OK);
  for (size_t i = 0; i < sizeof TWINS / sizeof *TWINS; i++) check_twin(TWINS[i], pool);
  check_shipped(pool, ONEKV_F32, is_short);
  check_shipped(pool, ONEKV_INT16, is_short);
  check_shipped(pool, ONEKV_INT8, is_short);
  onekv_pool_close(pool);
  return check_finish();
}
