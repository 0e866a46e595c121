"""What smaller weights and caches cost in held-out loss, for the models that ship.

    npm run build
    python -m models.study.losses --data DATA --run stories-q-mqa=RUN --run stories-qkv=RUN

The loss of the engine (`onekv eval --documents`) with weights in f32, f16, q8_0, q4_0 and as they
are shipped, with activations rounded to 16 and to 8 bits, and caches in f32, f16, i8 and i4, and
PyTorch's in f32 on the same tokens, which the engine must agree with to 0.1 %. Writes
results/losses.json and the table in RESULTS.md; `--keep` takes rows of the same checkpoint from
there. Invariant: the file that ships must hold the weights of the run's checkpoint.
"""
import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader

from models.tools.onekv_cli import ROOT, evaluate_documents
from models.tools.pages import replace_part
from models.train.evaluate import held_out
from models.train.export import write_gguf
from models.train.state import load_checkpoint

FOLDER = Path(__file__).resolve().parent
SCORED = "tinystories_github"
AGREEMENT = 1e-3
# (weights, activations, cache); the first is what the others are compared with. Activations are
# rounded where weights are quantised: `onekv eval --arithmetic`.
ROWS = (("f32", "f32", "f32"), ("f16", "f32", "f32"), ("q8_0", "int8", "f32"),
        ("shipped", "int8", "f32"), ("q4_0", "int8", "f32"), ("f32", "f32", "f16"),
        ("f32", "f32", "i8"), ("shipped", "int8", "f16"), ("shipped", "int16", "f16"),
        ("shipped", "int8", "i8"), ("shipped", "int8", "i4"), ("q4_0", "int8", "i8"))


def check_same_weights(shipped, exported):
    """SystemExit unless both files hold the same tensors, byte by byte."""
    a, b = ({tensor.name: tensor for tensor in GGUFReader(path).tensors}
            for path in (shipped, exported))
    differing = sorted(a.keys() ^ b.keys()) + [
        name for name in a.keys() & b.keys() if not np.array_equal(a[name].data, b[name].data)]
    if differing:
        raise SystemExit(f"{shipped} is not the run's checkpoint: {differing[0]} differs")


def kept_rows(name, results, args):
    """{(weights, arithmetic, cache): row} of results/losses.json, if rows are to be kept and
    PyTorch's loss is the one there to the last digit, so that the checkpoint is the same."""
    path = FOLDER / "results" / "losses.json"
    models = json.loads(path.read_text())["models"] if args.keep and path.exists() else {}
    if name not in models or models[name]["pytorch"]["loss"] != results["loss"]:
        return {}
    return {(row["weights"], row["arithmetic"], row["cache"]): row for row in models[name]["rows"]}


def measure(name, folder, args, scratch):
    """{"pytorch": …, "rows": [{weights, cache, loss, …}]} of one model."""
    model, state = load_checkpoint(folder / "final.pt", args.weights)
    results = held_out(model, args.data, [SCORED])[SCORED]
    print(f"{name}: PyTorch {results['loss']:.5f}", flush=True)
    files = {}
    for kind in dict.fromkeys(weights for weights, _, _ in ROWS):
        files[kind] = scratch / f"{name}.{kind}.gguf"
        ships = kind == "shipped"
        write_gguf(model, files[kind], "q8_0" if ships else kind, name,
                   args.data / "tokenizer.json", widening=args.widening if ships else None)
    shipped = FOLDER.parent / f"{name}.q8_0.gguf"
    check_same_weights(shipped, files["shipped"])
    files["shipped"] = shipped
    text, rows = args.data / f"{SCORED}.validation.txt", []
    kept = kept_rows(name, results, args)
    for weights, arithmetic, cache in ROWS:
        if (weights, arithmetic, cache) in kept:
            rows.append(kept[weights, arithmetic, cache])
            continue
        found = evaluate_documents(files[weights], text, cache, "--arithmetic", arithmetic,
                                   *args.option)
        if found["tokens"] != results["tokens"]:
            raise SystemExit(f"{found['tokens']} tokens scored, PyTorch scored {results['tokens']}")
        rows.append({"weights": weights, "arithmetic": arithmetic, "cache": cache,
                     "loss": found["lossPerToken"],
                     "perplexity": found["perplexityPerToken"],
                     "bits_per_byte": found["bitsPerByte"], "hash": found["hash"],
                     "file_bytes": files[weights].stat().st_size})
        print(f"  {weights}, {arithmetic}, cache {cache}: {found['lossPerToken']:.5f}", flush=True)
    distance = math.expm1(rows[0]["loss"] - results["loss"])
    if abs(distance) > AGREEMENT:
        raise SystemExit(f"{name}: the engine's f32 perplexity is {100 * distance:+.3f} % from "
                         "PyTorch's")
    for row in rows:
        row["change_percent"] = 100 * math.expm1(row["loss"] - rows[0]["loss"])
    return {"tokens_read": state["tokens"], "pytorch": results,
            "engine_to_pytorch_percent": 100 * distance, "rows": rows}


def table(models):
    """Lines of the table: a column pair a model."""
    names = list(models)
    heads = " | ".join(f"{name}: perplexity | change" for name in names)
    lines = [f"| weights | activations | cache | {heads} |", "|---" * (3 + 2 * len(names)) + "|"]
    cells = [f"{models[name]['pytorch']['perplexity']:.4f} | "
             f"{-models[name]['engine_to_pytorch_percent']:+.4f} %" for name in names]
    lines.append(f"| f32, PyTorch | f32 | – | {' | '.join(cells)} |")
    for number, (weights, arithmetic, cache) in enumerate(ROWS):
        rows = [models[name]["rows"][number] for name in names]
        cells = [f"{row['perplexity']:.4f} | " + (f"{round(row['change_percent'], 3) + 0.0:+.3f} %"
                                                 if number else "–") for row in rows]
        lines.append(f"| {weights} | {arithmetic} | {cache} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description="Held-out loss by type of weights and cache.")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--run", action="append", required=True, metavar="NAME=FOLDER",
                        help="shipped model and the run that it was exported from")
    parser.add_argument("--weights", choices=("last", "average"), default="last")
    parser.add_argument("--widening", help="as it was given to models.train.export")
    parser.add_argument("--keep", action="store_true",
                        help="do not measure again what results/losses.json has")
    parser.add_argument("--option", action="append", default=[], metavar="--X=Y",
                        help="passed on to onekv eval")
    args = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.strip()
    models = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in (item.split("=", 1) for item in args.run):
            models[name] = measure(name, Path(folder), args, Path(scratch))
    results = {"commit": commit, "scored": SCORED, "options": args.option, "models": models}
    (FOLDER / "results" / "losses.json").write_text(json.dumps(results, indent=1) + "\n")
    replace_part(FOLDER / "RESULTS.md", "losses", table(models))


if __name__ == "__main__":
    main()
