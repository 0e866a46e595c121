/* Packing: rows of a file's blocks into planes of a strip, and back. What a block is made of is
 * stated in packed.h; what the file's bytes mean is packed_types.c's. */
#include "core/kernels/packed.h"

#include <string.h>

#include "core/base/bytes.h"

enum { GROUPS = 4, GROUP = PACKED_UNIT / GROUPS, GROUP_BYTES = PACKED_ROWS * GROUP };

typedef struct packed_source {
  void (*read)(const uint8_t *block, packed_row *out);
  size_t block_bytes; /* of the file */
} packed_source;

static const packed_source SOURCES[PACKED_FORM_COUNT] = {
#define X(type, ...) [PACKED_##type] = {packed_from_##type, TENSOR_BYTES_##type},
    PACKED_FORM_LIST(X)
#undef X
};

#define X(type, columns, ...) \
  _Static_assert((int)(columns) == (int)TENSOR_ELEMENTS_##type, "a block is the file's block");
PACKED_FORM_LIST(X)
#undef X

packed_form packed_form_of(tensor_type type) {
  switch ((int)type) {
#define X(type, ...)   \
  case TENSOR_##type: \
    return PACKED_##type;
    PACKED_FORM_LIST(X)
#undef X
    default:
      return PACKED_NONE;
  }
}

size_t packed_block_bytes(packed_form form) {
  return form == PACKED_NONE ? 0 : packed_bytes_of(PACKED_GEOMETRY[form]);
}

/* Four bytes are moved as one number: all planes treat them alike. */
static uint32_t load_group(const uint8_t *bytes) {
  uint32_t group;
  memcpy(&group, bytes, sizeof group);
  return group;
}

static void store_group(uint8_t *bytes, uint32_t group) { memcpy(bytes, &group, sizeof group); }

static const uint32_t EACH_BIT = 0x01010101u;
static const uint32_t EACH_PAIR = 0x03030303u;
static const uint32_t EACH_HALF = 0x0f0f0f0fu;

/* The four bits, lowest first, of four codes that are 0 or 2, and back. */
static uint32_t bits_of_group(uint32_t group) {
  return (group >> 1 & EACH_BIT) * 0x10204080u >> 28;
}

static uint32_t group_of_bits(uint32_t bits) {
  return (bits * 0x00204081u & EACH_BIT) << 1;
}

/* 16 columns of a row into a unit's planes. */
static void put_unit(size_t bits, const uint8_t *codes, size_t row, uint8_t *unit) {
  uint32_t groups[GROUPS];
  for (size_t k = 0; k < GROUPS; k++) groups[k] = load_group(codes + k * GROUP);
  if (bits == 1) {
    for (size_t k = 0; k < GROUPS; k += 2, unit += PACKED_ROWS) {
      unit[row] = (uint8_t)(bits_of_group(groups[k]) | bits_of_group(groups[k + 1]) << 4);
    }
    return;
  }
  if (bits & 8) {
    for (size_t k = 0; k < GROUPS; k++, unit += GROUP_BYTES) {
      store_group(unit + row * GROUP, groups[k]);
    }
    return;
  }
  if (bits & 4) {
    for (size_t k = 0; k < 2; k++, unit += GROUP_BYTES) {
      store_group(unit + row * GROUP,
                  (groups[k] & EACH_HALF) | (groups[k + 2] & EACH_HALF) << 4);
    }
    for (size_t k = 0; k < GROUPS; k++) groups[k] = groups[k] >> 4 & EACH_HALF;
  }
  if (bits & 2) {
    uint32_t all = 0;
    for (size_t k = 0; k < GROUPS; k++) all |= (groups[k] & EACH_PAIR) << 2 * k;
    store_group(unit + row * GROUP, all);
    unit += GROUP_BYTES;
    for (size_t k = 0; k < GROUPS; k++) groups[k] = groups[k] >> 2 & EACH_HALF;
  }
  if (bits & 1) {
    uint8_t *place = unit + row % 8 * GROUP;
    uint32_t all = 0;
    for (size_t k = 0; k < GROUPS; k++) all |= (groups[k] & EACH_BIT) << k;
    uint32_t other = load_group(place) & (row < 8 ? EACH_HALF << 4 : EACH_HALF);
    store_group(place, other | (row < 8 ? all : all << 4));
  }
}

static void get_unit(size_t bits, const uint8_t *unit, size_t row, uint8_t *codes) {
  uint32_t groups[GROUPS] = {0};
  size_t shift = 0; /* of the next plane's bits */
  if (bits == 1) {
    for (size_t k = 0; k < GROUPS; k++) {
      store_group(codes + k * GROUP,
                  group_of_bits((uint32_t)unit[k / 2 * PACKED_ROWS + row] >> (k % 2 * 4) & 15u));
    }
    return;
  }
  if (bits & 8) {
    for (size_t k = 0; k < GROUPS; k++, unit += GROUP_BYTES) {
      groups[k] = load_group(unit + row * GROUP);
    }
  }
  if (bits & 4) {
    for (size_t k = 0; k < 2; k++, unit += GROUP_BYTES) {
      uint32_t both = load_group(unit + row * GROUP);
      groups[k] = both & EACH_HALF;
      groups[k + 2] = both >> 4 & EACH_HALF;
    }
    shift = 4;
  }
  if (bits & 2) {
    uint32_t all = load_group(unit + row * GROUP);
    for (size_t k = 0; k < GROUPS; k++) groups[k] |= (all >> 2 * k & EACH_PAIR) << shift;
    unit += GROUP_BYTES;
    shift += 2;
  }
  if (bits & 1) {
    uint32_t all = load_group(unit + row % 8 * GROUP) >> (row < 8 ? 0 : 4);
    for (size_t k = 0; k < GROUPS; k++) groups[k] |= (all >> k & EACH_BIT) << shift;
  }
  for (size_t k = 0; k < GROUPS; k++) store_group(codes + k * GROUP, groups[k]);
}

/* Parts of a block; the limit is there for the compiler, which cannot know the table. */
static size_t parts_of(packed_geometry g) {
  size_t n_parts = g.columns / g.part_columns;
  return n_parts < PACKED_PARTS_MAX ? n_parts : PACKED_PARTS_MAX;
}

/* A row's scales and minima; `scales` is where the row's begin. */
static void put_scales(packed_geometry g, const packed_row *from, uint8_t *scales) {
  size_t n_parts = parts_of(g);
  if (g.scales == SCALES_I6) {
    uint8_t more[PACKED_PARTS_MAX]; /* by 32 */
    for (size_t p = 0; p < PACKED_PARTS_MAX; p++) more[p] = (from->scales[p] + 32) & 63;
    for (size_t p = 0; p < 8; p++, scales += PACKED_ROWS) {
      *scales = (uint8_t)((more[p] & 15) | (more[p + 8] & 15) << 4);
    }
    for (size_t p = 0; p < 4; p++, scales += PACKED_ROWS) {
      *scales = (uint8_t)(more[p] >> 4 | more[p + 4] >> 4 << 2 | more[p + 8] >> 4 << 4 |
                          more[p + 12] >> 4 << 6);
    }
    return;
  }
  for (size_t p = 0; g.scales != SCALES_NONE && p < n_parts; p++, scales += PACKED_ROWS) {
    scales[0] = from->scales[p];
    if (g.scales == SCALES_U4) scales[0] = (uint8_t)(from->scales[p] | from->minima[p] << 4);
    if (g.scales == SCALES_U8) scales[n_parts * PACKED_ROWS] = from->minima[p];
  }
}

static void get_scales(packed_geometry g, const uint8_t *scales, packed_row *out) {
  size_t n_parts = parts_of(g);
  for (size_t p = 0; p < n_parts; p++) {
    out->scales[p] = 1;
    out->minima[p] = 1;
    if (g.scales == SCALES_I6) {
      int low = scales[p % 8 * PACKED_ROWS] >> (p / 8 * 4) & 15;
      int high = scales[(8 + p % 4) * PACKED_ROWS] >> (p / 4 * 2) & 3;
      out->scales[p] = (uint8_t)((low | high << 4) - 32);
      continue;
    }
    if (g.scales != SCALES_NONE) out->scales[p] = scales[p * PACKED_ROWS];
    if (g.scales == SCALES_U8) out->minima[p] = scales[(n_parts + p) * PACKED_ROWS];
    if (g.scales == SCALES_U4) {
      out->minima[p] = out->scales[p] >> 4;
      out->scales[p] &= 15;
    }
  }
}

static void put(packed_geometry g, const packed_row *from, size_t row, uint8_t *block) {
  if (g.factor == FACTOR_E8) block[row] = (uint8_t)from->factor;
  else store_u16(block + 2 * row, from->factor);
  if (g.has_minimum) store_u16(block + 2 * (PACKED_ROWS + row), from->minimum);
  put_scales(g, from, block + packed_scales_offset(g) + row);
  uint8_t *unit = block + packed_units_offset(g);
  for (size_t c = 0; c < g.columns; c += PACKED_UNIT, unit += packed_unit_bytes(g)) {
    put_unit(g.bits, from->codes + c, row, unit);
  }
}

void packed_get(packed_form form, const uint8_t *block, size_t row, packed_row *out) {
  packed_geometry g = PACKED_GEOMETRY[form];
  out->factor = g.factor == FACTOR_E8 ? block[row] : load_u16(block + 2 * row);
  out->minimum = g.has_minimum ? load_u16(block + 2 * (PACKED_ROWS + row)) : 0;
  get_scales(g, block + packed_scales_offset(g) + row, out);
  const uint8_t *unit = block + packed_units_offset(g);
  for (size_t c = 0; c < g.columns; c += PACKED_UNIT, unit += packed_unit_bytes(g)) {
    get_unit(g.bits, unit, row, out->codes + c);
  }
  if (g.values == VALUES_CODES) return;
  for (size_t c = 0; c < g.columns; c++) {
    out->codes[c] = (uint8_t)PACKED_VALUES[g.values][out->codes[c]];
  }
}

/* The largest exponent of E8M0 says that there is no number. */
static bool is_finite(packed_geometry g, uint16_t factor) {
  return g.factor == FACTOR_E8 ? factor != 0xffu : (factor & 0x7c00u) != 0x7c00u;
}

bool packed_write(packed_form form, const uint8_t *source, size_t n, size_t row, uint8_t *blocks) {
  packed_geometry g = PACKED_GEOMETRY[form];
  bool all_finite = true;
  for (size_t i = 0; i < n; i++) {
    packed_row values;
    SOURCES[form].read(source + i * SOURCES[form].block_bytes, &values);
    all_finite &= is_finite(g, values.factor) &&
                  (!g.has_minimum || is_finite(g, values.minimum));
    put(g, &values, row, blocks + i * packed_bytes_of(g));
  }
  return all_finite;
}

void packed_clear(packed_form form, size_t row, size_t n_blocks, uint8_t *blocks) {
  const packed_row zero = {.factor = 0}; /* and so no matter which codes */
  packed_geometry g = PACKED_GEOMETRY[form];
  for (size_t j = 0; j < n_blocks; j++) put(g, &zero, row, blocks + j * packed_bytes_of(g));
}

void packed_read(packed_form form, const uint8_t *blocks, size_t row, size_t n_blocks,
                 float *out) {
  packed_geometry g = PACKED_GEOMETRY[form];
  for (size_t j = 0; j < n_blocks; j++, blocks += packed_bytes_of(g)) {
    packed_row from;
    packed_get(form, blocks, row, &from);
    for (size_t c = 0; c < g.columns; c++) {
      size_t part = c / g.part_columns;
      int scale = g.scales >= SCALES_I8 ? (int8_t)from.scales[part] : from.scales[part];
      int value = (packed_is_signed(g) ? (int8_t)from.codes[c] : from.codes[c]) - g.middle;
      float product = (float)value * (packed_factor_value(g, from.factor) * (float)scale);
      float minimum = f32_from_f16(from.minimum) * (float)from.minima[part];
      *out++ = g.has_minimum ? product + minimum : product;
    }
  }
}

void packed_fetch(const uint8_t *strip, size_t n_bytes) {
  enum { LINE = 64 };
  const volatile uint8_t *bytes = strip;
  size_t i = 0;
  for (; i + 4 * LINE <= n_bytes; i += 4 * LINE) {
    (void)bytes[i];
    (void)bytes[i + LINE];
    (void)bytes[i + 2 * LINE];
    (void)bytes[i + 3 * LINE];
  }
  for (; i < n_bytes; i += LINE) (void)bytes[i];
}
