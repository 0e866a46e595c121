"""Holds the C engine against PyTorch on the trained runs of classify.py, not on test models.

    python -m models.study.classify.check_engine --images IMAGES --out RUNS \\
        --test build/native-release/test_golden

Every finished run is exported as f32 and PyTorch's logits of some test examples are written beside
it, in the layout of tests/golden; the engine's own golden test then runs on that folder at every
SIMD level. The status is the test's.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from models.study.classify import run as classify
from models.train import export
from tests.golden.make.golden import write_expected


def write_run(folder, images, out, examples):
    """NAME-i.gguf and NAME-i.bin for `examples` test examples of one run."""
    result = json.loads((folder / "result.json").read_text())
    run = classify.make_run(result["suite"], result["task"], result["variant"], result["seed"],
                            images)
    run.restore(folder / "last.pt")
    model, step = run.model.eval(), max(1, run.problem.count("test") // examples)
    for number in range(examples):
        rows, _ = run.problem.batch("test", torch.tensor([number * step]))
        with torch.no_grad():
            logits = model(rows).numpy().reshape(-1, model.config.outputs)
        kind = "<i4" if model.config.input_kind == "tokens" else "<f4"
        name = f"{folder.name}-{number}"
        write_expected(out / f"{name}.bin", rows[0].numpy().astype(kind), logits)
        export.write_gguf(model, out / f"{name}.gguf")
    return examples


def main():
    parser = argparse.ArgumentParser(description="The engine against PyTorch on trained runs.")
    parser.add_argument("--images", type=Path, default=Path("."))
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--test", type=Path, required=True, help="the program test_golden")
    parser.add_argument("--examples", type=int, default=4, help="of each run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tests" / "golden"
        out.mkdir(parents=True)
        runs = [path.parent for path in sorted(args.out.glob("*/result.json"))]
        count = sum(write_run(run, args.images, out, args.examples) for run in runs)
        print(f"{len(runs)} runs, {count} examples", flush=True)
        program = [args.test.resolve(), "others"]
        sys.exit(subprocess.run(program, cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main()
