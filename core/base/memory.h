/* Counted memory: every byte that core holds goes through here and is filed under a kind.
 *
 * Invariant: for each kind, bytes handed out minus bytes released equals `n_bytes[kind]`, to
 * the byte; the memory report of onekv.h is read from these counters and nowhere else. */
#ifndef ONEKV_MEMORY_H
#define ONEKV_MEMORY_H

#include "core/onekv_types.h"

typedef enum memory_kind {
  MEMORY_WEIGHTS,  /* matrices, norms, position tables                  */
  MEMORY_CACHE,    /* pages of the KV cache, in use or waiting in the pool */
  MEMORY_SCRATCH,  /* activations, logits, tiles: sized when a model opens */
  MEMORY_SESSIONS, /* session structs, token ids, page tables           */
  MEMORY_TABLES,   /* model struct, file header while loading, threads  */
  MEMORY_KIND_COUNT
} memory_kind;

typedef struct memory_ledger {
  onekv_allocator allocator;
  size_t n_bytes[MEMORY_KIND_COUNT];
  size_t n_bytes_total;
  size_t n_bytes_peak; /* highest n_bytes_total so far */
} memory_ledger;

/* Ready for use; allocator may be NULL (malloc and free). */
void memory_init(memory_ledger *memory, const onekv_allocator *allocator);

/* n_bytes > 0 of zeroed memory, aligned to 16 bytes, or NULL. Released with the same n_bytes
 * and kind. */
void *memory_take(memory_ledger *memory, memory_kind kind, size_t n_bytes);
/* The same with whatever was there: for what is written as a whole before it is read. */
void *memory_take_raw(memory_ledger *memory, memory_kind kind, size_t n_bytes);
void memory_give_back(memory_ledger *memory, memory_kind kind, void *block, size_t n_bytes);

/* Overflow-checked sizes: false, and *out untouched, when the result does not fit. */
bool size_multiply(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

/* An arena carves one block into aligned pieces. Run the same layout code twice: first with
 * base NULL, which only counts, then with a block of n_used bytes. */
typedef struct memory_arena {
  uint8_t *base;
  size_t n_used;
  bool overflow; /* a size did not fit; n_used means nothing then */
} memory_arena;

/* n × size bytes aligned to 64 bytes from the base; NULL while counting. */
void *arena_take(memory_arena *arena, size_t n, size_t size);

#endif
