"""A trained model made larger without changing what it computes, as the start of a longer run.

    python -m models.train.grow models/stories-q-mqa.q8_0.gguf \\
        models/train/configs/stories-6m.json START.pt --variant Q-MQA

`train.py --start START.pt` goes on from it. The source is a llama-shaped GGUF file with a tied head
whose projection, width, heads and vocabulary are those of the configuration; layers and MLP width
may be larger there. A new block is a copy of the block before it that writes nothing: its two
output matrices are zero. New rows of an MLP's gate and up are normal with the spread of the old
ones, and their columns of down are zero. Invariants: logits are those of the source for every text
within its context; the result has no optimiser state and starts at token 0; the same source and
configuration give the same file.
"""
import argparse
import dataclasses
from pathlib import Path

import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from models.train.model import Config, Transformer
from models.train.train import read_settings

PLACES = {"attn_norm": "attention_norm", "attn_q": "attention.q", "attn_k": "attention.k",
          "attn_v": "attention.v", "attn_output": "attention.output", "ffn_norm": "mlp_norm",
          "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down"}
OUTSIDE = {"token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight"}
SILENT = ("attention.output.weight", "mlp.down.weight")     # what a block adds to the residual


def read_gguf(path):
    """{name as in model.py: f32 tensor in PyTorch's shape} of a llama-shaped file."""
    tensors = {}
    for tensor in GGUFReader(path).tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        name = OUTSIDE.get(tensor.name)
        if tensor.name.startswith("blk."):
            _, number, place, kind = tensor.name.split(".")
            name = f"blocks.{number}.{PLACES[place]}.{kind}" if place in PLACES else None
        if name is None:
            raise SystemExit(f"{path}: {tensor.name} has no place in a llama-shaped model")
        tensors[name] = values.float()
    return tensors


def sources(old, new):
    """For each of `new` blocks (block of the source, whether it is an added copy of it)."""
    if new < old:
        raise SystemExit(f"the source has {old} blocks, the configuration {new}")
    extra = new - old
    copied = [round((place + 1) * old / (extra + 1)) for place in range(extra)]
    order = []
    for number in range(old):
        order.append((number, False))
        order += [(number, True)] * copied.count(number)
    return order + [(old - 1, True)] * copied.count(old)


def widen(values, shape, silent, generator):
    """`values` in the upper left of `shape`: zeros around what is silent, noise around the rest."""
    if tuple(values.shape) == tuple(shape):
        return values.clone()
    if any(have > want for have, want in zip(values.shape, shape, strict=True)):
        raise SystemExit(f"{list(values.shape)} of the source does not fit into {list(shape)}")
    wide = torch.zeros(shape)
    if not silent:
        wide.normal_(std=float(values.std()), generator=generator)
    wide[tuple(slice(size) for size in values.shape)] = values
    return wide


def grow(tensors, config, seed=1):
    """A Transformer of `config` that computes what the model with these tensors computes."""
    model, generator = Transformer(config), torch.Generator().manual_seed(seed)
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    order = sources(blocks, config.layers)
    widened = (".mlp.gate.weight", ".mlp.up.weight", ".mlp.down.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            source, added = name, False
            if name.startswith("blocks."):
                _, number, place = name.split(".", 2)
                number, added = order[int(number)]
                source = f"blocks.{number}.{place}"
            if source not in tensors:
                raise SystemExit(f"the source has no {source}")
            silent, values = name.endswith(SILENT), tensors[source]
            if not name.endswith(widened) and values.shape != parameter.shape:
                raise SystemExit(f"{source}: {list(values.shape)} in the source, "
                                 f"{list(parameter.shape)} in the configuration")
            if added and silent:
                parameter.zero_()
            else:
                parameter.copy_(widen(values, parameter.shape, silent, generator))
    return model


def main():
    parser = argparse.ArgumentParser(description="Enlarge a trained model for a longer run.")
    parser.add_argument("source", type=Path, help="GGUF file")
    parser.add_argument("config", type=Path, help="configuration of the larger model")
    parser.add_argument("out", type=Path, help="checkpoint for train.py --start")
    parser.add_argument("--variant", help="of a configuration that has several")
    args = parser.parse_args()
    config = Config(**read_settings(args)["model"])
    model = grow(read_gguf(args.source), config)
    torch.save({"config": dataclasses.asdict(config), "model": model.state_dict(), "average": None,
                "optimizers": None, "step": 0, "tokens": 0, "seconds": 0.0}, args.out)
    print(f"{args.out}: {model.parameter_count():,} parameters")


if __name__ == "__main__":
    main()
