"""Writes the golden files of published families: tiny random models of Hugging Face transformers.

Each family has a module that says which models there are and how their parameters become the
tensors and keys that llama.cpp's converter writes. The expected logits are those of transformers
in float64, without a cache: NAME.gguf, NAME.bin, families.json (layouts: tests/golden/README.md).

    python -m tests.golden.make.golden_families [PREFIX]    all, or those whose name begins so
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from models.format import gguf_out
from tests.golden.make.golden import write_expected

FOLDER = Path(__file__).resolve().parents[1]
EPSILON = 1e-3  # far above the usual, so that a wrong one is visible
VOCABULARY = 64


@dataclass
class Family:
    """One file. keys are without "ARCH."; a list of bools or ints is an array."""

    description: str
    arch: str
    model: torch.nn.Module  # float64, takes input_ids, gives .logits
    keys: dict
    tensors: dict = field(repr=False)  # name: float32 array
    rows: int = 110


def randomise(model, seed, norm_mean=1.0):
    """Every parameter drawn anew, as float32 numbers in float64: sharp attention, norms off 1."""
    random = np.random.default_rng(seed)
    for name, values in model.named_parameters():
        normal = random.standard_normal(values.shape)
        if values.ndim == 1:
            drawn = norm_mean + 0.3 * normal
        elif "embed" in name:
            drawn = 0.7 * normal
        else:
            gain = 1.6 if any(part in name for part in ("q_proj", "k_proj", "up", "gate")) else 1.2
            drawn = gain * normal / np.sqrt(values.shape[-1])
        values.data = torch.from_numpy(np.float32(drawn)).double()
    return model.double().eval()


def write_model(path, family):
    keys = {f"{family.arch}.{key}": value for key, value in family.keys.items()}
    tensors = {name: gguf_out.floats(values) for name, values in family.tensors.items()}
    gguf_out.write(path, family.arch, keys, tensors)


def write_family(name, family):
    ids = np.random.default_rng(len(name)).integers(0, VOCABULARY, family.rows).astype("<i4")
    with torch.no_grad():
        logits = family.model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
    logits = logits.numpy()
    assert np.isfinite(logits).all() and 0.3 < logits.std() < 20, (name, logits.std())
    write_model(FOLDER / f"{name}.gguf", family)
    write_expected(FOLDER / f"{name}.bin", ids, logits)


def main(prefix=""):
    from tests.golden.make import (
        golden_bert, golden_dense, golden_gemma, golden_lfm2, golden_mla,
    )

    torch.set_num_threads(1)
    path = FOLDER / "families.json"
    index = json.loads(path.read_text()) if path.exists() else {}
    makers = {**golden_bert.MAKERS, **golden_dense.MAKERS, **golden_gemma.MAKERS,
              **golden_lfm2.MAKERS, **golden_mla.MAKERS}
    for name, make in makers.items():
        if not name.startswith(prefix):
            continue
        family = make()
        write_family(name, family)
        index[name] = {"description": family.description, "tolerance": "f32"}
    index = {name: index[name] for name in sorted(index)}
    path.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
