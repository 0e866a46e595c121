/* The words of the public API that every level of core speaks too: status and error, where memory
 * comes from, threads, options and figures of models. Includes nothing of core. */
#ifndef ONEKV_TYPES_H
#define ONEKV_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- What can go wrong -- */

/* X(code, text). The text says what the code means; an onekv_error says where. */
#define ONEKV_STATUS_LIST(X)                                                                 \
  X(OK, "no error")                                                                          \
  X(OUT_OF_MEMORY, "out of memory")                                                          \
  X(INVALID_ARGUMENT, "an argument is outside its documented range")                         \
  X(WRONG_STATE, "the call is not possible in this state")                                   \
  X(NOT_GGUF, "the bytes do not start like a GGUF file")                                     \
  X(UNSUPPORTED_VERSION, "the version of the file format is not supported")                  \
  X(TRUNCATED, "the bytes end too early")                                                    \
  X(CORRUPT, "a field of the file contradicts the format")                                   \
  X(UNSUPPORTED_TYPE, "an element type is not supported")                                    \
  X(UNSUPPORTED_MODEL, "the model uses a feature that is not supported")                     \
  X(MISSING_KEY, "a metadata key is missing")                                                \
  X(BAD_KEY, "a metadata key has a wrong type or value")                                     \
  X(MISSING_TENSOR, "a tensor is missing")                                                   \
  X(BAD_TENSOR, "a tensor has a wrong shape")                                                \
  X(UNKNOWN_TENSOR, "the file holds a tensor that the model does not use")                   \
  X(TOKEN_OUT_OF_RANGE, "a token id is not in the vocabulary")                               \
  X(CONTEXT_FULL, "the sequence does not fit in the context window")                         \
  X(SNAPSHOT_REFUSED, "the snapshot does not fit this model or is damaged")                  \
  X(NOT_FINITE, "the logits are not finite numbers")                                         \
  X(SOURCE_FAILED, "the model's file could not be read")

typedef enum onekv_status {
#define X(code, text) ONEKV_##code,
  ONEKV_STATUS_LIST(X)
#undef X
      ONEKV_STATUS_COUNT
} onekv_status;

enum { ONEKV_MESSAGE_MAX = 256 };

typedef struct onekv_error {
  onekv_status status;
  char message[ONEKV_MESSAGE_MAX]; /* zero-terminated, cut if longer */
} onekv_error;

/* The code's name without prefix ("BAD_TENSOR"), static; "?" for a value outside the list. */
const char *onekv_status_name(onekv_status status);

/* The code's general text, static. */
const char *onekv_status_text(onekv_status status);

/* -- Memory and threads -- */

/* Where memory comes from. Blocks must be aligned to 16 bytes; allocate returns NULL when it
 * has none. A zeroed struct means malloc and free. */
typedef struct onekv_allocator {
  void *context;
  void *(*allocate)(void *context, size_t n_bytes);
  void (*release)(void *context, void *block, size_t n_bytes);
} onekv_allocator;

/* A model's file, where it can be read at any place while the model is used. */
typedef struct onekv_row_source {
  void *context;
  /* Bytes [offset, offset + n_bytes) of the file to out; false if they cannot be had. Called in
   * steps, by the thread that calls them. */
  bool (*read)(void *context, uint64_t offset, size_t n_bytes, uint8_t *out);
} onekv_row_source;

enum { ONEKV_THREADS_MAX = 32 };

typedef struct onekv_pool onekv_pool;

/* Asks for n_threads (1 to ONEKV_THREADS_MAX; the caller counts as one); the pool goes on without
 * those that the system refuses. allocator may be NULL. The pool is the caller's, serves any number
 * of models that are not used at the same time, and outlives them.
 * Errors: INVALID_ARGUMENT, OUT_OF_MEMORY. */
onekv_status onekv_pool_open(const onekv_allocator *allocator, size_t n_threads,
                             onekv_pool **out);

/* Ends the threads, waiting for each to end (also for one that has yet to come up). */
void onekv_pool_close(onekv_pool *pool);

/* Threads that can be used now, at least 1: those that have come up. */
size_t onekv_pool_n_alive(const onekv_pool *pool);

/* Uses min(n_threads, alive) threads from now on and returns that number; 0: all alive ones. A new
 * pool uses one. */
size_t onekv_pool_activate(onekv_pool *pool, size_t n_threads);

/* -- Options of models -- */

/* Which kernels run. */
typedef enum onekv_level {
  ONEKV_LEVEL_BEST, /* the strongest of this build */
  ONEKV_LEVEL_SCALAR,
  ONEKV_LEVEL_SIMD128,
  ONEKV_LEVEL_RELAXED
} onekv_level;

/* How quantised matrices are multiplied. */
typedef enum onekv_arithmetic {
  ONEKV_INT8,  /* packed for integer kernels; each input row is rounded to 7 bits and a sign, in
                  blocks as long as the weights' (32 to 256 columns): an input moves by up to 2^-8
                  of its block's largest */
  ONEKV_INT16, /* the same with 14 bits and a sign: by up to 2^-15 */
  ONEKV_F32    /* rows of the file, decoded and multiplied as f32: slowest, nothing is rounded */
} onekv_arithmetic;

/* How the rows of a text, as the last layer leaves them and the head would read them, become one
 * vector. The numbers are those of the key {arch}.pooling_type. */
typedef enum onekv_pooling {
  ONEKV_POOL_DEFAULT, /* the file's; where it says none, the mean of a bidirectional model's rows,
                         the last of a causal one's */
  ONEKV_POOL_MEAN,
  ONEKV_POOL_FIRST, /* the row of [CLS], in BERT */
  ONEKV_POOL_LAST
} onekv_pooling;

typedef enum onekv_cache_type {
  ONEKV_CACHE_F16, /* first: the default of a zeroed options struct */
  ONEKV_CACHE_F32,
  ONEKV_CACHE_I8, /* int8 with one f32 scale per head and position; two with a latent */
  ONEKV_CACHE_I4, /* 4 bits with one f16 scale per 32 elements of a head's row */
  ONEKV_CACHE_TYPE_COUNT
} onekv_cache_type;

/* Zero means default for every field but the pool. */
typedef struct onekv_model_options {
  onekv_pool *pool;           /* required; outlives the model */
  onekv_allocator allocator;  /* default: malloc and free */
  onekv_level level;          /* default: the best of this build */
  onekv_arithmetic arithmetic; /* default: INT8 */
  onekv_cache_type cache_type; /* default: f16 */
  size_t context_window;      /* longest session; default and maximum: the file's */
  size_t n_logits_max;        /* rows of logits of one step; default 8 */
  bool header_only;           /* weights are dropped: for description and estimate only */
} onekv_model_options;

/* -- Bytes -- */

/* What a cached row is to attention. */
typedef enum onekv_cached {
  ONEKV_CACHED_KEYS,
  ONEKV_CACHED_VALUES,
  ONEKV_CACHED_SHARED, /* one row that is key and value (K=V) */
  ONEKV_CACHED_COUNT
} onekv_cached;

typedef struct onekv_bytes {
  uint64_t by_kind[ONEKV_CACHED_COUNT];
  uint64_t total; /* their sum; it may be more than a 32-bit host can address */
} onekv_bytes;

/* Of a model. */
typedef struct onekv_memory {
  size_t weights, cache, scratch, sessions, tables; /* bytes held, by kind */
  size_t total;          /* their sum: exactly what the allocator has handed out */
  size_t peak;           /* highest total so far */
  size_t cache_used;     /* of `cache`: pages that sessions refer to, each counted once */
  size_t cache_pooled;   /* of `cache`: free pages, kept for reuse */
  size_t n_sessions;
} onekv_memory;

/* -- Choice of the next token -- */

enum {
  ONEKV_BIASES_MAX = 64,         /* entries of a logit bias */
  ONEKV_PENALTY_WINDOW_MAX = 256 /* tokens that penalties look back over */
};

typedef enum onekv_sampler_order {
  ONEKV_TEMPERATURE_FIRST, /* as Hugging Face Transformers: cuts see the heated distribution */
  ONEKV_TEMPERATURE_LAST   /* as llama.cpp: cuts see the model's own distribution */
} onekv_sampler_order;

typedef struct onekv_logit_bias {
  int32_t token;
  float bias; /* added to the logit; -INFINITY forbids the token */
} onekv_logit_bias;

/* A zeroed struct is greedy decoding without penalties. */
typedef struct onekv_sampling {
  float temperature;        /* 0: greedy; else > 0 */
  uint32_t top_k;           /* keep the k likeliest; 0: all */
  float top_p;              /* keep the smallest set of that probability; 0 or 1: all */
  float min_p;              /* keep tokens of at least min_p × the likeliest's probability */
  float repetition_penalty; /* divides positive, multiplies negative logits of seen tokens
                               (Keskar et al. 2019); 0 or 1: none */
  float presence_penalty;   /* subtracted once from a seen token's logit */
  float frequency_penalty;  /* subtracted for every time it was seen */
  uint32_t penalty_window;  /* "seen" is among this many last tokens; 0: 64 */
  uint32_t order;           /* an onekv_sampler_order */
  uint32_t n_biases;
  onekv_logit_bias biases[ONEKV_BIASES_MAX];
  uint64_t seed;
} onekv_sampling;

typedef struct onekv_candidate {
  float logit;
  int32_t token;
} onekv_candidate;

/* log softmax(logits [n])[token]: a token's log probability. */
float onekv_logprob(const float *logits, size_t n, int32_t token);

#endif
