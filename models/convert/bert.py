"""BERT encoders of transformers (MiniLM, bge, e5) as GGUF, as llama.cpp's converter writes them.

    python -m models.convert.bert FOLDER model.gguf [--type q8_0] [--pooling mean]

FOLDER has config.json, tokenizer.json (WordPiece) and model.safetensors. How a text's rows become
its vector is read from 1_Pooling/config.json, where sentence-transformers put it. Needs
safetensors.
"""
import argparse
import json
from functools import partial
from pathlib import Path

from gguf import TokenType
from safetensors import safe_open

from models.format import gguf_out

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
POOLINGS = {"mean": 1, "cls": 2, "last": 3}


def gguf_name(name):
    stem, kind = name.removeprefix("bert.").rsplit(".", 1)
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def model_keys(config, pooling):
    """config: that of the file, as a dictionary; pooling: a number of POOLINGS."""
    return {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_epsilon": config["layer_norm_eps"],
        "attention.causal": False,
        "pooling_type": pooling,
    }


def tokenizer_keys(described, n_types):
    """WordPiece as GGUF has it: a mark in front of a word's first piece, none inside it."""
    vocabulary = described["model"]["vocab"]
    control = {item["content"] for item in described["added_tokens"] if item["special"]}
    words = sorted(vocabulary, key=vocabulary.get)

    def spelt(word):
        if word in control:
            return word
        return word[2:] if word.startswith("##") else f"\u2581{word}"

    ids = {"unknown": "[UNK]", "seperator": "[SEP]", "padding": "[PAD]", "mask": "[MASK]",
           "cls": "[CLS]", "bos": "[CLS]", "eos": "[SEP]"}
    return {
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [spelt(word) for word in words],
        "tokenizer.ggml.token_type": [int(TokenType.CONTROL if word in control
                                          else TokenType.NORMAL) for word in words],
        "tokenizer.ggml.token_type_count": n_types,
        "tokenizer.ggml.normalizer.lowercase": described["normalizer"]["lowercase"],
        **{f"tokenizer.ggml.{name}_token_id": vocabulary[word] for name, word in ids.items()}}


def pooling_of(folder):
    modes = json.loads((folder / "1_Pooling" / "config.json").read_text())
    said = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    return next(name for name, mode in said.items() if modes.get(f"pooling_mode_{mode}"))


def convert(folder, out, kind, pooling=None):
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise SystemExit(f"{folder}: found {config['model_type']} with {config['hidden_act']}, "
                         "expected bert with gelu")
    pooling = POOLINGS[pooling or pooling_of(folder)]
    described = json.loads((folder / "tokenizer.json").read_text())
    keys = {"general.name": folder.resolve().name,
            **{f"bert.{key}": value for key, value in model_keys(config, pooling).items()},
            **tokenizer_keys(described, config["type_vocab_size"])}
    tensors = {}
    with safe_open(str(folder / "model.safetensors"), "numpy") as file:
        for name in file.keys():
            if "pooler" in name or name.endswith("position_ids"):
                continue
            own = gguf_name(name)
            shape = tuple(file.get_slice(name).get_shape())
            own_kind = gguf_out.TYPES["f32"] if own == "token_types.weight" else \
                gguf_out.matrix_kind(own, shape, kind)
            tensors[own] = gguf_out.encoded(shape, own_kind, partial(file.get_tensor, name))
        gguf_out.write(out, "bert", keys, tensors)


def main():
    parser = argparse.ArgumentParser(description="Convert a BERT encoder to GGUF.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=gguf_out.TYPES, default="q8_0",
                        help="of matrices (default q8_0)")
    parser.add_argument("--pooling", choices=POOLINGS, help="default: what the folder says")
    args = parser.parse_args()
    convert(args.folder, args.out, gguf_out.TYPES[args.type], args.pooling)


if __name__ == "__main__":
    main()
