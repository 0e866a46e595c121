/* Tiny models and memory that counts, or fails on purpose.
 *
 * A counted allocator knows every block that is out and checks that it comes back with its size;
 * its figures are independent of core's own. */
#ifndef ONEKV_TESTS_TINY_MODEL_H
#define ONEKV_TESTS_TINY_MODEL_H

#include "tests/native/gguf_writer.h"

typedef struct counted_memory {
  size_t n_calls; /* of allocate */
  size_t n_blocks;
  size_t n_bytes;
  size_t n_bytes_peak;
  size_t n_bytes_max; /* 0: no limit */
  size_t fail_at;     /* this call fails (the first is 1); 0: none */
  bool keeps_failing; /* and so do all after it */
  bool is_damaged;    /* a block came back with another size */
} counted_memory;

onekv_allocator counted_allocator(counted_memory *memory);

/* Loads the draft, fed in pieces of chunk_bytes (0: all at once). */
onekv_status open_draft(const gguf_draft *draft, const onekv_model_options *options,
                        size_t chunk_bytes, onekv_model **model, onekv_error *error);

/* A tiny model, or the end of the program. */
onekv_model *open_tiny(const tiny_shape *shape, const onekv_model_options *options);

/* A session, or the end of the program; options may be NULL. */
onekv_session *open_session(onekv_model *model, const onekv_session_options *options);

/* Appends tokens [n] in one step and gives the logits of the last; ends the program on an error.
 * The logits are the model's until its next call. */
const float *feed_tokens(onekv_session *session, onekv_model *model, const int32_t *tokens,
                         size_t n);

/* A pool of n threads, all alive and active. */
onekv_pool *open_pool(size_t n_threads);

#endif
