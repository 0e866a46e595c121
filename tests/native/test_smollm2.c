/* SmolLM2-135M-Instruct, a model that nobody here made, against what others compute with its file.
 *
 * tests/real/smollm2.json holds greedy continuations and logits of llama.cpp,
 * tests/golden/smollm2-greedy.json those of the reference in float64. tests/real/README.md says
 * where the tolerances come from. A build with sanitizers reads only the first recording, which is
 * short: it looks for faults of memory, and the others for those of arithmetic. Token by
 * token only some texts are read: one code path with prefill, proven to give the same bits. */
#include "tests/native/check.h"
#include "tests/native/real.h"

enum { N_RECORDINGS_MAX = 8, N_ROWS_MAX = 65, N_CONTEXT = 512 };

#if defined __SANITIZE_ADDRESS__
enum { IS_SANITIZED = 1, CHECKS_CACHES = 0, N_DECODED = 1 };
#elif defined __EMSCRIPTEN__
enum { IS_SANITIZED = 0, CHECKS_CACHES = 0, N_DECODED = 1 };
#else
enum { IS_SANITIZED = 0, CHECKS_CACHES = 1, N_DECODED = 2 };
#endif

static const char *const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";
static const char *const LLAMA_CPP = "tests/real/smollm2.json";
static const char *const REFERENCE = "tests/golden/smollm2-greedy.json";

/* Of a logit; logits reach 44. */
static const double TOLERANCES[] = {
    [ONEKV_INT8] = 2.0, [ONEKV_INT16] = 0.02, [ONEKV_F32] = 1e-3};
static const char *const NAMES[] = {
    [ONEKV_INT8] = "int8", [ONEKV_INT16] = "int16", [ONEKV_F32] = "f32"};
static const double TOLERANCE_F16_CACHE = 0.03;
static const double TOLERANCE_I8_CACHE = 1.5;

static void check_agreement(agreement found, double tolerance, const char *how) {
  CHECK_SAY(found.status == ONEKV_OK, "%s: %s", how, onekv_status_name(found.status));
  CHECK_SAY(found.n_wrong == 0, "%s: %zu of %zu tokens are others, the first at step %zu", how,
            found.n_wrong, found.n_steps, found.first_wrong);
  CHECK_SAY(found.distance <= tolerance, "%s: logits are %g apart", how, found.distance);
}

/* A model and how far its logits may be from those recorded. */
typedef struct subject {
  onekv_model *model;
  double tolerance;
} subject;

/* The first n_wanted recordings of a file, n_decoded of them token by token too; gives the largest
 * distance seen. */
static double check_file(subject tested, const char *path, const char *kind, size_t n_wanted,
                         size_t n_decoded) {
  static recording expected[N_RECORDINGS_MAX];
  check_state.context = path;
  size_t n = recordings_read(path, kind, expected, n_wanted);
  CHECK_SAY(n == 1 || n >= 5, "only %zu recordings", n);
  /* Two logits that may each be wrong by the tolerance change places below twice of it. */
  double tie = 2 * tested.tolerance;
  double distance = 0.0;
  for (size_t i = 0; i < n; i++) {
    agreement prefill = recording_prefill(tested.model, &expected[i], tie);
    check_agreement(prefill, tested.tolerance, "prefill");
    distance = fmax(distance, prefill.distance);
    if (i >= n_decoded) continue;
    agreement decode = recording_decode(tested.model, &expected[i], tie);
    check_agreement(decode, tested.tolerance, "decode");
  }
  return distance;
}

static subject open_subject(const char *path, onekv_pool *pool, onekv_level level,
                            onekv_arithmetic arithmetic, onekv_cache_type cache_type,
                            double tolerance) {
  onekv_model_options options = {.pool = pool, .level = level, .arithmetic = arithmetic,
                                 .cache_type = cache_type, .context_window = N_CONTEXT,
                                 .n_logits_max = N_ROWS_MAX};
  return (subject){load_file(path, &options), tolerance};
}

/* Every level reads the short recording; the best one reads and decodes all, if not in short. */
static void check_level(const char *path, onekv_pool *pool, onekv_level level,
                        onekv_arithmetic arithmetic, bool is_short) {
  subject tested =
      open_subject(path, pool, level, arithmetic, ONEKV_CACHE_F32, TOLERANCES[arithmetic]);
  bool is_best = level == ONEKV_LEVEL_BEST && !IS_SANITIZED && !is_short;
  const char *name = onekv_model_level(tested.model);
  size_t n = is_best ? N_RECORDINGS_MAX : 1;
  double distance = check_file(tested, LLAMA_CPP, "exact", n, is_best ? N_DECODED : 1);
  const char *how = NAMES[arithmetic];
  printf("%s, %s: %g from llama.cpp\n", name, how, distance);
  if (is_best) {
    distance = check_file(tested, REFERENCE, NULL, n, 0);
    printf("%s, %s: %g from the reference\n", name, how, distance);
  }
  CHECK(onekv_model_close(tested.model) == ONEKV_OK);
}

static void check_cache(const char *path, onekv_pool *pool, const char *name,
                        onekv_cache_type cache_type, double tolerance) {
  subject tested = open_subject(path, pool, ONEKV_LEVEL_BEST, ONEKV_F32, cache_type, tolerance);
  double distance = check_file(tested, LLAMA_CPP, "exact", N_RECORDINGS_MAX, 0);
  printf("%s cache: %g from llama.cpp\n", name, distance);
  CHECK(onekv_model_close(tested.model) == ONEKV_OK);
}

int main(int argc, char **argv) {
  bool is_short = check_is_short(argc, argv);
  char path[PATH_BYTES];
  if (!find_model(MODEL, path)) {
    printf("skipped: no %s; node models/fetch/fetch.mjs smollm2-135m-instruct gets it\n", path);
    return TEST_SKIPPED;
  }
  onekv_pool *pool = NULL;
  CHECK(onekv_pool_open(NULL, 2, &pool) == ONEKV_OK);
  check_level(path, pool, ONEKV_LEVEL_SCALAR, ONEKV_F32, is_short);
  check_level(path, pool, ONEKV_LEVEL_SIMD128, ONEKV_F32, is_short);
  check_level(path, pool, ONEKV_LEVEL_BEST, ONEKV_F32, is_short);
  check_level(path, pool, ONEKV_LEVEL_SIMD128, ONEKV_INT16, is_short);
  check_level(path, pool, ONEKV_LEVEL_BEST, ONEKV_INT16, is_short);
  check_level(path, pool, ONEKV_LEVEL_BEST, ONEKV_INT8, is_short);
  if (CHECKS_CACHES && !is_short) {
    check_cache(path, pool, "f16", ONEKV_CACHE_F16, TOLERANCE_F16_CACHE);
    check_cache(path, pool, "i8", ONEKV_CACHE_I8, TOLERANCE_I8_CACHE);
  }
  onekv_pool_close(pool);
  return check_finish();
}
