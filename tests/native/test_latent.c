/* Latent attention beside its golden files: files that are refused, by the name of what is wrong
 * with them; sessions that are cut, cloned and saved; the same bits on any number of threads; and
 * i8 rows with a scale for each of their two parts. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

static const tiny_latent SHAPES[] = {
    {"deepseek2", false, true, TENSOR_F32},  {"deepseek2", true, false, TENSOR_F32},
    {"deepseek2", false, false, TENSOR_Q8_0}, {"minicpm3", true, true, TENSOR_F32},
    {"minicpm3", true, true, TENSOR_Q4_0},   {"plm", true, false, TENSOR_Q8_0},
};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof SHAPES[0], TOKENS = 70 };

static onekv_pool *pool;

typedef enum change { SET, DROP_KEY, SET_TEXT, DROP, COLUMNS, ROWS, ADD } change;

typedef struct broken_latent {
  size_t shape; /* of SHAPES */
  change change;
  const char *name;
  uint32_t number;
  const char *said; /* in the message; NULL: the name's last part */
  onekv_status expected;
} broken_latent;

static const broken_latent BROKEN[] = {
    {0, DROP_KEY, "deepseek2.attention.kv_lora_rank", 0, NULL, ONEKV_MISSING_KEY},
    {0, DROP_KEY, "deepseek2.rope.dimension_count", 0, NULL, ONEKV_MISSING_KEY},
    {0, SET, "deepseek2.attention.kv_lora_rank", 0, NULL, ONEKV_BAD_KEY},
    {0, SET, "deepseek2.attention.kv_lora_rank", 9, "attention.key_length", ONEKV_BAD_KEY},
    {0, SET, "deepseek2.attention.kv_lora_rank", 1 << 20, "key_length", ONEKV_BAD_KEY},
    {1, SET, "deepseek2.attention.kv_lora_rank", 1 << 20, "head_count", ONEKV_BAD_KEY},
    {1, SET, "deepseek2.attention.kv_lora_rank", 16, "attn_kv_a_mqa", ONEKV_BAD_TENSOR},
    {0, SET, "deepseek2.attention.q_lora_rank", 0, "attn_q.weight", ONEKV_MISSING_TENSOR},
    {0, SET, "deepseek2.attention.q_lora_rank", 8, "attn_q_a", ONEKV_BAD_TENSOR},
    {0, SET, "deepseek2.attention.key_length_mla", 2, "rope.dimension_count", ONEKV_BAD_KEY},
    {0, SET, "deepseek2.attention.value_length_mla", 5, "attn_v_b", ONEKV_BAD_TENSOR},
    {0, SET, "deepseek2.rope.dimension_count", 3, NULL, ONEKV_BAD_KEY},
    {0, SET, "deepseek2.leading_dense_block_count", 0, "experts", ONEKV_UNSUPPORTED_MODEL},
    {0, SET, "deepseek2.expert_count", 64, "experts", ONEKV_UNSUPPORTED_MODEL},
    {0, SET_TEXT, "onekv.attention.projection", 0, NULL, ONEKV_BAD_KEY},
    {0, DROP, "blk.0.attn_q_a.weight", 0, "attn_q_a.weight", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_q_a_norm.weight", 0, "attn_q_a_norm", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_q_b.weight", 0, "attn_q_b", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_kv_a_mqa.weight", 0, "attn_kv_a_mqa", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_kv_a_norm.weight", 0, "attn_kv_a_norm", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_k_b.weight", 0, "attn_k_b", ONEKV_MISSING_TENSOR},
    {0, DROP, "blk.0.attn_v_b.weight", 0, "attn_v_b", ONEKV_MISSING_TENSOR},
    {1, DROP, "blk.0.attn_kv_b.weight", 0, "attn_k_b", ONEKV_MISSING_TENSOR},
    {0, COLUMNS, "blk.0.attn_k_b.weight", 5, "attn_k_b", ONEKV_BAD_TENSOR},
    {0, ROWS, "blk.0.attn_v_b.weight", 9, "attn_v_b", ONEKV_BAD_TENSOR},
    {1, ROWS, "blk.0.attn_kv_b.weight", 8, "attn_kv_b", ONEKV_BAD_TENSOR},
    {0, ROWS, "blk.0.attn_kv_a_mqa.weight", 8, "attn_kv_a_mqa", ONEKV_BAD_TENSOR},
    {0, COLUMNS, "blk.0.attn_kv_a_norm.weight", 10, "attn_kv_a_norm", ONEKV_BAD_TENSOR},
    {0, ADD, "blk.0.attn_k.weight", 8, "attn_k.weight", ONEKV_UNKNOWN_TENSOR},
    {0, ADD, "blk.0.attn_k_norm.weight", 10, "attn_k_norm", ONEKV_UNKNOWN_TENSOR},
    {0, ADD, "blk.0.ffn_gate_inp.weight", 8, "ffn_gate_inp", ONEKV_UNKNOWN_TENSOR},
    {5, ADD, "blk.0.ffn_gate.weight", 64, "ffn_gate", ONEKV_UNKNOWN_TENSOR},
};

static void apply(gguf_draft *draft, const broken_latent *broken) {
  switch (broken->change) {
    case SET: draft_set_u32(draft, broken->name, broken->number); break;
    case DROP_KEY: draft_drop_key(draft, broken->name); break;
    case SET_TEXT: draft_set_string(draft, broken->name, "Q-K=V"); break;
    case DROP: draft_drop_tensor(draft, broken->name); break;
    case COLUMNS: draft_find_tensor(draft, broken->name)->dims[0] = broken->number; break;
    case ROWS: draft_find_tensor(draft, broken->name)->dims[1] = broken->number; break;
    case ADD: draft_add_tensor(draft, broken->name, TENSOR_F32, broken->number, 0); break;
  }
}

static void check_refusals(void) {
  for (size_t i = 0; i < sizeof BROKEN / sizeof BROKEN[0]; i++) {
    const broken_latent *broken = &BROKEN[i];
    gguf_draft draft = latent_draft(&SHAPES[broken->shape]);
    apply(&draft, broken);
    counted_memory memory = {.n_bytes_max = 1 << 22};
    onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&memory)};
    onekv_model *model = NULL;
    onekv_error error = {ONEKV_OK, ""};
    onekv_status status = open_draft(&draft, &options, 64, &model, &error);
    CHECK_SAY(status == broken->expected && model == NULL, "%zu, %s: found %s, expected %s: %s", i,
              broken->name, onekv_status_name(status), onekv_status_name(broken->expected),
              error.message);
    const char *said = broken->said != NULL ? broken->said : strrchr(broken->name, '.') + 1;
    CHECK_SAY(strstr(error.message, said) != NULL, "%zu: \"%s\" does not name %s", i,
              error.message, said);
    CHECK_SAY(memory.n_bytes == 0 && !memory.is_damaged, "%s: memory left", broken->name);
  }
}

static onekv_model *open_latent(size_t shape, onekv_pool *threads, onekv_cache_type type) {
  gguf_draft draft = latent_draft(&SHAPES[shape]);
  onekv_model_options options = {.pool = threads, .cache_type = type};
  onekv_model *model = NULL;
  onekv_error error = {ONEKV_OK, ""};
  onekv_status status = open_draft(&draft, &options, 0, &model, &error);
  CHECK_SAY(status == ONEKV_OK, "%zu: %s", shape, error.message);
  return model;
}

/* The logits behind TOKENS tokens: at once, in other ways, and on other threads. */
static void check_bits(size_t shape, onekv_cache_type type, onekv_pool *threads) {
  int32_t tokens[TOKENS];
  float expected[TINY_VOCABULARY];
  onekv_model *model = open_latent(shape, pool, type);
  for (size_t i = 0; i < TOKENS; i++) tokens[i] = (int32_t)(i * 7 % TINY_VOCABULARY);
  onekv_session *session = open_session(model, NULL);
  memcpy(expected, feed_tokens(session, model, tokens, TOKENS), sizeof expected);
  CHECK(onekv_session_truncate(session, 33) == ONEKV_OK);
  size_t n_saved = onekv_session_save_bytes(session);
  uint8_t *saved = malloc(n_saved);
  onekv_session_save(session, saved);
  onekv_session *restored = NULL;
  CHECK(onekv_session_restore(model, saved, n_saved, &restored, NULL) == ONEKV_OK);
  onekv_session *ways[2] = {session, restored};
  for (size_t i = 0; i < 2; i++) {
    for (size_t n = 33; n + 1 < TOKENS; n++) feed_tokens(ways[i], model, tokens + n, 1);
    const float *found = feed_tokens(ways[i], model, tokens + TOKENS - 1, 1);
    CHECK_SAY(memcmp(found, expected, sizeof expected) == 0, "shape %zu, way %zu", shape, i);
    onekv_session_close(ways[i]);
  }
  free(saved);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  model = open_latent(shape, threads, type);
  session = open_session(model, NULL);
  const float *found = feed_tokens(session, model, tokens, TOKENS);
  CHECK_SAY(memcmp(found, expected, sizeof expected) == 0, "shape %zu on threads", shape);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

/* A latent of size 1 beside a key of size 1000: each is kept to half a step of its own scale. */
static void check_parts(void) {
  enum { RANK = 12, ROTATED = 4, WIDTH = RANK + ROTATED };
  counted_memory counted = {0};
  onekv_allocator allocator = counted_allocator(&counted);
  memory_ledger memory;
  kernel_table kernels;
  kv_pool pages;
  kv_cache cache;
  onekv_config config = {.n_layers = 1, .n_kinds = 1};
  config.kinds[0] = (layer_kind){.n_heads = 3, .n_kv_heads = 1, .key_width = WIDTH,
                                 .value_width = RANK, .shares_row = true,
                                 .latent = {.rank = RANK, .plain = 8, .value = 5},
                                 .rope = {.first = RANK, .n_rotated = ROTATED}};
  float row[WIDTH];
  float scratch[KV_PAGE_POSITIONS * WIDTH];
  kernels_select(&kernels, ONEKV_LEVEL_BEST);
  memory_init(&memory, &allocator);
  CHECK(kv_pool_open(&pages, &memory, &kernels, &config, ONEKV_CACHE_I8) == ONEKV_OK);
  CHECK(pages.layout.spans[0].position_bytes == WIDTH + 2 * sizeof(float));
  CHECK(kv_cache_bytes(&config, ONEKV_CACHE_I8, 0, false, 7).shared == 7 * (WIDTH + 8));
  size_t i4_bytes = i4_code_bytes(RANK) + i4_code_bytes(ROTATED) +
                    2 * (i4_groups(RANK) + i4_groups(ROTATED));
  CHECK(kv_cache_bytes(&config, ONEKV_CACHE_I4, 0, false, 7).shared == 7 * i4_bytes);
  CHECK(kv_cache_bytes(&config, ONEKV_CACHE_F16, 3, false, 7).keys == 7 * 3 * 2 * (8 + ROTATED));
  CHECK(kv_cache_bytes(&config, ONEKV_CACHE_F16, 3, false, 7).values == 7 * 3 * 2 * 5);
  CHECK(kv_cache_open(&pages, 64, &cache) == ONEKV_OK);
  CHECK(kv_cache_reserve(&cache, KV_PAGE_POSITIONS) == ONEKV_OK);
  for (size_t p = 0; p < KV_PAGE_POSITIONS; p++) {
    for (size_t c = 0; c < WIDTH; c++) {
      row[c] = (c < RANK ? 1.0f : 1000.0f) * sinf((float)(p * WIDTH + c));
    }
    kv_cache_write(&cache, 0, KV_ROW, p, row);
  }
  kv_cache_advance(&cache, NULL, KV_PAGE_POSITIONS);
  const float *rows = kv_cache_read(&cache, 0, KV_ROW, 0, 0, KV_PAGE_POSITIONS, scratch);
  for (size_t i = 0; i < KV_PAGE_POSITIONS * WIDTH; i++) {
    float size = i % WIDTH < RANK ? 1.0f : 1000.0f;
    float off = fabsf(rows[i] - size * sinf((float)i));
    CHECK_SAY(off <= size * 0.51f / 127.0f, "element %zu: off by %g", i, (double)off);
  }
  kv_cache_close(&cache);
  kv_pool_close(&pages);
  CHECK(counted.n_bytes == 0 && !counted.is_damaged);
}

int main(void) {
  pool = open_pool(1);
  onekv_pool *threads = open_pool(3);
  check_refusals();
  check_parts();
  for (size_t i = 0; i < SHAPES_COUNT; i++) {
    for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
      check_bits(i, (onekv_cache_type)type, threads);
    }
  }
  onekv_pool_close(threads);
  onekv_pool_close(pool);
  return check_finish();
}
