"""Checks of reference.py and of the golden files.

Hf* compares with Hugging Face transformers on small random models (skipped without it), Twins
expands shared files into standard ones, Sensitivity shows that the golden files tell mistakes.

    python -m unittest models.tests.test_reference
"""

import importlib.util
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from models.format import gguf_out, reference
from tests.golden.make.golden import FOLDER
from tests.golden.make.golden_cases import CASES, PROJECTIONS

# Products this small cost more to share out than to do.
torch.set_num_threads(1)
HAVE_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


def read_expected(name):
    """Input rows and logits of NAME.bin."""
    raw = (FOLDER / f"{name}.bin").read_bytes()
    assert raw[:4] == b"OKVG"
    _, kind, rows, features, out_rows, outputs, _ = np.frombuffer(raw, "<u4", 7, 4)
    count = rows * features if kind else rows
    given = np.frombuffer(raw, "<f4" if kind else "<i4", count, 32)
    logits = np.frombuffer(raw, "<f4", out_rows * outputs, 32 + 4 * count)
    given = given.reshape(rows, features) if kind else given
    return given, torch.tensor(logits.reshape(out_rows, outputs).astype(np.float64))


def write_file(path, arch, keys, tensors):
    gguf_out.write(path, arch, keys, {n: gguf_out.floats(t) for n, t in tensors.items()})


def adjacent_pairs(weight, heads):
    """Rows of each head from the half-split order of transformers to adjacent pairs."""
    rows = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
MODEL_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest]}.{kind}"


def hf_tensors(model, arch, config):
    """The state of a transformers model under GGUF names, in GGUF's order of rows."""
    tensors = {}
    for name, values in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        values = values.detach()
        if arch == "gpt2" and values.ndim == 2 and ".h." in name:
            values = values.T  # Conv1D keeps [in, out]
        if arch == "llama" and "q_proj" in name:
            values = adjacent_pairs(values, config.num_attention_heads)
        if arch == "llama" and "k_proj" in name:
            values = adjacent_pairs(values, config.num_key_value_heads)
        tensors[gguf_name(name)] = values.float().numpy()
    return tensors


def llama3_divisors(config):
    """rope_freqs.weight of Llama 3.1: divisor 1 for short waves, `factor` for long ones."""
    rope = config.rope_parameters
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    waves = 2 * math.pi * rope["rope_theta"] ** pairs
    trained = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = ((trained / waves - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - share) / rope["factor"] + share)).numpy()


def hf_keys(arch, config):
    """The keys of the contract for a Llama-like configuration."""
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
    }
    rope = config.rope_parameters
    if rope["rope_type"] in ("linear", "yarn"):
        keys["rope.scaling.type"] = rope["rope_type"]
        keys["rope.scaling.factor"] = float(rope["factor"])
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return {f"{arch}.{key}": value for key, value in keys.items()}


def randomise(model):
    """Every parameter drawn anew: transformers starts with norms of 1 and biases of 0."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, values in model.named_parameters():
            norm = "norm" in name or "ln_" in name
            spread = 0.3 if values.ndim == 1 else 1.3 / math.sqrt(values.shape[-1])
            values.copy_((torch.randn_like(values) * spread + norm).float().to(values.dtype))
    return model.double().eval()


@unittest.skipUnless(HAVE_TRANSFORMERS, "transformers is not installed")
class HfTest(unittest.TestCase):
    def compare(self, arch, config, model, keys, extra=()):
        randomise(model)
        tokens = torch.randint(0, config.vocab_size, (1, 45))
        with torch.no_grad():
            expected = model(tokens).logits[0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_file(path, arch, keys, hf_tensors(model, arch, config) | dict(extra))
            got = reference.logits(reference.Model(path), tokens[0])
        self.assertGreater(expected.std(), 0.3)
        # transformers computes cos and sin of RoPE in float32.
        self.assertLess((got - expected).abs().max() / expected.abs().max(), 3e-6)

    def rope_model(self, arch, rope=None, **changes):
        import transformers

        name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[arch]
        shape = dict(
            vocab_size=37, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            rms_norm_eps=1e-3, tie_word_embeddings=False, attn_implementation="eager",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0} | (rope or {}),
        )
        config = getattr(transformers, f"{name}Config")(**shape | changes)
        if not getattr(config, "head_dim", None):
            config.head_dim = config.hidden_size // config.num_attention_heads
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        extra = {}
        if config.rope_parameters["rope_type"] == "llama3":
            extra["rope_freqs.weight"] = llama3_divisors(config)
        self.compare(arch, config, model, hf_keys(arch, config), extra)

    def test_llama(self):
        self.rope_model("llama")
        self.rope_model("llama", head_dim=16, tie_word_embeddings=True, attention_bias=False)
        self.rope_model("llama", num_key_value_heads=1, mlp_bias=True)

    def test_llama_scaling(self):
        self.rope_model("llama", {"rope_type": "linear", "factor": 4.0})
        trained = {"original_max_position_embeddings": 16}
        self.rope_model("llama", trained | {"rope_type": "yarn", "factor": 4.0}, head_dim=32)
        self.rope_model(
            "llama",
            trained | {
                "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            },
            head_dim=32,
        )

    def test_qwen(self):
        for arch in ("qwen2", "qwen3"):
            self.rope_model(arch)
            self.rope_model(arch, tie_word_embeddings=True, num_key_value_heads=4)
        yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
        self.rope_model("qwen2", yarn)

    def test_gpt2(self):
        import transformers

        for activation in ("gelu_new", "gelu"):
            config = transformers.GPT2Config(
                vocab_size=37, n_positions=48, n_embd=32, n_layer=2, n_head=4, n_inner=40,
                layer_norm_epsilon=1e-3, activation_function=activation,
                attn_implementation="eager",
            )
            model = transformers.GPT2LMHeadModel(config)
            keys = {
                "gpt2.block_count": 2, "gpt2.context_length": 48, "gpt2.embedding_length": 32,
                "gpt2.feed_forward_length": 40, "gpt2.attention.head_count": 4,
                "gpt2.attention.layer_norm_epsilon": 1e-3,
            }
            if activation == "gelu":
                keys["onekv.mlp.activation"] = "gelu_erf"
            self.compare("gpt2", config, model, keys)


def expand(name, path):
    """The standard twin of a golden file: each missing projection is a copy of the key's."""
    model = reference.Model(FOLDER / f"{name}.gguf")
    tensors = {key: values.numpy() for key, values in model.tensors.items()}
    h, each = model.head_width, model.heads // model.kv_heads
    for key in list(tensors):
        if ".attn_k." not in key:
            continue
        if not model.own_value:
            tensors[key.replace("attn_k", "attn_v")] = tensors[key]
        if not model.own_query:
            heads = tensors[key].reshape(model.kv_heads, h, -1).repeat(each, axis=0)
            shape = (model.heads * h, *tensors[key].shape[1:])
            tensors[key.replace("attn_k", "attn_q")] = heads.reshape(shape)
    keys = {k: v for k, v in model.keys.items() if not k.startswith(("GGUF.", "general."))}
    keys = {k: v for k, v in keys.items() if not k.startswith("onekv.attention.")}
    write_file(path, model.arch, keys, tensors)


class TwinsTest(unittest.TestCase):
    def test_expanded_files_give_the_same_logits(self):
        """Every causal shared file but rotate-unrotate, which has no standard twin."""
        checked = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "twin.gguf"
            for name, case in CASES.items():
                if case.projection == "QKV" or name.endswith("unrotate"):
                    continue
                expand(name, path)
                rows, expected = read_expected(name)
                twin = reference.Model(path)
                self.assertEqual(twin.projection, "QKV")
                got = reference.logits(twin, rows)
                self.assertLess((got - expected).abs().max(), 1e-6 * expected.abs().max(), name)
                checked += 1
        self.assertGreater(checked, 100)

    def test_same_weights_held_differently(self):
        for one, other in (("gpt2-separate", "gpt2-qkv-mha"), ("llama-fused", "llama-qkv-gqa")):
            a, b = read_expected(one), read_expected(other)
            self.assertTrue((a[0] == b[0]).all() and torch.equal(a[1], b[1]))


def without_effect(model, name):
    """q . b of a key bias is the same for all keys, so it cancels in the softmax."""
    return (
        name.endswith("attn_k.bias") and model.positions != "rope"
        and model.own_query and model.own_value
    )


class SensitivityTest(unittest.TestCase):
    """What a test that holds 1e-4 of the largest logit would notice."""

    def change(self, name, model, rows, expected, least):
        model.unread.clear()  # a changed model may leave a tensor unused
        got = reference.logits(model, rows)
        difference = (got - expected).abs().max() / expected.abs().max()
        self.assertGreater(difference, least, name)

    def test_each_tensor_matters(self):
        for name in CASES:
            model = reference.Model(FOLDER / f"{name}.gguf")
            rows, expected = read_expected(name)
            for tensor, values in list(model.tensors.items()):
                if without_effect(model, tensor):
                    continue
                # Rolled rows alone would cancel in K K^T.
                changed = values.roll(1, 0) if len(values) > 1 else values.clone()
                changed[0] *= 0.5
                model.tensors[tensor] = changed
                self.change(f"{name}: {tensor}", model, rows, expected, 1e-2)
                model.tensors[tensor] = values

    def test_each_choice_matters(self):
        flip = {"rotate-at-read": "rotate-unrotate", "rotate-unrotate": "rotate-at-read"}
        for name, case in CASES.items():
            model = reference.Model(FOLDER / f"{name}.gguf")
            rows, expected = read_expected(name)
            if model.positions == "rope":
                model.positions = "none"
                self.change(f"{name}: no rotation", model, rows, expected, 1e-2)
                model.positions = "rope"
            if model.positions == "rope" and not model.own_value:
                shared_rope, model.shared_rope = model.shared_rope, flip[model.shared_rope]
                self.change(f"{name}: shared_rope", model, rows, expected, 1e-2)
                model.shared_rope = shared_rope
            if case.mlp_kind != "swiglu" and case.biases == "all":
                other = {"gelu_erf": "gelu_tanh", "gelu_tanh": "gelu_erf"}
                model.activation = other[case.mlp_kind]
                self.change(f"{name}: GELU", model, rows, expected, 3e-4)
                model.activation = case.mlp_kind
            model.epsilon /= 100
            self.change(f"{name}: epsilon", model, rows, expected, 3e-4)

    def test_grid_is_complete(self):
        families = ("gpt2", "gpt2-erf", "llama", "llama-learned", "llama-none", "qwen2",
                    "qwen3", "encoder", "encoder-none", "vit")
        for family in families:
            for projection in PROJECTIONS:
                for heads in ("mha", "gqa", "mqa"):
                    self.assertIn(f"{family}-{projection}-{heads}", CASES)


if __name__ == "__main__":
    unittest.main()
