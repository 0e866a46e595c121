"""Gemma's families of golden files: Gemma 3 and 4 (text) of transformers as GGUF."""

import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)

from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    "layer_scalar": "layer_output_scale",
}
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part.removesuffix('.weight')]}.weight"


def gemma3(description, *, lists_pattern=False, factor=None, **changes):
    settings = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=7,
        num_attention_heads=4, num_key_value_heads=1, head_dim=8, sliding_window=8,
        max_position_embeddings=160, rms_norm_eps=EPSILON, attn_implementation="eager",
    ) | changes
    settings["query_pre_attn_scalar"] = settings["head_dim"]
    if factor is not None:
        settings["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    config = Gemma3TextConfig(**settings)
    # transformers multiplies by 1 + w; the converter writes 1 + w.
    model = randomise(Gemma3ForCausalLM(config), len(description), norm_mean=0.0)
    tensors = {}
    for name, values in model.named_parameters():
        shift = 1 if values.ndim == 1 else 0
        tensors[gguf_name(name)] = values.detach().numpy() + shift
    rope = config.rope_parameters
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.freq_base": float(rope["full_attention"]["rope_theta"]),
        "attention.sliding_window": config.sliding_window,
        "attention.head_count_kv": config.num_key_value_heads,
    }
    if factor is not None:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(factor)}
    if lists_pattern:
        windows = [kind == "sliding_attention" for kind in config.layer_types]
        keys["attention.sliding_window_pattern"] = windows
        keys["rope.freq_base_swa"] = float(rope["sliding_attention"]["rope_theta"])
    return Family(description, "gemma3", model, keys, tensors)


def gemma4(description, **changes):
    settings = dict(
        vocab_size=VOCABULARY, vocab_size_per_layer_input=VOCABULARY, hidden_size=32,
        intermediate_size=40, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, global_head_dim=16, sliding_window=8, max_position_embeddings=160,
        rms_norm_eps=EPSILON, hidden_size_per_layer_input=0, attn_implementation="eager",
    ) | changes
    config = Gemma4TextConfig(**settings)
    model = randomise(Gemma4ForCausalLM(config), len(description))
    random = np.random.default_rng(len(description))
    for layer in model.model.layers:
        layer.layer_scalar.data = torch.from_numpy(
            np.float32(0.6 + 0.8 * random.random(1))
        ).double()
    tensors = {gguf_name(name): values.detach().numpy()
               for name, values in model.named_parameters()}
    tensors |= {gguf_name(name): values.numpy() for name, values in model.named_buffers()
                if name.endswith("layer_scalar")}
    # Of the pairs of a global head a quarter turns; the converter divides the others by 1e30.
    pairs, turning = settings["global_head_dim"] // 2, settings["global_head_dim"] // 8
    tensors["rope_freqs.weight"] = np.float32([1.0] * turning + [1e30] * (pairs - turning))
    windows = [kind == SLIDING for kind in config.layer_types]
    per_layer = [config.per_layer_config[n] for n in range(config.num_hidden_layers)]
    ff = [layer.mlp.intermediate_size for layer in model.model.layers]
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": ff if len(set(ff)) > 1 else ff[0],
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": [one.num_key_value_heads for one in per_layer],
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": settings["global_head_dim"],
        "attention.value_length": settings["global_head_dim"],
        "attention.key_length_swa": settings["head_dim"],
        "attention.value_length_swa": settings["head_dim"],
        "attention.sliding_window": config.sliding_window,
        "attention.sliding_window_pattern": windows,
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
        "rope.dimension_count": settings["global_head_dim"],
        "rope.dimension_count_swa": settings["head_dim"],
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
    }
    if config.final_logit_softcapping is not None:
        keys["final_logit_softcapping"] = float(config.final_logit_softcapping)
    return Family(description, "gemma4", model, keys, tensors)


FULL, SLIDING = "full_attention", "sliding_attention"
MAKERS = {
    "gemma3-narrow": lambda: gemma3("Gemma 3: window 8, every sixth layer without, one KV head"),
    "gemma3-wide": lambda: gemma3(
        "Gemma 3: window 21, a pattern of its own, two KV heads, heads wider than d/H, bases apart",
        lists_pattern=True, hidden_size=40, intermediate_size=64, head_dim=16,
        num_key_value_heads=2, sliding_window=21, num_hidden_layers=4,
        layer_types=[SLIDING, FULL, FULL, SLIDING],
        rope_parameters={
            FULL: {"rope_type": "default", "rope_theta": 5000.0},
            SLIDING: {"rope_type": "default", "rope_theta": 300.0},
        },
    ),
    "gemma3-linear": lambda: gemma3(
        "Gemma 3: linear RoPE scaling of the layers without a window", factor=4.0,
        num_hidden_layers=3, layer_types=[SLIDING, SLIDING, FULL], lists_pattern=True,
    ),
    "gemma4-kv": lambda: gemma4(
        "Gemma 4: K=V in layers without a window, whose KV heads are fewer and wider",
        attention_k_eq_v=True, num_global_key_value_heads=1, final_logit_softcapping=30.0,
    ),
    "gemma4-shared": lambda: gemma4(
        "Gemma 4: four layers read others' caches, wider MLPs there, inputs per layer, soft cap",
        num_hidden_layers=10, num_kv_shared_layers=4, use_double_wide_mlp=True,
        hidden_size_per_layer_input=8, final_logit_softcapping=5.0, num_key_value_heads=1,
    ),
    "gemma4-kv-shared": lambda: gemma4(
        "Gemma 4: K=V layers whose cache others read, another width, window 21",
        attention_k_eq_v=True, num_global_key_value_heads=2, hidden_size=40, head_dim=16,
        global_head_dim=24, sliding_window=21, num_hidden_layers=6, num_kv_shared_layers=2,
        layer_types=[SLIDING, FULL, SLIDING, FULL, SLIDING, FULL], final_logit_softcapping=30.0,
        num_key_value_heads=4, hidden_size_per_layer_input=4,
    ),
}
