"""Writes a file of a published model's shape with random weights, in Q4_K or in one bit (Q1_0).

Only its size, its cache and its speed are those of the model; what it says is noise. Rows that are
not a multiple of 256 are Q5_0, as common quantisers have it. Its words are made up: prompts are
ids.

    python -m models.tools.family_shapes youtu-llm-2b FILE.gguf
    python -m models.tools.family_shapes youtu-llm-2b FILE.gguf layers=4 vocabulary=4096
    python -m models.tools.family_shapes --mix llama-3.2-1b FILE.gguf   Q4_K_M, as llama.cpp mixes
    python -m models.tools.family_shapes --headers FOLDER    of all, the headers alone
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from tests.golden.make.golden_quants import random_rows

Q4_K, Q5_0, Q6_K, Q1_0 = (GGMLQuantizationType[name] for name in ("Q4_K", "Q5_0", "Q6_K", "Q1_0"))
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


def grouped(arch, *, layers, width, mlp, heads, kv_heads, head, vocabulary, context, base,
            tied=True, norms=("attn_norm", "ffn_norm"), head_norms=(), biased=False, fused=False,
            keys=(), epsilon=1e-6):  # fmt: skip
    """The same of a model whose KV heads have a key and a value; head_norms are widths of the norms
    of queries and of keys."""
    queries, cached = heads * head, kv_heads * head
    all_keys = {
        "block_count": layers, "context_length": context, "embedding_length": width,
        "feed_forward_length": mlp, "attention.head_count": heads,
        "attention.head_count_kv": kv_heads, "attention.layer_norm_rms_epsilon": epsilon,
        "attention.key_length": head, "attention.value_length": head,
        "rope.dimension_count": head, "rope.freq_base": base, "vocab_size": vocabulary,
    } | dict(keys)  # fmt: skip
    layer = {name: (width,) for name in norms}
    layer |= dict(zip(("attn_q_norm", "attn_k_norm"), ((n,) for n in head_norms)))
    if fused:
        layer |= {"attn_qkv": (queries + 2 * cached, width), "ffn_up": (2 * mlp, width)}
    else:
        layer |= {"attn_q": (queries, width), "attn_k": (cached, width), "attn_v": (cached, width),
                  "ffn_gate": (mlp, width), "ffn_up": (mlp, width)}  # fmt: skip
    layer |= {"attn_output": (width, queries), "ffn_down": (width, mlp)}
    if biased:
        layer |= {"attn_q.bias": (queries,), "attn_k.bias": (cached,), "attn_v.bias": (cached,)}
    tensors = {"token_embd": (vocabulary, width), "output_norm": (width,)}
    if not tied:
        tensors["output"] = (vocabulary, width)
    for n in range(layers):
        tensors |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
    return arch, all_keys, tensors


def convolving(arch, *, layers, attends, taps, **fields):
    """A grouped model whose other layers are short convolutions of so many taps."""
    arch, keys, tensors = grouped(arch, layers=layers, **fields)
    kv_heads, width = keys["attention.head_count_kv"], keys["embedding_length"]
    keys |= {"shortconv.l_cache": taps,
             "attention.head_count_kv": [kv_heads if n in attends else 0 for n in range(layers)]}
    own = {"shortconv.in_proj": (3 * width, width), "shortconv.conv": (width, taps),
           "shortconv.out_proj": (width, width)}  # fmt: skip
    tensors["token_embd_norm"] = tensors.pop("output_norm")
    for n in set(range(layers)) - set(attends):
        for name in [name for name in tensors if name.startswith(f"blk.{n}.attn_")]:
            if not name.endswith(".attn_norm"):
                del tensors[name]
        tensors |= {f"blk.{n}.{name}": shape for name, shape in own.items()}
    return arch, keys, tensors


def shared(arch, *, layers, own, period, width, mlp, wide_mlp, heads, kv_heads, head, wide_head,
           window, per_layer, vocabulary, context):  # fmt: skip
    """Gemma 4: every layer but each `period`-th has a window, those from `own` on read another's
    cache and have wide_mlp, and each has an input of its own."""
    windowed = [(n + 1) % period != 0 for n in range(layers)]
    keys = {
        "block_count": layers, "context_length": context, "embedding_length": width,
        "feed_forward_length": [mlp if n < own else wide_mlp for n in range(layers)],
        "attention.head_count": heads, "attention.head_count_kv": kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": wide_head,
        "attention.value_length": wide_head, "attention.key_length_swa": head,
        "attention.value_length_swa": head, "attention.sliding_window": window,
        "attention.sliding_window_pattern": windowed, "attention.shared_kv_layers": layers - own,
        "rope.dimension_count": wide_head, "rope.dimension_count_swa": head,
        "rope.freq_base": 1e6, "rope.freq_base_swa": 1e4, "final_logit_softcapping": 30.0,
        "embedding_length_per_layer_input": per_layer, "vocab_size": vocabulary,
    }  # fmt: skip
    tensors = {"token_embd": (vocabulary, width), "output_norm": (width,),
               "rope_freqs": (wide_head // 2,), "per_layer_proj_norm": (per_layer,),
               "per_layer_token_embd": (vocabulary, layers * per_layer),
               "per_layer_model_proj": (layers * per_layer, width)}  # fmt: skip
    for n in range(layers):
        h, ff = (head if windowed[n] else wide_head), keys["feed_forward_length"][n]
        layer = {name: (width,) for name in (*SANDWICH, "post_norm")}
        layer |= {"attn_q": (heads * h, width), "attn_q_norm": (h,), "layer_output_scale": (1,),
                  "attn_output": (width, heads * h), "inp_gate": (per_layer, width),
                  "proj": (width, per_layer), "ffn_gate": (ff, width), "ffn_up": (ff, width),
                  "ffn_down": (width, ff)}  # fmt: skip
        if n < own:
            cached = (kv_heads * h, width)
            layer |= {"attn_k": cached, "attn_v": cached, "attn_k_norm": (h,)}
        tensors |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
    return arch, keys, tensors


SANDWICH = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
BEHIND = ("post_attention_norm", "post_ffw_norm")
GRANITE = {"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.015625,
           "logit_scale": 8.0}  # fmt: skip

# Of the published configurations: what makes the cache, the matrices and the vocabulary.
SHAPES = {
    "youtu-llm-2b": (latent, "deepseek2", dict(
        layers=32, width=2048, mlp=6144, heads=16, query_rank=1536, rank=512, plain=128,
        rotated=64, value=128, vocabulary=128256, context=131072, base=1.6e6, joined=False)),
    "minicpm3-4b": (latent, "minicpm3", dict(
        layers=62, width=2560, mlp=6400, heads=40, query_rank=768, rank=256, plain=64, rotated=32,
        value=64, vocabulary=73448, context=32768, base=1e4, joined=True)),
    "plm-1.8b": (latent, "plm", dict(
        layers=32, width=2048, mlp=8192, heads=16, query_rank=0, rank=512, plain=128, rotated=64,
        value=128, vocabulary=151936, context=4096, base=1e5, joined=True)),
    "gemma-3-270m": (grouped, "gemma3", dict(
        layers=18, width=640, mlp=2048, heads=4, kv_heads=1, head=256, vocabulary=262144,
        context=32768, base=1e6, norms=SANDWICH, head_norms=(256, 256),
        keys={"attention.sliding_window": 512})),
    "gemma-3-1b": (grouped, "gemma3", dict(
        layers=26, width=1152, mlp=6912, heads=4, kv_heads=1, head=256, vocabulary=262144,
        context=32768, base=1e6, norms=SANDWICH, head_norms=(256, 256),
        keys={"attention.sliding_window": 512})),
    "smollm2-135m": (grouped, "llama", dict(
        layers=30, width=576, mlp=1536, heads=9, kv_heads=3, head=64, vocabulary=49152,
        context=8192, base=1e5)),
    "llama-3.2-1b": (grouped, "llama", dict(
        layers=16, width=2048, mlp=8192, heads=32, kv_heads=8, head=64, vocabulary=128256,
        context=131072, base=5e5)),
    "qwen2.5-coder-0.5b": (grouped, "qwen2", dict(
        layers=24, width=896, mlp=4864, heads=14, kv_heads=2, head=64, vocabulary=151936,
        context=32768, base=1e6, biased=True)),
    "qwen3-0.6b": (grouped, "qwen3", dict(
        layers=28, width=1024, mlp=3072, heads=16, kv_heads=8, head=128, vocabulary=151936,
        context=40960, base=1e6, head_norms=(128, 128))),
    "smollm3-3b": (grouped, "smollm3", dict(
        layers=36, width=2048, mlp=11008, heads=16, kv_heads=4, head=128, vocabulary=128256,
        context=65536, base=5e6)),
    "granite-3.3-2b": (grouped, "granite", dict(
        layers=40, width=2048, mlp=8192, heads=32, kv_heads=8, head=64, vocabulary=49159,
        context=131072, base=1e7, keys=GRANITE)),
    "olmo-2-1b": (grouped, "olmo2", dict(
        layers=16, width=2048, mlp=8192, heads=16, kv_heads=16, head=128, vocabulary=100352,
        context=4096, base=5e5, tied=False, norms=BEHIND, head_norms=(2048, 2048))),
    "ministral-3-3b": (grouped, "mistral3", dict(
        layers=26, width=3072, mlp=9216, heads=32, kv_heads=8, head=128, vocabulary=131072,
        context=262144, base=1e6)),
    "phi-4-mini": (grouped, "phi3", dict(
        layers=32, width=3072, mlp=8192, heads=24, kv_heads=8, head=128, vocabulary=200064,
        context=131072, base=1e4, fused=True, keys={"rope.dimension_count": 96})),
    "hunyuan-0.5b": (grouped, "hunyuan-dense", dict(
        layers=24, width=1024, mlp=3584, heads=16, kv_heads=8, head=128, vocabulary=120818,
        context=262144, base=1e4, head_norms=(128, 128))),
    "lfm2-1.2b": (convolving, "lfm2", dict(
        layers=16, attends=(2, 5, 8, 10, 12, 14), taps=3, width=2048, mlp=8192, heads=32,
        kv_heads=8, head=64, vocabulary=65536, context=128000, base=1e6, head_norms=(64, 64))),
    "gemma-4-e2b": (shared, "gemma4", dict(
        layers=35, own=15, period=5, width=1536, mlp=6144, wide_mlp=12288, heads=8, kv_heads=1,
        head=256, wide_head=512, window=512, per_layer=256, vocabulary=262144, context=131072)),
}  # fmt: skip


# Bonsai has Qwen 3's shapes, in Q1_0.
ONE_BIT_SHAPES = {
    "bonsai-1.7b": (grouped, "qwen3", dict(
        layers=28, width=2048, mlp=6144, heads=16, kv_heads=8, head=128, vocabulary=151936,
        context=40960, base=1e6, head_norms=(128, 128))),
    "bonsai-8b": (grouped, "qwen3", dict(
        layers=36, width=4096, mlp=12288, heads=32, kv_heads=8, head=128, vocabulary=151936,
        context=40960, base=1e6, tied=False, head_norms=(128, 128))),
}  # fmt: skip


def shape_of(name, **changes):
    """Architecture, keys and tensors {name: shape} of a row of SHAPES or ONE_BIT_SHAPES."""
    make, arch, fields = (SHAPES | ONE_BIT_SHAPES)[name]
    return make(arch, **(fields | changes))


def element_type(shape, wanted):
    if len(shape) == 1 or shape[-1] % 32:
        return GGMLQuantizationType.F32
    return Q5_0 if shape[-1] % GGML_QUANT_SIZES[wanted][0] else wanted


def mixed(name, layers):
    """What llama.cpp's Q4_K_M makes a matrix of: Q6_K the output's (here the embedding's, which is
    tied), and values and down projections in the first and last eighth and every third layer of
    the others (`use_more_bits` of its quantiser)."""
    if name == "token_embd":
        return Q6_K
    if name.endswith((".attn_v", ".ffn_down")):
        n = int(name.split(".")[1])
        if n < layers // 8 or n >= 7 * layers // 8 or (n - layers // 8) % 3 == 2:
            return Q6_K
    return Q4_K


def row_bytes(kind, columns):
    per_block, size = GGML_QUANT_SIZES[kind]
    return columns // per_block * size


def values_of(random, shape, wanted):
    """A tensor's bytes; a matrix is ROWS random rows, again and again."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    kind, columns = element_type(shape, wanted), shape[-1]
    if kind == GGMLQuantizationType.F32:
        return np.float32(random.standard_normal(shape) / np.sqrt(columns))
    drawn = np.float32(random.standard_normal((ROWS, columns)) / np.sqrt(columns))
    raw = quantize(drawn, kind) if kind == Q5_0 else random_rows(random, kind, drawn)
    n_rows = int(np.prod(shape[:-1]))
    raw = raw.reshape(ROWS, row_bytes(kind, columns))
    return np.concatenate([raw] * (-(-n_rows // ROWS)))[:n_rows]


def add_words(writer, count):
    """A vocabulary of made-up words, since runtimes open no file without one."""
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(marks + [f"\u2581w{n}" for n in range(count - len(marks))])
    writer.add_token_scores([0.0] * len(marks) + [-float(n) for n in range(count - len(marks))])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (count - len(marks)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write(path, arch, keys, tensors, *, wanted=Q4_K, mix=False, header_only=False):
    """wanted: the matrices' element type; with `mix` they have Q4_K_M's, each its own."""
    types = {name: mixed(name, keys["block_count"]) if mix else wanted for name in tensors}
    writer = GGUFWriter(path, arch)
    if not header_only:
        add_words(writer, tensors["token_embd"][0])
    add = {int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
    for key, value in keys.items():
        add[type(value)](f"{arch}.{key}", value)
    for name, shape in tensors.items():
        kind = element_type(shape, types[name])
        whole = name if name.endswith(".bias") else f"{name}.weight"
        if kind == GGMLQuantizationType.F32:
            writer.add_tensor_info(whole, shape, np.float32, 4 * int(np.prod(shape)))
        else:
            bytes_shape = (*shape[:-1], row_bytes(kind, shape[-1]))
            writer.add_tensor_info(whole, bytes_shape, np.uint8,
                                   int(np.prod(bytes_shape)), kind)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(1)
    for name, shape in [] if header_only else tensors.items():
        writer.write_tensor_data(values_of(random, shape, types[name]))
    writer.close()


def type_of(name):
    """The matrices' element type in a row's files."""
    return Q1_0 if name in ONE_BIT_SHAPES else Q4_K


def write_headers(folder):
    for name in SHAPES | ONE_BIT_SHAPES:
        path = Path(folder) / f"{name}.gguf"
        write(path, *shape_of(name), wanted=type_of(name), header_only=True)
        path.with_suffix(".gguf.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
        path.unlink()


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--headers":
        return write_headers(sys.argv[2])
    mix = "--mix" in sys.argv
    words = [argument for argument in sys.argv[1:] if argument != "--mix"]
    if len(words) < 2 or words[0] not in SHAPES | ONE_BIT_SHAPES:
        raise SystemExit(f"{__doc__}\n{', '.join(SHAPES | ONE_BIT_SHAPES)}")
    name, path, *changes = words
    fields = {field: int(value) for field, value in (word.split("=") for word in changes)}
    write(path, *shape_of(name, **fields), wanted=type_of(name), mix=mix)


if __name__ == "__main__":
    main()
