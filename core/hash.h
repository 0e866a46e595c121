/* A fingerprint of bytes: FNV-1a, 64 bits (Fowler, Noll & Vo). It tells files and snapshots apart
 * and finds damage; it is no defence against forgery. */
#ifndef ONEKV_HASH_H
#define ONEKV_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xCBF29CE484222325)

/* The hash of what was hashed so far (HASH_START: nothing) followed by bytes [n]. */
static inline uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
  return hash;
}

#endif
