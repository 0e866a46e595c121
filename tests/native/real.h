/* Real models, and what others compute with them (tests/real, tests/golden/smollm2-greedy.json).
 *
 * The models are not in the repository: models/fetch/fetch.mjs puts them into the cache folder. A
 * test whose model is not there ends with TEST_SKIPPED, which ctest counts as skipped. */
#ifndef ONEKV_TESTS_REAL_H
#define ONEKV_TESTS_REAL_H

#include "tests/native/fixture.h"

enum { TEST_SKIPPED = 77, RECORDING_MAX = 256, RECORDING_TOP = 10, PATH_BYTES = 4096 };

/* Path of a file in the cache folder's models, found as models/fetch/fetch.mjs does: ONEKV_CACHE,
 * or onekv in XDG_CACHE_HOME, or in .cache of HOME. False when there is no such file. */
bool find_model(const char *file, char path[PATH_BYTES]);

/* One prompt, its greedy continuation, and the logits that chose it. Row i of the logits chose
 * ids[i]; row n_ids is what follows the whole text. */
typedef struct recording {
  size_t n_prompt;
  size_t n_ids;
  int32_t prompt[RECORDING_MAX];
  int32_t ids[RECORDING_MAX];
  double margins[RECORDING_MAX];/* [n_ids] largest logit minus the second largest */
  size_t n_chosen;
  double chosen[RECORDING_MAX]; /* [n_chosen] logit of ids[i]; n_chosen is n_ids or 0 */
  int32_t top_ids[RECORDING_TOP];
  double top_logits[RECORDING_TOP]; /* of row n_ids, largest first */
} recording;

/* The recordings of a JSON file (layout in tests/real/README.md), all or the end of the program.
 * `kind` is the member with margins, chosen and top10: NULL where they stand beside the ids. */
size_t recordings_read(const char *path, const char *kind, recording *out, size_t n_max);

/* A string of the file behind a key, as written; false when it is not there or too long. */
bool recording_string(const char *path, const char *key, char *out, size_t n_max);

/* How a model's logits compare with a recording's. */
typedef struct agreement {
  onekv_status status; /* not OK: a step failed, and nothing else is told */
  size_t n_steps;
  size_t n_ties;       /* another token was chosen where the margin is below `tie` */
  size_t n_wrong;      /* … where it is not */
  size_t first_wrong;  /* its step; n_steps if there is none */
  double distance;     /* largest |difference| of a recorded logit, in rows and top ten */
} agreement;

/* Greedy decoding token by token in a session of the model, as a user does it. After a token that
 * is not the recorded one it goes on with the recorded one. */
agreement recording_decode(onekv_model *model, const recording *expected, double tie);

/* The whole text in one step, every row at once; needs n_logits_max > n_ids. */
agreement recording_prefill(onekv_model *model, const recording *expected, double tie);

#endif
