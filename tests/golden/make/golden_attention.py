"""Writes tests/golden/attention/: the attention of DeepSeek-V4 in transformers, alone.

One row of each position is key and value, rotated at the end of a head; a logit per head (its sink)
takes part in the softmax and has no value; the output is rotated back by the query's position; a
query sees a window. Read by tests/native/test_attention_core.c.

    python -m tests.golden.make.golden_attention

NAME.bin, little-endian: u32 rows, heads H, head width h, rotated elements, window, 0, 0, 0; then
f32 queries [rows][H][h] and cached rows [rows][h], normed and not yet rotated, sinks [H], and the
expected outputs [rows][H][h]. The base of RoPE is 10000.
"""

from pathlib import Path

import numpy as np
import torch
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as v4
from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config

FOLDER = Path(__file__).resolve().parents[1] / "attention"
WIDTH = 32


def make(name, *, rows, heads, head, rotated, window):
    random = np.random.default_rng(rows)
    config = DeepseekV4Config(
        hidden_size=WIDTH, num_attention_heads=heads, head_dim=head, q_lora_rank=16,
        sliding_window=window, o_groups=1, o_lora_rank=8, num_hidden_layers=1,
        layer_types=["sliding_attention"], mlp_layer_types=["moe"], rope_theta=10000.0,
        partial_rotary_factor=rotated / head, max_position_embeddings=1024,
        attn_implementation="eager",
    )  # fmt: skip
    module = v4.DeepseekV4Attention(config, 0).eval()
    for values in module.parameters():
        drawn = random.standard_normal(values.shape)
        one = values.ndim == 1 and len(values) != heads
        scale = 1.6 / np.sqrt(values.shape[-1]) if values.ndim > 1 else 0.3
        values.data = torch.from_numpy(np.float32(one + scale * drawn))
    module.sinks.data = torch.from_numpy(np.float32(2 * random.standard_normal(heads)))
    x = torch.from_numpy(np.float32(random.standard_normal((1, rows, WIDTH))))
    positions = torch.arange(rows)[None]
    angles = v4.DeepseekV4RotaryEmbedding(config)(x, positions, layer_type="main")
    behind = positions[0][:, None] - positions[0][None]
    mask = torch.where((behind >= 0) & (behind < window), 0.0, -torch.inf)[None, None]
    seen = []
    module.o_a_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        module(x, {"main": angles}, positions, mask)
        queries = module.q_b_proj(module.q_a_norm(module.q_a_proj(x))).view(rows, heads, head)
        queries = module.q_b_norm(queries)
        cached = module.kv_norm(module.kv_proj(x))[0]
    expected = seen[0].reshape(rows, heads, head)
    assert torch.isfinite(expected).all() and 0.1 < expected.std() < 3, expected.std()
    header = np.array([rows, heads, head, rotated, window, 0, 0, 0], "<u4")
    parts = [queries, cached, module.sinks.detach(), expected]
    data = b"".join(part.numpy().astype("<f4").tobytes() for part in parts)
    (FOLDER / f"{name}.bin").write_bytes(header.tobytes() + data)


def main():
    FOLDER.mkdir(exist_ok=True)
    make("deepseek4-narrow", rows=100, heads=3, head=24, rotated=8, window=24)
    make("deepseek4-wide", rows=300, heads=2, head=16, rotated=12, window=290)


if __name__ == "__main__":
    main()
