"""Latent attention's families of golden files: Youtu (deepseek2), MiniCPM3 and PLM.

The first two are classes of transformers; PLM has none there, so its equations stand below.
"""

from types import SimpleNamespace

import numpy as np
import torch
from transformers import MiniCPM3Config, MiniCPM3ForCausalLM, YoutuConfig, YoutuForCausalLM

from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

LATENT_EPSILON = 1e-6  # of these classes' norms of latents, whatever rms_norm_eps says
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def gguf_name(name):
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part.removesuffix('.weight')]}.weight"


def tensors_of(model):
    return {gguf_name(name): p.detach().numpy() for name, p in model.named_parameters()}


def split(tensors, heads, nope):
    """attn_kv_b as the converter of deepseek2 writes it: W_k transposed, and W_v, head by head."""
    out = {}
    for name, values in tensors.items():
        if not name.endswith("attn_kv_b.weight"):
            out[name] = values
            continue
        parts = values.reshape(heads, -1, values.shape[-1])
        out[name.replace("kv_b", "k_b")] = parts[:, :nope].transpose(0, 2, 1)
        out[name.replace("kv_b", "v_b")] = parts[:, nope:]
    return out


def common_keys(config):
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_attention_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.kv_lora_rank": config.kv_lora_rank,
        "attention.key_length": config.qk_nope_head_dim + config.qk_rope_head_dim,
        "attention.value_length": config.v_head_dim,
        "rope.dimension_count": config.qk_rope_head_dim,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "vocab_size": VOCABULARY,
    }
    if getattr(config, "q_lora_rank", None) is not None:
        keys["attention.q_lora_rank"] = config.q_lora_rank
    return keys


SMALL = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=32,
    qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, max_position_embeddings=160,
    rms_norm_eps=EPSILON, attn_implementation="eager", tie_word_embeddings=True,
)


def youtu(description, *, is_old=False, **changes):
    """is_old: as files were before the heads' matrices were split."""
    config = YoutuConfig(**(SMALL | changes))
    model = randomise(YoutuForCausalLM(config), len(description))
    tensors = tensors_of(model)
    keys = common_keys(config) | {
        "leading_dense_block_count": config.num_hidden_layers,
        "expert_feed_forward_length": config.intermediate_size,
        "expert_shared_count": 0,
    }
    if not is_old:
        tensors = split(tensors, config.num_attention_heads, config.qk_nope_head_dim)
        keys |= {
            "attention.head_count_kv": 1,
            "attention.key_length_mla": keys["attention.key_length"],
            "attention.value_length_mla": config.v_head_dim,
            "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
            "attention.value_length": config.kv_lora_rank,
        }
    rope = config.rope_parameters
    if rope["rope_type"] == "yarn":
        keys |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        }
        if "mscale_all_dim" in rope:
            keys["rope.scaling.yarn_log_multiplier"] = 0.1 * rope["mscale_all_dim"]
    return Family(description, "deepseek2", model, keys, tensors)


def minicpm3(description, **changes):
    config = MiniCPM3Config(**(SMALL | changes))
    model = randomise(MiniCPM3ForCausalLM(config), len(description))
    model.model.norm.weight.data *= 0.125  # logits are multiplied by 256/d
    keys = common_keys(config)
    tensors = tensors_of(model)
    rope = config.rope_parameters
    if rope["rope_type"] == "longrope":
        tensors["rope_factors_long.weight"] = np.float32(rope["long_factor"])
        tensors["rope_factors_short.weight"] = np.float32(rope["short_factor"])
        original = rope["original_max_position_embeddings"]
        if original != config.max_position_embeddings:
            keys |= {
                "rope.scaling.original_context_length": original,
                "rope.scaling.attn_factor": float(model.model.rotary_emb.attention_scaling),
            }
    return Family(description, "minicpm3", model, keys, tensors)


class Plm:
    """PLM-1.8B's equations in float64, whole score map, no cache: MLA with queries from x,
    RoPE on adjacent pairs, down(relu(up(n))²), tied head."""

    def __init__(self, config, seed):
        self.config = config
        c, random = config, np.random.default_rng(seed)
        query = c.num_attention_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
        inner = c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)
        layer = {
            "attn_norm": (c.hidden_size,),
            "attn_q": (query, c.hidden_size),
            "attn_kv_a_mqa": (c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size),
            "attn_kv_a_norm": (c.kv_lora_rank,),
            "attn_kv_b": (inner, c.kv_lora_rank),
            "attn_output": (c.hidden_size, c.num_attention_heads * c.v_head_dim),
            "ffn_norm": (c.hidden_size,),
            "ffn_up": (c.intermediate_size, c.hidden_size),
            "ffn_down": (c.hidden_size, c.intermediate_size),
        }
        shapes = {"token_embd": (VOCABULARY, c.hidden_size), "output_norm": (c.hidden_size,)}
        for n in range(c.num_hidden_layers):
            shapes |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
        self.tensors = {}
        for name, shape in shapes.items():
            normal = random.standard_normal(shape)
            drawn = 1 + 0.3 * normal if len(shape) == 1 else 1.4 * normal / np.sqrt(shape[-1])
            if name == "token_embd":
                drawn = 0.7 * normal
            self.tensors[f"{name}.weight"] = np.float32(drawn)

    def weight(self, name):
        return self.tensors[f"{name}.weight"].astype(np.float64)

    def norm(self, x, name, epsilon):
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean + epsilon) * self.weight(name)

    def rotate(self, x):
        """x [n, …, 2 pairs]: pair i of row p is turned by p · base^(-i/pairs)."""
        pairs = x.shape[-1] // 2
        frequencies = self.config.rope_parameters["rope_theta"] ** (-np.arange(pairs) / pairs)
        angles = np.arange(len(x))[:, None] * frequencies
        angles = angles.reshape(len(x), *[1] * (x.ndim - 2), pairs)
        a, b = x[..., 0::2], x[..., 1::2]
        turned = [a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)]
        return np.stack(turned, axis=-1).reshape(x.shape)

    def attend(self, x, n):
        c = self.config
        heads, plain, rank = c.num_attention_heads, c.qk_nope_head_dim, c.kv_lora_rank
        q = (x @ self.weight(f"blk.{n}.attn_q").T).reshape(len(x), heads, -1)
        row = x @ self.weight(f"blk.{n}.attn_kv_a_mqa").T
        latent = self.norm(row[:, :rank], f"blk.{n}.attn_kv_a_norm", LATENT_EPSILON)
        both = (latent @ self.weight(f"blk.{n}.attn_kv_b").T).reshape(len(x), heads, -1)
        key, value = both[..., :plain], both[..., plain:]
        scores = np.einsum("ihc,jhc->hij", q[..., :plain], key)
        scores += np.einsum("ihc,jc->hij", self.rotate(q[..., plain:]), self.rotate(row[:, rank:]))
        scores /= np.sqrt(q.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("hij,jhc->ihc", weights, value).reshape(len(x), -1)
        return out @ self.weight(f"blk.{n}.attn_output").T

    def mlp(self, x, n):
        up = np.maximum(x @ self.weight(f"blk.{n}.ffn_up").T, 0)
        return up**2 @ self.weight(f"blk.{n}.ffn_down").T

    def __call__(self, input_ids):
        x = self.weight("token_embd")[input_ids[0].numpy()]
        for n in range(self.config.num_hidden_layers):
            x = x + self.attend(self.norm(x, f"blk.{n}.attn_norm", self.config.rms_norm_eps), n)
            x = x + self.mlp(self.norm(x, f"blk.{n}.ffn_norm", self.config.rms_norm_eps), n)
        x = self.norm(x, "output_norm", self.config.rms_norm_eps)
        return SimpleNamespace(logits=torch.from_numpy(x @ self.weight("token_embd").T)[None])


def plm(description, **changes):
    config = SimpleNamespace(**(
        SMALL | {"q_lora_rank": None, "rope_parameters": {"rope_theta": 1e4}} | changes
    ))
    model = Plm(config, len(description))
    return Family(description, "plm", model, common_keys(config), model.tensors)


UNEVEN = dict(
    num_attention_heads=3, num_key_value_heads=3, hidden_size=36, kv_lora_rank=20,
    qk_nope_head_dim=12, qk_rope_head_dim=6, v_head_dim=10, num_hidden_layers=2,
)
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40,
}
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 1.5, 2.5, 4.0],
}
MAKERS = {
    "deepseek2-latent": lambda: youtu("Youtu: queries from a latent, heads' matrices split"),
    "deepseek2-uneven": lambda: youtu(
        "Youtu: queries from x, three heads, widths that no vector divides, separate head",
        **UNEVEN | dict(q_lora_rank=None, tie_word_embeddings=False),
    ),
    "deepseek2-old": lambda: youtu("Youtu: the older layout of keys and tensors", is_old=True),
    "deepseek2-old-uneven": lambda: youtu(
        "Youtu: the older layout, uneven widths", is_old=True, **UNEVEN
    ),
    "deepseek2-yarn": lambda: youtu(
        "Youtu: YaRN by 4 with mscale_all_dim", rms_norm_eps=LATENT_EPSILON,
        rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 0.7},
    ),
    "minicpm3-latent": lambda: minicpm3("MiniCPM3: its three scales", rms_norm_eps=LATENT_EPSILON),
    "minicpm3-uneven": lambda: minicpm3("MiniCPM3: uneven widths", **UNEVEN),
    "minicpm3-short": lambda: minicpm3(
        "MiniCPM3: LongRoPE within the original context",
        rope_parameters=LONG | {"original_max_position_embeddings": 160},
    ),
    "minicpm3-long": lambda: minicpm3(
        "MiniCPM3: LongRoPE behind the original context",
        rope_parameters=LONG | {"original_max_position_embeddings": 40},
    ),
    "plm-latent": lambda: plm("PLM: squared ReLU, queries from x", rms_norm_eps=LATENT_EPSILON),
    "plm-uneven": lambda: plm("PLM: uneven widths", **UNEVEN),
}
