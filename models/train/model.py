"""The transformer in every variant of models/FORMAT.md, as one PyTorch module.

Field and variant names are those of the file contract. Invariants: a shared projection exists once
(there is no second tensor, so sharing cannot drift); RoPE rotates adjacent pairs, so a llama-shaped
model is exported without permuting rows; V of a K=V model is the key projection before rotation.
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from models.train import fast_attention

PROJECTIONS = {"QKV": "qkv", "Q-K=V": "qk", "Q=K-V": "kv", "Q=K=V": "k"}
IGNORED = -100      # a target that is not scored: padding


@dataclass
class Config:
    """Shape and variant of a model. Widths are in elements; 0 means the usual default."""
    layers: int = 4
    width: int = 256
    heads: int = 16
    kv_heads: int = 0               # default: heads
    head_width: int = 0             # default: width / heads
    mlp_width: int = 0              # default: 4 * width
    context: int = 1024
    vocabulary: int = 2048          # input kind "tokens"
    outputs: int = 0                # rows of the head; default: vocabulary
    projection: str = "QKV"         # QKV, Q-K=V, Q=K-V, Q=K=V
    positions: str = "rope"         # learned, rope, none
    shared_rope: str = "rotate-at-read"     # or rotate-unrotate; only K=V with rope
    norm: str = "rms"               # layer, rms
    activation: str = "swiglu"      # gelu_erf, gelu_tanh, swiglu
    mask: str = "causal"            # causal, none
    plus_channels: int = 0          # (X)+: channels m of the 2D sinusoid
    bias: bool = False
    tied: bool = True               # the head is the token embedding
    epsilon: float = 1e-5
    rope_base: float = 10000.0
    input_kind: str = "tokens"      # tokens, features
    feature_length: int = 0
    class_row: bool = False         # ViT: a learned row before the patches
    pooling: str = "each"           # each, first
    dropout: float = 0.0            # after the embedding, attention and MLP
    embedding_dropout: bool = True  # False: not after the embedding

    def __post_init__(self):
        self.kv_heads = self.kv_heads or self.heads
        self.head_width = self.head_width or self.width // self.heads
        self.mlp_width = self.mlp_width or 4 * self.width
        self.outputs = self.outputs or self.vocabulary
        self.check()

    def check(self):
        choices = {
            "projection": PROJECTIONS, "positions": ("learned", "rope", "none"),
            "shared_rope": ("rotate-at-read", "rotate-unrotate"), "norm": ("layer", "rms"),
            "activation": ("gelu_erf", "gelu_tanh", "swiglu"), "mask": ("causal", "none"),
            "input_kind": ("tokens", "features"), "pooling": ("each", "first")}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r}: one of {', '.join(allowed)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.shared_rope == "rotate-unrotate" and not (self.shares_kv and self.rope):
            raise ValueError("rotate-unrotate needs K=V and rope")
        if self.rope and self.head_width % 2:
            raise ValueError(f"rope needs an even head_width, not {self.head_width}")
        if self.tied and (self.input_kind != "tokens" or self.outputs != self.vocabulary):
            raise ValueError("a tied head needs input_kind tokens and outputs = vocabulary")

    @property
    def rope(self):
        return self.positions == "rope"

    @property
    def shares_kv(self):
        return "v" not in PROJECTIONS[self.projection]

    @property
    def cached_per_token(self):
        """Elements of the KV cache for one position, all layers."""
        return self.layers * self.kv_heads * self.head_width * (1 if self.shares_kv else 2)


class RMSNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.epsilon)
        return (y * self.weight).to(x.dtype)


def make_norm(config):
    if config.norm == "rms":
        return RMSNorm(config.width, config.epsilon)
    return nn.LayerNorm(config.width, config.epsilon)


def rope_table(config, length):
    """[2, length, head_width/2]: cosine and sine of position times frequency."""
    half = torch.arange(0, config.head_width, 2, dtype=torch.float64) / config.head_width
    angle = torch.outer(torch.arange(length, dtype=torch.float64), config.rope_base ** -half)
    return torch.stack((angle.cos(), angle.sin())).float()


def rotate(x, table, inverse=False):
    """RoPE of adjacent pairs (x[2i], x[2i+1]); x is [batch, heads, positions, head_width]."""
    cosine, sine = table[0].to(x.dtype), table[1].to(x.dtype)
    sine = -sine if inverse else sine
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1)
    return turned.flatten(-2)


def sinusoid_2d(length, channels):
    """The paper's fixed P [length, length, channels]: half the channels from i, half from j."""
    def one(width):
        table = torch.zeros(length, width)
        scale = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / max(width, 1)))
        angle = torch.arange(length)[:, None] * scale
        table[:, 0::2] = angle.sin()
        table[:, 1::2] = angle.cos()[:, :width // 2]
        return table
    rows, columns = one(channels // 2), one(channels - channels // 2)
    rows = rows[:, None].expand(-1, length, -1)
    return torch.cat((rows, columns[None].expand(length, -1, -1)), -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        roles, inner = PROJECTIONS[config.projection], config.heads * config.head_width
        kv_inner = config.kv_heads * config.head_width
        self.q = nn.Linear(config.width, inner, config.bias) if "q" in roles else None
        self.k = nn.Linear(config.width, kv_inner, config.bias)
        self.v = nn.Linear(config.width, kv_inner, config.bias) if "v" in roles else None
        self.output = nn.Linear(inner, config.width, config.bias)
        self.fast = config.head_width in fast_attention.WIDTHS and bool(fast_attention.library())
        self.score_weight = self.score_bias = None
        if config.plus_channels:
            self.score_weight = nn.Parameter(torch.randn(config.plus_channels) * 0.02)
            self.score_bias = nn.Parameter(torch.zeros(1))
            length = config.context + config.class_row
            plane = sinusoid_2d(length, config.plus_channels)
            self.register_buffer("plane", plane, persistent=False)

    def _scores_plus(self, q, k, v, mask):
        """(X)+ as the paper writes it: the score map is broadcast over m channels and mixed."""
        n = q.shape[2]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores * self.score_weight.sum() + self.plane[:n, :n] @ self.score_weight
        scores = scores + self.score_bias
        return (scores + mask if mask is not None else scores).softmax(-1) @ v

    def forward(self, x, table=None, mask=None):
        """x [B, n, d] to [B, n, d]; mask [B, 1, 1, n] or None is added to the scores."""
        c = self.config
        batch, length, _ = x.shape
        k = self.k(x).view(batch, length, c.kv_heads, c.head_width).transpose(1, 2)
        v = k if self.v is None else self.v(x).view(k.transpose(1, 2).shape).transpose(1, 2)
        k_rotated = rotate(k, table) if c.rope else k
        if c.shared_rope == "rotate-unrotate":
            v = k_rotated
        if self.q is None:
            q = k_rotated.repeat_interleave(c.heads // c.kv_heads, 1)
        else:
            q = self.q(x).view(batch, length, c.heads, c.head_width).transpose(1, 2)
            q = rotate(q, table) if c.rope else q
        if c.plus_channels or (mask is not None and c.mask == "causal"):
            mask = causal_mask(length, x, mask) if c.mask == "causal" else mask
        if c.plus_channels:
            y = self._scores_plus(q, spread(k_rotated, c.heads), spread(v, c.heads), mask)
        else:
            causal = c.mask == "causal" and mask is None
            y = attend(q, k_rotated, v, mask, causal, self.fast)
        if c.shared_rope == "rotate-unrotate":
            y = rotate(y, table, inverse=True)
        return self.output(y.transpose(1, 2).reshape(batch, length, -1))


def attend(q, k, v, mask, causal, fast):
    """softmax(q k^T / sqrt(h)) v for q [B, H, n, h] and k, v [B, g, n, h]; causal has no mask."""
    on_cpu = q.device.type == "cpu"
    if causal and on_cpu and fast:
        q, k, v = (x.transpose(1, 2).float().contiguous() for x in (q, k, v))
        return fast_attention.attend(q, k, v).transpose(1, 2)
    k, v = (spread(x, q.shape[1]) for x in (k, v))
    if not on_cpu:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    with torch.autocast("cpu", enabled=False):      # the bf16 kernel is 2 times slower
        y = F.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), mask, is_causal=causal)
    return y.to(q.dtype)


def spread(tensor, heads):
    """[B, g, n, h] to [B, heads, n, h], each KV head read by heads/g query heads, not copied."""
    batch, groups, length, width = tensor.shape
    if groups == heads:
        return tensor
    wide = tensor[:, :, None].expand(batch, groups, heads // groups, length, width)
    return wide.reshape(batch, heads, length, width)


def causal_mask(length, like, mask=None):
    hidden = torch.ones(length, length, dtype=torch.bool, device=like.device).triu(1)
    causal = torch.zeros(length, length, device=like.device).masked_fill(hidden, -torch.inf)
    return causal if mask is None else causal + mask


def taught_loss(logits, targets, tokens, probabilities, share):
    """Cross-entropy of the targets, of which `share` is against what teachers expect
    (arXiv 1503.02531, temperature 1), the mean over the teachers.

    logits [N, V]; targets [N]; tokens and probabilities [N, teachers, k]: the k likeliest tokens of
    each. All other tokens count as one, so a teacher's distribution stays whole.
    """
    log_q = logits.log_softmax(-1)
    told = F.nll_loss(log_q, targets, ignore_index=IGNORED)
    log_known = log_q.gather(-1, tokens.flatten(1)).view(tokens.shape)
    # Below 1e-6 the difference from 1 is rounding of f32 sums.
    log_rest = (1 - log_known.exp().sum(-1)).clamp(min=1e-6).log()
    rest = (1 - probabilities.sum(-1)).clamp(min=0)
    shown = -(probabilities * log_known).sum(-1) - rest * log_rest
    return (1 - share) * told + share * shown.mean()


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.activation = config.activation
        width, inner, bias = config.width, config.mlp_width, config.bias
        self.gate = nn.Linear(width, inner, bias) if config.activation == "swiglu" else None
        self.up = nn.Linear(width, inner, bias)
        self.down = nn.Linear(inner, width, bias)

    def forward(self, x):
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        kind = "tanh" if self.activation == "gelu_tanh" else "none"
        return self.down(F.gelu(self.up(x), approximate=kind))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention_norm, self.attention = make_norm(config), Attention(config)
        self.mlp_norm, self.mlp = make_norm(config), MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, table, mask):
        x = x + self.dropout(self.attention(self.attention_norm(x), table, mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        if config.input_kind == "tokens":
            self.embedding = nn.Embedding(config.vocabulary, config.width)
        else:
            self.embedding = nn.Linear(config.feature_length, config.width)
        length = config.context + config.class_row
        self.class_row = nn.Parameter(torch.zeros(config.width)) if config.class_row else None
        learned = config.positions == "learned"
        self.positions = nn.Embedding(length, config.width) if learned else None
        self.dropout = nn.Dropout(config.dropout if config.embedding_dropout else 0.0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = make_norm(config)
        bias = config.bias and config.input_kind == "features"
        self.head = None if config.tied else nn.Linear(config.width, config.outputs, bias)
        table = rope_table(config, length) if config.rope else None
        self.register_buffer("table", table, persistent=False)
        self.initialise()

    def initialise(self):
        """GPT-2's: normal 0.02, matrices that write to the residual narrower by sqrt(2 layers)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
                narrow = math.sqrt(2 * self.config.layers) if residual else 1
                nn.init.normal_(parameter, std=0.02 / narrow)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def forward(self, x, targets=None, mask=None, taught=None):
        """Logits [B, n, outputs] ([B, outputs] for pooling "first"), or the mean loss of targets.

        x is [B, n] token ids or [B, n, F] features. Targets equal to IGNORED are not scored.
        mask [B, 1, 1, n] is added to the scores (padding of sets: -inf). taught: the arguments of
        taught_loss after `targets`.
        """
        x = self.embedding(x)
        if self.class_row is not None:
            x = torch.cat((self.class_row.to(x.dtype).expand(len(x), 1, -1), x), 1)
        length = x.shape[1]
        if self.positions is not None:
            x = x + self.positions.weight[:length]
        x = self.dropout(x)
        table = self.table[:, :length] if self.table is not None else None
        for block in self.blocks:
            x = block(x, table, mask)
        x = self.norm(x)
        if self.config.pooling == "first":
            x = x[:, 0]
        weight = self.embedding.weight if self.head is None else self.head.weight
        logits = F.linear(x, weight, None if self.head is None else self.head.bias)
        if targets is None:
            return logits
        logits, targets = logits.float().flatten(0, -2), targets.flatten()
        if taught is not None:
            return taught_loss(logits, targets, *taught)
        return F.cross_entropy(logits, targets, ignore_index=IGNORED)

    def parameter_count(self):
        return sum(parameter.numel() for parameter in self.parameters())
