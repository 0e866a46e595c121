"""What the official checkpoints hold, and which variant that makes them.

The authors' files do not record the variant, so it is recognised by keys and shapes; what was
concluded, and from what, is returned in words. Where keys and shapes leave two readings, that is an
error that says what would settle it.

Invariants: each tensor of a checkpoint is used or dropped by name (mask buffers), none is ignored.
"""
import re
from dataclasses import dataclass, field

import numpy as np

from models.convert.torch_file import CheckpointError


@dataclass
class Layout:
    """A checkpoint in the terms of models/FORMAT.md."""

    architecture: str
    projection: str
    kv_heads: int
    heads: int
    keys: dict                                   # shape keys, without the architecture's prefix
    options: dict = field(default_factory=dict)  # onekv.* keys
    reasons: list = field(default_factory=list)  # how the variant was recognised
    tensors: dict = field(default_factory=dict)  # GGUF name: (shape, function that reads it)


class Source:
    """The tensors of a checkpoint, each taken once, with its shape checked."""

    def __init__(self, tensors):
        self.tensors = dict(tensors)
        self.unused = set(tensors)

    def has(self, name):
        return name in self.tensors

    def shape(self, name):
        if name not in self.tensors:
            raise CheckpointError(f"key {name} is missing")
        return self.tensors[name].shape

    def take(self, name, *shape):
        """A reader of the tensor; its shape must be the one given."""
        if self.shape(name) != shape:
            raise CheckpointError(f"{name}: found shape {list(self.shape(name))}, expected "
                                  f"{list(shape)}")
        self.unused.discard(name)
        return self.tensors[name].read

    def finish(self):
        if self.unused:
            raise CheckpointError(f"key {sorted(self.unused)[0]} does not belong to this layout "
                                  f"({len(self.unused)} such keys)")


def number(config, name, override, flag):
    """A size that shapes do not tell: from the command line, else from the checkpoint."""
    value = override if override is not None else config.get(name)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"model_config.{name} is {value!r} and shapes do not tell it: give "
                              f"{flag}")
    return value


def pair(layout, name, source, stem, *shape):
    """weight and, where there is one, bias of a linear layer or norm."""
    layout.tensors[f"{name}.weight"] = (shape, source.take(f"{stem}.weight", *shape))
    if source.has(f"{stem}.bias"):
        layout.tensors[f"{name}.bias"] = (shape[:1], source.take(f"{stem}.bias", shape[0]))


def rows(layout, names, source, stem, counts, columns):
    """One stacked matrix, and its bias, cut into several."""
    total = sum(counts)
    kinds = [("weight", (total, columns))]
    if source.has(f"{stem}.bias"):
        kinds.append(("bias", (total,)))
    for kind, shape in kinds:
        read = source.take(f"{stem}.{kind}", *shape)
        for i, name in enumerate(names):
            first = sum(counts[:i])
            part = (counts[i], *shape[1:])
            layout.tensors[f"{name}.{kind}"] = (
                part, lambda read=read, first=first, n=counts[i]: read()[first:first + n])


# --- language models -------------------------------------------------------------------------


def language_variant(source, config, d, head_width, n_kv_groups):
    """(projection, KV heads, keys of the attention class, reason) from the names of layer 0."""
    names = {key.split(".")[3] for key in source.tensors if key.startswith("h.0.attn.")}
    found = frozenset(names - {"c_proj", "bias"})
    if found == {"c_attn"}:
        shape = source.shape("h.0.attn.c_attn.weight")
        if shape == (d, 3 * d):
            raise CheckpointError(
                f"h.0.attn.c_attn.weight: found shape {list(shape)}: a GPT-2 of transformers, "
                f"whose Conv1D stores matrices transposed; expected nn.Linear's {[3 * d, d]}")
        return "QKV", d // head_width, "c_attn holds [Q;K;V]"
    if found == {"c_kv"}:
        return "Q=K-V", d // head_width, "c_kv without c_q holds [K;V], and the query is the key"
    if found == {"c_k"}:
        return "Q=K=V", d // head_width, "c_k is the only projection"
    if found == {"c_q", "c_k"}:
        groups = source.shape("h.0.attn.c_k.weight")[0] // head_width
        return "Q-K=V", groups, f"c_q and c_k without a value: {groups} shared head(s)"
    if found == {"c_q", "c_kv"}:
        n_rows = source.shape("h.0.attn.c_kv.weight")[0]
        if n_rows == head_width:
            return "Q-K=V", 1, "c_q and a c_kv of one head's rows: a single shared tensor"
        groups = number(config, "n_kv_groups", n_kv_groups, "--n-kv-groups")
        if n_rows != 2 * groups * head_width:
            raise CheckpointError(
                f"h.0.attn.c_kv.weight: {n_rows} rows, expected {2 * groups * head_width} for "
                f"[K;V] of n_kv_groups {groups} heads of {head_width}")
        return "QKV", groups, f"c_q and a c_kv of [K;V] for n_kv_groups = {groups}"
    raise CheckpointError(f"h.0.attn has {sorted(found)}: no known attention class")


def language_attention(layout, source, n, d, head_width):
    """The projections of one layer, by what the checkpoint calls them."""
    stem, out = f"h.{n}.attn", f"blk.{n}.attn"
    shared = layout.kv_heads * head_width
    if source.has(f"{stem}.c_attn.weight"):
        pair(layout, f"{out}_qkv", source, f"{stem}.c_attn", 3 * d, d)
    if source.has(f"{stem}.c_q.weight"):
        pair(layout, f"{out}_q", source, f"{stem}.c_q", d, d)
    if source.has(f"{stem}.c_k.weight"):
        pair(layout, f"{out}_k", source, f"{stem}.c_k", shared, d)
    if source.has(f"{stem}.c_kv.weight"):
        if layout.projection == "Q-K=V":
            pair(layout, f"{out}_k", source, f"{stem}.c_kv", shared, d)
        else:
            rows(layout, [f"{out}_k", f"{out}_v"], source, f"{stem}.c_kv", [shared, shared], d)
    pair(layout, f"{out}_output", source, f"{stem}.c_proj", d, d)


def language_layout(about, tensors, options):
    """The paper's GPT in one of its eight attention classes."""
    source, config = Source(tensors), about.get("model_config") or {}
    n_vocabulary, d = source.shape("wte.weight")
    n_positions = source.shape("wpe.weight")[0]
    heads = number(config, "n_head", options.heads, "--heads")
    if d % heads:
        raise CheckpointError(f"n_head: {heads} heads do not divide width {d}")
    layers = 1 + max(int(m[1]) for m in (re.match(r"h\.(\d+)\.", k) for k in tensors) if m)
    mlp = source.shape("h.0.mlp.c_fc.weight")[0]
    projection, kv_heads, reason = language_variant(source, config, d, d // heads,
                                                    options.n_kv_groups)
    kept = options.vocabulary or (50257 if n_vocabulary == 50304 else n_vocabulary)
    if kept > n_vocabulary:
        raise CheckpointError(f"--vocabulary {kept}: wte.weight has {n_vocabulary} rows")
    layout = Layout("gpt2", projection, kv_heads, heads, {
        "block_count": layers, "context_length": n_positions, "embedding_length": d,
        "feed_forward_length": mlp, "attention.head_count": heads,
        "attention.head_count_kv": kv_heads})
    layout.options["mlp.activation"] = "gelu_erf"
    layout.reasons = [f"{projection} with {kv_heads} KV head(s) of {heads}: {reason}"]
    if kept < n_vocabulary:
        layout.reasons.append(f"{n_vocabulary - kept} rows of the vocabulary were never trained "
                              f"as targets: dropped, {kept} remain")
    read = source.take("wte.weight", n_vocabulary, d)
    layout.tensors["token_embd.weight"] = ((kept, d), lambda: read()[:kept])
    layout.tensors["position_embd.weight"] = (
        (n_positions, d), source.take("wpe.weight", n_positions, d))
    for n in range(layers):
        pair(layout, f"blk.{n}.attn_norm", source, f"h.{n}.ln_1", d)
        language_attention(layout, source, n, d, d // heads)
        pair(layout, f"blk.{n}.ffn_norm", source, f"h.{n}.ln_2", d)
        pair(layout, f"blk.{n}.ffn_up", source, f"h.{n}.mlp.c_fc", mlp, d)
        pair(layout, f"blk.{n}.ffn_down", source, f"h.{n}.mlp.c_proj", d, mlp)
        mask = f"h.{n}.attn.bias"
        if source.has(mask):
            source.take(mask, 1, 1, n_positions, n_positions)  # the causal mask: not written
    pair(layout, "output_norm", source, "ln_f", d)
    if source.has("lm_head.weight"):
        head = source.take("lm_head.weight", n_vocabulary, d)
        layout.tensors["output.weight"] = ((kept, d), lambda: head()[:kept])
    source.finish()
    return layout


# --- the small Encoder and ViT ---------------------------------------------------------------

# Names of the projections in a block -> sharing, and which GGUF tensor each becomes.
SMALL = {
    frozenset({"c_q", "c_k", "c_v"}): ("QKV", {"c_q": "q", "c_k": "k", "c_v": "v"}),
    frozenset({"c_qk", "c_v"}): ("Q=K-V", {"c_qk": "k", "c_v": "v"}),
    frozenset({"c_q", "c_kv"}): ("Q-K=V", {"c_q": "q", "c_kv": "k"}),
    frozenset({"c_qkv"}): ("Q=K=V", {"c_qkv": "k"}),
}


def key_bias(plane, weight, name):
    """κ(j) of (X)+ (models/FORMAT.md): the channels of plane [n, n, m] that depend on j alone."""
    along_i = np.ptp(plane, axis=0).max(axis=0)
    along_j = np.ptp(plane, axis=1).max(axis=0)
    mixed = (along_i > 1e-6) & (along_j > 1e-6)
    if mixed.any():
        raise CheckpointError(f"{name}: channel {int(np.argmax(mixed))} depends on both positions, "
                              "which cannot be folded")
    columns = along_j > 1e-6
    return plane[0][:, columns] @ weight[columns]


def small_attention(layout, source, n, d, n_positions):
    stem, out = f"blocks.{n}.attn", f"blk.{n}.attn"
    names = {k.split(".")[3] for k in source.tensors if k.startswith(f"{stem}.")}
    found = frozenset(names - {"c_proj", "pos2d", "pos_w", "pos_b"})
    if found not in SMALL:
        raise CheckpointError(f"{stem} has {sorted(found)}: no known attention class")
    projection, roles = SMALL[found]
    if n == 0:
        layout.projection = projection
        layout.reasons = [f"{projection}: the projections are {', '.join(sorted(found))}"]
    elif projection != layout.projection:
        raise CheckpointError(f"{stem} is {projection}, but block 0 is {layout.projection}")
    for key, role in roles.items():
        pair(layout, f"{out}_{role}", source, f"{stem}.{key}", d, d)
    pair(layout, f"{out}_output", source, f"{stem}.c_proj", d, d)
    if not source.has(f"{stem}.pos_w"):
        return
    m = source.shape(f"{stem}.pos_w")[0]
    weight = source.take(f"{stem}.pos_w", m)
    plane_shape = source.shape(f"{stem}.pos2d")
    plane = source.take(f"{stem}.pos2d", plane_shape[0], plane_shape[0], m)
    source.take(f"{stem}.pos_b", 1)  # cancels in the softmax of a row
    if plane_shape[0] < n_positions:
        raise CheckpointError(f"{stem}.pos2d: {plane_shape[0]} positions, expected at least "
                              f"{n_positions}")
    layout.tensors[f"{out}_score_scale.weight"] = ((1,), lambda: weight().sum().reshape(1))
    layout.tensors[f"{out}_key_bias.weight"] = (
        (n_positions,),
        lambda: key_bias(plane(), weight(), f"{stem}.pos2d")[:n_positions])
    if n == 0:
        layout.reasons.append("(X)+: pos2d folded into a temperature and a bias per key")


def small_input(layout, source, d):
    """Embedding, positions and class row; returns the number of positions."""
    if source.has("patch_embed.proj.weight"):
        _, channels, patch, _ = source.shape("patch_embed.proj.weight")
        n_features = channels * patch * patch
        read = source.take("patch_embed.proj.weight", d, channels, patch, patch)
        layout.tensors["input_proj.weight"] = (
            (d, n_features), lambda: read().reshape(d, n_features))
        layout.tensors["input_proj.bias"] = ((d,), source.take("patch_embed.proj.bias", d))
        cls = source.take("cls", 1, 1, d)
        layout.tensors["cls_embd.weight"] = ((d,), lambda: cls().reshape(d))
        n_positions = source.shape("pos_emb")[1]
        positions = source.take("pos_emb", 1, n_positions, d)
        layout.tensors["position_embd.weight"] = (
            (n_positions, d), lambda: positions().reshape(n_positions, d))
        side = int(round((n_positions - 1) ** 0.5))
        if side * side != n_positions - 1:
            raise CheckpointError(f"pos_emb: {n_positions - 1} patches are not a square number")
        layout.options |= {"input.kind": "features", "output.pooling": "first",
                           "image.size": side * patch, "image.patch": patch,
                           "image.channels": channels}
        return n_positions
    n_symbols = source.shape("embed.weight")[1]
    weight = source.take("embed.weight", d, n_symbols)
    bias = source.take("embed.bias", d)
    # The input is one-hot, so the linear layer is a table: column of the weight, plus the bias.
    layout.tensors["token_embd.weight"] = (
        (n_symbols, d), lambda: np.ascontiguousarray(weight().T + bias()))
    n_positions = source.shape("pos_emb.weight")[0]
    layout.tensors["position_embd.weight"] = (
        (n_positions, d), source.take("pos_emb.weight", n_positions, d))
    return n_positions


def small_layout(about, tensors, options):
    """The Encoder of the synthetic tasks or the ViT."""
    source, config = Source(tensors), about.get("config") or about.get("model_config") or {}
    d = source.shape("ln_f.weight")[0]
    heads = number(config, "n_head", options.heads, "--heads")
    layers = 1 + max(int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", k) for k in tensors) if m)
    is_vit = source.has("patch_embed.proj.weight")
    layout = Layout("onekv-vit" if is_vit else "onekv-encoder", "QKV", heads, heads, {})
    n_positions = small_input(layout, source, d)
    mlp = source.shape("blocks.0.mlp.0.weight")[0]
    down = "mlp.3" if source.has("blocks.0.mlp.3.weight") else "mlp.2"
    for n in range(layers):
        pair(layout, f"blk.{n}.attn_norm", source, f"blocks.{n}.ln1", d)
        small_attention(layout, source, n, d, n_positions)
        pair(layout, f"blk.{n}.ffn_norm", source, f"blocks.{n}.ln2", d)
        pair(layout, f"blk.{n}.ffn_up", source, f"blocks.{n}.mlp.0", mlp, d)
        pair(layout, f"blk.{n}.ffn_down", source, f"blocks.{n}.{down}", d, mlp)
    pair(layout, "output_norm", source, "ln_f", d)
    pair(layout, "output", source, "head", source.shape("head.weight")[0], d)
    source.finish()
    layout.keys = {
        "block_count": layers, "context_length": n_positions, "embedding_length": d,
        "feed_forward_length": mlp, "attention.head_count": heads,
        "attention.head_count_kv": heads}
    return layout


def recognise(about, tensors, options):
    """The Layout of a checkpoint's tensors; CheckpointError names what does not fit."""
    if "wte.weight" in tensors and "wpe.weight" in tensors:
        return language_layout(about, tensors, options)
    if "patch_embed.proj.weight" in tensors or "embed.weight" in tensors:
        return small_layout(about, tensors, options)
    first = sorted(tensors)[:3]
    raise CheckpointError(f"the keys ({', '.join(first)}, …) are of no known layout: expected "
                          "wte.weight (language model), embed.weight (Encoder) or "
                          "patch_embed.proj.weight (ViT)")
