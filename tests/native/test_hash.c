/* The hash is XXH64: the values of the reference implementation (xxhash 4.1 of PyPI), for lengths
 * on both sides of every step of the algorithm, and in pieces of every size. */
#include "tests/native/check.h"
#include "core/base/hash.h"

enum { N_MAX = 300 };

typedef struct known_hash {
  size_t n;
  uint64_t hash;
} known_hash;

static const known_hash KNOWN[] = {
    {0, UINT64_C(0xef46db3751d8e999)},   {1, UINT64_C(0xe934a84adb052768)},
    {3, UINT64_C(0x28823e205e353f69)},   {4, UINT64_C(0x91b65bbe720c34cf)},
    {5, UINT64_C(0x31fce8da85d2b801)},   {7, UINT64_C(0xe2400cdea02ee3c5)},
    {8, UINT64_C(0x521fd2878ea69d17)},   {11, UINT64_C(0x89254e83ede19f13)},
    {12, UINT64_C(0x3fb737ea78f531bb)},  {15, UINT64_C(0x4ee77ab371d06e31)},
    {31, UINT64_C(0xb74baa9042b94dee)},  {32, UINT64_C(0x4e13111ced6f735d)},
    {33, UINT64_C(0xf7b9faf20b3bce63)},  {36, UINT64_C(0x3c4249d3e63d33a8)},
    {63, UINT64_C(0x35f935e6044a08ad)},  {64, UINT64_C(0xcd91daec2c21766f)},
    {65, UINT64_C(0x7c795c59456ed577)},  {100, UINT64_C(0xd61ea92c5ae13676)},
    {300, UINT64_C(0x09238f35b40d0b40)},
};

int main(void) {
  uint8_t bytes[N_MAX];
  for (uint64_t i = 0; i < N_MAX; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 13);
  for (size_t k = 0; k < sizeof KNOWN / sizeof *KNOWN; k++) {
    size_t n = KNOWN[k].n;
    CHECK_SAY(hash_bytes(bytes, n) == KNOWN[k].hash, "%zu bytes", n);
    for (size_t piece = 1; piece <= n; piece++) {
      hash_state state;
      hash_start(&state);
      for (size_t at = 0; at < n; at += piece) {
        hash_feed(&state, bytes + at, n - at < piece ? n - at : piece);
      }
      CHECK_SAY(hash_value(&state) == KNOWN[k].hash, "%zu bytes by %zu", n, piece);
    }
  }
  return check_finish();
}
