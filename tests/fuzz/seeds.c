/* Writes the seeds of fuzz_model and fuzz_snapshot: tiny files, one for each way through core.
 *
 *   seeds tests/fuzz/corpus
 *
 * fuzz_model's seeds end with the byte that chooses how they are fed, fuzz_snapshot's begin with
 * the byte that chooses the model (see the targets). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/native/gguf_writer.h"

static const char *folder;

static void require(bool condition, const char *what) {
  if (condition) return;
  printf("seeds: %s\n", what);
  exit(1);
}

static void write_seed(const char *target, const char *name, const uint8_t *bytes, size_t n) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
  FILE *stream = fopen(path, "wb");
  require(stream != NULL && fwrite(bytes, 1, n, stream) == n && fclose(stream) == 0, path);
}

static void write_model(const char *name, const gguf_draft *draft, uint8_t how) {
  file_bytes file = draft_write(draft);
  uint8_t *bytes = malloc(file.n_bytes + 1);
  require(bytes != NULL, "out of memory");
  memcpy(bytes, file.bytes, file.n_bytes);
  bytes[file.n_bytes] = how;
  write_seed("model", name, bytes, file.n_bytes + 1);
  free(bytes);
  free(file.bytes);
}

/* A tiny encoder for vectors of texts: the norms and the gate of a llama go, its own norms come. */
static gguf_draft bert_draft(void) {
  static const char *const ABSENT[] = {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight",
                                       "blk.0.ffn_gate.weight", "output_norm.weight"};
  static const char *const NORMS[] = {"token_embd_norm.weight", "blk.0.attn_output_norm.weight",
                                      "blk.0.layer_output_norm.weight"};
  static const char *const BIASES[] = {
      "token_embd_norm.bias", "blk.0.attn_output_norm.bias", "blk.0.layer_output_norm.bias",
      "blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias", "blk.0.attn_output.bias",
      "blk.0.ffn_down.bias"};
  gguf_draft draft = tiny_draft(&(tiny_shape){
      .context_window = 16, .architecture = "bert", .position = "learned", .n_kv_heads = 2});
  draft_drop_key(&draft, "bert.attention.layer_norm_rms_epsilon");
  draft_set_f32(&draft, "bert.attention.layer_norm_epsilon", 1e-5f);
  draft_set_u32(&draft, "bert.pooling_type", 2);
  for (size_t i = 0; i < 4; i++) draft_drop_tensor(&draft, ABSENT[i]);
  for (size_t i = 0; i < 3; i++) draft_add_tensor(&draft, NORMS[i], TENSOR_F32, 8, 0);
  for (size_t i = 0; i < 8; i++) draft_add_tensor(&draft, BIASES[i], TENSOR_F32, 8, 0);
  draft_add_tensor(&draft, "blk.0.ffn_up.bias", TENSOR_F32, TINY_FEED_FORWARD, 0);
  draft_add_tensor(&draft, "token_types.weight", TENSOR_F32, 8, 2);
  return draft;
}

static void write_models(void) {
  static const struct {
    const char *name;
    tiny_shape shape;
  } SEEDS[] = {
      {"llama-qkv", {.context_window = 16}},
      {"llama-keqv", {.context_window = 16, .projection = "Q-K=V"}},
      {"llama-qeqk-learned", {.context_window = 8, .projection = "Q=K-V", .position = "learned"}},
      {"qwen3-keqv-gqa", {.context_window = 16, .projection = "Q-K=V", .architecture = "qwen3"}},
      {"qwen3-none", {.projection = "Q=K=V", .architecture = "qwen3", .position = "none"}},
      {"gpt2-qkv", {.context_window = 8, .architecture = "gpt2", .n_kv_heads = 2}},
      {"encoder", {.context_window = 8, .architecture = "onekv-encoder", .projection = "Q=K=V"}},
      {"vit", {.context_window = 8, .architecture = "onekv-vit", .projection = "Q-K=V"}},
      {"llama-f16", {.context_window = 16, .type = TENSOR_F16}},
      {"llama-q8", {.context_window = 16, .type = TENSOR_Q8_0, .head_width = 32, .n_heads = 1}},
      {"llama-q4", {.context_window = 16, .type = TENSOR_Q4_0, .head_width = 16}},
      {"llama-q5", {.context_window = 16, .type = TENSOR_Q5_1, .head_width = 16}},
      {"lfm2", {.context_window = 16, .architecture = "lfm2", .n_layers = 2, .n_taps = 3}},
  };
  for (size_t i = 0; i < sizeof SEEDS / sizeof SEEDS[0]; i++) {
    gguf_draft draft = tiny_draft(&SEEDS[i].shape);
    write_model(SEEDS[i].name, &draft, (uint8_t)(i * 5));
  }
  static const struct {
    const char *name;
    tiny_latent shape;
  } LATENT_SEEDS[] = {
      {"deepseek2-latent", {"deepseek2", false, true, TENSOR_F32}},
      {"deepseek2-joined", {"deepseek2", true, false, TENSOR_F32}},
      {"minicpm3", {"minicpm3", true, true, TENSOR_F32}},
      {"plm", {"plm", true, false, TENSOR_F32}},
  };
  for (size_t i = 0; i < sizeof LATENT_SEEDS / sizeof LATENT_SEEDS[0]; i++) {
    gguf_draft draft = latent_draft(&LATENT_SEEDS[i].shape);
    write_model(LATENT_SEEDS[i].name, &draft, (uint8_t)(i * 7));
  }
  gguf_draft yarn = tiny_draft(&(tiny_shape){.context_window = 16, .projection = "Q-K=V"});
  draft_set_string(&yarn, "onekv.attention.shared_rope", "rotate-unrotate");
  draft_set_string(&yarn, "llama.rope.scaling.type", "yarn");
  draft_set_f32(&yarn, "llama.rope.scaling.factor", 4.0f);
  draft_set_u32(&yarn, "llama.rope.dimension_count", 2);
  draft_add_tensor(&yarn, "rope_freqs.weight", TENSOR_BF16, 1, 0);
  draft_add_tensor(&yarn, "output.weight", TENSOR_BF16, 8, TINY_VOCABULARY);
  draft_add_tensor(&yarn, "output.bias", TENSOR_F16, TINY_VOCABULARY, 0);
  write_model("llama-yarn", &yarn, 8);
  gguf_draft plus = tiny_draft(&(tiny_shape){.context_window = 8, .architecture = "onekv-encoder"});
  draft_add_tensor(&plus, "blk.0.attn_score_scale.weight", TENSOR_F32, 1, 0);
  draft_add_tensor(&plus, "blk.0.attn_key_bias.weight", TENSOR_F32, 8, 0);
  write_model("encoder-plus", &plus, 1);
  gguf_draft bert = bert_draft();
  write_model("bert", &bert, 2);
}

static void write_snapshot(onekv_model *model, unsigned type, size_t n_tokens) {
  char name[64];
  int32_t tokens[40];
  onekv_session *session = NULL;
  onekv_session_options options = {.slides = type == 1, .n_keep = 2, .context_window = 64};
  options.sampling = (onekv_sampling){.temperature = 0.5f, .top_k = 7, .seed = 5, .n_biases = type};
  for (uint32_t i = 0; i < type; i++) options.sampling.biases[i] = (onekv_logit_bias){3, -1.0f};
  require(onekv_session_open(model, &options, &session, NULL) == ONEKV_OK, "session");
  for (size_t i = 0; i < n_tokens; i++) tokens[i] = (int32_t)(i * 5 % TINY_VOCABULARY);
  onekv_item item = {session, tokens, n_tokens, 0, NULL};
  require(n_tokens == 0 || onekv_step(model, &item, 1, NULL) == ONEKV_OK, "step");
  size_t n = onekv_session_save_bytes(session);
  uint8_t *bytes = malloc(1 + n);
  require(bytes != NULL, "out of memory");
  onekv_session_save(session, bytes + 1);
  bytes[0] = (uint8_t)(type + (n_tokens % 2 == 0 ? 129 - 129 % 3 : 0));
  snprintf(name, sizeof name, "type%u-%zu-tokens", type, n_tokens);
  write_seed("snapshot", name, bytes, 1 + n);
  free(bytes);
  onekv_session_close(session);
}

static void write_snapshots(void) {
  static const size_t LENGTHS[] = {0, 1, 4, 33};
  const char *const projections[ONEKV_CACHE_TYPE_COUNT] = {"Q-K=V", "QKV", "Q=K=V"};
  onekv_pool *pool = NULL;
  require(onekv_pool_open(NULL, 1, &pool) == ONEKV_OK, "pool");
  for (unsigned type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    gguf_draft draft = tiny_draft(&(tiny_shape){.projection = projections[type]});
    file_bytes file = draft_write(&draft);
    onekv_model_options options = {.pool = pool, .cache_type = (onekv_cache_type)type};
    onekv_loader *loader = NULL;
    onekv_model *model = NULL;
    require(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK &&
                onekv_loader_feed(loader, file.bytes, file.n_bytes, NULL) == ONEKV_OK &&
                onekv_loader_finish(loader, &model, NULL) == ONEKV_OK, "model");
    for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
      write_snapshot(model, type, LENGTHS[i]);
    }
    require(onekv_model_close(model) == ONEKV_OK, "close");
    free(file.bytes);
  }
  onekv_pool_close(pool);
}

int main(int n_arguments, char **arguments) {
  require(n_arguments == 2, "usage: seeds FOLDER");
  folder = arguments[1];
  write_models();
  write_snapshots();
  return 0;
}
