"""A model with shared projections as an ordinary file that any GGUF runtime loads.

    python -m models.format.expand stories-q-mqa.q8_0.gguf stories-q-mqa-expanded.gguf

The missing tensor is written as a copy of the one that it shares, byte for byte in its own type,
and the onekv.attention.* keys are dropped; nothing is requantised. Refused: rotate-unrotate,
which has no standard twin.
"""
import argparse
import re
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType

from models.format import gguf_out

# Which tensor a missing one is a copy of.
COPIES = {"QKV": {}, "Q-K=V": {"v": "k"}, "Q=K-V": {"q": "k"}, "Q=K=V": {"q": "k", "v": "k"}}
PROJECTION = re.compile(r"(?P<prefix>blk\.\d+)\.attn_(?P<role>[qkv])\.(?P<kind>weight|bias)")
DROPPED = ("onekv.attention.projection", "onekv.attention.shared_rope")


def string_key(reader, name, default):
    field = reader.get_field(name)
    return field.contents() if field else default


def check(reader):
    """The projection of the file; SystemExit with the reason if it cannot be expanded."""
    projection = string_key(reader, "onekv.attention.projection", "QKV")
    if projection not in COPIES:
        raise SystemExit(f"onekv.attention.projection: {projection!r}, expected one of "
                         f"{', '.join(COPIES)}")
    if string_key(reader, "onekv.attention.shared_rope", "rotate-at-read") != "rotate-at-read":
        raise SystemExit("onekv.attention.shared_rope is rotate-unrotate: values that carry their "
                         "position have no standard twin, so this file cannot be expanded")
    return projection


def head_counts(reader, arch):
    heads = reader.get_field(f"{arch}.attention.head_count").contents()
    groups = reader.get_field(f"{arch}.attention.head_count_kv")
    return heads, groups.contents() if groups else heads


def copy_of(data, missing, heads, groups):
    """The rows of a missing projection: those of k, for q once per query head that reads them."""
    if missing == "v" or heads == groups:
        return data
    by_head = data.reshape(groups, data.shape[0] // groups, *data.shape[1:])
    return np.repeat(by_head, heads // groups, axis=0).reshape(-1, *data.shape[1:])


def projections(arch, prefix, kind, parts):
    """q, k and v of one block; gpt2 files of other runtimes hold them as one matrix."""
    if arch == "gpt2" and len({tensor_type for _, tensor_type in parts.values()}) == 1:
        rows = np.concatenate([parts[role][0] for role in "qkv"])
        return {f"{prefix}.attn_qkv.{kind}": gguf_out.blocks(rows, parts["k"][1])}
    return {f"{prefix}.attn_{role}.{kind}": gguf_out.blocks(*parts[role]) for role in "qkv"}


def copied_keys(reader):
    keys = {}
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.name not in DROPPED:
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            keys[field.name] = gguf_out.Value(field.contents(), kind, inner)
    return keys


def expand(source, target):
    """Write `source` to `target` with every projection present; return the copied names."""
    reader, copied, out = GGUFReader(source), [], {}
    copies, arch = COPIES[check(reader)], string_key(reader, "general.architecture", "")
    heads, groups = head_counts(reader, arch)
    tensors = {tensor.name: (np.array(tensor.data), tensor.tensor_type)
               for tensor in reader.tensors}
    for name, (data, tensor_type) in tensors.items():
        match = PROJECTION.fullmatch(name)
        if not match:
            out[name] = gguf_out.blocks(data, tensor_type)
        elif match["role"] == "k":      # q and v are written beside it
            prefix, kind, parts = match["prefix"], match["kind"], {}
            for role in "qkv":
                parts[role] = tensors.get(f"{prefix}.attn_{role}.{kind}")
                if role in copies:
                    parts[role] = copy_of(data, role, heads, groups), tensor_type
                    copied.append(f"{prefix}.attn_{role}.{kind}")
            out |= projections(arch, prefix, kind, parts)
    gguf_out.write(target, arch, copied_keys(reader), out)
    return copied


def main():
    parser = argparse.ArgumentParser(description="Write shared projections out as copies.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    copied = expand(args.source, args.target)
    print(f"{args.target}: {len(copied)} tensors copied")


if __name__ == "__main__":
    main()
