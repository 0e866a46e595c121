"""LFM2 of transformers as GGUF: gated short convolutions beside grouped attention."""

from transformers import Lfm2Config, Lfm2ForCausalLM

from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.embedding_norm": "token_embd_norm",
    "lm_head": "output",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "conv.in_proj": "shortconv.in_proj",
    "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def make(description, attends, taps, **changes):
    """attends: "c" and "a", a layer each."""
    settings = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=160, norm_eps=EPSILON,
        block_auto_adjust_ff_dim=False, rope_parameters={"rope_type": "default",
                                                         "rope_theta": 10000.0},
        attn_implementation="eager", pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ) | changes
    config = Lfm2Config(
        num_hidden_layers=len(attends), conv_L_cache=taps, conv_bias=False,
        layer_types=["full_attention" if layer == "a" else "conv" for layer in attends],
        **settings,
    )
    model = randomise(Lfm2ForCausalLM(config), len(description))
    tensors = {}
    for name, values in model.named_parameters():
        values = values.detach().numpy()
        # Depthwise: [channel][1][tap].
        tensors[gguf_name(name)] = values[:, 0] if "conv.conv" in name else values
    if config.tie_word_embeddings:
        tensors.pop("output.weight", None)
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": [config.num_key_value_heads if layer == "a" else 0
                                    for layer in attends],
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "shortconv.l_cache": taps,
    }
    return Family(description, "lfm2", model, keys, tensors)


MAKERS = {
    "lfm2-tied": lambda: make("LFM2: three taps, tied", "ccaca", 3),
    "lfm2-wide": lambda: make("LFM2: five taps, attention first, MQA, odd widths, separate head",
                              "acca", 5, hidden_size=36, num_attention_heads=6,
                              num_key_value_heads=1, intermediate_size=40,
                              tie_word_embeddings=False),
}
