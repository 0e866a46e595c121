/* Broken files: each is a whole tiny file with one change, and is refused with the code and the
 * name that tell what is wrong; a file that ends early is TRUNCATED wherever it ends; a wrong bit
 * anywhere is refused or harmless. After every refusal all memory is back. */
#include "core/base/gguf.h"
#include "core/base/memory.h"
#include "tests/native/check.h"
#include "tests/native/fixture.h"
#include "tests/native/tiny_model.h"

static onekv_pool *pool;

static onekv_model_options plain_options(void) {
  return (onekv_model_options){.pool = pool};
}

static onekv_status open_and_close(const gguf_draft *draft, onekv_error *error) {
  onekv_model_options options = plain_options();
  onekv_model *model = NULL;
  onekv_status status = open_draft(draft, &options, 0, &model, error);
  CHECK((model != NULL) == (status == ONEKV_OK));
  if (model != NULL) CHECK(onekv_model_close(model) == ONEKV_OK);
  return status;
}

typedef enum change {
  DROP_KEY, SET_U32, SET_F32, SET_TEXT, SET_I32, SET_BOOL, DROP_TENSOR, ADD_VECTOR, ADD_MATRIX,
  COLUMNS, ROWS, TYPE, DIMS, OFFSET, RENAME
} change;

typedef struct broken_file {
  const char *architecture;
  change change;
  const char *name; /* of a key or tensor */
  double number;
  const char *text;
  onekv_status expected; /* the message names `name`, or else `text` */
} broken_file;

#define LLAMA "llama"
static const broken_file BROKEN[] = {
    {LLAMA, DROP_KEY, "general.architecture", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, DROP_KEY, "llama.context_length", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, DROP_KEY, "llama.embedding_length", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, DROP_KEY, "llama.feed_forward_length", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, DROP_KEY, "llama.attention.head_count", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, DROP_KEY, "llama.attention.layer_norm_rms_epsilon", 0, "", ONEKV_MISSING_KEY},
    {"gpt2", DROP_KEY, "gpt2.attention.layer_norm_epsilon", 0, "", ONEKV_MISSING_KEY},
    {LLAMA, SET_TEXT, "llama.block_count", 0, "1", ONEKV_BAD_KEY},
    {LLAMA, SET_F32, "llama.block_count", 1, "", ONEKV_BAD_KEY},
    {LLAMA, SET_I32, "llama.block_count", -1, "", ONEKV_BAD_KEY},
    {LLAMA, SET_BOOL, "llama.block_count", 1, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.block_count", 4e9, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.block_count", 2, "blk.1.attn_norm", ONEKV_MISSING_TENSOR},
    {LLAMA, SET_U32, "llama.context_length", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.context_length", 4e9, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.embedding_length", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.embedding_length", 16, "token_embd.weight", ONEKV_BAD_TENSOR},
    {LLAMA, SET_U32, "llama.feed_forward_length", 13, "ffn_gate.weight", ONEKV_BAD_TENSOR},
    {LLAMA, SET_U32, "llama.attention.head_count", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.attention.head_count", 16, "key_length", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.attention.head_count_kv", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.attention.head_count_kv", 3, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.attention.key_length", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.attention.value_length", 5, "attn_v", ONEKV_BAD_TENSOR},
    {LLAMA, SET_U32, "llama.rope.dimension_count", 3, "", ONEKV_BAD_KEY},
    {LLAMA, SET_U32, "llama.rope.dimension_count", 6, "", ONEKV_BAD_KEY},
    {LLAMA, SET_F32, "llama.rope.freq_base", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_F32, "llama.rope.freq_base", (double)NAN, "", ONEKV_BAD_KEY},
    {LLAMA, SET_F32, "llama.rope.scaling.factor", -1, "", ONEKV_BAD_KEY},
    {LLAMA, SET_TEXT, "llama.rope.scaling.type", 0, "longrope", ONEKV_BAD_KEY},
    {LLAMA, SET_F32, "llama.attention.layer_norm_rms_epsilon", -1, "", ONEKV_BAD_KEY},
    {LLAMA, SET_TEXT, "onekv.attention.projection", 0, "K=Q", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_U32, "onekv.attention.projection", 0, "", ONEKV_BAD_KEY},
    {LLAMA, SET_TEXT, "onekv.attention.shared_rope", 0, "rotate", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_TEXT, "onekv.position.encoding", 0, "alibi", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_TEXT, "onekv.mlp.activation", 0, "relu", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_TEXT, "onekv.input.kind", 0, "images", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_TEXT, "onekv.output.pooling", 0, "mean", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_TEXT, "general.architecture", 0, "bad\nname\x7f", ONEKV_UNSUPPORTED_MODEL},
    {LLAMA, SET_U32, "general.alignment", 12, "", ONEKV_CORRUPT},
    {LLAMA, DROP_TENSOR, "token_embd.weight", 0, "", ONEKV_MISSING_TENSOR},
    {LLAMA, DROP_TENSOR, "blk.0.attn_q.weight", 0, "", ONEKV_MISSING_TENSOR},
    {LLAMA, DROP_TENSOR, "blk.0.ffn_down.weight", 0, "", ONEKV_MISSING_TENSOR},
    {LLAMA, DROP_TENSOR, "output_norm.weight", 0, "", ONEKV_MISSING_TENSOR},
    {"gpt2", DROP_TENSOR, "position_embd.weight", 0, "", ONEKV_MISSING_TENSOR},
    {"qwen3", DROP_TENSOR, "blk.0.attn_q_norm.weight", 0, "", ONEKV_MISSING_TENSOR},
    {"qwen3", DROP_TENSOR, "blk.0.attn_k_norm.weight", 0, "attn_q_norm", ONEKV_UNKNOWN_TENSOR},
    {"onekv-vit", DROP_TENSOR, "input_proj.weight", 0, "", ONEKV_MISSING_TENSOR},
    {"onekv-vit", DROP_TENSOR, "output.weight", 0, "", ONEKV_MISSING_TENSOR},
    {LLAMA, ADD_VECTOR, "blk.0.attn_norm.bias", 8, "", ONEKV_UNKNOWN_TENSOR},
    {LLAMA, ADD_VECTOR, "token_embd.bias", 24, "", ONEKV_UNKNOWN_TENSOR},
    {"gpt2", ADD_VECTOR, "position_embd.bias", 96, "", ONEKV_UNKNOWN_TENSOR},
    {LLAMA, ADD_VECTOR, "blk.1.attn_norm.weight", 8, "", ONEKV_UNKNOWN_TENSOR},
    {LLAMA, ADD_VECTOR, "cls_embd.weight", 8, "", ONEKV_BAD_KEY},
    {LLAMA, ADD_VECTOR, "bad\nname\x7f", 8, "bad?name?", ONEKV_UNKNOWN_TENSOR},
    {LLAMA, ADD_VECTOR, "token_embd.weight", 8, "", ONEKV_CORRUPT},
    {LLAMA, ADD_VECTOR, "blk.0.attn_key_bias.weight", 96, "", ONEKV_UNKNOWN_TENSOR},
    {"gpt2", ADD_VECTOR, "blk.0.attn_score_scale.weight", 1, "attn_key_bias",
     ONEKV_MISSING_TENSOR},
    {LLAMA, ADD_VECTOR, "blk.0.attn_q.bias", 9, "", ONEKV_BAD_TENSOR},
    {LLAMA, ADD_VECTOR, "rope_freqs.weight", 3, "", ONEKV_BAD_TENSOR},
    {LLAMA, ADD_MATRIX, "output.weight", 23, "", ONEKV_BAD_TENSOR},
    {LLAMA, ADD_MATRIX, "output.weight", 25, "", ONEKV_BAD_TENSOR},
    {LLAMA, COLUMNS, "blk.0.attn_q.weight", 9, "", ONEKV_BAD_TENSOR},
    {LLAMA, ROWS, "blk.0.attn_k.weight", 8, "", ONEKV_BAD_TENSOR},
    {LLAMA, ROWS, "blk.0.attn_k.weight", 0, "", ONEKV_CORRUPT},
    {LLAMA, ROWS, "blk.0.attn_k.weight", 1e19, "", ONEKV_CORRUPT},
    {LLAMA, COLUMNS, "blk.0.attn_k.weight", 1e19, "", ONEKV_CORRUPT},
    {"onekv-vit", ROWS, "output.weight", 1 << 25, "vocabulary", ONEKV_BAD_KEY},
    {LLAMA, TYPE, "blk.0.attn_k.weight", 9, "", ONEKV_UNSUPPORTED_TYPE},
    {LLAMA, TYPE, "blk.0.attn_k.weight", TENSOR_Q8_0, "", ONEKV_CORRUPT},
    {LLAMA, DIMS, "blk.0.attn_k.weight", 0, "", ONEKV_CORRUPT},
    {LLAMA, DIMS, "blk.0.attn_k.weight", 5, "", ONEKV_CORRUPT},
    {LLAMA, OFFSET, "blk.0.attn_k.weight", 1, "", ONEKV_CORRUPT},
    {LLAMA, OFFSET, "blk.0.attn_k.weight", 8, "attn_v", ONEKV_CORRUPT},
    {LLAMA, OFFSET, "output_norm.weight", 4096, "of", ONEKV_TRUNCATED},
    {LLAMA, RENAME, "blk.0.attn_k.weight", 0, "", ONEKV_CORRUPT},
};

static void apply(gguf_draft *draft, const broken_file *broken) {
  const char *name = broken->name;
  bool has_tensor = broken->change >= COLUMNS || broken->change == DROP_TENSOR;
  draft_tensor *tensor = has_tensor ? draft_find_tensor(draft, name) : NULL;
  int32_t i32 = broken->change == SET_I32 ? (int32_t)broken->number : 0;
  uint64_t u64 = broken->change == SET_I32 || isnan(broken->number) || broken->number < 0
                     ? 0 : (uint64_t)broken->number;
  switch (broken->change) {
    case DROP_KEY: draft_drop_key(draft, name); break;
    case SET_U32: draft_set_u32(draft, name, (uint32_t)u64); break;
    case SET_F32: draft_set_f32(draft, name, (float)broken->number); break;
    case SET_TEXT: draft_set_string(draft, name, broken->text); break;
    case SET_I32: draft_set(draft, name, GGUF_I32, &i32, 4); break;
    case SET_BOOL: draft_set(draft, name, GGUF_BOOL, "\1", 1); break;
    case DROP_TENSOR: draft_drop_tensor(draft, name); break;
    case ADD_VECTOR: draft_add_tensor(draft, name, TENSOR_F32, (size_t)u64, 0); break;
    case ADD_MATRIX: draft_add_tensor(draft, name, TENSOR_F32, 8, (size_t)u64); break;
    case COLUMNS: tensor->dims[0] = u64; break;
    case ROWS: tensor->dims[1] = u64; break;
    case TYPE: tensor->type = (uint32_t)u64; break;
    case DIMS: tensor->n_dims = (uint32_t)u64; break;
    case OFFSET: tensor->offset_added = u64; break;
    case RENAME: memset(tensor->name, 'n', GGUF_NAME_MAX + 1); break;
  }
}

static void check_broken_files(void) {
  for (size_t i = 0; i < sizeof BROKEN / sizeof BROKEN[0]; i++) {
    const broken_file *broken = &BROKEN[i];
    gguf_draft draft = tiny_draft(&(tiny_shape){.architecture = broken->architecture});
    apply(&draft, broken);
    counted_memory memory = {.n_bytes_max = 1 << 22};
    onekv_model_options options = plain_options();
    options.allocator = counted_allocator(&memory);
    onekv_model *model = NULL;
    onekv_error error = {ONEKV_OK, ""};
    onekv_status status = open_draft(&draft, &options, 64, &model, &error);
    CHECK_SAY(status == broken->expected && error.status == status && model == NULL,
              "%zu, %s: found %s, expected %s: %s", i, broken->name, onekv_status_name(status),
              onekv_status_name(broken->expected), error.message);
    bool is_named = strstr(error.message, broken->name) != NULL ||
                    (broken->text[0] != '\0' && strstr(error.message, broken->text) != NULL) ||
                    strstr(error.message, strrchr(broken->name, '.') == NULL
                               ? broken->name : strrchr(broken->name, '.') + 1) != NULL;
    CHECK_SAY(is_named || broken->change == DIMS || broken->change == RENAME,
              "%zu: \"%s\" does not name %s", i, error.message, broken->name);
    for (const char *c = error.message; *c != '\0'; c++) CHECK(*c >= ' ' && *c <= '~');
    CHECK_SAY(memory.n_bytes == 0 && !memory.is_damaged, "%s: %zu bytes left", broken->name,
              memory.n_bytes);
  }
}

/* --- every byte ------------------------------------------------------------------------------- */

/* A file that ends early is TRUNCATED, wherever it ends and however it is fed. */
static void check_prefixes(const tiny_shape *shape) {
  gguf_draft draft = tiny_draft(shape);
  file_bytes file = draft_write(&draft);
  for (size_t n = 0; n < file.n_bytes; n++) {
    counted_memory memory = {0};
    onekv_model_options options = plain_options();
    options.allocator = counted_allocator(&memory);
    onekv_model *model = NULL;
    onekv_error error = {ONEKV_OK, ""};
    size_t chunk = n % 3 == 0 ? n + 1 : n % 3 == 1 ? 61 : 1021;
    onekv_status status = load_bytes(&options, (file_bytes){file.bytes, n}, chunk, &model, &error);
    CHECK_SAY(status == ONEKV_TRUNCATED && model == NULL, "%zu of %zu bytes: %s", n, file.n_bytes,
              onekv_status_name(status));
    CHECK(memory.n_bytes == 0 && !memory.is_damaged);
  }
  free(file.bytes);
}

/* A file with one wrong bit opens or is refused; what opens also runs. */
static void check_flips(const tiny_shape *shape) {
  gguf_draft draft = tiny_draft(shape);
  file_bytes file = draft_write(&draft);
  size_t n_opened = 0;
  for (size_t bit = 0; bit < file.n_bytes * 8; bit++) {
    if (bit / 8 > 1600 && bit % 29 != 0) continue; /* weights: any bit is as good as another */
    counted_memory memory = {.n_bytes_max = 1 << 18};
    onekv_model_options options = plain_options();
    options.allocator = counted_allocator(&memory);
    options.context_window = 16;
    onekv_model *model = NULL;
    onekv_error error = {ONEKV_OK, ""};
    file.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    onekv_status status = load_bytes(&options, file, file.n_bytes, &model, &error);
    file.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    CHECK((unsigned)status < ONEKV_STATUS_COUNT && (status == ONEKV_OK) == (model != NULL));
    CHECK_SAY(status == ONEKV_OK || error.message[0] != '\0', "bit %zu: no message", bit);
    if (model != NULL) {
      onekv_session *session = open_session(model, NULL);
      feed_tokens(session, model, (const int32_t[2]){1, 2}, 2);
      onekv_session_close(session);
      CHECK(onekv_model_close(model) == ONEKV_OK);
      n_opened++;
    }
    CHECK_SAY(memory.n_bytes == 0 && !memory.is_damaged, "bit %zu: bytes left", bit);
  }
  CHECK_SAY(n_opened > 100, "only %zu files opened", n_opened);
  free(file.bytes);
}

/* An unknown key of every type is kept and found; integers of every width are integers. */
static void check_value_types(void) {
  static const uint8_t ONE[8] = {1};
  static const struct {
    uint32_t type;
    size_t n_bytes;
    bool is_integer;
  } TYPES[] = {
      {GGUF_U8, 1, true},  {GGUF_I8, 1, true},   {GGUF_U16, 2, true},  {GGUF_I16, 2, true},
      {GGUF_U32, 4, true}, {GGUF_I32, 4, true},  {GGUF_F32, 4, false}, {GGUF_BOOL, 1, false},
      {GGUF_U64, 8, true}, {GGUF_I64, 8, true},  {GGUF_F64, 8, false},
  };
  for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
    gguf_draft draft = tiny_draft(&(tiny_shape){0});
    onekv_error error = {ONEKV_OK, ""};
    draft_set(&draft, "llama.block_count", TYPES[i].type, ONE, TYPES[i].n_bytes);
    onekv_status expected = TYPES[i].is_integer ? ONEKV_OK : ONEKV_BAD_KEY;
    CHECK_SAY(open_and_close(&draft, &error) == expected, "type %u: %s", TYPES[i].type,
              error.message);
  }
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  uint8_t array[4 + 8 + 11] = {GGUF_STRING, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                               3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
  double epsilon = 1e-5;
  draft_set(&draft, "llama.attention.layer_norm_rms_epsilon", GGUF_F64, &epsilon, 8);
  draft_set(&draft, "extra.array", GGUF_ARRAY, array, sizeof array);
  file_bytes file = draft_write(&draft);
  onekv_model_options options = plain_options();
  onekv_loader *loader = NULL;
  onekv_value value;
  CHECK(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK);
  CHECK(!onekv_loader_has_header(loader) && onekv_loader_config(loader) == NULL &&
        !onekv_loader_find(loader, "extra.array", &value) && onekv_loader_file_bytes(loader) == 0);
  CHECK(onekv_loader_feed(loader, NULL, 0, NULL) == ONEKV_OK);
  CHECK(onekv_loader_feed(loader, file.bytes, file.n_bytes, NULL) == ONEKV_OK);
  CHECK(onekv_loader_find(loader, "extra.array", &value));
  CHECK(value.type == GGUF_ARRAY && value.item_type == GGUF_STRING && value.n_items == 1 &&
        value.n_bytes == 11);
  CHECK(onekv_loader_file_bytes(loader) == file.n_bytes);
  onekv_shape shape;
  onekv_describe(onekv_loader_config(loader), &shape);
  CHECK(strcmp(shape.architecture, "llama") == 0 && shape.is_causal && shape.n_layers == 1 &&
        shape.context_window == 96 && shape.n_vocabulary == TINY_VOCABULARY &&
        shape.n_features == 0 && shape.n_outputs == TINY_VOCABULARY);
  onekv_loader_close(loader);
  free(file.bytes);
  draft_set_u32(&draft, "llama.attention.layer_norm_rms_epsilon", 0);
  CHECK(open_and_close(&draft, NULL) == ONEKV_BAD_KEY);
}

/* While a header is incomplete nothing has failed: *error is not touched. */
static void check_error_untouched(void) {
  gguf_draft draft = tiny_draft(&(tiny_shape){0});
  file_bytes file = draft_write(&draft);
  onekv_model_options options = plain_options();
  onekv_loader *loader = NULL;
  onekv_error error = {ONEKV_NOT_FINITE, "as before"};
  CHECK(onekv_loader_open(&options, &loader, &error) == ONEKV_OK);
  for (size_t i = 0; i < file.n_bytes; i++) {
    CHECK(onekv_loader_feed(loader, file.bytes + i, 1, &error) == ONEKV_OK);
  }
  onekv_model *model = NULL;
  CHECK(onekv_loader_finish(loader, &model, &error) == ONEKV_OK);
  CHECK(error.status == ONEKV_NOT_FINITE && strcmp(error.message, "as before") == 0);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  free(file.bytes);
}

/* A row of features that no scratch could hold, in a tensor that the file does not even reach. */
static void check_huge_features(void) {
  gguf_draft draft = tiny_draft(&(tiny_shape){.architecture = "onekv-vit"});
  onekv_error error = {ONEKV_OK, ""};
  draft_drop_tensor(&draft, "input_proj.weight");
  draft_add_tensor(&draft, "input_proj.weight", TENSOR_F32, (size_t)1 << 21, 8);
  CHECK(open_and_close(&draft, &error) == ONEKV_BAD_KEY);
  CHECK_SAY(strstr(error.message, "features") != NULL, "%s", error.message);
}

/* A scale of a block that is an infinity or a NaN: said, with the tensor's name; as f32 such
 * weights are taken as they are. */
static void check_damaged_scale(const char *path, tensor_type type, size_t place, uint8_t high) {
  file_bytes file = read_file(path);
  memory_ledger memory;
  memory_init(&memory, NULL);
  gguf *header = NULL;
  size_t needed = 0;
  onekv_error error = {ONEKV_OK, ""};
  check_state.context = path;
  CHECK(gguf_parse(&memory, file.bytes, file.n_bytes, &header, &needed, &error) == ONEKV_OK);
  const gguf_tensor *tensor = NULL;
  for (size_t i = 0; i < header->n_tensors; i++) {
    if (header->tensors[i].type == type) tensor = &header->tensors[i];
  }
  if (!CHECK(tensor != NULL)) return;
  size_t last = tensor->n_bytes - tensor_type_describe(type).block_bytes;
  file.bytes[header->data_offset + tensor->offset + last + place] = high;
  char label[GGUF_LABEL_MAX];
  gguf_label(tensor->name, label);
  for (size_t chunk = 7; chunk < 100000; chunk *= 10) {
    onekv_model *model = NULL;
    onekv_model_options options = plain_options();
    CHECK(load_bytes(&options, file, chunk, &model, &error) == ONEKV_CORRUPT);
    CHECK_SAY(strstr(error.message, label) != NULL, "%s", error.message);
    options.arithmetic = ONEKV_F32;
    CHECK(load_bytes(&options, file, chunk, &model, &error) == ONEKV_OK);
    CHECK(onekv_model_close(model) == ONEKV_OK);
  }
  gguf_free(&memory, header);
  free(file.bytes);
}

int main(void) {
  pool = open_pool(1);
  check_damaged_scale("tests/golden/type-q8_0.gguf", TENSOR_Q8_0, 1, 0x7c);
  check_damaged_scale("tests/golden/type-q4_k.gguf", TENSOR_Q4_K, 3, 0xff);
  check_damaged_scale("tests/golden/type-q6_k.gguf", TENSOR_Q6_K, 209, 0xfc);
  check_state.context = NULL;
  check_broken_files();
  check_huge_features();
  check_value_types();
  check_error_untouched();
  check_prefixes(&(tiny_shape){.projection = "Q-K=V"});
  check_prefixes(&(tiny_shape){.architecture = "onekv-vit", .context_window = 8});
  check_flips(&(tiny_shape){.architecture = "qwen3"});
  check_flips(&(tiny_shape){.projection = "Q-K=V"});
  onekv_pool_close(pool);
  return check_finish();
}
