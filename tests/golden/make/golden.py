"""Writes tests/golden: tiny random models and the logits that format/reference.py gives them.

golden_cases.py says which models there are; this file turns one description into keys and
tensors, and both into NAME.gguf + NAME.bin. Everything is drawn from seeds, so a second run
writes the same bytes. The spread of the weights is chosen so that attention is far from uniform
and each tensor moves the logits by much more than a tolerance (test_reference.py checks it).

    python -m tests.golden.make.golden    writes all of tests/golden (layouts: its README.md)
"""

import dataclasses
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType

from models.format import gguf_out, reference
from tests.golden.make import golden_quants
from tests.golden.make import golden_tokenizers
from tests.golden.make.golden_cases import CASES, Case

FOLDER = Path(__file__).resolve().parents[1]
# Far above the usual 1e-5, so that a wrong epsilon is visible.
EPSILON = 1e-2
SPREAD = {
    "token_embd": 0.7,
    "position_embd": 0.7,
    "cls_embd": 0.7,
    "attn_key_bias": 1.0,
}
# Standard deviation times the square root of the columns: what unit activations become.
GAIN = {"attn_q": 1.4, "attn_k": 1.4, "ffn_up": 2.0, "ffn_gate": 1.5, "ffn_down": 1.5}


def generator(*parts):
    return np.random.default_rng(zlib.crc32("/".join(parts).encode()))


def draw(case, name, shape):
    """The values of one tensor: they depend on the case's seed and the tensor's name only."""
    normal = generator(case.seed, name).standard_normal(shape)
    role, kind = name.split(".")[-2:]
    width = np.sqrt(shape[-1])
    if role == "attn_score_scale":
        # The second layer's is negative, as a trained sum of weights may be.
        return np.float32([0.8 if name.startswith("blk.0") else -0.6])
    if role == "rope_freqs":
        return np.float32(1 + 7 * np.arange(shape[0]) / shape[0])
    if case.biases == "all" and case.mlp_kind != "swiglu" and role.startswith("ffn_"):
        # The two GELUs differ by a few percent near -2.5 and nowhere else by so much.
        if role == "ffn_up":
            return np.float32(0.3 * normal - 2.4 if kind == "bias" else 0.8 * normal / width)
        return np.float32(0.3 * normal if kind == "bias" else 8 * normal / width)
    if kind == "bias":
        return np.float32(0.3 * normal)
    if role in ("attn_q_norm", "attn_k_norm"):
        return np.float32(1.4 + 0.4 * normal)
    if role.endswith("norm"):
        return np.float32(1 + 0.3 * normal)
    spread = SPREAD.get(role) or GAIN.get(role, 1.2) / width
    return np.float32(spread * normal)


def layer_shapes(case):
    """name: shape of one block, without its `blk.N.`; None stands for no bias."""
    d, inner = case.width, case.mlp
    query, cached = case.heads * case.head_width, case.kv_heads * case.head_width
    own_query, own_value = reference.PROJECTIONS[case.projection]
    matrices = {"attn_k": (cached, d), "attn_output": (d, query)}
    if own_query:
        matrices["attn_q"] = (query, d)
    if own_value:
        matrices["attn_v"] = (cached, d)
    matrices |= {"ffn_up": (inner, d), "ffn_down": (d, inner)}
    if case.mlp_kind == "swiglu":
        matrices["ffn_gate"] = (inner, d)
    shapes = {}
    for name, shape in matrices.items():
        shapes[f"{name}.weight"] = shape
        if case.biases == "all" or (case.biases == "qkv" and name[-2:] in ("_q", "_k", "_v")):
            shapes[f"{name}.bias"] = shape[:1]
    for name in ("attn_norm", "ffn_norm"):
        shapes |= norm_shapes(case, name)
    if case.arch == "qwen3":
        shapes |= {f"attn_{x}_norm.weight": (case.head_width,) for x in "qk"}
    if case.plus:
        shapes |= {"attn_score_scale.weight": (1,), "attn_key_bias.weight": (case.positions,)}
    return shapes


def norm_shapes(case, name):
    kinds = ("weight", "bias") if case.norm == "layer" else ("weight",)
    return {f"{name}.{kind}": (case.width,) for kind in kinds}


def make_tensors(case):
    """name: values of the whole model."""
    shapes = {}
    if case.features:
        shapes |= {
            "input_proj.weight": (case.width, case.features),
            "input_proj.bias": (case.width,),
        }
    else:
        shapes["token_embd.weight"] = (case.vocabulary, case.width)
    if case.arch == "onekv-vit":
        shapes["cls_embd.weight"] = (case.width,)
    if case.position == "learned":
        shapes["position_embd.weight"] = (case.positions, case.width)
    if case.rope_freqs:
        shapes["rope_freqs.weight"] = (case.rotated // 2,)
    for layer in range(case.layers):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in layer_shapes(case).items()}
    shapes |= norm_shapes(case, "output_norm")
    if not case.tied:
        shapes["output.weight"] = (case.outputs, case.width)
        if case.biases == "all":
            shapes["output.bias"] = (case.outputs,)
    tensors = {name: draw(case, name, shape) for name, shape in shapes.items()}
    return fuse(tensors, case.layers) if case.fused else tensors


def fuse(tensors, layers):
    """q, k and v become attn_qkv, rows in this order."""
    for layer in range(layers):
        for kind in ("weight", "bias"):
            names = [f"blk.{layer}.attn_{x}.{kind}" for x in "qkv"]
            if names[0] in tensors:
                parts = [tensors.pop(name) for name in names]
                tensors[f"blk.{layer}.attn_qkv.{kind}"] = np.concatenate(parts)
    return tensors


def keys_of(case):
    arch = case.arch
    integers = {
        "block_count": case.layers,
        "context_length": case.positions,
        "embedding_length": case.width,
        "feed_forward_length": case.mlp,
        "attention.head_count": case.heads,
    }
    # Left out where its default holds and the architecture's usual writer leaves it out.
    if arch != "gpt2" or case.kv_heads != case.heads:
        integers["attention.head_count_kv"] = case.kv_heads
    if case.heads * case.head_width != case.width:
        integers["attention.key_length"] = case.head_width
        integers["attention.value_length"] = case.head_width
    if case.rotated != case.head_width:
        integers["rope.dimension_count"] = case.rotated
    epsilon = "layer_norm_epsilon" if case.norm == "layer" else "layer_norm_rms_epsilon"
    keys = integers | {f"attention.{epsilon}": EPSILON}
    keys |= {f"rope.{key}": value for key, value in case.rope.items()}
    keys = {f"{arch}.{key}": value for key, value in keys.items()}
    return keys | {f"onekv.{key}": value for key, value in case.onekv.items()}


def matrix_type(case, name, values):
    """The element type of one tensor: only matrices are quantised, k-quants in rows of 256."""
    if case.type == "F32" or values.ndim == 1 or name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[case.type]
    if kind in golden_quants.ROW_FALLBACK and values.shape[1] % 256:
        return golden_quants.ROW_FALLBACK[kind]
    return kind


def write_model(path, case):
    tensors = {}
    for name, values in make_tensors(case).items():
        kind = matrix_type(case, name, values)
        if kind in golden_quants.RANDOM_BLOCKS:
            raw = golden_quants.random_rows(generator(case.seed, name), kind, values)
            tensors[name] = gguf_out.blocks(raw, kind)
        else:
            tensors[name] = gguf_out.floats(values, kind)
    gguf_out.write(path, case.arch, keys_of(case), tensors)


def make_rows(case):
    """The input: token ids [n] i32 or feature rows [n, F] f32."""
    random = generator(case.seed, "rows")
    if case.features:
        return random.standard_normal((case.rows, case.features)).astype("<f4")
    return random.integers(0, case.vocabulary, case.rows).astype("<i4")


def write_expected(path, rows, logits):
    features = rows.shape[1] if rows.ndim == 2 else 0
    header = (1, int(features > 0), len(rows), features, *logits.shape, 0)
    path.write_bytes(
        struct.pack("<4s7I", b"OKVG", *header) + rows.tobytes() + logits.astype("<f4").tobytes()
    )


def write_case(name, case):
    path = FOLDER / f"{name}.gguf"
    write_model(path, case)
    rows = make_rows(case)
    with torch.no_grad():
        logits = reference.logits(reference.Model(path), rows).numpy()
    assert np.isfinite(logits).all() and 0.3 < logits.std() < 8, (name, logits.std())
    write_expected(FOLDER / f"{name}.bin", rows, logits)


def options_of(case):
    """The fields in which a case differs from the plain one, for the index."""
    plain = dataclasses.asdict(Case("", ""))
    given = dataclasses.asdict(case)
    changed = {key: value for key, value in given.items() if value != plain[key]}
    return {key: changed[key] for key in changed if key not in ("description", "seed")}


def main():
    torch.set_num_threads(1)  # one order of summation, and products too small to share out
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = {}
    for name, case in CASES.items():
        write_case(name, case)
        index[name] = {
            "description": case.description,
            "tolerance": case.type.lower(),
            "options": options_of(case),
        }
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    golden_quants.write_dequantize(FOLDER / "dequantize")
    golden_tokenizers.write_all()


if __name__ == "__main__":
    main()
