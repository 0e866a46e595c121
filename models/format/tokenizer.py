"""A tokenizer.json of byte-level BPE in the keys that GGUF runtimes read for GPT-2's tokenizer."""
import json
from pathlib import Path

from gguf import TokenType

END = "<|endoftext|>"


def tokenizer_keys(path):
    described = json.loads(Path(path).read_text())
    vocabulary = described["model"]["vocab"]
    special = {item["content"] for item in described["added_tokens"] if item["special"]}
    vocabulary |= {item["content"]: item["id"] for item in described["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    merges = [m if isinstance(m, str) else " ".join(m) for m in described["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": vocabulary[END],
        "tokenizer.ggml.eos_token_id": vocabulary[END], "tokenizer.ggml.add_bos_token": False}
