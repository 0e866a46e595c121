"""A checkpoint of train.py (or any Transformer) to a GGUF file as models/FORMAT.md defines it.

    python -m models.train.export RUNS/stories-q-mqa/final.pt models/stories-q-mqa.q8_0.gguf \\
        --config models/train/configs/stories-q-mqa.json --data DATA --type q8_0

Invariants: a shared projection is written once; matrices take the requested type, everything that
is added or multiplied element by element (norms, biases, positions) stays f32; the file is the same
for the same checkpoint; rows of the vocabulary beyond the tokenizer's (padding to a round number)
are left out, since no text has them.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize

from models.train.data import END
from models.train.state import load_checkpoint

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
FILE_TYPES = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
              "q8_0": LlamaFileType.MOSTLY_Q8_0, "q4_0": LlamaFileType.MOSTLY_Q4_0}
# What each architecture stands for; a model that differs says so in an onekv.* key.
DEFAULTS = {"gpt2": ("learned", "gelu_tanh"), "llama": ("rope", "swiglu"),
            "onekv-encoder": ("learned", "gelu_erf"), "onekv-vit": ("learned", "gelu_erf")}


def architecture(config):
    """The general.architecture of a configuration; ValueError if the contract has none."""
    if config.mask == "causal":
        arch = "llama" if config.norm == "rms" else "gpt2"
    else:
        arch = "onekv-vit" if config.class_row else "onekv-encoder"
    if (config.mask == "none" and config.norm == "rms") or (arch == "gpt2" and config.rope):
        raise ValueError(f"no architecture of the file contract has mask {config.mask}, "
                         f"norm {config.norm} and positions {config.positions}")
    return arch


def matrix_and_bias(tensors, name, module):
    tensors[f"{name}.weight"] = module.weight
    if getattr(module, "bias", None) is not None:
        tensors[f"{name}.bias"] = module.bias


def attention_tensors(tensors, prefix, attention, fused):
    """q, k, v and what (X)+ folds to; `fused` stacks q, k, v as gpt2 files do."""
    parts = {role: getattr(attention, role) for role in "qkv"}
    parts = {role: module for role, module in parts.items() if module is not None}
    if fused:
        for kind in ("weight", "bias"):
            rows = [getattr(module, kind) for module in parts.values()]
            if rows[0] is not None:
                tensors[f"{prefix}.attn_qkv.{kind}"] = torch.cat(rows)
    else:
        for role, module in parts.items():
            matrix_and_bias(tensors, f"{prefix}.attn_{role}", module)
    matrix_and_bias(tensors, f"{prefix}.attn_output", attention.output)
    if attention.score_weight is not None:
        weight, plane = attention.score_weight, attention.plane
        columns = slice(len(weight) // 2, None)     # the channels that depend on the key
        tensors[f"{prefix}.attn_score_scale.weight"] = weight.sum().view(1)
        tensors[f"{prefix}.attn_key_bias.weight"] = plane[0, :, columns] @ weight[columns]


def named_tensors(model):
    """{GGUF name: tensor in PyTorch's shape} of a model."""
    config, tensors = model.config, {}
    if config.input_kind == "tokens":
        tensors["token_embd.weight"] = model.embedding.weight
    else:
        matrix_and_bias(tensors, "input_proj", model.embedding)
    if model.class_row is not None:
        tensors["cls_embd.weight"] = model.class_row
    if model.positions is not None:
        tensors["position_embd.weight"] = model.positions.weight
    fused = architecture(config) == "gpt2" and config.projection == "QKV"
    for number, block in enumerate(model.blocks):
        prefix = f"blk.{number}"
        matrix_and_bias(tensors, f"{prefix}.attn_norm", block.attention_norm)
        attention_tensors(tensors, prefix, block.attention, fused)
        matrix_and_bias(tensors, f"{prefix}.ffn_norm", block.mlp_norm)
        if block.mlp.gate is not None:
            matrix_and_bias(tensors, f"{prefix}.ffn_gate", block.mlp.gate)
        matrix_and_bias(tensors, f"{prefix}.ffn_up", block.mlp.up)
        matrix_and_bias(tensors, f"{prefix}.ffn_down", block.mlp.down)
    matrix_and_bias(tensors, "output_norm", model.norm)
    if model.head is not None:
        matrix_and_bias(tensors, "output", model.head)
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}


def add_shape_keys(writer, config):
    arch = architecture(config)
    numbers = {
        "block_count": config.layers, "context_length": config.context + config.class_row,
        "embedding_length": config.width, "feed_forward_length": config.mlp_width,
        "attention.head_count": config.heads, "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width, "attention.value_length": config.head_width}
    if config.rope:
        numbers["rope.dimension_count"] = config.head_width
        writer.add_float32(f"{arch}.rope.freq_base", config.rope_base)
    for key, value in numbers.items():
        writer.add_uint32(f"{arch}.{key}", value)
    epsilon = "layer_norm_rms_epsilon" if config.norm == "rms" else "layer_norm_epsilon"
    writer.add_float32(f"{arch}.attention.{epsilon}", config.epsilon)


def add_variant_keys(writer, config, labels, image):
    """The onekv.* keys: only what differs from the defaults, so a plain file stays plain."""
    positions, activation = DEFAULTS[architecture(config)]
    if config.projection != "QKV":
        writer.add_string("onekv.attention.projection", config.projection)
    if config.shares_kv and config.rope:
        writer.add_string("onekv.attention.shared_rope", config.shared_rope)
    for key, value, default in (
            ("position.encoding", config.positions, positions),
            ("mlp.activation", config.activation, activation),
            ("input.kind", config.input_kind, "tokens"),
            ("output.pooling", config.pooling, "each")):
        if value != default:
            writer.add_string(f"onekv.{key}", value)
    if labels:
        writer.add_array("onekv.labels", list(labels))
    for key, value in (image or {}).items():
        writer.add_uint32(f"onekv.image.{key}", value)


def add_tokenizer(writer, path):
    """Byte-level BPE in the keys that GGUF runtimes read for GPT-2's tokenizer; its size."""
    described = json.loads(Path(path).read_text())
    vocabulary = described["model"]["vocab"]
    special = {item["content"] for item in described["added_tokens"] if item["special"]}
    vocabulary |= {item["content"]: item["id"] for item in described["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    merges = [m if isinstance(m, str) else " ".join(m) for m in described["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(vocabulary[END])
    writer.add_eos_token_id(vocabulary[END])
    writer.add_add_bos_token(False)
    return len(tokens)


def write_gguf(model, path, kind="f32", name=None, tokenizer=None, about=None, training=None,
               labels=None, image=None):
    """Write `model` to `path`; `about` is {"license", "description", …}, `training` a record."""
    writer = GGUFWriter(str(path), architecture(model.config))
    writer.add_file_type(FILE_TYPES[kind])
    if name:
        writer.add_name(name)
    for key, value in (about or {}).items():
        writer.add_string(f"general.{key}", value)
    add_shape_keys(writer, model.config)
    add_variant_keys(writer, model.config, labels, image)
    rows = add_tokenizer(writer, tokenizer) if tokenizer else None
    if training:
        writer.add_string("onekv.training", json.dumps(training, sort_keys=True))
    for tensor, values in named_tensors(model).items():
        if rows and tensor in ("token_embd.weight", "output.weight"):
            values = values[:rows]
        matrix = values.ndim == 2 and not tensor.startswith("position_embd")
        quantized = TYPES[kind] if matrix else Type.F32
        if values.shape[-1] % 32 and quantized not in (Type.F32, Type.F16):
            quantized = Type.F32
        data = quantize(np.ascontiguousarray(values, np.float32), quantized)
        writer.add_tensor(tensor, data, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def training_record(state, weights, data, results):
    """What onekv.training holds: settings, progress, data and held-out loss."""
    stats = json.loads((data / "stats.json").read_text())
    files = {name: {"weight": entry["weight"], "tokens": entry["train"]["tokens"]}
             for name, entry in stats["files"].items()}
    record = {"settings": state["training"], "weights": weights, "steps": state["step"],
              "tokens": state["tokens"], "seconds": round(state["seconds"]),
              "torch": torch.__version__, "data": files}
    return record | ({"held_out": results} if results else {})


def main():
    parser = argparse.ArgumentParser(description="Export a checkpoint to GGUF.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, required=True,
                        help="config.json of the run, for the name and `about`")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--type", choices=TYPES, default="f32")
    parser.add_argument("--weights", choices=("last", "average"), default="average")
    parser.add_argument("--results", type=Path, help="results.json of the run")
    args = parser.parse_args()
    settings = json.loads(args.config.read_text())
    model, state = load_checkpoint(args.checkpoint, args.weights)
    results = json.loads(args.results.read_text())[args.weights] if args.results else None
    write_gguf(model, args.out, args.type, settings["name"], args.data / "tokenizer.json",
               settings.get("about"), training_record(state, args.weights, args.data, results))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {model.parameter_count():,} "
          f"parameters, {state['tokens']:,} tokens")


if __name__ == "__main__":
    main()
