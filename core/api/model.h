/* The structs behind onekv.h, for the files that implement it. */
#ifndef ONEKV_MODEL_H
#define ONEKV_MODEL_H

#include "core/net/forward.h"
#include "core/net/sampler.h"
#include "core/onekv.h"

struct onekv_model {
  memory_ledger memory; /* sessions and pages are taken from it too */
  onekv_config config;
  kernel_table kernels;
  onekv_pool *pool;
  onekv_row_source source; /* of what the weights have left in the file */
  size_t n_threads; /* most threads of its steps; 0: all active ones */
  size_t context_window; /* longest session: the file's or less */
  weights_plan plan;
  forward_scratch scratch;
  uint8_t *scratch_block;
  size_t n_scratch_bytes;
  onekv_candidate *candidates; /* [n_outputs], inside the scratch block */
  uint32_t *logit_rows;        /* [n_logits_max], inside the scratch block */
  kv_pool pages;
  uint64_t hash;
  size_t n_sessions;
  size_t n_runs; /* batches so far: logits are those of the last one */
};

struct onekv_session {
  onekv_model *model;
  kv_cache cache;   /* its last n_ahead positions are ahead of the session's tokens (draft.c) */
  size_t n_ahead;   /* rows that ran early: of the token that waits, and of drafts behind it */
  size_t n_drafted; /* rows of the draft, whose logits the model has while… */
  size_t drafted_at; /* …this is still its n_runs */
  size_t n_pending; /* 0 or 1 tokens that follow those of the cache and have not run */
  int32_t pending;  /* that token: the next choice needs its logits */
  size_t context_window;
  bool slides;
  size_t n_keep;
  size_t cut_at; /* where the next slide is to cut; 0: nowhere */
  sampler_state sampler;
  size_t n_before; /* positions of the cache as the step that runs began */
  bool is_in_step; /* marks the sessions of the step that is being checked */
};

/* Carves the model's scratch; counts when the arena has no base. */
void model_scratch_make(onekv_model *model, memory_arena *arena);

forward_model model_view(const onekv_model *model);

/* Runs one batch and counts its rows as present in their caches. Errors: those of forward. */
onekv_status model_run(onekv_model *model, const forward_batch *batch, onekv_error *error);

/* The error of a batch that forward did not run; OK stays OK. */
onekv_status model_refuse(onekv_status status, onekv_error *error);

/* The errors of onekv_step that can be found before anything changes. */
onekv_status step_check(onekv_model *model, onekv_item *items, size_t n_items,
                        onekv_error *error);

/* Tokens that have run, as if there were no draft. */
size_t session_n_cached(const onekv_session *session);

/* The session's cache without what is ahead. It refers to the session's pages: for reading only. */
kv_cache session_cache(const onekv_session *session);

/* The item asks for the logits of the token that waits, which the draft has: its row is there, and
 * is the session's from now on. */
bool draft_serves(onekv_item *item);

/* Lets go of what is ahead, unless the item appends what was drafted and nothing else. */
void draft_keep_for(const onekv_item *item);
void draft_forget(onekv_session *session);

/* Takes the last token out of the cache, and the reserved pages, so that it waits for its
 * logits; nothing where a token waits already or there is none. Errors of session_cut. */
onekv_status session_take_back(onekv_session *session);

/* Keeps the first n positions of the cache (at most those present). Where a window has let go of
 * what the next token must see, all n are computed anew. Errors: OUT_OF_MEMORY, those of forward;
 * nothing changed. */
onekv_status session_cut(onekv_session *session, size_t n);

onekv_bytes bytes_by_kind(kv_bytes bytes);

#endif
