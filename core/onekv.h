/* OneKV: transformers whose KV cache is one tensor, and all the other variants.
 *
 *   onekv_pool_open                          threads, shared by all models
 *   onekv_loader_open, _feed…, _finish       a stream of GGUF bytes becomes a model
 *   onekv_session_open                       one conversation
 *   onekv_step, onekv_sample                 tokens in, logits, next token out
 *   onekv_session_clone, _truncate, _save    branch, cut, keep
 *   onekv_model_memory, onekv_session_memory every byte
 *
 * onekv_types.h has statuses, the threads' pool, options and figures of models, sampling.
 * core/README.md shows a first program.
 *
 * A model is immutable and its sessions are independent, but a model has one working memory:
 * calls on a model and its sessions must not overlap. Functions return a status; on failure
 * nothing has changed and out-pointers are untouched, unless a comment says otherwise. `error`
 * may be NULL. */
#ifndef ONEKV_H
#define ONEKV_H

#include "core/onekv_types.h"

typedef struct onekv_loader onekv_loader;
typedef struct onekv_model onekv_model;
typedef struct onekv_session onekv_session;
typedef struct onekv_config onekv_config; /* a model's description: of a loader or of a model */

/* -- Loading: bytes in file order, in pieces of any size. No copy of the file is kept. -- */

/* The loader is the caller's: onekv_loader_close, or onekv_loader_finish, ends it. */
onekv_status onekv_loader_open(const onekv_model_options *options, onekv_loader **out,
                               onekv_error *error);

/* The file that is fed can be read at any place as long as the model is used; rows is copied. A
 * large table that is only looked up (per-layer embeddings) stays there, and the row of a token is
 * read when it runs. Without this all weights are held. Error: WRONG_STATE after the first byte. */
onekv_status onekv_loader_rows(onekv_loader *loader, const onekv_row_source *rows);

/* Takes the next bytes. While the header is incomplete they are collected; then it is checked
 * (all errors of gguf_parse, config_read and weights_plan_open) and memory for the weights is
 * taken when the first byte of weights arrives. After an error only close is possible. */
onekv_status onekv_loader_feed(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes,
                               onekv_error *error);

/* The header has been read and checked. Description and size need it (else NULL, 0). */
bool onekv_loader_has_header(const onekv_loader *loader);
const onekv_config *onekv_loader_config(const onekv_loader *loader);
size_t onekv_loader_file_bytes(const onekv_loader *loader); /* header and data */

/* A metadata value of the file. Types are GGUF's numbers: u8 0, i8 1, u16 2, i16 3, u32 4, i32 5,
 * f32 6, bool 7, string 8, array 9, u64 10, i64 11, f64 12. */
typedef struct onekv_value {
  uint32_t type;
  uint32_t item_type;   /* of an array's items */
  size_t n_items;       /* of an array; else 1 */
  const uint8_t *bytes; /* [n_bytes] in the file's encoding, of the loader's memory; may be
                           unaligned. Strings, items too, start with their u64 length */
  size_t n_bytes;
} onekv_value;

/* False, and *out untouched, when the header has no such key or is not complete. Works also when
 * the header was read but describes no model that can be run. */
bool onekv_loader_find(const onekv_loader *loader, const char *key, onekv_value *out);

/* What the file will take, before its weights are read. */
typedef struct onekv_estimate {
  uint64_t n_parameters;
  size_t weight_bytes; /* that are held */
  uint64_t row_bytes;  /* of a table that onekv_loader_rows leaves in the file; else it is held */
  size_t scratch_bytes;
} onekv_estimate;
onekv_status onekv_loader_estimate(const onekv_loader *loader, onekv_estimate *out);

/* All bytes were fed: the model is the caller's (onekv_model_close) and the loader is gone.
 * Errors: TRUNCATED, OUT_OF_MEMORY; the loader stays. */
onekv_status onekv_loader_finish(onekv_loader *loader, onekv_model **out, onekv_error *error);
void onekv_loader_close(onekv_loader *loader);

/* -- Model -- */

/* All its sessions must be closed before (else WRONG_STATE). */
onekv_status onekv_model_close(onekv_model *model);
const onekv_config *onekv_model_config(const onekv_model *model);
uint64_t onekv_model_hash(const onekv_model *model);        /* of the file's bytes */
const char *onekv_model_level(const onekv_model *model);    /* "scalar", "simd128", "relaxed" */
/* Lets the model's steps use at most n_threads of the pool's active threads; 0, as a model opens:
 * all of them. Results do not depend on it. */
void onekv_model_use_threads(onekv_model *model, size_t n_threads);

/* What a caller has to know of a model to use it. */
typedef struct onekv_shape {
  const char *architecture; /* general.architecture; lives as long as the description */
  bool is_causal;           /* sessions; else onekv_encode */
  bool has_head;            /* else rows of logits are the last layer's */
  onekv_pooling pooling;    /* of onekv_embed by default: never DEFAULT */
  size_t n_embedding;       /* numbers in a vector of onekv_embed */
  size_t n_layers;
  size_t context_window; /* the file's: the longest sequence */
  size_t n_vocabulary; /* input tokens are 0 to n_vocabulary - 1; 0: the input is features */
  size_t n_features;   /* numbers in an input row; 0: the input is tokens */
  size_t n_outputs;    /* numbers in a row of logits: vocabulary, classes, or n_embedding */
} onekv_shape;
void onekv_describe(const onekv_config *config, onekv_shape *out);

/* -- Bytes of caches: computed, for any number of tokens of one session -- */

/* Which cache is asked about. Zero is the model's own in f16, row by row. */
typedef struct onekv_cache_plan {
  onekv_cache_type type;
  size_t n_standard_heads; /* 0: the model's own cache. g, at most H: that of standard QKV attention
                              with g KV heads in the model's place: H is MHA, 1 MQA */
  bool whole_pages;        /* bytes of the pages that hold the tokens, not of their rows alone */
} onekv_cache_plan;

/* What n_tokens tokens take. config: of a loader or of a model. Not linear in n_tokens by contract:
 * ask for the number that is meant, and do not multiply. */
void onekv_cache_bytes(const onekv_config *config, const onekv_cache_plan *plan, size_t n_tokens,
                       onekv_bytes *out);

/* The most tokens, up to the file's context, to which a session can grow in n_bytes: it takes no
 * more at any length on the way. (With windows it may take less at a greater length.) */
size_t onekv_cache_tokens(const onekv_config *config, const onekv_cache_plan *plan,
                          uint64_t n_bytes);

void onekv_model_memory(const onekv_model *model, onekv_memory *out);

/* Gives free pages back to the allocator. */
void onekv_model_trim(onekv_model *model);

/* -- Session: one sequence of a causal model --
 *
 * The last token of a session usually waits: it is one of the session's tokens, but has not run,
 * since its logits are what the next choice needs. It has no row in the cache until then, and may
 * be one more than the window holds. */

typedef struct onekv_session_options {
  size_t context_window;   /* in tokens; default and maximum: the model's */
  bool slides;             /* full window: forget the older half instead of CONTEXT_FULL */
  size_t n_keep;           /* sliding never forgets the first n_keep tokens */
  onekv_sampling sampling; /* zero: greedy */
} onekv_session_options;

/* options may be NULL. Errors: INVALID_ARGUMENT, OUT_OF_MEMORY. */
onekv_status onekv_session_open(onekv_model *model, const onekv_session_options *options,
                                onekv_session **out, onekv_error *error);
void onekv_session_close(onekv_session *session);

/* An independent session with the same tokens, cache (shared until one of them writes), sampling
 * and random numbers. Error: OUT_OF_MEMORY. */
onekv_status onekv_session_clone(const onekv_session *session, onekv_session **out);

size_t onekv_session_n_tokens(const onekv_session *session); /* with one that waits */
size_t onekv_session_context_window(const onekv_session *session);
bool onekv_session_slides(const onekv_session *session);      /* when the window is full */
/* tokens [n] of positions [first, first + n). Error: INVALID_ARGUMENT. */
onekv_status onekv_session_tokens(const onekv_session *session, size_t first, size_t n,
                                  int32_t *tokens);

/* Where the next slide is to cut, such as between two turns of a chat: it forgets the tokens from
 * n_keep up to this position, if what stays leaves room, and the older half otherwise. It holds for
 * one slide, since positions are others afterwards, and until a truncate; 0: nowhere. Clones and
 * snapshots do not have it. */
void onekv_session_cut_at(onekv_session *session, size_t position);

/* Takes the cache pages of n more tokens now: appending them cannot run out of memory then, and
 * the bytes of a long session are seen before it is computed. truncate gives them back.
 * Errors: CONTEXT_FULL, OUT_OF_MEMORY; the session stays as it was. */
onekv_status onekv_session_reserve(onekv_session *session, size_t n, onekv_error *error);

/* Keeps the first n tokens, and no reserved page. Layers with a window, and convolutions, have let
 * go of rows that were behind it: where the next token would see them again, the first n tokens
 * are computed anew, which is exact, as sliding is, and costs their prefill. A session that was not
 * cut or restored before can lose its last 32 tokens without that, any model without such layers
 * all.
 * Errors: INVALID_ARGUMENT if there are fewer; OUT_OF_MEMORY, or those of rows in a file (see
 * onekv_step): the session stays as it was. */
onekv_status onekv_session_truncate(onekv_session *session, size_t n);

/* New sampling parameters; random numbers restart at their seed. */
onekv_status onekv_session_set_sampling(onekv_session *session, const onekv_sampling *sampling,
                                        onekv_error *error);

uint64_t onekv_session_seed(const onekv_session *session); /* of its random numbers */

typedef struct onekv_session_memory_report {
  size_t n_cached;       /* tokens that have run: all, or all but the one that waits */
  size_t n_held;         /* tokens that the session's pages have room for */
  onekv_bytes cached;    /* the rows of those that have run, by kind */
  size_t cache_pages;    /* pages referred to, those shared with clones included */
  size_t cache_own;      /* pages that no other session refers to */
} onekv_session_memory_report;
void onekv_session_memory(const onekv_session *session, onekv_session_memory_report *out);

/* -- Steps -- */

typedef struct onekv_item {
  onekv_session *session; /* of this model; each at most once a step */
  const int32_t *tokens;  /* [n_tokens], appended to the session */
  size_t n_tokens;
  size_t n_logits;        /* rows of logits wanted: of the last n_logits tokens that run */
  float *logits;          /* out: [n_logits][n_outputs], the model's memory, until the next call in
                             which tokens run; the caller may change them (a grammar's mask)
                             before sampling */
} onekv_item;

/* Appends each item's tokens to its session, and runs all together as one batch: the token that
 * waits in the session, if any, then the item's. Without logits (n_logits 0) the last of them does
 * not run, but waits from now on. With n_tokens 0 and n_logits 1 nothing is appended: what waits
 * runs for its logits, or, where all tokens have run, the last one does so once more, with the same
 * bits. The sum of n_logits must not exceed the model's n_logits_max. Errors: INVALID_ARGUMENT,
 * TOKEN_OUT_OF_RANGE, CONTEXT_FULL (those that run do not fit), OUT_OF_MEMORY, WRONG_STATE (a
 * bidirectional model, or a session without any token); after OUT_OF_MEMORY a window that had to
 * slide may have slid, a page shared with a clone may have been copied, and a last token that was
 * to run again may wait. With onekv_loader_rows also SOURCE_FAILED (a row could not be read) and
 * CORRUPT (its numbers are not finite): the same holds, and of a prompt of more than 32 tokens
 * those that have run stay in a session whose layers have windows. */
onekv_status onekv_step(onekv_model *model, onekv_item *items, size_t n_items,
                        onekv_error *error);

/* Speculative decoding: runs the token that waits and n guesses of those after it as one batch. The
 * session's tokens stay as they are; what ran is kept ahead of them. A step that asks for the
 * logits of the token that waits (n_tokens 0, n_logits 1) finds them there, with the same bits, as
 * long as the tokens that are appended one by one are those of the draft and no others run on the
 * model. Anything else that is done with the session lets go of the rest of it; n 0 does nothing
 * but that, and reserved pages go back with it.
 * Guesses for which the window or n_logits_max has no room are left out, and all of them where no
 * token waits. Errors: TOKEN_OUT_OF_RANGE, OUT_OF_MEMORY: there is no draft. */
onekv_status onekv_session_draft(onekv_session *session, const int32_t *tokens, size_t n,
                                 onekv_error *error);

/* Rows of logits that are still ahead: of the draft's tokens, and of the one that waited; 0 when
 * there is no draft, or it took another way than the session. */
size_t onekv_session_n_ahead(const onekv_session *session);

/* Chooses the session's next token from a row of logits of its last step; nothing is appended.
 * Error: NOT_FINITE. */
onekv_status onekv_sample(onekv_session *session, const float *logits, int32_t *token);

/* logprobs [n]: log p(tokens[i] | the session's tokens and tokens[0..i)), NaN for the first token
 * of an empty session, while the tokens are appended; the last one waits. n >= 1. Errors as
 * onekv_step; on CONTEXT_FULL nothing is done: scoring does not slide the window. */
onekv_status onekv_score(onekv_session *session, const int32_t *tokens, size_t n,
                         float *logprobs, onekv_error *error);

/* The n_top likeliest tokens of a row of logits, likeliest first: `logit` is the log probability.
 * The result is the model's memory, until its next call. */
const onekv_candidate *onekv_model_top(onekv_model *model, const float *logits, size_t n_top);

/* Runs a bidirectional model on one whole sequence: tokens [n_rows], or features
 * [n_rows][n_features] (a class row is added by the model). *logits is [n_logits][n_outputs],
 * n_logits 1 when the model pools the first row, else n_rows; the model's memory until its next
 * call. Errors: WRONG_STATE (a causal model), INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE,
 * CONTEXT_FULL, OUT_OF_MEMORY. */
onekv_status onekv_encode(onekv_model *model, const int32_t *tokens, const float *features,
                          size_t n_rows, const float **logits, size_t *n_logits,
                          onekv_error *error);

/* vector [n_embedding] = the pooled rows of a text, tokens [n_tokens], in any model whose input is
 * tokens; it is not normalised. Errors: WRONG_STATE (the input is features), INVALID_ARGUMENT,
 * TOKEN_OUT_OF_RANGE, CONTEXT_FULL, OUT_OF_MEMORY. */
onekv_status onekv_embed(onekv_model *model, const int32_t *tokens, size_t n_tokens,
                         onekv_pooling pooling, float *vector, onekv_error *error);

/* weights [n][n]: row i is how token i attends to tokens 0..i in one head of one layer of a causal
 * model; it sums to 1, and later tokens are 0. Computed for this call (inspect.c); no session
 * changes. Errors: WRONG_STATE, INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, OUT_OF_MEMORY. */
onekv_status onekv_attention_map(onekv_model *model, const int32_t *tokens, size_t n,
                                 size_t layer, size_t head, float *weights, onekv_error *error);

/* scores [n][n]: α q_i·k_j for all i and j, before mask and softmax. With keys_as_queries they are
 * α k_i·k_j: symmetric, as all scores of a Q=K-V model are. Errors as above. */
onekv_status onekv_attention_scores(onekv_model *model, const int32_t *tokens, size_t n,
                                    size_t layer, size_t head, bool keys_as_queries, float *scores,
                                    onekv_error *error);

/* Scores [n][n] of a layer become its weights, in place: of those that its mask lets be seen. */
void onekv_attention_softmax(const onekv_model *model, size_t layer, size_t n, float *scores);

/* -- Snapshots: a session as bytes (snapshot.c has the layout) -- */

size_t onekv_session_save_bytes(const onekv_session *session);
void onekv_session_save(const onekv_session *session, uint8_t *out); /* [save_bytes] */

/* A session like the one saved, on a model of the same hash and cache type; arithmetic and SIMD
 * level may be others, as they only round the cached numbers another way. The bytes may be
 * hostile. Errors: SNAPSHOT_REFUSED with the reason, OUT_OF_MEMORY. */
onekv_status onekv_session_restore(onekv_model *model, const uint8_t *bytes, size_t n_bytes,
                                   onekv_session **out, onekv_error *error);

#endif
