"""Dense families close to Llama, of transformers, as GGUF: SmolLM3, Granite, OLMo 2, Ministral 3,
Phi-3 and 4, Hunyuan, and Mistral with a window."""

import math

from transformers import (
    GraniteConfig, GraniteForCausalLM, HunYuanDenseV1Config, HunYuanDenseV1ForCausalLM,
    Ministral3Config, Ministral3ForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config,
    Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM,
)

from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

MODEL_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# OLMo 2 norms what a branch gave.
AFTER = {"post_attention_layernorm": "post_attention_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name, layer_names):
    stem, kind = name.rsplit(".", 1)
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{layer_names[part]}.{kind}"


def adjacent_pairs(rows, n_heads):
    """Rows of q or k in the converter's order for pairs (2i, 2i + 1): HF pairs (i, i + k/2)."""
    width = rows.shape[0] // n_heads
    return rows.reshape(n_heads, 2, width // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def make(arch, description, config_class, model_class, *, adjacent=False, layer_names=LAYER_NAMES,
         keys=None, more_tensors=None, **changes):
    settings = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=160,
        rms_norm_eps=EPSILON, attn_implementation="eager", pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    ) | changes
    config = config_class(**settings)
    model = randomise(model_class(config), len(description))
    heads = {"attn_q.": config.num_attention_heads, "attn_k.": config.num_key_value_heads}
    tensors = dict(more_tensors or {})
    for name, values in model.named_parameters():
        values = values.detach().numpy()
        name = gguf_name(name, layer_names)
        for part, n_heads in heads.items():
            if adjacent and part in name:
                values = adjacent_pairs(values, n_heads)
        tensors[name] = values
    if config.tie_word_embeddings:
        tensors.pop("output.weight", None)
    rope = config.rope_parameters
    all_keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    head_width = getattr(config, "head_dim", None)
    if head_width:
        all_keys |= {"attention.key_length": head_width, "attention.value_length": head_width,
                     "rope.dimension_count": head_width}
    return Family(description, arch, model, all_keys | (keys or {}), tensors)


def smollm3(description, **changes):
    return make("smollm3", description, SmolLM3Config, SmolLM3ForCausalLM, adjacent=True,
                num_hidden_layers=5, use_sliding_window=False, **changes)


def granite(description, attention, embedding, residual, logits, **changes):
    keys = {"attention.scale": attention, "embedding_scale": embedding,
            "residual_scale": residual, "logit_scale": logits}
    return make("granite", description, GraniteConfig, GraniteForCausalLM, adjacent=True,
                keys=keys, attention_multiplier=attention, embedding_multiplier=embedding,
                residual_multiplier=residual, logits_scaling=logits, **changes)


def olmo2(description, **changes):
    return make("olmo2", description, Olmo2Config, Olmo2ForCausalLM,
                layer_names=LAYER_NAMES | AFTER, tie_word_embeddings=False, **changes)


def ministral3(description, factor, original, beta, **changes):
    theta = 10000.0
    keys = {"rope.scaling.type": "yarn", "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": original,
            "rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 1.0,
            "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": beta}
    rope = {"rope_type": "yarn", "rope_theta": theta, "factor": factor, "beta_fast": 8.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": original, "llama_4_scaling_beta": beta}
    return make("mistral3", description, Ministral3Config, Ministral3ForCausalLM, adjacent=True,
                keys=keys, rope_parameters=rope, **changes)


def phi3(description, original, *, partial=1.0, long=None, short=None, **changes):
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": partial}
    head_width = changes.get("hidden_size", 32) // changes.get("num_attention_heads", 4)
    keys = {"rope.dimension_count": int(partial * head_width), "attention.sliding_window": 0,
            "rope.scaling.original_context_length": original}
    tensors = {}
    if long is not None:
        from numpy import float32, array
        rope |= {"rope_type": "longrope", "long_factor": long, "short_factor": short,
                 "original_max_position_embeddings": original}
        scale = changes.get("max_position_embeddings", 160) / original
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        keys |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": factor}
        tensors = {"rope_factors_long.weight": array(long, float32),
                   "rope_factors_short.weight": array(short, float32)}
    return make("phi3", description, Phi3Config, Phi3ForCausalLM, keys=keys, more_tensors=tensors,
                rope_parameters=rope, original_max_position_embeddings=original,
                sliding_window=None, **changes)


def hunyuan(description, **changes):
    return make("hunyuan-dense", description, HunYuanDenseV1Config, HunYuanDenseV1ForCausalLM,
                **changes)


MAKERS = {
    "smollm3-tied": lambda: smollm3(
        "SmolLM3: every fourth layer without positions, tied head", tie_word_embeddings=True),
    "smollm3-wide": lambda: smollm3(
        "SmolLM3: heads wider, one KV head, a head apart", tie_word_embeddings=False,
        hidden_size=48, intermediate_size=72, num_attention_heads=3, num_key_value_heads=1,
        rope_theta=5000.0),
    "granite-tied": lambda: granite(
        "Granite: four multipliers, tied head", 0.25, 6.0, 0.6, 3.0, tie_word_embeddings=True),
    "granite-wide": lambda: granite(
        "Granite: other multipliers, a head apart", 0.5, 0.9, 0.3, 0.5, hidden_size=48,
        intermediate_size=64, num_attention_heads=6, tie_word_embeddings=False),
    "olmo2-gqa": lambda: olmo2("OLMo 2: norms after branches, of all queries and keys at once"),
    "olmo2-mha": lambda: olmo2(
        "OLMo 2: as many KV heads as query heads, wider", hidden_size=48, intermediate_size=80,
        num_key_value_heads=4, num_hidden_layers=2),
    "ministral3-short": lambda: ministral3(
        "Ministral 3: YaRN, queries scaled behind position 40", 4.0, 40, 0.3, head_dim=8,
        tie_word_embeddings=False),
    "ministral3-wide": lambda: ministral3(
        "Ministral 3: YaRN by 16, heads wider than d/H, queries scaled behind 10", 16.0, 10, 0.1,
        head_dim=16, hidden_size=40, intermediate_size=56, tie_word_embeddings=True),
    "phi3-short": lambda: phi3("Phi-3: fused tensors, heads rotated whole", 160,
                               tie_word_embeddings=False),
    "phi3-long": lambda: phi3(
        "Phi-4-mini: half of a head rotated, LongRoPE beyond its first context, tied head", 64,
        partial=0.5, long=[1.0, 1.7, 3.2, 5.0], short=[1.0, 1.1, 1.3, 1.2], hidden_size=64,
        intermediate_size=72, num_attention_heads=4, tie_word_embeddings=True),
    "hunyuan-tied": lambda: hunyuan("Hunyuan: heads normed when they are rotated, tied head",
                                    head_dim=8, tie_word_embeddings=True),
    "hunyuan-wide": lambda: hunyuan(
        "Hunyuan: heads wider than d/H, one KV head, a head apart", head_dim=16, hidden_size=40,
        intermediate_size=56, num_key_value_heads=1, tie_word_embeddings=False),
    "mistral-window": lambda: make(
        "llama", "Mistral 7B 0.1: a window of 24 in all layers", MistralConfig, MistralForCausalLM,
        adjacent=True, keys={"attention.sliding_window": 24}, sliding_window=24,
        tie_word_embeddings=False),
}
