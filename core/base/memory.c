/* Counted memory: the only caller of an allocator in core.
 *
 * Invariant: counters change only together with a successful take or a give-back. */
#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGNMENT = 64 };

static void *default_allocate(void *context, size_t n_bytes) {
  (void)context;
  return malloc(n_bytes);
}

static void default_release(void *context, void *block, size_t n_bytes) {
  (void)context;
  (void)n_bytes;
  free(block);
}

void memory_init(memory_ledger *memory, const onekv_allocator *allocator) {
  memset(memory, 0, sizeof *memory);
  if (allocator != NULL && allocator->allocate != NULL) {
    memory->allocator = *allocator;
  } else {
    memory->allocator.allocate = default_allocate;
    memory->allocator.release = default_release;
  }
}

void *memory_take_raw(memory_ledger *memory, memory_kind kind, size_t n_bytes) {
  if (n_bytes == 0 || n_bytes > SIZE_MAX - memory->n_bytes_total) return NULL;
  void *block = memory->allocator.allocate(memory->allocator.context, n_bytes);
  if (block == NULL) return NULL;
  memory->n_bytes[kind] += n_bytes;
  memory->n_bytes_total += n_bytes;
  if (memory->n_bytes_total > memory->n_bytes_peak) memory->n_bytes_peak = memory->n_bytes_total;
  return block;
}

void *memory_take(memory_ledger *memory, memory_kind kind, size_t n_bytes) {
  void *block = memory_take_raw(memory, kind, n_bytes);
  if (block != NULL) memset(block, 0, n_bytes);
  return block;
}

void memory_give_back(memory_ledger *memory, memory_kind kind, void *block, size_t n_bytes) {
  if (block == NULL) return;
  memory->n_bytes[kind] -= n_bytes;
  memory->n_bytes_total -= n_bytes;
  memory->allocator.release(memory->allocator.context, block, n_bytes);
}

bool size_multiply(size_t a, size_t b, size_t *out) {
  if (b != 0 && a > SIZE_MAX / b) return false;
  *out = a * b;
  return true;
}

bool size_add(size_t a, size_t b, size_t *out) {
  if (a > SIZE_MAX - b) return false;
  *out = a + b;
  return true;
}

void *arena_take(memory_arena *arena, size_t n, size_t size) {
  size_t n_bytes = 0;
  size_t start = 0;
  size_t end = 0;
  bool fits = size_multiply(n, size, &n_bytes) &&
              size_add(arena->n_used, ARENA_ALIGNMENT - 1, &start);
  start -= start % ARENA_ALIGNMENT;
  fits = fits && size_add(start, n_bytes, &end);
  if (!fits || arena->overflow) {
    arena->overflow = true;
    return NULL;
  }
  arena->n_used = end;
  return arena->base == NULL ? NULL : arena->base + start;
}
