/* Matrices of F16 in a model: held without subnormals where their numbers fit, the values those of
 * the file in any case. */
#include "core/api/model.h"
#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

/* Where the rows of a tensor stand in the file. */
static uint8_t *find_rows(const file_bytes *file, const char *name) {
  memory_ledger memory;
  gguf *parsed = NULL;
  size_t n_needed = 0;
  onekv_error error = {ONEKV_OK, ""};
  memory_init(&memory, NULL);
  CHECK(gguf_parse(&memory, file->bytes, file->n_bytes, &parsed, &n_needed, &error) == ONEKV_OK);
  const gguf_tensor *tensor = gguf_find_tensor(parsed, name);
  uint8_t *rows = file->bytes + parsed->data_offset + tensor->offset;
  gguf_free(&memory, parsed);
  return rows;
}

static onekv_model *open_file(const file_bytes *file) {
  onekv_model_options options = {.pool = open_pool(1), .n_logits_max = 1};
  onekv_loader *loader = NULL;
  onekv_model *model = NULL;
  onekv_error error = {ONEKV_OK, ""};
  CHECK(onekv_loader_open(&options, &loader, &error) == ONEKV_OK);
  CHECK(onekv_loader_feed(loader, file->bytes, file->n_bytes, &error) == ONEKV_OK);
  CHECK(onekv_loader_finish(loader, &model, &error) == ONEKV_OK);
  return model;
}

static void check_values(const onekv_model *model, const matrix *w, const uint8_t *halves) {
  float row[64];
  CHECK(w->n_columns <= 64);
  for (size_t r = 0; r < w->n_rows; r++) {
    matrix_row(&model->kernels, w, r, row);
    for (size_t c = 0; c < w->n_columns; c++) {
      float value = f32_from_f16(load_u16(halves + 2 * (r * w->n_columns + c)));
      CHECK(f32_to_bits(row[c]) == f32_to_bits(value));
    }
  }
}

/* A number of the first layer's attn_output is `half`. */
static void check_file(uint16_t half, tensor_type expected) {
  const tiny_shape shape = {.type = TENSOR_F16};
  gguf_draft draft = tiny_draft(&shape);
  file_bytes file = draft_write(&draft);
  uint8_t *output = find_rows(&file, "blk.0.attn_output.weight");
  store_u16(output + 10, half);
  onekv_model *model = open_file(&file);
  const model_weights *weights = &model->plan.weights;
  CHECK(weights->layers[0].output.type == expected);
  CHECK(weights->layers[0].query.type == TENSOR_F16_NORMAL);
  CHECK(weights->token_embedding.type == TENSOR_F16_NORMAL);
  CHECK(weights->head.type == TENSOR_F16_NORMAL);
  CHECK(weights->head.rows == weights->token_embedding.rows);
  check_values(model, &weights->layers[0].output, output);
  check_values(model, &weights->layers[0].query, find_rows(&file, "blk.0.attn_q.weight"));
  check_values(model, &weights->head, find_rows(&file, "token_embd.weight"));
  onekv_pool *pool = model->pool;
  onekv_model_close(model);
  onekv_pool_close(pool);
  free(file.bytes);
}

int main(void) {
  check_file(0x0001, TENSOR_F16_NORMAL); /* 2^-24 */
  check_file(0xd7ff, TENSOR_F16_NORMAL); /* the largest below 2^7, negative */
  check_file(0x5800, TENSOR_F16);        /* 2^7 */
  check_file(0xfbff, TENSOR_F16);
  check_file(0x7c00, TENSOR_F16);
  check_file(0xfe00, TENSOR_F16);
  return check_finish();
}
