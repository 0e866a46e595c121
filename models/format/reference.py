"""The definition of a OneKV model in PyTorch: logits of any file that models/FORMAT.md describes.

It reads like the paper: the whole n x n score map, one softmax, no cache, float64 throughout.
Readability and independence from the C core matter here, speed does not. The file is read, and
quantised tensors are expanded, with the `gguf` package.

Invariants: every tensor of the file is used (a file with a spare one is refused), a missing one
raises KeyError, and rows of activations are [n, width], heads are [n, heads, head width].

    python -m models.format.reference FILE --tokens 1,2,3      prints the logits as JSON
"""

import argparse
import json
import math
import sys

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

# norm, positions, MLP activation and causal mask that each architecture means by default
ARCHITECTURES = {
    "gpt2": ("layer", "learned", "gelu_tanh", True),
    "llama": ("rms", "rope", "swiglu", True),
    "qwen2": ("rms", "rope", "swiglu", True),
    "qwen3": ("rms", "rope", "swiglu", True),
    "onekv-encoder": ("layer", "learned", "gelu_erf", False),
    "onekv-vit": ("layer", "learned", "gelu_erf", False),
}
# (query has its own matrix, value has its own matrix)
PROJECTIONS = {
    "QKV": (True, True),
    "Q-K=V": (True, False),
    "Q=K-V": (False, True),
    "Q=K=V": (False, False),
}


class Model:
    """Keys and tensors of one file; the fields below are the columns of models/FORMAT.md."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.keys = {f.name: f.contents() for f in reader.fields.values()}
        self.unread = {t.name for t in reader.tensors}
        self.tensors = {
            t.name: torch.from_numpy(
                np.array(dequantize(t.data, t.tensor_type), dtype=np.float64)
            )
            for t in reader.tensors
        }
        self.arch = self.keys["general.architecture"]
        norm, positions, activation, self.causal = ARCHITECTURES[self.arch]
        self.norm_kind = norm
        self.positions = self.keys.get("onekv.position.encoding", positions)
        self.activation = self.keys.get("onekv.mlp.activation", activation)
        self.layers = self.key("block_count")
        self.width = self.key("embedding_length")
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv", self.heads)
        self.head_width = self.key("attention.key_length", self.width // self.heads)
        assert self.key("attention.value_length", self.head_width) == self.head_width
        assert self.heads % self.kv_heads == 0
        name = "attention.layer_norm_epsilon"
        self.epsilon = self.key(name if norm == "layer" else name.replace("norm", "norm_rms"))
        self.projection = self.keys.get("onekv.attention.projection", "QKV")
        self.own_query, self.own_value = PROJECTIONS[self.projection]
        self.shared_rope = self.keys.get("onekv.attention.shared_rope", "rotate-at-read")
        assert self.shared_rope in ("rotate-at-read", "rotate-unrotate")
        self.input_kind = self.keys.get("onekv.input.kind", "tokens")
        self.pooling = self.keys.get("onekv.output.pooling", "each")

    def key(self, name, *default):
        full = f"{self.arch}.{name}"
        return self.keys.get(full, *default) if default else self.keys[full]

    def has(self, name):
        return name in self.tensors

    def tensor(self, name):
        self.unread.discard(name)
        return self.tensors[name]


def linear(model, name, x):
    """x W^T + b; the bias is used when the file has one."""
    y = x @ model.tensor(f"{name}.weight").T
    return y + model.tensor(f"{name}.bias") if model.has(f"{name}.bias") else y


def rms_norm(x, weight, epsilon):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon) * weight


def norm(model, name, x):
    weight = model.tensor(f"{name}.weight")
    if model.norm_kind == "rms":
        return rms_norm(x, weight, model.epsilon)
    return torch.nn.functional.layer_norm(
        x, weight.shape, weight, model.tensor(f"{name}.bias"), model.epsilon
    )


def yarn_ramp(model, rotated, base):
    """[rotated/2]: 1 where a pair turns so often that it keeps its frequency, 0 where the
    frequency is interpolated (Peng et al. 2023, "NTK-by-parts")."""
    trained = model.key("rope.scaling.original_context_length", model.key("context_length"))

    def pair_that_turns(times):
        return rotated * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(base))

    low = math.floor(pair_that_turns(model.key("rope.scaling.yarn_beta_fast", 32.0)))
    high = math.ceil(pair_that_turns(model.key("rope.scaling.yarn_beta_slow", 1.0)))
    low, high = max(low, 0), min(high, rotated - 1)
    pairs = torch.arange(rotated // 2, dtype=torch.float64)
    return 1 - ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)


def rope_frequencies(model):
    """Angle per position of each rotated pair [rotated/2], and the length that cos and sin get."""
    rotated = model.key("rope.dimension_count", model.head_width)
    base = model.key("rope.freq_base", 10000.0)
    frequencies = base ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    if model.has("rope_freqs.weight"):
        frequencies = frequencies / model.tensor("rope_freqs.weight")
    magnitude = model.key("rope.scaling.attn_factor", 1.0)
    scaling = model.key("rope.scaling.type", "linear")
    if scaling == "none":
        return frequencies, magnitude
    factor = model.key("rope.scaling.factor", 1.0)
    if scaling == "linear":
        return frequencies / factor, magnitude
    assert scaling == "yarn", scaling
    keep = yarn_ramp(model, rotated, base)
    magnitude *= 1 + 0.1 * math.log(factor)
    return frequencies / factor * (1 - keep) + frequencies * keep, magnitude


def rope(model, x, inverse=False):
    """RoPE_j of row j of x [n, heads, h]: each pair of elements is turned by j times its angle
    and gets the magnitude as its factor. The inverse turns back and takes the factor away."""
    frequencies, magnitude = rope_frequencies(model)
    angle = torch.arange(len(x), dtype=torch.float64)[:, None, None] * frequencies
    pairs = len(frequencies)
    if model.arch == "llama":
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    if inverse:
        angle, magnitude = -angle, 1 / magnitude
    cos, sin = torch.cos(angle) * magnitude, torch.sin(angle) * magnitude
    y = x.clone()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., first] * sin + x[..., second] * cos
    return y


def project(model, block, x):
    """Q [n, H, h], K and V [n, g, h] as the matrices give them, before QK norm and RoPE."""
    heads, groups, h = model.heads, model.kv_heads, model.head_width
    if model.has(f"{block}.attn_qkv.weight"):
        assert model.projection == "QKV"
        rows = [heads * h, groups * h, groups * h]
        q, k, v = linear(model, f"{block}.attn_qkv", x).split(rows, dim=1)
    else:
        k = linear(model, f"{block}.attn_k", x)
        q = linear(model, f"{block}.attn_q", x) if model.own_query else None
        v = linear(model, f"{block}.attn_v", x) if model.own_value else k
    k, v = k.view(-1, groups, h), v.reshape(-1, groups, h)
    if q is None:
        return k.repeat_interleave(heads // groups, dim=1), k, v
    return q.reshape(-1, heads, h), k, v


def attention(model, block, x):
    """softmax(alpha Q K^T) V with the sharing, positions and mask of the model."""
    q, k, v = project(model, block, x)
    if model.has(f"{block}.attn_q_norm.weight"):
        q = rms_norm(q, model.tensor(f"{block}.attn_q_norm.weight"), model.epsilon)
        k = rms_norm(k, model.tensor(f"{block}.attn_k_norm.weight"), model.epsilon)
    if model.positions == "rope":
        q, k = rope(model, q), rope(model, k)
    unrotate = (
        model.positions == "rope"
        and not model.own_value
        and model.shared_rope == "rotate-unrotate"
    )
    if unrotate:
        v = k
    each = model.heads // model.kv_heads
    k, v = k.repeat_interleave(each, dim=1), v.repeat_interleave(each, dim=1)

    scores = torch.einsum("ihc,jhc->hij", q, k) / math.sqrt(model.head_width)
    n = len(x)
    if model.has(f"{block}.attn_score_scale.weight"):
        scores = scores * model.tensor(f"{block}.attn_score_scale.weight")
        scores = scores + model.tensor(f"{block}.attn_key_bias.weight")[:n]
    if model.causal:
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    out = torch.einsum("hij,jhc->ihc", torch.softmax(scores, dim=-1), v)
    if unrotate:
        out = rope(model, out, inverse=True)
    return linear(model, f"{block}.attn_output", out.reshape(n, -1))


def mlp(model, block, x):
    up = linear(model, f"{block}.ffn_up", x)
    if model.activation == "swiglu":
        hidden = torch.nn.functional.silu(linear(model, f"{block}.ffn_gate", x)) * up
    else:
        approximate = {"gelu_erf": "none", "gelu_tanh": "tanh"}[model.activation]
        hidden = torch.nn.functional.gelu(up, approximate=approximate)
    return linear(model, f"{block}.ffn_down", hidden)


def embed(model, rows):
    """Token ids [n] or feature rows [n, F] to activations; a class row makes them one more."""
    if model.input_kind == "tokens":
        x = model.tensor("token_embd.weight")[torch.tensor(np.asarray(rows))]
    else:
        x = linear(model, "input_proj", torch.tensor(np.asarray(rows, dtype=np.float64)))
    if model.has("cls_embd.weight"):
        x = torch.cat([model.tensor("cls_embd.weight")[None], x])
    if model.positions == "learned":
        x = x + model.tensor("position_embd.weight")[: len(x)]
    return x


def logits(model, rows):
    """Logits [n, outputs] of token ids or feature rows; [1, outputs] with pooling `first`."""
    x = embed(model, rows)
    assert len(x) <= model.key("context_length")
    for layer in range(model.layers):
        block = f"blk.{layer}"
        x = x + attention(model, block, norm(model, f"{block}.attn_norm", x))
        x = x + mlp(model, block, norm(model, f"{block}.ffn_norm", x))
    x = norm(model, "output_norm", x)
    if model.pooling == "first":
        x = x[:1]
    if model.has("output.weight"):
        y = linear(model, "output", x)
    else:
        y = x @ model.tensor("token_embd.weight").T
    assert not model.unread, f"tensors that the keys leave no place for: {sorted(model.unread)}"
    return y


def main():
    parser = argparse.ArgumentParser(description="Logits of a GGUF file, as JSON.")
    parser.add_argument("file")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--tokens", help="ids, separated by commas")
    given.add_argument("--features", help="JSON file with rows of numbers, `-` for stdin")
    options = parser.parse_args()
    if options.tokens:
        rows = [int(token) for token in options.tokens.split(",")]
    else:
        with open(0 if options.features == "-" else options.features) as stream:
            rows = json.load(stream)
    json.dump({"logits": logits(Model(options.file), rows).tolist()}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
