"""Raw blocks of GGUF element types with the numbers that they stand for.

The `gguf` package can expand every type but not make the k-quants, so their blocks are random
bytes with sane scales: each bit of a block then takes part, which no quantiser would reach.
What `gguf.quants.dequantize` gives is the truth for both.
"""

import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

Q4_K, Q5_K, Q6_K = (GGMLQuantizationType[name] for name in ("Q4_K", "Q5_K", "Q6_K"))
Q2_K, Q3_K, IQ4_NL, IQ4_XS, TQ2_0, Q1_0 = (
    GGMLQuantizationType[name] for name in ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "Q1_0")
)
MXFP4 = GGMLQuantizationType.MXFP4
# Where the f16 scale of a block lies, where its f16 minimum, and the spread of the values that
# random bits give when both are 1 (measured: the minimum is set to half the largest value).
RANDOM_BLOCKS = {
    Q4_K: (0, 2, 7.5),
    Q5_K: (0, 2, 15.5),
    Q6_K: (208, None, None),
    Q2_K: (80, 82, 1.5),
    Q3_K: (108, None, None),
    IQ4_NL: (0, None, None),
    IQ4_XS: (0, None, None),
    TQ2_0: (64, None, None),
    Q1_0: (0, None, None),
}
# What a matrix is stored as when its rows are not a multiple of 256, as common quantisers do it.
ROW_FALLBACK = {
    Q4_K: GGMLQuantizationType.Q5_0,
    Q5_K: GGMLQuantizationType.Q5_1,
    Q6_K: GGMLQuantizationType.Q8_0,
    GGMLQuantizationType.TQ1_0: GGMLQuantizationType.Q4_0,
}
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
         "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "Q1_0", "MXFP4",
         "TQ1_0")  # fmt: skip


def expand(raw, kind):
    """gguf's numbers; of Q1_0, which it only names, those of llama.cpp's dequantize_row_q1_0."""
    if kind != Q1_0:
        return dequantize(raw, kind)
    blocks = raw.reshape(-1, 18)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return np.where(bits == 1, scale, -scale)


def random_blocks(random, kind, blocks):
    """Blocks [n, bytes per block] whose values have a spread of about 1."""
    scale_at, minimum_at, middle = RANDOM_BLOCKS[kind]
    size = GGML_QUANT_SIZES[kind][1]
    raw = random.integers(0, 256, (blocks, size), dtype=np.uint8)

    def put(at, values):
        raw[:, at : at + 2] = values.astype("<f2").view(np.uint8).reshape(blocks, 2)

    scale = random.uniform(0.5, 1.5, blocks)
    put(scale_at, scale)
    if minimum_at is not None:
        put(minimum_at, scale * middle)
    spread = expand(raw, kind).std()
    put(scale_at, scale / spread)
    if minimum_at is not None:
        put(minimum_at, scale * middle / spread)
    return raw


def random_rows(random, kind, values):
    """Random blocks of the shape and spread of a matrix: bytes [rows, bytes per row]."""
    per_block = GGML_QUANT_SIZES[kind][0]
    rows, columns = values.shape
    raw = random_blocks(random, kind, rows * columns // per_block)
    scale_at, minimum_at, _ = RANDOM_BLOCKS[kind]
    for at in (scale_at, minimum_at):
        if at is not None:
            half = raw[:, at : at + 2].copy().view("<f2").astype(np.float32) * values.std()
            raw[:, at : at + 2] = half.astype("<f2").view(np.uint8)
    return raw.reshape(rows, -1)


def special_values():
    """Numbers that a conversion may get wrong: signed zeros, halves, subnormals, extremes."""
    tiny16, max16 = 2.0**-24, 65504.0
    return np.float32([0, -0.0, 0.5, -0.5, 1, -1, tiny16, -tiny16, 3 * tiny16, 2.0**-14, max16])


def make_raw(kind, elements=512):
    random = np.random.default_rng(int(kind))
    if kind in RANDOM_BLOCKS:
        return random_blocks(random, kind, elements // GGML_QUANT_SIZES[kind][0]).reshape(-1)
    values = random.standard_normal(elements).astype(np.float32)
    if kind == MXFP4:
        values *= 2.0 ** random.integers(-40, 40, elements // 32).repeat(32)
    if kind.name in ("F32", "F16", "BF16"):
        special = special_values()
        values[: len(special)] = special
    else:
        # A block of zeros has scale 0; a steep one has a large scale.
        values[32:64] = 0
        values[64:96] *= 1000
    raw = quantize(values, kind).view(np.uint8).reshape(-1)
    if kind == MXFP4:
        raw[: 4 * 17 : 17] = 0, 1, 2, 252  # exponents around the smallest, and near the largest
    return raw


def write_dequantize(folder):
    """TYPE.bin for each element type: `OKVD`, type id, elements, bytes, raw, f32 expected."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        raw = make_raw(kind)
        typed = raw.view({"F32": "<f4", "F16": "<f2"}.get(name, np.uint8))
        expected = expand(typed, kind).astype("<f4").reshape(-1)
        header = struct.pack("<4s3I", b"OKVD", int(kind), expected.size, raw.size)
        path = folder / f"{name}.bin"
        path.write_bytes(header + raw.tobytes() + expected.tobytes())
