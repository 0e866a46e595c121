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

import torch
from gguf import LlamaFileType

from models.format import gguf_out
from models.format.tokenizer import tokenizer_keys
from models.train.state import load_checkpoint

FILE_TYPES = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
              "q8_0": LlamaFileType.MOSTLY_Q8_0, "q5_0": LlamaFileType.MOSTLY_Q5_0,
              "q4_0": LlamaFileType.MOSTLY_Q4_0}
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


def shape_keys(config):
    arch = architecture(config)
    keys = {"rope.freq_base": float(config.rope_base)} if config.rope else {}
    keys |= {
        "block_count": config.layers, "context_length": config.context + config.class_row,
        "embedding_length": config.width, "feed_forward_length": config.mlp_width,
        "attention.head_count": config.heads, "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width, "attention.value_length": config.head_width}
    if config.rope:
        keys["rope.dimension_count"] = config.head_width
    epsilon = "layer_norm_rms_epsilon" if config.norm == "rms" else "layer_norm_epsilon"
    keys[f"attention.{epsilon}"] = config.epsilon
    return {f"{arch}.{key}": value for key, value in keys.items()}


def variant_keys(config, labels, image):
    """The onekv.* keys: only what differs from the defaults, so a plain file stays plain."""
    positions, activation = DEFAULTS[architecture(config)]
    keys = {}
    if config.projection != "QKV":
        keys["attention.projection"] = config.projection
    if config.shares_kv and config.rope:
        keys["attention.shared_rope"] = config.shared_rope
    for key, value, default in (
            ("position.encoding", config.positions, positions),
            ("mlp.activation", config.activation, activation),
            ("input.kind", config.input_kind, "tokens"),
            ("output.pooling", config.pooling, "each")):
        if value != default:
            keys[key] = value
    if labels:
        keys["labels"] = list(labels)
    keys |= {f"image.{key}": value for key, value in (image or {}).items()}
    return {f"onekv.{key}": value for key, value in keys.items()}


def write_gguf(model, path, kind="f32", name=None, tokenizer=None, about=None, training=None,
               labels=None, image=None, widening=None):
    """Write `model` to `path`; `about` is {"license", "description", …}, `training` a record;
    `widening`: the type of the MLP's gate and up matrices, where it is another."""
    keys = {"general.file_type": int(FILE_TYPES[kind])}
    if name:
        keys["general.name"] = name
    keys |= {f"general.{key}": value for key, value in (about or {}).items()}
    keys |= shape_keys(model.config) | variant_keys(model.config, labels, image)
    of_tokenizer = tokenizer_keys(tokenizer) if tokenizer else {}
    keys |= of_tokenizer
    rows = len(of_tokenizer["tokenizer.ggml.tokens"]) if of_tokenizer else None
    if training:
        keys["onekv.training"] = json.dumps(training, sort_keys=True)
    tensors = {}
    for tensor, values in named_tensors(model).items():
        if rows and tensor in ("token_embd.weight", "output.weight"):
            values = values[:rows]
        wide = widening and tensor.endswith(("ffn_gate.weight", "ffn_up.weight"))
        tensors[tensor] = gguf_out.floats(values, gguf_out.matrix_kind(
            tensor, values.shape, gguf_out.TYPES[widening if wide else kind]))
    gguf_out.write(path, architecture(model.config), keys, tensors)


def training_record(state, weights, data, results):
    """What onekv.training holds: settings, progress, data and held-out loss."""
    stats = json.loads((data / "stats.json").read_text())
    weights_of = state["training"]["weights"]
    files = {name: {"weight": weights_of.get(name, entry["weight"]),
                    "tokens": entry["train"]["tokens"]}
             for name, entry in stats["files"].items() if entry["train"]["tokens"]}
    record = {"settings": state["training"], "weights": weights, "steps": state["step"],
              "tokens": state["tokens"], "seconds": round(state["seconds"]),
              "torch": torch.__version__, "data": files}
    return record | ({"held_out": results} if results else {})


def main():
    parser = argparse.ArgumentParser(description="Export a checkpoint to GGUF.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, required=True,
                        help="of the run, for the name and `about`")
    parser.add_argument("--name", help="of the model (default: the configuration's)")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--type", choices=gguf_out.TYPES, default="f32")
    parser.add_argument("--widening", choices=gguf_out.TYPES,
                        help="type of the MLP's gate and up matrices (default: as the others)")
    parser.add_argument("--weights", choices=("last", "average"), default="average")
    parser.add_argument("--results", type=Path, help="results.json of the run")
    args = parser.parse_args()
    settings = json.loads(args.config.read_text())
    model, state = load_checkpoint(args.checkpoint, args.weights)
    results = json.loads(args.results.read_text())[args.weights] if args.results else None
    write_gguf(model, args.out, args.type, args.name or settings["name"],
               args.data / "tokenizer.json", settings.get("about"),
               training_record(state, args.weights, args.data, results), widening=args.widening)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {model.parameter_count():,} "
          f"parameters, {state['tokens']:,} tokens")


if __name__ == "__main__":
    main()
