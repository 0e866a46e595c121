/* The stream of weights: bytes in file order, in pieces of any size, to where the views point.
 *
 * What is not copied is decoded or packed block by block; a block that is cut between two feeds
 * waits in the plan. So no bytes of the file are kept. */
#include "core/net/weights.h"

#include <string.h>

/* Up to n whole blocks of a piece, from block `index`: as many as one row has of them. Gives their
 * number. */
static size_t feed_run(weights_plan *plan, const weights_piece *piece, size_t index,
                       const uint8_t *blocks, size_t n) {
  size_t n_elements = tensor_type_describe(piece->type).block_elements;
  if (piece->kind == PIECE_TO_F32) {
    float *out = (float *)(void *)piece->destination;
    plan->kernels->dequantize[piece->type](blocks, n * n_elements, out + index * n_elements);
    return n;
  }
  size_t n_row_blocks = piece->n_columns / n_elements;
  size_t row = index / n_row_blocks;
  size_t first = index % n_row_blocks;
  size_t n_run = n < n_row_blocks - first ? n : n_row_blocks - first;
  packed_form form = packed_form_of(piece->type);
  uint8_t *strip = piece->destination + row / PACKED_ROWS * piece->strip_bytes;
  bool is_finite = packed_write(form, blocks, n_run, row % PACKED_ROWS,
                                strip + first * packed_block_bytes(form));
  if (!is_finite && plan->damaged == NULL) plan->damaged = piece;
  return n_run;
}

/* Bytes [done, done + n) of a piece that is not copied. */
static void feed_blocks(weights_plan *plan, const weights_piece *piece, size_t done,
                        const uint8_t *bytes, size_t n) {
  size_t block_bytes = tensor_type_describe(piece->type).block_bytes;
  size_t index = done / block_bytes;
  const uint8_t *end = bytes + n;
  if (plan->n_remainder > 0) {
    size_t n_missing = block_bytes - plan->n_remainder;
    size_t n_taken = n < n_missing ? n : n_missing;
    memcpy(plan->remainder + plan->n_remainder, bytes, n_taken);
    plan->n_remainder += n_taken;
    bytes += n_taken;
    if (plan->n_remainder < block_bytes) return;
    feed_run(plan, piece, index++, plan->remainder, 1);
    plan->n_remainder = 0;
  }
  while ((size_t)(end - bytes) >= block_bytes) {
    size_t n_blocks = (size_t)(end - bytes) / block_bytes;
    size_t n_run = feed_run(plan, piece, index, bytes, n_blocks);
    index += n_run;
    bytes += n_run * block_bytes;
  }
  plan->n_remainder = (size_t)(end - bytes);
  memcpy(plan->remainder, bytes, plan->n_remainder);
}

void weights_feed(weights_plan *plan, const uint8_t *bytes, size_t n) {
  size_t start = plan->n_fed;
  size_t end = start + n;
  while (plan->next_piece < plan->n_pieces) {
    const weights_piece *piece = &plan->pieces[plan->next_piece];
    size_t piece_end = piece->source_offset + piece->source_bytes;
    size_t from = piece->source_offset > start ? piece->source_offset : start;
    size_t to = piece_end < end ? piece_end : end;
    if (from < to && piece->kind != PIECE_LEAVE) {
      size_t done = from - piece->source_offset;
      if (piece->kind == PIECE_COPY) {
        memcpy(piece->destination + done, bytes + (from - start), to - from);
      } else {
        feed_blocks(plan, piece, done, bytes + (from - start), to - from);
      }
    }
    if (piece_end > end) break;
    plan->next_piece++;
  }
  plan->n_fed = end;
}

/* Before the first byte of weights there are no pieces yet: that is not complete. */
bool weights_complete(const weights_plan *plan) {
  return plan->block != NULL && plan->next_piece == plan->n_pieces;
}
