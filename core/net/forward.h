/* The transformer: one path for prefill, decode, batches of sessions, encoders and ViTs.
 *
 * The rows of a batch are consecutive positions of one or more sequences. Working memory is
 * carved once, when a model opens; forward itself allocates nothing. */
#ifndef ONEKV_FORWARD_H
#define ONEKV_FORWARD_H

#include "core/net/attention.h"
#include "core/net/matmul.h"

typedef struct forward_scratch {
  size_t n_rows_max;   /* rows of one batch */
  size_t n_logits_max; /* rows of logits */
  size_t n_threads_max;
  rope_tables rope[ONEKV_KINDS_MAX];  /* of each kind of layer */
  float *x;       /* [rows][d]: the residual stream */
  float *normed;  /* [rows][d]: what a branch reads */
  float *branch;  /* [rows][d]: what a branch adds to x; a position's row while embedding */
  float *query_latents; /* [rows][query rank] */
  float *expanded; /* [rows][H·…]: with a latent, queries as projected, and later heads' outputs;
                      [rows][3·d] of a convolution */
  float *queries; /* [rows][H·k] */
  float *rows;    /* [rows][g·k]: keys, or what is key and value (K=V), or a convolution's */
  float *values;  /* [rows][g·v] */
  float *heads;   /* [rows][H·v]: attention's output */
  float *gate;    /* [rows][I] */
  float *up;      /* [rows][I] */
  float *cosines[ONEKV_KINDS_MAX]; /* [rows][n_rotated/2]: of each row's position */
  float *sines[ONEKV_KINDS_MAX];   /* [rows][n_rotated/2] */
  float *ones;    /* [g·v]: the gain of norms that have none */
  float *per_layer;     /* [rows][L·P]: inputs that layers have of their own (per_layer.h) */
  float *per_layer_row; /* [L·P]: of a token */
  uint8_t *per_layer_bytes; /* the same as the file has it, where it is read from there */
  float *temperatures; /* [rows]: factors of queries, where the model has them */
  float *picked;  /* [logit rows][d]: normed rows whose logits are asked for */
  float *logits;  /* [logit rows][n_outputs] */
  float *tiles;   /* [attention_scratch_floats] */
  matmul_scratch matmul;
} forward_scratch;

/* Carves all buffers from the arena (counting when it has no base), for positions below
 * context_window; the sizes in *scratch are set before. */
void forward_scratch_make(const onekv_config *config, const model_weights *weights,
                          size_t context_window, memory_arena *arena, forward_scratch *scratch);

/* Sees a layer's queries when its rows are in the caches, before they are attended; false ends the
 * batch there. */
typedef struct forward_observer {
  void *context;
  bool (*see)(void *context, size_t layer, const float *queries);
} forward_observer;

typedef struct forward_batch {
  const sequence_slice *slices; /* rows one behind the other; positions reserved in the caches */
  size_t n_slices;
  size_t n_rows;
  const int32_t *tokens;   /* [n_rows], each < n_vocabulary; or NULL */
  const float *features;   /* without tokens: [n_rows, less one for a class row][n_features] */
  const uint32_t *logit_rows; /* [n_logits]: rows of the batch whose logits are wanted */
  size_t n_logits;
  size_t first_logit; /* row of scratch->logits that gets the first of them */
  const forward_observer *observer; /* or NULL */
  bool wants_rows; /* scratch->normed gets every row as the head reads it */
} forward_batch;

typedef struct forward_model {
  const onekv_config *config;
  const model_weights *weights;
  const kernel_table *kernels;
  onekv_pool *pool;
  const onekv_row_source *source; /* of what weights have left in the file */
} forward_model;

/* How layer n of the model attends, but for slices, queries and buffers, which stay NULL. */
attention_call forward_attention(const forward_model *model, const forward_scratch *scratch,
                                 size_t n);

/* scratch->x = embedding (or projected features) + position embedding, and the angles and the
 * temperature of each row's position. */
void forward_embed(const forward_model *model, forward_scratch *scratch,
                   const forward_batch *batch);

/* Runs the batch: the caches get the rows' keys and values (not yet counted as present), and
 * scratch->logits, from row first_logit on, the logits [n_logits][n_outputs]. Errors, before a row
 * is written: those of per_layer_embed. */
onekv_status forward(const forward_model *model, forward_scratch *scratch,
                     const forward_batch *batch);

#endif
