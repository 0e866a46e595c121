"""The paper's official checkpoints as GGUF files (models/README.md, "Conversion").

    python -m models.convert.convert checkpoint.pt model.gguf --type q8_0 [--expand] …

Tensors are read, converted and written one at a time, so a checkpoint of 1.5 GB needs little more
memory than its largest tensor. The variant is inferred from names, shapes and model_config, and
what was concluded is printed; what does not fit is an error, never a guess.
"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize

from models.convert.layouts import recognise
from models.convert.torch_file import CheckpointError, state_dict
from models.format import expand

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
EPSILON = 1e-5      # nn.LayerNorm's default and the official configurations' value
VECTOR_TABLES = ("position_embd.weight",)  # added element by element: stay f32


def stored_type(name, shape, kind):
    """Matrices take the requested type where their rows are whole blocks; the rest stays f32."""
    if len(shape) < 2 or name in VECTOR_TABLES:
        return Type.F32
    if TYPES[kind] in (Type.Q8_0, Type.Q4_0) and shape[-1] % 32:
        return Type.F32
    return TYPES[kind]


def add_keys(writer, layout, args):
    arch = layout.architecture
    for key, value in layout.keys.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_epsilon", EPSILON)
    if layout.projection != "QKV":
        writer.add_string("onekv.attention.projection", layout.projection)
    for key, value in layout.options.items():
        if arch == "onekv-vit" and key == "mlp.activation":
            continue
        add = writer.add_uint32 if isinstance(value, int) else writer.add_string
        add(f"onekv.{key}", value)
    for key in ("name", "license", "description"):
        if getattr(args, key):
            writer.add_string(f"general.{key}", getattr(args, key))


def write(layout, path, args):
    """Header first, from shapes alone; then one tensor after the other."""
    writer = GGUFWriter(str(path), layout.architecture)
    add_keys(writer, layout, args)
    if args.tokenizer:
        # Here: it needs torch, which converting weights does not.
        from models.train.export import add_tokenizer
        add_tokenizer(writer, args.tokenizer)
    for name, (shape, _) in layout.tensors.items():
        kind = stored_type(name, shape, args.type)
        quantized = kind not in (Type.F32, Type.F16)
        stored = quant_shape_to_byte_shape(shape, kind) if quantized else shape
        dtype = np.uint8 if quantized else np.float16 if kind == Type.F16 else np.float32
        n_bytes = int(np.prod(stored)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(name, stored, np.dtype(dtype), n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (name, (shape, read)) in enumerate(layout.tensors.items(), 1):
        values = np.ascontiguousarray(read(), np.float32)
        writer.write_tensor_data(quantize(values, stored_type(name, shape, args.type)))
        if args.progress:
            print(f"\r{done}/{len(layout.tensors)} tensors", end="", file=sys.stderr)
    if args.progress:
        print(file=sys.stderr)
    writer.close()


def convert(checkpoint, out, args):
    """Write `out`; returns the Layout. CheckpointError says which key or shape is wrong."""
    about, tensors = state_dict(checkpoint)
    layout = recognise(about, tensors, args)
    if not args.expand or layout.projection == "QKV":
        write(layout, out, args)
        return layout
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        shared = Path(folder) / "shared.gguf"
        write(layout, shared, args)
        expand.expand(shared, out)
    return layout


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Convert an official checkpoint of the paper to GGUF.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=TYPES, default="f32", help="of matrices (default f32)")
    parser.add_argument("--expand", action="store_true",
                        help="write shared projections twice, for other runtimes")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of the model (GPT-2's)")
    parser.add_argument("--vocabulary", type=int,
                        help="rows to keep (default: 50257 of 50304, else all)")
    parser.add_argument("--heads", type=int, help="query heads, where the file does not say")
    parser.add_argument("--n-kv-groups", type=int, help="KV heads, where the file does not say")
    parser.add_argument("--name")
    parser.add_argument("--license")
    parser.add_argument("--description")
    args = parser.parse_args(arguments)
    args.progress = sys.stderr.isatty()
    return args


def main():
    args = parse()
    try:
        layout = convert(args.checkpoint, args.out, args)
    except CheckpointError as error:
        sys.exit(f"convert: {args.checkpoint}: {error}")
    for reason in layout.reasons:
        print(reason)
    if not args.tokenizer and layout.architecture == "gpt2":
        print("no tokenizer: the file takes token ids only (--tokenizer adds one)")
    print(f"{args.out}: {layout.architecture}, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
