/* Rotary positions (Su et al. 2021, RoFormer, eq. 34): angles of any position without a table of
 * the whole context.
 *
 * Pair i turns by position · f_i, f_i = base^(-2i/n_rotated), changed by the file's scaling. A
 * position is p = 32·a + b, and cos, sin of the sum come from two small tables by the addition
 * theorem, so the tables take context_window/32 + 32 rows. */
#ifndef ONEKV_ROPE_H
#define ONEKV_ROPE_H

#include "core/net/config.h"
#include "core/kernels/kernels.h"

enum { ROPE_STEP = 32 };

typedef struct rope_tables {
  size_t first;   /* element of a head at which the rotated ones begin */
  size_t n_pairs; /* n_rotated / 2; 0: nothing is rotated */
  bool halves;
  const float *coarse; /* [context_window/32 + 1][2][n_pairs]: cosines, sines of 32·a */
  const float *fine;   /* [32][2][n_pairs] of b */
} rope_tables;

/* Carves and, if the arena has a base, fills the tables. frequencies [n_pairs] divides each f_i
 * (rope_freqs.weight) or is NULL. Linear scaling divides f_i by the factor; YaRN (Peng et al.
 * 2023, eq. 17 to 23) blends the two by the pair's wavelength. */
void rope_tables_make(const onekv_rope *rope, size_t context_window, const float *frequencies,
                      memory_arena *arena, rope_tables *tables);

/* cosines [n_pairs], sines [n_pairs] of a position < context_window. */
void rope_angles(const rope_tables *tables, size_t position, float *cosines, float *sines);

/* Rotates 2·n_pairs elements, from `first` on, of each of n heads [head_width]; `inverse` rotates
 * back. */
void rope_rotate_heads(const rope_tables *tables, const kernel_table *kernels, float *heads,
                       size_t n_heads, size_t head_width, const float *cosines,
                       const float *sines, bool inverse);

/* The two halves of a position p = 32·step + b, for products of queries and keys: with R the
 * rotation by a position, q · R(p) k = R(32·step)ᵀ q · R(b) k, so that a tile's keys are turned by
 * the fine table as it is, and only its queries by the coarse angles (whose magnitude they get).
 * y may be x; elements of a head that are not rotated are not touched.
 *
 * rope_rotate_fine turns n <= 32 keys [head_width], the one in row b by b. */
void rope_rotate_fine(const rope_tables *tables, const kernel_table *kernels, const float *x,
                      size_t n, size_t head_width, float *y);

/* Turns n queries [head_width] back by 32·step. */
void rope_unrotate_coarse(const rope_tables *tables, const kernel_table *kernels, const float *x,
                          size_t n, size_t head_width, size_t step, float *y);

#endif
