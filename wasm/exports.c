/* The bindings to JavaScript: core's API in terms of numbers and addresses.
 *
 * js_* functions wrap what core does with structs; plain core functions with simple arguments are
 * exported as they are (wasm/exports.txt has the list). Structs cross over as rows of
 * doubles in one buffer, `numbers`, in the order that fields.h gives.
 *
 * Unlike core this file has state, one of each for the module: the pool, the last error, the
 * buffer. A module is used by one thread of JavaScript at a time. Handles are addresses that
 * JavaScript got from here; they are not checked. */
#include "core/base/status.h" /* error_set */
#include "core/net/config.h"  /* CONFIG_FIELDS */
#include "core/onekv.h"
#include "wasm/fields.h"

#include <pthread.h>
#include <string.h>

enum { NUMBERS_MAX = 256, STEP_ITEMS_MAX = 64 };

static onekv_pool *threads;
static onekv_error last_error;
static double numbers[NUMBERS_MAX];

double *js_numbers(void);
const char *js_error_message(void);
int js_error_status(void);
int js_threads_open(size_t n_threads);
size_t js_threads_alive(void);
uintptr_t js_end(void);
size_t js_threads_use(size_t n_threads);
onekv_loader *js_loader_open(int level, int arithmetic, int cache_type, size_t context_window,
                             size_t n_logits_max, int header_only);
int js_loader_feed(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes);
int js_loader_describe(const onekv_loader *loader);
int js_loader_find(const onekv_loader *loader, const char *key);
onekv_model *js_loader_finish(onekv_loader *loader);
void js_model_memory(const onekv_model *model);
void js_cache_bytes(const onekv_config *config, int type, size_t standard_heads, int whole_pages,
                    size_t n_tokens);
size_t js_cache_tokens(const onekv_config *config, int type, size_t standard_heads,
                       int whole_pages, double n_bytes);
const char *js_architecture(const onekv_config *config);
onekv_session *js_session_open(onekv_model *model, size_t context_window, int slides, size_t n_keep,
                               const onekv_logit_bias *biases, uint64_t seed);
int js_session_set_sampling(onekv_session *session, const onekv_logit_bias *biases,
                            uint64_t seed);
onekv_session *js_session_clone(const onekv_session *session);
void js_session_memory(const onekv_session *session);
int js_session_reserve(onekv_session *session, size_t n);
int js_step(onekv_model *model, size_t n_items, uintptr_t *heads, const int32_t *tokens);
int js_choose(onekv_model *model, onekv_session *session, const float *logits);
int js_score(onekv_session *session, const int32_t *tokens, size_t n, float *logprobs);
const float *js_encode(onekv_model *model, const int32_t *tokens, const float *features,
                       size_t n_rows);
int js_embed(onekv_model *model, const int32_t *tokens, size_t n, int pooling, float *vector);
int js_attention_map(onekv_model *model, const int32_t *tokens, size_t n, size_t layer,
                     size_t head, int keys_as_queries, float *scores);
onekv_session *js_session_restore(onekv_model *model, const uint8_t *bytes, size_t n_bytes);
const char *js_field_names(int which);

#define NAME(name, value) #name " "
#define NAME3(name, field, type) #name " "
#define PUT(name, value) numbers[i++] = (double)(value);
#define GET(name, field, type) s.field = read_##type(numbers[i++]);

/* The field names of list `which`, separated by blanks: config, estimate, memory, session,
 * sampling, bytes; NULL beyond. For the test that compares them with bindings.ts. */
const char *js_field_names(int which) {
  switch (which) {
    case 0: return CONFIG_FIELDS(NAME);
    case 1: return ESTIMATE_FIELDS(NAME);
    case 2: return MEMORY_FIELDS(NAME);
    case 3: return SESSION_FIELDS(NAME);
    case 4: return SAMPLING_FIELDS(NAME3);
    case 5: return BYTES_FIELDS(NAME);
    default: return NULL;
  }
}

double *js_numbers(void) { return numbers; }
const char *js_error_message(void) { return last_error.message; }
int js_error_status(void) { return (int)last_error.status; }

static int keep_status(onekv_status status) {
  if (status != ONEKV_OK && last_error.status != status) {
    error_set(&last_error, status, "%s", onekv_status_text(status));
  }
  return (int)status;
}

static void forget_error(void) { error_set(&last_error, ONEKV_OK, "%s", ""); }

int js_threads_open(size_t n_threads) {
  forget_error();
  if (threads != NULL) return keep_status(ONEKV_WRONG_STATE);
  return keep_status(onekv_pool_open(NULL, n_threads, &threads));
}

/* Of Emscripten's runtime. */
void __set_thread_state(void *thread, int is_main, int is_runtime, int can_block);

/* The last call. The runtime always waits (Atomics.waitAsync) on the address that this gives, and
 * a pending wait keeps the memory. Without a thread of its own it does not wait again: one notify
 * there lets the memory go. */
uintptr_t js_end(void) {
  uintptr_t self = (uintptr_t)pthread_self();
  __set_thread_state(NULL, 0, 0, 1);
  return self;
}

size_t js_threads_alive(void) { return onekv_pool_n_alive(threads); }

size_t js_threads_use(size_t n_threads) { return onekv_pool_activate(threads, n_threads); }

/* NULL on failure, here and below: js_error_message has the reason. */
onekv_loader *js_loader_open(int level, int arithmetic, int cache_type, size_t context_window,
                             size_t n_logits_max, int header_only) {
  onekv_model_options options = {
      .pool = threads,
      .level = (onekv_level)level,
      .arithmetic = (onekv_arithmetic)arithmetic,
      .cache_type = (onekv_cache_type)cache_type,
      .context_window = context_window,
      .n_logits_max = n_logits_max,
      .header_only = header_only != 0,
  };
  onekv_loader *loader = NULL;
  forget_error();
  keep_status(onekv_loader_open(&options, &loader, &last_error));
  return loader;
}

int js_loader_feed(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes) {
  forget_error();
  return keep_status(onekv_loader_feed(loader, bytes, n_bytes, &last_error));
}

static size_t put_config(const onekv_config *c) {
  size_t i = 0;
  CONFIG_FIELDS(PUT)
  return i;
}

/* numbers: config, then estimate. */
int js_loader_describe(const onekv_loader *loader) {
  onekv_estimate estimate;
  const onekv_estimate *e = &estimate;
  onekv_status status = onekv_loader_estimate(loader, &estimate);
  if (status != ONEKV_OK) return keep_status(status);
  size_t i = put_config(onekv_loader_config(loader));
  ESTIMATE_FIELDS(PUT)
  return ONEKV_OK;
}

/* 1 if the header has the key; numbers: type, item type, items, address, bytes. */
int js_loader_find(const onekv_loader *loader, const char *key) {
  onekv_value value;
  if (!onekv_loader_find(loader, key, &value)) return 0;
  numbers[0] = (double)value.type;
  numbers[1] = (double)value.item_type;
  numbers[2] = (double)value.n_items;
  numbers[3] = (double)(uintptr_t)value.bytes;
  numbers[4] = (double)value.n_bytes;
  return 1;
}

onekv_model *js_loader_finish(onekv_loader *loader) {
  onekv_model *model = NULL;
  forget_error();
  keep_status(onekv_loader_finish(loader, &model, &last_error));
  return model;
}

/* numbers: bytes of that many tokens, in the model's own cache (standard_heads 0) or standard
 * attention's. */
void js_cache_bytes(const onekv_config *config, int type, size_t standard_heads, int whole_pages,
                    size_t n_tokens) {
  onekv_cache_plan plan = {(onekv_cache_type)type, standard_heads, whole_pages != 0};
  onekv_bytes bytes;
  const onekv_bytes *b = &bytes;
  size_t i = 0;
  onekv_cache_bytes(config, &plan, n_tokens, &bytes);
  BYTES_FIELDS(PUT)
}

/* Most tokens that at most n_bytes hold. */
size_t js_cache_tokens(const onekv_config *config, int type, size_t standard_heads,
                       int whole_pages, double n_bytes) {
  onekv_cache_plan plan = {(onekv_cache_type)type, standard_heads, whole_pages != 0};
  if (!(n_bytes >= 1.0)) return 0;
  return onekv_cache_tokens(config, &plan, n_bytes < 0x1p63 ? (uint64_t)n_bytes : UINT64_MAX);
}

const char *js_architecture(const onekv_config *config) { return config->architecture; }

void js_model_memory(const onekv_model *model) {
  onekv_memory memory;
  const onekv_memory *m = &memory;
  size_t i = 0;
  onekv_model_memory(model, &memory);
  MEMORY_FIELDS(PUT)
}

static float read_float(double number) { return (float)number; }

static uint32_t read_uint32_t(double number) {
  return number >= 0.0 && number <= 4294967295.0 ? (uint32_t)number : UINT32_MAX;
}

static onekv_sampling get_sampling(const onekv_logit_bias *biases, uint64_t seed) {
  onekv_sampling s;
  size_t i = 0;
  memset(&s, 0, sizeof s);
  SAMPLING_FIELDS(GET)
  s.seed = seed;
  for (uint32_t b = 0; b < s.n_biases && b < ONEKV_BIASES_MAX; b++) s.biases[b] = biases[b];
  return s;
}

/* Sampling comes in numbers; biases [numbers' "biases"]. */
onekv_session *js_session_open(onekv_model *model, size_t context_window, int slides, size_t n_keep,
                               const onekv_logit_bias *biases, uint64_t seed) {
  onekv_session_options options = {
      .context_window = context_window,
      .slides = slides != 0,
      .n_keep = n_keep,
      .sampling = get_sampling(biases, seed),
  };
  onekv_session *session = NULL;
  forget_error();
  keep_status(onekv_session_open(model, &options, &session, &last_error));
  return session;
}

int js_session_set_sampling(onekv_session *session, const onekv_logit_bias *biases,
                            uint64_t seed) {
  onekv_sampling sampling = get_sampling(biases, seed);
  forget_error();
  return keep_status(onekv_session_set_sampling(session, &sampling, &last_error));
}

onekv_session *js_session_clone(const onekv_session *session) {
  onekv_session *clone = NULL;
  forget_error();
  keep_status(onekv_session_clone(session, &clone));
  return clone;
}

int js_session_reserve(onekv_session *session, size_t n) {
  forget_error();
  return keep_status(onekv_session_reserve(session, n, &last_error));
}

void js_session_memory(const onekv_session *session) {
  onekv_session_memory_report report;
  const onekv_session_memory_report *s = &report;
  size_t i = 0;
  onekv_session_memory(session, &report);
  SESSION_FIELDS(PUT)
}

/* heads [n_items][4]: session, n_tokens, n_logits, and out: address of the logits. tokens: those
 * of all items, one behind the other. */
int js_step(onekv_model *model, size_t n_items, uintptr_t *heads, const int32_t *tokens) {
  onekv_item items[STEP_ITEMS_MAX];
  forget_error();
  if (n_items > STEP_ITEMS_MAX) return keep_status(ONEKV_INVALID_ARGUMENT);
  for (size_t i = 0; i < n_items; i++) {
    const uintptr_t *head = heads + 4 * i;
    items[i] = (onekv_item){(onekv_session *)head[0], tokens, head[1], head[2], NULL};
    tokens += head[1];
  }
  onekv_status status = onekv_step(model, items, n_items, &last_error);
  for (size_t i = 0; i < n_items && status == ONEKV_OK; i++) {
    heads[4 * i + 3] = (uintptr_t)items[i].logits;
  }
  return keep_status(status);
}

/* Chooses a token and appends it, to wait for its turn: nothing runs, so the logits stay. The
 * token, or -1. */
int js_choose(onekv_model *model, onekv_session *session, const float *logits) {
  int32_t token = -1;
  forget_error();
  onekv_status status = onekv_sample(session, logits, &token);
  onekv_item item = {session, &token, 1, 0, NULL};
  if (status == ONEKV_OK) status = onekv_step(model, &item, 1, &last_error);
  return keep_status(status) == ONEKV_OK ? token : -1;
}

int js_score(onekv_session *session, const int32_t *tokens, size_t n, float *logprobs) {
  forget_error();
  return keep_status(onekv_score(session, tokens, n, logprobs, &last_error));
}

/* Address of the logits; numbers[0]: how many rows. */
const float *js_encode(onekv_model *model, const int32_t *tokens, const float *features,
                       size_t n_rows) {
  const float *logits = NULL;
  size_t n_logits = 0;
  forget_error();
  keep_status(onekv_encode(model, tokens, features, n_rows, &logits, &n_logits, &last_error));
  numbers[0] = (double)n_logits;
  return logits;
}

int js_embed(onekv_model *model, const int32_t *tokens, size_t n, int pooling, float *vector) {
  forget_error();
  return keep_status(
      onekv_embed(model, tokens, n, (onekv_pooling)pooling, vector, &last_error));
}

/* scores [n][n], and after them the weights that they give, [n][n]. */
int js_attention_map(onekv_model *model, const int32_t *tokens, size_t n, size_t layer,
                     size_t head, int keys_as_queries, float *scores) {
  forget_error();
  onekv_status status = onekv_attention_scores(model, tokens, n, layer, head,
                                               keys_as_queries != 0, scores, &last_error);
  if (status == ONEKV_OK) {
    memcpy(scores + n * n, scores, n * n * sizeof *scores);
    onekv_attention_softmax(model, layer, n, scores + n * n);
  }
  return keep_status(status);
}

onekv_session *js_session_restore(onekv_model *model, const uint8_t *bytes, size_t n_bytes) {
  onekv_session *session = NULL;
  forget_error();
  keep_status(onekv_session_restore(model, bytes, n_bytes, &session, &last_error));
  return session;
}
