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

from models.convert.layouts import recognise
from models.convert.torch_file import CheckpointError, state_dict
from models.format import expand, gguf_out
from models.format.tokenizer import tokenizer_keys

EPSILON = 1e-5      # nn.LayerNorm's default and the official configurations' value


def keys_of(layout, args):
    arch = layout.architecture
    keys = {f"{arch}.{key}": value for key, value in layout.keys.items()}
    keys[f"{arch}.attention.layer_norm_epsilon"] = EPSILON
    if layout.projection != "QKV":
        keys["onekv.attention.projection"] = layout.projection
    for key, value in layout.options.items():
        if arch != "onekv-vit" or key != "mlp.activation":
            keys[f"onekv.{key}"] = value
    for key in ("name", "license", "description"):
        if getattr(args, key):
            keys[f"general.{key}"] = getattr(args, key)
    return keys | (tokenizer_keys(args.tokenizer) if args.tokenizer else {})


def write(layout, path, args):
    kind = gguf_out.TYPES[args.type]
    tensors = {
        name: gguf_out.encoded(shape, gguf_out.matrix_kind(name, shape, kind), read)
        for name, (shape, read) in layout.tensors.items()}

    def progress(done):
        if args.progress:
            print(f"\r{done}/{len(tensors)} tensors", end="", file=sys.stderr)

    gguf_out.write(path, layout.architecture, keys_of(layout, args), tensors, progress)
    if args.progress:
        print(file=sys.stderr)


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
    parser.add_argument("--type", choices=gguf_out.TYPES, default="f32",
                        help="of matrices (default f32)")
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
