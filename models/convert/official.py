"""The paper's models as its documentation describes them: the other side of convert.py's proof.

Small nn.Modules with the official parameter names, written from the description of the checkpoints
and sharing no code with model.py or reference.py. They exist to be saved, converted and compared.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F


def attend(q, k, v, causal, plane=None):
    """softmax(q k^T / sqrt(head width)) v on [batch, heads, n, width]; plane is (pos2d, w, b)."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if plane is not None:
        pos2d, weight, bias = plane
        n = scores.shape[-1]
        scores = (scores.unsqueeze(-1) + pos2d[:n, :n]) @ weight + bias
    if causal:
        n = scores.shape[-1]
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    return scores.softmax(-1) @ v


class LanguageAttention(nn.Module):
    """One of the eight attention classes of the language models."""

    def __init__(self, kind, d, heads, groups, n_positions):
        super().__init__()
        self.kind, self.heads, self.groups, self.width = kind, heads, groups, d // heads
        shared = groups * self.width
        sizes = {
            "KQV": {"c_attn": 3 * d}, "QK": {"c_kv": 2 * d}, "KV": {"c_q": d, "c_k": d},
            "K": {"c_k": d}, "GQA": {"c_q": d, "c_kv": 2 * shared},
            "MQA": {"c_q": d, "c_kv": 2 * self.width}, "QGQA": {"c_q": d, "c_k": shared},
            "QMQA": {"c_q": d, "c_kv": self.width}}[kind]
        for name, size in sizes.items():
            setattr(self, name, nn.Linear(d, size))
        self.c_proj = nn.Linear(d, d)
        mask = torch.tril(torch.ones(n_positions, n_positions))
        self.register_buffer("bias", mask.view(1, 1, n_positions, n_positions))

    def project(self, x):
        kind = self.kind
        if kind == "KQV":
            return self.c_attn(x).chunk(3, -1)
        if kind == "QK":
            k, v = self.c_kv(x).chunk(2, -1)
            return k, k, v
        if kind == "K":
            k = self.c_k(x)
            return k, k, k
        if kind in ("KV", "QGQA"):
            k = self.c_k(x)
            return self.c_q(x), k, k
        if kind == "QMQA":
            k = self.c_kv(x)
            return self.c_q(x), k, k
        return (self.c_q(x), *self.c_kv(x).chunk(2, -1))

    def forward(self, x):
        batch, n, d = x.shape
        parts = [t.view(batch, n, -1, self.width).transpose(1, 2) for t in self.project(x)]
        q, k, v = (t.repeat_interleave(self.heads // t.shape[1], 1) for t in parts)
        return self.c_proj(attend(q, k, v, True).transpose(1, 2).reshape(batch, n, d))


class LanguageBlock(nn.Module):
    def __init__(self, kind, d, heads, groups, inner, n_positions):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = LanguageAttention(kind, d, heads, groups, n_positions)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(d, inner), "c_proj": nn.Linear(inner, d)})

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class GPT(nn.Module):
    """The paper's language model: learned positions, exact GELU, tied head."""

    def __init__(self, kind, layers=2, d=32, heads=4, groups=2, inner=48, vocabulary=41,
                 n_positions=48):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, d), nn.Embedding(n_positions, d)
        self.h = nn.ModuleList(
            LanguageBlock(kind, d, heads, groups, inner, n_positions) for _ in range(layers))
        self.ln_f = nn.LayerNorm(d)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[-1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


class SmallAttention(nn.Module):
    """Attention of the Encoder and the ViT; `plus` is the paper's (X)+."""

    NAMES = {"qkv": ("c_q", "c_k", "c_v"), "qk": ("c_qk", "c_v"), "kv": ("c_q", "c_kv"),
             "q": ("c_qkv",)}

    def __init__(self, kind, d, heads, plus, n_positions, m=10):
        super().__init__()
        self.kind, self.heads, self.plus = kind, heads, plus
        for name in self.NAMES[kind]:
            setattr(self, name, nn.Linear(d, d))
        self.c_proj = nn.Linear(d, d)
        if plus:
            self.register_buffer("pos2d", plane_2d(n_positions, m))
            self.pos_w, self.pos_b = nn.Parameter(torch.randn(m)), nn.Parameter(torch.randn(1))

    def forward(self, x):
        batch, n, d = x.shape
        parts = [getattr(self, name)(x) for name in self.NAMES[self.kind]]
        picks = {"qkv": (0, 1, 2), "qk": (0, 0, 1), "kv": (0, 1, 1), "q": (0, 0, 0)}[self.kind]
        q, k, v = (parts[i].view(batch, n, self.heads, -1).transpose(1, 2) for i in picks)
        plane = (self.pos2d, self.pos_w, self.pos_b) if self.plus else None
        return self.c_proj(attend(q, k, v, False, plane).transpose(1, 2).reshape(batch, n, d))


def plane_2d(n, m):
    """[n, n, m]: half of the channels a sinusoid of the row's position, half of the column's."""
    def sinusoid(channels):
        position = torch.arange(n).float().unsqueeze(1)
        rate = torch.exp(torch.arange(0, channels, 2).float() * -math.log(1e4) / channels)
        out = torch.zeros(n, channels)
        out[:, 0::2] = torch.sin(position * rate)
        out[:, 1::2] = torch.cos(position * rate)[:, :channels // 2]
        return out
    rows, columns = sinusoid(m // 2), sinusoid(m - m // 2)
    return torch.cat([rows.unsqueeze(1).expand(n, n, -1), columns.expand(n, n, -1)], -1)


class SmallBlock(nn.Module):
    def __init__(self, kind, d, heads, plus, n_positions, dropouts):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = SmallAttention(kind, d, heads, plus, n_positions)
        drop = [nn.Dropout(0.1)] if dropouts else []
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), *drop, nn.Linear(4 * d, d), *drop)

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Encoder(nn.Module):
    """The synthetic tasks' model: one-hot symbols in, a class for each position out."""

    def __init__(self, kind, plus=False, layers=2, d=32, heads=4, symbols=10, n_positions=48):
        super().__init__()
        self.embed, self.pos_emb = nn.Linear(symbols, d), nn.Embedding(n_positions, d)
        self.blocks = nn.ModuleList(
            SmallBlock(kind, d, heads, plus, n_positions, False) for _ in range(layers))
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, symbols)
        self.symbols = symbols

    def forward(self, tokens):
        x = self.embed(F.one_hot(tokens, self.symbols).float())
        x = x + self.pos_emb(torch.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


class ViT(nn.Module):
    """The vision model: a class row, patches in row order, the class from row 0."""

    def __init__(self, kind, plus=False, layers=2, d=32, heads=4, size=12, patch=4, channels=3,
                 classes=10):
        super().__init__()
        n = (size // patch) ** 2
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(channels, d, kernel_size=patch, stride=patch)})
        self.cls = nn.Parameter(torch.randn(1, 1, d))
        self.pos_emb = nn.Parameter(torch.randn(1, n + 1, d))
        self.blocks = nn.ModuleList(
            SmallBlock(kind, d, heads, plus, n + 1, True) for _ in range(layers))
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

    def forward(self, images):
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos_emb
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x)[:, 0])
