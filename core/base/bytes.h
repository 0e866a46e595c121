/* Little-endian numbers out of and into bytes of any alignment, on hosts of any byte order. */
#ifndef ONEKV_BYTES_H
#define ONEKV_BYTES_H

#include <stdint.h>

static inline uint16_t load_u16(const uint8_t *bytes) {
  return (uint16_t)(bytes[0] | ((unsigned)bytes[1] << 8));
}

static inline void store_u16(uint8_t *bytes, uint16_t value) {
  bytes[0] = (uint8_t)value;
  bytes[1] = (uint8_t)(value >> 8);
}

static inline uint32_t load_u32(const uint8_t *bytes) {
  return load_u16(bytes) | ((uint32_t)load_u16(bytes + 2) << 16);
}

static inline uint64_t load_u64(const uint8_t *bytes) {
  return load_u32(bytes) | ((uint64_t)load_u32(bytes + 4) << 32);
}

#endif
