/* What the scalar and the SIMD dequantisers both know of the block formats. */
#ifndef ONEKV_DEQUANTIZE_BLOCKS_H
#define ONEKV_DEQUANTIZE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "core/base/tensor.h"

enum {
  BLOCK = 32,        /* elements of a simple block                           */
  SUPER_BLOCK = 256, /* elements of a K block                                */
  ONE_BIT_BLOCK = 128,
  K_SCALES = 12      /* bytes that hold 8 scales and 8 minima of 6 bits each */
};

static inline float read_f16(const uint8_t *bytes) {
  return f32_from_f16(load_u16(bytes));
}

/* Scale and minimum of sub-block j (0 to 7) out of the 12 packed bytes: the first four have
 * their 6 bits in bytes j and j + 4; the last four have 4 bits in byte j + 4 and their upper
 * two in the top of bytes j - 4 and j. */
static inline void k_scale_and_minimum(const uint8_t scales[K_SCALES], size_t j, int *scale,
                                       int *minimum) {
  if (j < 4) {
    *scale = scales[j] & 63;
    *minimum = scales[j + 4] & 63;
  } else {
    *scale = (scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4);
    *minimum = (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4);
  }
}

/* Scale of part j (0 to 15) of Q3_K: 4 bits in byte j % 8, two in byte 8 + j % 4. */
static inline int q3_k_scale(const uint8_t scales[K_SCALES], size_t j) {
  int low = scales[j % 8] >> (j / 8 * 4) & 15;
  return (low | (scales[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
}

/* Scale of part j (0 to 7) of an IQ4_XS block. */
static inline int iq4_xs_scale(const uint8_t *block, size_t j) {
  int low = block[4 + j / 2] >> (j % 2 * 4) & 15;
  return (low | (load_u16(block + 2) >> (2 * j) & 3) << 4) - 32;
}

#endif
