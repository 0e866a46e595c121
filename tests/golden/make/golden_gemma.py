"""Gemma's families of golden files: Gemma 3 (text) of transformers as GGUF."""

from transformers import Gemma3ForCausalLM, Gemma3TextConfig

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
}


def gguf_name(name):
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
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
}
