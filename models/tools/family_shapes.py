"""Writes a file of a published model's shape with random weights in Q4_K.

Only its size, its cache and its speed are those of the model; what it says is noise. Rows that are
no multiple of 256 are Q5_0, as common quantisers have it. There is no tokenizer: prompts are ids.

    python -m models.tools.family_shapes youtu-llm-2b FILE.gguf
"""

import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from tests.golden.make.golden_quants import random_rows

Q4_K, Q5_0 = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_0
ROWS = 64  # of random blocks that a matrix repeats


def latent(arch, *, layers, width, mlp, heads, query_rank, rank, plain, rotated, value,
           vocabulary, context, base, joined):  # fmt: skip
    """Keys and tensors {name: shape} of a model with cached latents, tied."""
    row = rank + rotated
    keys = {
        "block_count": layers, "context_length": context, "embedding_length": width,
        "feed_forward_length": mlp, "attention.head_count": heads,
        "attention.head_count_kv": heads if joined else 1,
        "attention.layer_norm_rms_epsilon": 1e-6, "attention.kv_lora_rank": rank,
        "attention.key_length": plain + rotated if joined else row,
        "attention.value_length": value if joined else rank,
        "rope.dimension_count": rotated, "rope.freq_base": base, "vocab_size": vocabulary,
    }  # fmt: skip
    if not joined:
        keys |= {"attention.key_length_mla": plain + rotated, "attention.value_length_mla": value}
    if arch == "deepseek2":
        keys |= {"leading_dense_block_count": layers, "expert_feed_forward_length": mlp,
                 "expert_shared_count": 0}  # fmt: skip
    layer = {"attn_norm": (width,), "ffn_norm": (width,), "attn_kv_a_norm": (rank,),
             "attn_kv_a_mqa": (row, width), "attn_output": (width, heads * value),
             "ffn_up": (mlp, width), "ffn_down": (width, mlp)}  # fmt: skip
    if query_rank:
        keys["attention.q_lora_rank"] = query_rank
        layer |= {"attn_q_a": (query_rank, width), "attn_q_a_norm": (query_rank,),
                  "attn_q_b": (heads * (plain + rotated), query_rank)}  # fmt: skip
    else:
        layer["attn_q"] = (heads * (plain + rotated), width)
    if joined:
        layer["attn_kv_b"] = (heads * (plain + value), rank)
    else:
        layer |= {"attn_k_b": (heads, rank, plain), "attn_v_b": (heads, value, rank)}
    if arch != "plm":
        layer["ffn_gate"] = (mlp, width)
    tensors = {"token_embd": (vocabulary, width), "output_norm": (width,)}
    for n in range(layers):
        tensors |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
    return arch, keys, tensors


SHAPES = {
    "youtu-llm-2b": lambda layers=32: latent(
        "deepseek2", layers=layers, width=2048, mlp=6144, heads=16, query_rank=1536, rank=512,
        plain=128, rotated=64, value=128, vocabulary=128256, context=131072, base=1.6e6,
        joined=False,
    ),
    "minicpm3-4b": lambda layers=62: latent(
        "minicpm3", layers=layers, width=2560, mlp=6400, heads=40, query_rank=768, rank=256,
        plain=64, rotated=32, value=64, vocabulary=73448, context=32768, base=1e4, joined=True,
    ),
}  # fmt: skip


def element_type(shape):
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    return Q5_0 if shape[-1] % GGML_QUANT_SIZES[Q4_K][0] else Q4_K


def row_bytes(kind, columns):
    per_block, size = GGML_QUANT_SIZES[kind]
    return columns // per_block * size


def values_of(random, shape):
    """A tensor's bytes; a matrix is ROWS random rows, again and again."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    kind, columns = element_type(shape), shape[-1]
    drawn = np.float32(random.standard_normal((ROWS, columns)) / np.sqrt(columns))
    raw = random_rows(random, Q4_K, drawn) if kind == Q4_K else quantize(drawn, kind)
    n_rows = int(np.prod(shape[:-1]))
    raw = raw.reshape(ROWS, row_bytes(kind, columns))
    return np.concatenate([raw] * (-(-n_rows // ROWS)))[:n_rows]


def write(path, arch, keys, tensors, *, header_only=False, without_words=False):
    """without_words: says that there is no tokenizer, as llama.cpp wants to be told."""
    writer = GGUFWriter(path, arch)
    if without_words:
        writer.add_tokenizer_model("no_vocab")
    add = {int: writer.add_uint32, float: writer.add_float32}
    for key, value in keys.items():
        add[type(value)](f"{arch}.{key}", value)
    for name, shape in tensors.items():
        kind = element_type(shape)
        bytes_shape = (*shape[:-1], row_bytes(kind, shape[-1]))
        if len(shape) == 1:
            writer.add_tensor_info(f"{name}.weight", shape, np.float32, 4 * shape[0])
        else:
            writer.add_tensor_info(f"{name}.weight", bytes_shape, np.uint8,
                                   int(np.prod(bytes_shape)), kind)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(1)
    for shape in [] if header_only else tensors.values():
        writer.write_tensor_data(values_of(random, shape))
    writer.close()


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        raise SystemExit(f"{__doc__}\n{', '.join(SHAPES)}")
    write(sys.argv[2], *SHAPES[sys.argv[1]]())


if __name__ == "__main__":
    main()
