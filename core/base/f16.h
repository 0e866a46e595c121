/* Half precision and bfloat16 as storage: conversion by integer operations, so that every
 * compiler and every engine gives the same bits.
 *
 * f16 -> f32 is exact, NaN payloads included. f32 -> f16 rounds to nearest even, overflows to
 * infinity, keeps subnormals, and turns every NaN into the quiet NaN 0x7e00 with its sign. */
#ifndef ONEKV_F16_H
#define ONEKV_F16_H

#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t f32_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float f32_from_f16(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13; /* exponent and fraction in place */
  if (magnitude >= 0x0f800000u) return f32_from_bits(sign | (magnitude + 0x70000000u));
  if (magnitude >= 0x00800000u) return f32_from_bits(sign | (magnitude + 0x38000000u));
  /* Subnormal: 2^-14 · (1 + fraction) - 2^-14 is exact and never touches an f32 subnormal. */
  float value = f32_from_bits(magnitude + 0x38800000u) - f32_from_bits(0x38800000u);
  return f32_from_bits(sign | f32_to_bits(value));
}

static inline uint16_t f32_to_f16(float value) {
  uint32_t bits = f32_to_bits(value);
  uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    /* At 0.5 one unit in the last place is 2^-24, the step of f16 subnormals: the addition
     * does the rounding. */
    float shifted = f32_from_bits(magnitude) + 0.5f;
    return (uint16_t)(sign | (f32_to_bits(shifted) - 0x3f000000u));
  }
  uint32_t rounding = 0xfffu + ((magnitude >> 13) & 1u);
  return (uint16_t)(sign | ((magnitude - 0x38000000u + rounding) >> 13));
}

/* 2^(exponent - 128): half of what an exponent of E8M0 is (OCP Microscaling Formats), as values of
 * MXFP4 are kept twice as large. */
static inline float f32_half_of_e8(uint8_t exponent) {
  if (exponent < 2) return f32_from_bits(0x00200000u << exponent); /* subnormal */
  return f32_from_bits((uint32_t)(exponent - 1) << 23);
}

/* F16 without subnormals, for memory alone: 2^(e - 25) · (1 + fraction), e the five bits of the
 * exponent; e = 0 is 0. It has all finite halves below 2^7; placed in a float its bits are never a
 * subnormal one, which an Intel core is slow with. */
#define F16_NORMAL_LIMIT 0x1p7f
#define F16_NORMAL_SCALE 0x1p102f

static inline float f32_from_f16_normal(uint16_t code) {
  uint32_t sign = (uint32_t)(code & 0x8000u) << 16;
  return f32_from_bits(sign | (uint32_t)(code & 0x7fffu) << 13) * F16_NORMAL_SCALE;
}

/* Of the value of a half, below the limit. */
static inline uint16_t f16_normal_from_f32(float value) {
  uint32_t bits = f32_to_bits(value);
  uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t code = magnitude == 0 ? 0 : (magnitude >> 13) - (102u << 10);
  return (uint16_t)((bits >> 16 & 0x8000u) | code);
}

static inline float f32_from_bf16(uint16_t half) {
  return f32_from_bits((uint32_t)half << 16);
}

#endif
