/* Every status code, provoked through the public API, and what its message names.
 *
 * For each code of ONEKV_STATUS_LIST there is a function provoke_CODE: a code without one does
 * not compile. Files broken in many ways are in test_broken.c. */
#include "tests/native/check.h"
#include "tests/native/fixture.h"
#include "tests/native/tiny_model.h"

static onekv_pool *pool;

static onekv_model_options plain_options(void) {
  return (onekv_model_options){.pool = pool};
}

/* --- one provocation for each code ------------------------------------------------------------ */

typedef struct open_model {
  onekv_model *model;
  onekv_session *session;
} open_model;

static open_model open_causal(void) {
  onekv_model_options options = plain_options();
  open_model out = {open_tiny(&(tiny_shape){.context_window = 8}, &options), NULL};
  out.session = open_session(out.model, NULL);
  return out;
}

static void close_causal(open_model *open) {
  onekv_session_close(open->session);
  CHECK(onekv_model_close(open->model) == ONEKV_OK);
}

static onekv_status open_and_close(const gguf_draft *draft, onekv_error *error) {
  onekv_model_options options = plain_options();
  onekv_model *model = NULL;
  onekv_status status = open_draft(draft, &options, 0, &model, error);
  CHECK((model != NULL) == (status == ONEKV_OK));
  if (model != NULL) CHECK(onekv_model_close(model) == ONEKV_OK);
  return status;
}

static onekv_status step_tokens(const int32_t *tokens, size_t n, size_t n_logits,
                                onekv_error *error) {
  open_model open = open_causal();
  onekv_item item = {open.session, tokens, n, n_logits, NULL};
  onekv_status status = onekv_step(open.model, &item, 1, error);
  if (status != ONEKV_OK) {
    CHECK(onekv_session_n_tokens(open.session) == 0 && item.logits == NULL);
  }
  close_causal(&open);
  return status;
}

static onekv_status provoke_OK(onekv_error *error) {
  return step_tokens((const int32_t[2]){0, TINY_VOCABULARY - 1}, 2, 2, error);
}

static onekv_status provoke_OUT_OF_MEMORY(onekv_error *error) {
  counted_memory memory = {.n_bytes_max = 1 << 14};
  onekv_model_options options = plain_options();
  options.allocator = counted_allocator(&memory);
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  onekv_model *model = NULL;
  onekv_status status = open_draft(&draft, &options, 0, &model, error);
  CHECK(memory.n_bytes == 0 && model == NULL);
  return status;
}

static onekv_status provoke_INVALID_ARGUMENT(onekv_error *error) {
  onekv_model_options options = {.pool = NULL};
  onekv_loader *loader = NULL;
  return onekv_loader_open(&options, &loader, error);
}

static onekv_status provoke_WRONG_STATE(onekv_error *error) {
  onekv_model_options options = plain_options();
  onekv_loader *loader = NULL;
  CHECK(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK);
  CHECK(onekv_loader_feed(loader, (const uint8_t *)"GGML", 4, NULL) == ONEKV_NOT_GGUF);
  onekv_status status = onekv_loader_feed(loader, (const uint8_t *)"GGUF", 4, error);
  onekv_loader_close(loader);
  return status;
}

static onekv_status provoke_NOT_GGUF(onekv_error *error) {
  onekv_model_options options = plain_options();
  onekv_model *model = NULL;
  file_bytes file = {(uint8_t *)(uintptr_t)"PK\3\4 a zip file", 15};
  return load_bytes(&options, file, 15, &model, error);
}

static onekv_status provoke_UNSUPPORTED_VERSION(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft.version = 9;
  return open_and_close(&draft, error);
}

static onekv_status provoke_TRUNCATED(onekv_error *error) {
  onekv_model_options options = plain_options();
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  onekv_model *model = NULL;
  file_bytes file = draft_write(&draft);
  onekv_status status =
      load_bytes(&options, (file_bytes){file.bytes, file.n_bytes - 9}, 100, &model, error);
  free(file.bytes);
  CHECK(model == NULL);
  return status;
}

static onekv_status provoke_CORRUPT(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_find_tensor(&draft, "token_embd.weight")->offset_added = 3;
  return open_and_close(&draft, error);
}

static onekv_status provoke_UNSUPPORTED_TYPE(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_find_tensor(&draft, "token_embd.weight")->type = 16;
  return open_and_close(&draft, error);
}

static onekv_status provoke_UNSUPPORTED_MODEL(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_set_string(&draft, "general.architecture", "mamba");
  return open_and_close(&draft, error);
}

static onekv_status provoke_MISSING_KEY(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_drop_key(&draft, "llama.block_count");
  return open_and_close(&draft, error);
}

static onekv_status provoke_BAD_KEY(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_set_u32(&draft, "llama.block_count", 0);
  return open_and_close(&draft, error);
}

static onekv_status provoke_MISSING_TENSOR(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_drop_tensor(&draft, "blk.0.attn_k.weight");
  return open_and_close(&draft, error);
}

static onekv_status provoke_BAD_TENSOR(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  draft_find_tensor(&draft, "output_norm.weight")->dims[0] = 7;
  return open_and_close(&draft, error);
}

static onekv_status provoke_UNKNOWN_TENSOR(onekv_error *error) {
  gguf_draft draft = tiny_draft(&(tiny_shape){.projection = "Q-K=V"});
  draft_add_tensor(&draft, "blk.0.attn_v.weight", TENSOR_F32, 8, 4);
  return open_and_close(&draft, error);
}

static onekv_status provoke_TOKEN_OUT_OF_RANGE(onekv_error *error) {
  return step_tokens((const int32_t[2]){0, TINY_VOCABULARY}, 2, 1, error);
}

static onekv_status provoke_CONTEXT_FULL(onekv_error *error) {
  return step_tokens((const int32_t[9]){0}, 9, 1, error);
}

static onekv_status provoke_SNAPSHOT_REFUSED(onekv_error *error) {
  open_model open = open_causal();
  uint8_t bytes[200] = "OKVS and then nothing of use";
  onekv_session *session = NULL;
  onekv_status status = onekv_session_restore(open.model, bytes, sizeof bytes, &session, error);
  CHECK(session == NULL);
  close_causal(&open);
  return status;
}

static onekv_status provoke_NOT_FINITE(onekv_error *error) {
  open_model open = open_causal();
  float logits[TINY_VOCABULARY];
  int32_t token = -5;
  for (size_t i = 0; i < TINY_VOCABULARY; i++) logits[i] = NAN;
  onekv_status status = onekv_sample(open.session, logits, &token);
  CHECK(token == -5);
  close_causal(&open);
  snprintf(error->message, sizeof error->message, "%s", onekv_status_text(status));
  return status;
}

static bool read_nothing(void *context, uint64_t offset, size_t n_bytes, uint8_t *out) {
  (void)context, (void)offset, (void)n_bytes, (void)out;
  return false;
}

static onekv_status provoke_SOURCE_FAILED(onekv_error *error) {
  onekv_model_options options = plain_options();
  onekv_row_source rows = {NULL, read_nothing};
  file_bytes file = read_file("tests/golden/gemma4-shared.gguf");
  onekv_loader *loader = NULL;
  onekv_model *model = NULL;
  CHECK(onekv_loader_open(&options, &loader, error) == ONEKV_OK);
  CHECK(onekv_loader_rows(loader, &rows) == ONEKV_OK);
  CHECK(onekv_loader_feed(loader, file.bytes, file.n_bytes, error) == ONEKV_OK);
  CHECK(onekv_loader_finish(loader, &model, error) == ONEKV_OK);
  onekv_session *session = open_session(model, NULL);
  onekv_item item = {session, (const int32_t[1]){3}, 1, 1, NULL};
  onekv_status status = onekv_step(model, &item, 1, error);
  CHECK(onekv_session_n_tokens(session) == 0);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  free(file.bytes);
  return status;
}

static const struct {
  onekv_status expected;
  onekv_status (*provoke)(onekv_error *error);
} PROVOCATIONS[] = {
#define X(code, text) {ONEKV_##code, provoke_##code},
    ONEKV_STATUS_LIST(X)
#undef X
};

_Static_assert(sizeof PROVOCATIONS / sizeof PROVOCATIONS[0] == ONEKV_STATUS_COUNT, "all codes");

/* In the order of the list: what the message has to name. */
static const char *const NAMED[ONEKV_STATUS_COUNT] = {
    "", "no memory", "options.pool", "after an error", "GGUF", "version is 9", "of", "token_embd",
    "token_embd.weight", "mamba", "llama.block_count", "llama.block_count",
    "blk.0.attn_k.weight", "output_norm.weight", "blk.0.attn_v.weight", "token 1", "9 tokens",
    "version", "finite", "per_layer_token_embd.weight",
};

static void check_every_code(void) {
  for (size_t i = 0; i < ONEKV_STATUS_COUNT; i++) {
    onekv_error error = {ONEKV_OK, ""};
    const char *name = onekv_status_name(PROVOCATIONS[i].expected);
    onekv_status status = PROVOCATIONS[i].provoke(&error);
    CHECK_SAY(status == PROVOCATIONS[i].expected, "found %s, expected %s: %s",
              onekv_status_name(status), name, error.message);
    CHECK_SAY(strstr(error.message, NAMED[i]) != NULL, "%s: \"%s\" does not name %s", name,
              error.message, NAMED[i]);
    CHECK_SAY(strlen(onekv_status_text(status)) > 5, "%s has no text", name);
  }
  CHECK(strcmp(onekv_status_name((onekv_status)ONEKV_STATUS_COUNT), "?") == 0);
  CHECK(strcmp(onekv_status_name((onekv_status)-1), "?") == 0);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void check_calls(void) {
  onekv_model_options options = plain_options();
  onekv_loader *loader = NULL;
  options.cache_type = (onekv_cache_type)77;
  CHECK(onekv_loader_open(&options, &loader, NULL) == ONEKV_INVALID_ARGUMENT && loader == NULL);
  open_model open = open_causal();
  const int32_t tokens[4] = {1, 2, 3, 4};
  float logprobs[4];
  int32_t copy[4];
  onekv_session *other = NULL;
  CHECK(onekv_model_close(open.model) == ONEKV_WRONG_STATE);
  onekv_session_options longer = {.context_window = 9};
  CHECK(onekv_session_open(open.model, &longer, &other, NULL) ==
        ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_session_open(open.model, &(onekv_session_options){.n_keep = 8}, &other, NULL) ==
        ONEKV_INVALID_ARGUMENT && other == NULL);
  onekv_item items[2] = {{open.session, tokens, 2, 1, NULL}, {open.session, tokens, 1, 0, NULL}};
  CHECK(onekv_step(open.model, items, 2, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_step(open.model, items, 0, NULL) == ONEKV_OK);
  items[0].n_logits = 3;
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_INVALID_ARGUMENT);
  items[0] = (onekv_item){open.session, tokens, 0, 0, NULL};
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_INVALID_ARGUMENT);
  items[0] = (onekv_item){open.session, tokens, 0, 1, NULL}; /* no token */
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_WRONG_STATE);
  items[0] = (onekv_item){open.session, NULL, 1, 0, NULL};
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_INVALID_ARGUMENT);
  items[0] = (onekv_item){NULL, tokens, 1, 0, NULL};
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_INVALID_ARGUMENT);
  open_model stranger = open_causal();
  items[0] = (onekv_item){stranger.session, tokens, 1, 0, NULL};
  CHECK(onekv_step(open.model, items, 1, NULL) == ONEKV_INVALID_ARGUMENT);
  close_causal(&stranger);
  CHECK(onekv_score(open.session, tokens, 0, logprobs, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_encode(open.model, tokens, NULL, 4, NULL, NULL, NULL) == ONEKV_WRONG_STATE);
  CHECK(onekv_session_truncate(open.session, 1) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_session_tokens(open.session, 0, 1, copy) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_session_tokens(open.session, 0, 0, copy) == ONEKV_OK);
  CHECK(onekv_session_tokens(open.session, 1, SIZE_MAX, copy) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_session_n_tokens(open.session) == 0);
  close_causal(&open);
  CHECK(onekv_model_close(NULL) == ONEKV_OK);
  onekv_session_close(NULL);
  onekv_loader_close(NULL);
  onekv_pool *none = NULL;
  CHECK(onekv_pool_open(NULL, 0, &none) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_pool_open(NULL, ONEKV_THREADS_MAX + 1, &none) == ONEKV_INVALID_ARGUMENT);
  CHECK(none == NULL);
  onekv_pool_close(NULL);
}

static void check_bidirectional(void) {
  onekv_model_options options = plain_options();
  tiny_shape shape = {.architecture = "onekv-encoder", .context_window = 4};
  onekv_model *model = open_tiny(&shape, &options);
  onekv_session *session = NULL;
  uint8_t bytes[200] = {0};
  const float *logits = NULL;
  size_t n = 99;
  const int32_t tokens[5] = {1, 2, 3, 4, 5};
  const int32_t wrong[2] = {1, -1};
  const float features[4] = {0};
  CHECK(onekv_session_open(model, NULL, &session, NULL) == ONEKV_WRONG_STATE);
  CHECK(onekv_step(model, NULL, 0, NULL) == ONEKV_WRONG_STATE);
  CHECK(onekv_session_restore(model, bytes, 200, &session, NULL) == ONEKV_SNAPSHOT_REFUSED);
  CHECK(onekv_encode(model, tokens, NULL, 0, &logits, &n, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_encode(model, NULL, features, 1, &logits, &n, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_encode(model, tokens, NULL, 5, &logits, &n, NULL) == ONEKV_CONTEXT_FULL);
  CHECK(onekv_encode(model, wrong, NULL, 2, &logits, &n, NULL) == ONEKV_TOKEN_OUT_OF_RANGE);
  CHECK(session == NULL && logits == NULL && n == 99);
  CHECK(onekv_encode(model, tokens, NULL, 4, &logits, &n, NULL) == ONEKV_OK && n == 4);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

int main(void) {
  pool = open_pool(1);
  check_every_code();
  check_calls();
  check_bidirectional();
  onekv_pool_close(pool);
  return check_finish();
}
