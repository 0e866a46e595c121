"""Tries the conversion on a checkpoint of the shape that the paper's authors released.

    python -m models.convert.trial [--kind KV] [--folder FOLDER]

The weights are random; names, shapes, mask buffers, DDP's prefix and the optimizer's state are as
the released files of 300 M parameters have them. The checkpoint is converted to f32 and to Q8_0 by
the command that a user gives, whose peak of memory is printed, and the engine (`npm run build`)
must choose the tokens that PyTorch chooses. It takes 4 GB of disk and a few minutes.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from models.convert import official
from models.tools.onekv_cli import ROOT, onekv

# models/train/configs/paper-300m.json says the same of the models that are trained here.
SHAPE = {"layers": 20, "d": 1024, "heads": 16, "inner": 4096, "vocabulary": 50304,
         "n_positions": 2048}
TRAINED_ROWS = 50257
PROMPT = [464, 2068, 7586, 21831, 18045, 625]
STEPS = 12
# The command, and the most memory that its process had: the counters of finished processes would
# count this one's from before the other program began in it.
MEASURED = """
from models.convert import convert
convert.main()
lines = open("/proc/self/status").read().splitlines()
print(*(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""
# Of the file, how the engine is to multiply it: as exactly as the type allows.
ARITHMETIC = {"f32": "f32", "q8_0": "int16"}


def random_model(kind, shape):
    torch.manual_seed(1)
    model = official.GPT(kind, groups=4, **shape).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            is_gain = ".ln" in f".{name}" and name.endswith("weight")
            scale = 0.3 if tensor.dim() == 1 else 1.2 * tensor.shape[1] ** -0.5
            tensor.normal_().mul_(scale).add_(float(is_gain))
    return model


def save(model, kind, shape, path):
    config = {"n_head": shape["heads"], "n_embd": shape["d"], "n_layer": shape["layers"]}
    if kind in ("GQA", "QGQA", "MQA", "QMQA"):
        config["n_kv_groups"] = 4 if "GQA" in kind else 1
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"step": 1, "model_state_dict": weights, "model_config": config,
                "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}}}, path)


@torch.no_grad()
def greedy(model):
    tokens = list(PROMPT)
    for _ in range(STEPS):
        logits = model(torch.tensor([tokens]))[0, -1, :TRAINED_ROWS]
        tokens.append(int(logits.argmax()))
    return tokens[len(PROMPT):]


def try_shape(kind, shape, folder):
    """Returns {type: {"bytes" of the file, "peak" of memory in bytes, "same" tokens}}; leaves the
    files in `folder`."""
    source = folder / "checkpoint.pt"
    model = random_model(kind, shape)
    save(model, kind, shape, source)
    expected = greedy(model)
    del model
    found = {}
    for file_type, arithmetic in ARITHMETIC.items():
        target = folder / f"model.{file_type}.gguf"
        said = subprocess.run([sys.executable, "-c", MEASURED, source, target, "--type", file_type],
                              check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
        tokens = json.loads(onekv(
            "generate", target, "--ids", ",".join(map(str, PROMPT)), "--temperature", 0,
            "--max-tokens", STEPS, "--json", "--cache-type", "f32",
            "--arithmetic", arithmetic))["tokens"]
        found[file_type] = {"bytes": target.stat().st_size,
                            "peak": int(said.split()[-1]) * 1024,
                            "same": sum(a == b for a, b in zip(tokens, expected, strict=True))}
    return found


def main():
    parser = argparse.ArgumentParser(description="Convert a checkpoint of the released shape.")
    parser.add_argument("--kind", default="KV", help="attention class (default KV: Q-K=V)")
    parser.add_argument("--folder", type=Path, help="where the files stay (default: nowhere)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        found = try_shape(args.kind, SHAPE, folder)
        print(f"checkpoint.pt: {(folder / 'checkpoint.pt').stat().st_size:,} bytes")
    for file_type, result in found.items():
        print(f"{file_type}: {result['bytes']:,} bytes; converting took "
              f"{result['peak'] / 2**20:,.0f} MiB; {result['same']} of {STEPS} tokens as PyTorch "
              f"chooses them")
    if found["f32"]["same"] < STEPS:
        raise SystemExit("f32: the engine does not choose PyTorch's tokens")


if __name__ == "__main__":
    main()
