/* See real.h. The JSON reader knows only what these files hold: lists of numbers under a key. */
#include "tests/native/real.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __EMSCRIPTEN__
#include <emscripten/em_js.h>

/* getenv tells of a small world of its own there; the host's is asked. */
EM_JS_DEPS(host_variable, "$UTF8ToString,$stringToUTF8")
EM_JS(void, host_variable, (const char *name, char *out, int n_max), {
  stringToUTF8(process.env[UTF8ToString(name)] || "", out, n_max);
})
#else
static void host_variable(const char *name, char *out, int n_max) {
  const char *value = getenv(name);
  snprintf(out, (size_t)n_max, "%s", value == NULL ? "" : value);
}
#endif

bool find_model(const char *file, char path[PATH_BYTES]) {
  enum { FOLDER_BYTES = PATH_BYTES / 2 };
  static const char *const variables[3][2] = {
      {"ONEKV_CACHE", ""}, {"XDG_CACHE_HOME", "/onekv"}, {"HOME", "/.cache/onekv"}};
  char folder[FOLDER_BYTES] = "";
  const char *below = "";
  for (size_t i = 0; i < 3 && folder[0] == '\0'; i++) {
    host_variable(variables[i][0], folder, FOLDER_BYTES);
    below = variables[i][1];
  }
  snprintf(path, PATH_BYTES, "%s%s/models/%s", folder, below, file);
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) return false;
  fclose(stream);
  return true;
}

_Noreturn static void give_up(const char *key, const char *why) {
  printf("recording: %s: %s\n", key, why);
  exit(2);
}

/* The text behind `"key":`, between `from` and `end`, or NULL. */
static const char *find_key(const char *from, const char *end, const char *key) {
  char quoted[64];
  int n = snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *found = strstr(from, quoted);
  return found == NULL || found >= end ? NULL : found + n;
}

/* The numbers of a list, and of lists inside it. */
static size_t read_numbers(const char *from, const char *end, const char *key, double *out,
                           size_t n_max) {
  const char *text = find_key(from, end, key);
  if (text == NULL) return 0;
  size_t n = 0;
  size_t depth = 0;
  do {
    text += strspn(text, " ,\n");
    if (*text == '[') {
      depth++;
      text++;
    } else if (*text == ']' && depth > 0) {
      depth--;
      text++;
    } else {
      char *behind = NULL;
      if (n == n_max) give_up(key, "has too many numbers");
      out[n++] = strtod(text, &behind);
      if (behind == text) give_up(key, "holds something that is not a number");
      text = behind;
    }
  } while (depth > 0);
  return n;
}

static size_t read_ids(const char *from, const char *end, const char *key, int32_t *out) {
  double numbers[RECORDING_MAX];
  size_t n = read_numbers(from, end, key, numbers, RECORDING_MAX);
  if (n == 0) give_up(key, "is not there");
  for (size_t i = 0; i < n; i++) out[i] = (int32_t)numbers[i];
  return n;
}

static void read_recording(const char *from, const char *end, const char *kind, recording *out) {
  out->n_prompt = read_ids(from, end, "prompt_ids", out->prompt);
  out->n_ids = read_ids(from, end, "ids", out->ids);
  if (kind != NULL) from = find_key(from, end, kind);
  if (from == NULL) give_up(kind, "is not there");
  size_t n_margins = read_numbers(from, end, "margins", out->margins, RECORDING_MAX);
  out->n_chosen = read_numbers(from, end, "chosen", out->chosen, RECORDING_MAX);
  double top[2 * RECORDING_TOP];
  size_t n_top = read_numbers(from, end, "top10", top, 2 * RECORDING_TOP);
  if (n_margins != out->n_ids) give_up("margins", "another length");
  if (n_top != 2 * RECORDING_TOP) give_up("top10", "another length");
  if (out->n_chosen != 0 && out->n_chosen != out->n_ids) give_up("chosen", "another length");
  for (size_t i = 0; i < RECORDING_TOP; i++) {
    out->top_ids[i] = (int32_t)top[2 * i];
    out->top_logits[i] = top[2 * i + 1];
  }
}

size_t recordings_read(const char *path, const char *kind, recording *out, size_t n_max) {
  file_bytes file = read_file(path);
  char *text = malloc(file.n_bytes + 1);
  if (text == NULL) give_up(path, "no memory");
  memcpy(text, file.bytes, file.n_bytes);
  text[file.n_bytes] = '\0';
  free(file.bytes);
  size_t n = 0;
  const char *end = text + file.n_bytes;
  for (const char *at = text; (at = find_key(at, end, "prompt_ids")) != NULL && n < n_max; n++) {
    const char *from = at - strlen("\"prompt_ids\":");
    const char *next = find_key(at, end, "prompt_ids");
    read_recording(from, next == NULL ? end : next, kind, &out[n]);
  }
  free(text);
  return n;
}

bool recording_string(const char *path, const char *key, char *out, size_t n_max) {
  file_bytes file = read_file(path);
  char *text = calloc(1, file.n_bytes + 1);
  if (text == NULL) give_up(path, "no memory");
  memcpy(text, file.bytes, file.n_bytes);
  free(file.bytes);
  const char *value = find_key(text, text + file.n_bytes, key);
  const char *from = value == NULL ? NULL : strchr(value, '"');
  const char *to = from == NULL ? NULL : strchr(from + 1, '"');
  bool fits = to != NULL && (size_t)(to - from) <= n_max;
  if (fits) {
    memcpy(out, from + 1, (size_t)(to - from - 1));
    out[to - from - 1] = '\0';
  }
  free(text);
  return fits;
}

static void compare(agreement *found, double actual, double expected) {
  double distance = fabs(actual - expected);
  if (!(distance <= found->distance)) found->distance = distance;
}

/* Row i, which chooses ids[i]. */
static void compare_choice(const recording *expected, size_t i, onekv_session *session,
                           const float *logits, double tie, agreement *found) {
  int32_t token = -1;
  found->status = onekv_sample(session, logits, &token);
  if (token != expected->ids[i] && expected->margins[i] < tie) {
    found->n_ties++;
  } else if (token != expected->ids[i]) {
    if (found->n_wrong == 0) found->first_wrong = i;
    found->n_wrong++;
  }
  if (expected->n_chosen > 0) {
    compare(found, (double)logits[expected->ids[i]], expected->chosen[i]);
  }
}

/* The last row: logits of the recorded ten tokens, and the ten largest, whatever their tokens. */
static void compare_top(const recording *expected, onekv_model *model, const float *logits,
                        agreement *found) {
  const onekv_candidate *top = onekv_model_top(model, logits, RECORDING_TOP);
  for (size_t i = 0; i < RECORDING_TOP; i++) {
    compare(found, (double)logits[expected->top_ids[i]], expected->top_logits[i]);
    compare(found, (double)logits[top[i].token], expected->top_logits[i]);
  }
}

agreement recording_decode(onekv_model *model, const recording *expected, double tie) {
  agreement found = {ONEKV_OK, expected->n_ids, 0, 0, expected->n_ids, 0.0};
  onekv_session *session = NULL;
  found.status = onekv_session_open(model, NULL, &session, NULL);
  if (found.status != ONEKV_OK) return found;
  onekv_item item = {session, expected->prompt, expected->n_prompt, 1, NULL};
  found.status = onekv_step(model, &item, 1, NULL);
  for (size_t i = 0; i < expected->n_ids && found.status == ONEKV_OK; i++) {
    compare_choice(expected, i, session, item.logits, tie, &found);
    item = (onekv_item){session, &expected->ids[i], 1, 1, NULL};
    if (found.status == ONEKV_OK) found.status = onekv_step(model, &item, 1, NULL);
  }
  if (found.status == ONEKV_OK) compare_top(expected, model, item.logits, &found);
  onekv_session_close(session);
  return found;
}

agreement recording_prefill(onekv_model *model, const recording *expected, double tie) {
  agreement found = {ONEKV_OK, expected->n_ids, 0, 0, expected->n_ids, 0.0};
  onekv_session *session = NULL;
  found.status = onekv_session_open(model, NULL, &session, NULL);
  if (found.status != ONEKV_OK) return found;
  int32_t text[2 * RECORDING_MAX];
  memcpy(text, expected->prompt, expected->n_prompt * sizeof *text);
  memcpy(text + expected->n_prompt, expected->ids, expected->n_ids * sizeof *text);
  size_t n_text = expected->n_prompt + expected->n_ids;
  onekv_item item = {session, text, n_text, expected->n_ids + 1, NULL};
  found.status = onekv_step(model, &item, 1, NULL);
  size_t n_outputs = shape_of(model).n_outputs;
  for (size_t i = 0; i < expected->n_ids && found.status == ONEKV_OK; i++) {
    compare_choice(expected, i, session, item.logits + i * n_outputs, tie, &found);
  }
  if (found.status == ONEKV_OK) {
    compare_top(expected, model, item.logits + expected->n_ids * n_outputs, &found);
  }
  onekv_session_close(session);
  return found;
}
