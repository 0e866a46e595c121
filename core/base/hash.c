/* XXH64 by its specification: four lanes of 8 bytes that are summed up at the end. Four chains of
 * multiplications run side by side, where a hash of byte after byte waits for each. */
#include "core/base/hash.h"

#include <string.h>

#include "core/base/bytes.h"

static const uint64_t PRIME_1 = UINT64_C(0x9E3779B185EBCA87);
static const uint64_t PRIME_2 = UINT64_C(0xC2B2AE3D27D4EB4F);
static const uint64_t PRIME_3 = UINT64_C(0x165667B19E3779F9);
static const uint64_t PRIME_4 = UINT64_C(0x85EBCA77C2B2AE63);
static const uint64_t PRIME_5 = UINT64_C(0x27D4EB2F165667C5);

static uint64_t rotate_left(uint64_t value, unsigned n) {
  return value << n | value >> (64 - n);
}

static uint64_t mix(uint64_t lane, uint64_t word) {
  return rotate_left(lane + word * PRIME_2, 31) * PRIME_1;
}

void hash_start(hash_state *state) {
  memset(state, 0, sizeof *state);
  state->lanes[0] = PRIME_1 + PRIME_2;
  state->lanes[1] = PRIME_2;
  state->lanes[3] = 0 - PRIME_1;
}

static void feed_stripes(hash_state *state, const uint8_t *bytes, size_t n_stripes) {
  uint64_t a = state->lanes[0], b = state->lanes[1], c = state->lanes[2], d = state->lanes[3];
  for (size_t i = 0; i < n_stripes; i++, bytes += HASH_STRIPE) {
    a = mix(a, load_u64(bytes));
    b = mix(b, load_u64(bytes + 8));
    c = mix(c, load_u64(bytes + 16));
    d = mix(d, load_u64(bytes + 24));
  }
  state->lanes[0] = a;
  state->lanes[1] = b;
  state->lanes[2] = c;
  state->lanes[3] = d;
}

void hash_feed(hash_state *state, const uint8_t *bytes, size_t n) {
  size_t n_waiting = state->n_bytes % HASH_STRIPE;
  state->n_bytes += n;
  if (n_waiting > 0) {
    size_t n_missing = HASH_STRIPE - n_waiting;
    size_t n_taken = n < n_missing ? n : n_missing;
    memcpy(state->stripe + n_waiting, bytes, n_taken);
    if (n_taken < n_missing) return;
    feed_stripes(state, state->stripe, 1);
    bytes += n_taken;
    n -= n_taken;
  }
  feed_stripes(state, bytes, n / HASH_STRIPE);
  memcpy(state->stripe, bytes + n - n % HASH_STRIPE, n % HASH_STRIPE);
}

/* The four lanes as one; before the first stripe there are none. */
static uint64_t converge(const hash_state *state) {
  if (state->n_bytes < HASH_STRIPE) return PRIME_5;
  const uint64_t *lanes = state->lanes;
  uint64_t hash = rotate_left(lanes[0], 1) + rotate_left(lanes[1], 7) +
                  rotate_left(lanes[2], 12) + rotate_left(lanes[3], 18);
  for (size_t i = 0; i < 4; i++) hash = (hash ^ mix(0, lanes[i])) * PRIME_1 + PRIME_4;
  return hash;
}

uint64_t hash_value(const hash_state *state) {
  uint64_t hash = converge(state) + state->n_bytes;
  const uint8_t *bytes = state->stripe;
  size_t n = state->n_bytes % HASH_STRIPE;
  for (; n >= 8; n -= 8, bytes += 8) {
    hash = rotate_left(hash ^ mix(0, load_u64(bytes)), 27) * PRIME_1 + PRIME_4;
  }
  if (n >= 4) {
    hash = rotate_left(hash ^ load_u32(bytes) * PRIME_1, 23) * PRIME_2 + PRIME_3;
    n -= 4;
    bytes += 4;
  }
  for (; n > 0; n--) hash = rotate_left(hash ^ *bytes++ * PRIME_5, 11) * PRIME_1;
  hash = (hash ^ hash >> 33) * PRIME_2;
  hash = (hash ^ hash >> 29) * PRIME_3;
  return hash ^ hash >> 32;
}

uint64_t hash_bytes(const uint8_t *bytes, size_t n) {
  hash_state state;
  hash_start(&state);
  hash_feed(&state, bytes, n);
  return hash_value(&state);
}
