/* Matrices of F16, once they are there: without subnormals (f16.h), in place, where no number is
 * too large for it. Of trained weights a quarter of a percent is subnormal, and a product with one
 * takes an Intel core 150 cycles; what decodes them without is slower than memory. No value
 * changes. */
#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "core/net/tensors.h"

enum { PART = 512 /* elements decoded at a time */ };

static bool all_fit(const kernel_table *kernels, const uint8_t *halves, size_t n) {
  float values[PART];
  for (size_t i = 0; i < n; i += PART) {
    size_t n_part = n - i < PART ? n - i : PART;
    uint32_t largest = 0;
    kernels->dequantize[TENSOR_F16](halves + 2 * i, n_part, values);
    for (size_t k = 0; k < n_part; k++) {
      uint32_t magnitude = f32_to_bits(values[k]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= f32_to_bits(F16_NORMAL_LIMIT)) return false; /* NaN is above all numbers */
  }
  return true;
}

static void make_normal(const kernel_table *kernels, matrix *w) {
  if (w->type != TENSOR_F16 || w->rows == NULL) return;
  size_t n = w->n_rows * w->n_columns;
  if (!all_fit(kernels, w->rows, n)) return;
  float values[PART];
  for (size_t i = 0; i < n; i += PART) {
    size_t n_part = n - i < PART ? n - i : PART;
    uint8_t *halves = w->rows + 2 * i;
    kernels->dequantize[TENSOR_F16](halves, n_part, values);
    for (size_t k = 0; k < n_part; k++) store_u16(halves + 2 * k, f16_normal_from_f32(values[k]));
  }
  w->type = TENSOR_F16_NORMAL;
}

static void make_all_normal(const kernel_table *kernels, slot_list list, void *weights) {
  for (size_t i = 0; i < list.n; i++) {
    slot_holds holds = list.slots[i].holds;
    if (holds == SLOT_NORM || holds == SLOT_VECTOR) continue;
    make_normal(kernels, (matrix *)(void *)((char *)weights + list.slots[i].field));
  }
}

void weights_make_normal(const kernel_table *kernels, size_t n_layers, model_weights *weights) {
  bool is_tied = weights->head.rows == weights->token_embedding.rows;
  if (is_tied) weights->head.type = TENSOR_F32; /* not twice */
  make_all_normal(kernels, model_slots(), weights);
  if (is_tied) weights->head.type = weights->token_embedding.type;
  for (size_t n = 0; n < n_layers; n++) {
    make_all_normal(kernels, layer_slots(), &weights->layers[n]);
  }
}
