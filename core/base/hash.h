/* A fingerprint of bytes: XXH64 with seed 0 (Collet; xxhash.com has the specification), fed in
 * pieces of any size. It tells files and snapshots apart and finds damage; it is not a defence
 * against forgery. */
#ifndef ONEKV_HASH_H
#define ONEKV_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { HASH_STRIPE = 32 };

typedef struct hash_state {
  uint64_t lanes[4];
  uint64_t n_bytes;           /* fed so far */
  uint8_t stripe[HASH_STRIPE]; /* its first n_bytes % 32 bytes wait for the rest */
} hash_state;

void hash_start(hash_state *state);
void hash_feed(hash_state *state, const uint8_t *bytes, size_t n);
/* Of all bytes so far; more may follow. */
uint64_t hash_value(const hash_state *state);

/* Of bytes [n] alone. */
uint64_t hash_bytes(const uint8_t *bytes, size_t n);

#endif
