/* Weights: the tensors of a file as typed views, filled from a stream.
 *
 * weights_plan names every tensor that the description asks for (tensors.h), checks type and
 * shape, refuses what is missing or left over, and sizes one block of memory. weights_feed then
 * takes the data section's bytes in file order and puts each tensor where it belongs; no second
 * copy of the file ever exists. Quantised matrices that are multiplied are packed block by block
 * as they arrive (packed.h), other matrices and tables keep the file's rows; vectors become f32. */
#ifndef ONEKV_WEIGHTS_H
#define ONEKV_WEIGHTS_H

#include "core/net/config.h"
#include "core/kernels/kernels.h"

/* A weight matrix [n_rows][n_columns] as in y = W x + b. */
typedef struct matrix {
  tensor_type type; /* of the file, or TENSOR_F16_NORMAL */
  packed_form form;
  size_t n_rows;
  size_t n_columns;
  size_t row_bytes; /* of a row of the file, or of a strip of packed rows */
  uint8_t *rows;    /* [n_rows][row_bytes], packed: [⌈n_rows / 16⌉][row_bytes]; NULL: the model has
                       no such matrix, or has left it in the file */
  const float *bias; /* [n_rows] or NULL */
} matrix;

typedef struct norm_weights {
  const float *gain; /* [n] */
  const float *bias; /* [n] or NULL */
} norm_weights;

/* What a model lacks is NULL, or a matrix without rows; tensors.c lists the tensors of files. */
typedef struct layer_weights {
  norm_weights attention_norm; /* [d], or a NULL gain */
  matrix query;                /* [H·k, d]; absent when Q=K. With a latent [H·(plain + rotated),
                                  d or query rank] */
  matrix key;                  /* [g·k, d]; absent in a layer that reads another's cache */
  matrix value;                /* [g·v, d]; absent when K=V, and in such a layer */
  const float *query_norm;     /* [k] or NULL: RMSNorm gain of each query head, also when Q=K */
  const float *key_norm;       /* [k] or NULL */
  matrix query_down;           /* [query rank, d]: to the latent that queries come from */
  const float *query_latent_norm; /* [query rank] */
  const float *latent_norm;    /* [rank]: of the cached latent */
  matrix latent_key;           /* [H·rank, plain]: W_kᵀ of one head after the other; and */
  matrix latent_value;         /* [H·value, rank]: W_v; or both as */
  matrix latent_both;          /* [H·(plain + value), rank]: of each head W_k, then W_v */
  matrix output;               /* [d, H·v], v as a head gives it; of a convolution [d, d] */
  matrix convolution;          /* [3·d, d] */
  const float *taps;           /* [d][L] */
  norm_weights attention_post_norm; /* [d], or a NULL gain */
  norm_weights attention_sum_norm; /* [d], or a NULL gain */
  norm_weights mlp_norm;       /* [d], or a NULL gain */
  matrix gate;                 /* [I, d]; gated MLPs only */
  matrix up;                   /* [I, d] */
  matrix down;                 /* [d, I] */
  norm_weights mlp_post_norm;  /* [d], or a NULL gain */
  norm_weights mlp_sum_norm;   /* [d], or a NULL gain */
  matrix per_layer_gate;       /* [P, d]; of a layer with inputs of its own (per_layer.h) */
  matrix per_layer_back;       /* [d, P] */
  norm_weights per_layer_norm; /* [d] */
  const float *output_scale;   /* [1] or NULL: of x at the layer's end */
  const float *score_scale;    /* σ of (X)+ [1], else NULL: 1 */
  const float *key_bias;       /* κ of (X)+ [context_window], else NULL */
} layer_weights;

typedef struct model_weights {
  matrix token_embedding;         /* [vocabulary, d]; input tokens */
  matrix token_types;             /* [types, d] or no rows; and */
  norm_weights embedding_norm;    /* [d], or a NULL gain */
  matrix input_projection;        /* [d, features]; input features */
  const float *class_row;         /* [d] or NULL */
  matrix position_embedding;      /* [context_window, d]; learned positions */
  const float *rope_frequencies;  /* [n_rotated/2] divisors or NULL (Llama-3 scaling) */
  const float *rope_factors_long, *rope_factors_short; /* the same (LongRoPE): of contexts longer
                                                          than the original one, and of others */
  matrix per_layer_embedding;     /* [vocabulary, L·P] or no rows */
  uint64_t n_row_bytes; /* of all of that table */
  uint64_t left_at;     /* where in the file it begins, if it is left there; else 0 */
  matrix per_layer_projection;    /* [L·P, d] */
  const float *per_layer_norm;    /* [P] */
  layer_weights *layers;          /* [n_layers] */
  norm_weights output_norm;       /* [d], or a NULL gain */
  matrix head;                    /* [n_outputs, d]; shares token_embedding's rows when tied; or
                                     no rows */
  uint64_t n_parameters; /* more than a 32-bit host can count, in 4-bit blocks */
  size_t n_bytes; /* of everything above: MEMORY_WEIGHTS */
} model_weights;

typedef enum piece_kind { PIECE_COPY, PIECE_TO_F32, PIECE_PACK, PIECE_LEAVE } piece_kind;

/* Where the bytes of the data section go: one piece a run of rows of a tensor. */
typedef struct weights_piece {
  size_t source_offset; /* in the data section */
  size_t source_bytes;
  uint8_t *destination;
  tensor_type type;
  piece_kind kind;
  size_t n_columns; /* of a row, and the bytes of a strip: only for PIECE_PACK */
  size_t strip_bytes;
} weights_piece;

typedef struct weights_plan {
  model_weights weights;
  uint8_t *block; /* the one allocation that all views point into */
  const kernel_table *kernels;
  bool packs; /* else all matrices keep the file's rows */
  bool leaves_rows; /* a table that is looked up can stay in the file */
  size_t n_pieces;
  size_t n_pieces_max;
  weights_piece *pieces; /* [n_pieces_max]; the first n_pieces are by source_offset */
  size_t n_tensors;
  bool *is_used; /* [n_tensors] of the file's tensors */
  size_t n_fed;          /* bytes of the data section seen so far */
  size_t next_piece;
  uint8_t remainder[TENSOR_BYTES_MAX]; /* a block that was cut between two feeds */
  size_t n_remainder;
  const weights_piece *damaged; /* the first with a factor that is not finite; or NULL */
} weights_plan;

/* Checks the table against the description and counts; allocates nothing but the plan's list of
 * pieces. packs: quantised matrices are packed. leaves_rows: see the plan. Errors: MISSING_TENSOR,
 * BAD_TENSOR, UNKNOWN_TENSOR, OUT_OF_MEMORY. */
onekv_status weights_plan_open(memory_ledger *memory, const gguf *file,
                               const onekv_config *config, const kernel_table *kernels,
                               bool packs, bool leaves_rows, weights_plan *plan,
                               onekv_error *error);

/* Takes the memory for the weights (plan->weights.n_bytes) and points all views into it; the
 * same file and config as before. Error: OUT_OF_MEMORY. */
onekv_status weights_plan_allocate(memory_ledger *memory, const gguf *file,
                                   const onekv_config *config, weights_plan *plan,
                                   onekv_error *error);

/* The next n bytes of the data section. Bytes behind the last tensor are ignored. Where
 * plan->damaged is set the weights are not to be used. */
void weights_feed(weights_plan *plan, const uint8_t *bytes, size_t n);

/* All tensors have arrived. */
bool weights_complete(const weights_plan *plan);

/* Then, once: matrices of F16 become TENSOR_F16_NORMAL where all their numbers fit. */
void weights_make_normal(const kernel_table *kernels, size_t n_layers, model_weights *weights);

/* Gives back the list of pieces, which only loading needs; the weights stay. */
void weights_plan_close(memory_ledger *memory, weights_plan *plan);
void weights_free(memory_ledger *memory, weights_plan *plan);

#endif
