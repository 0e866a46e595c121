"""Write what a trained model expects at every token of a run that has not begun.

    python -m models.train.teach CONFIG FILE.top --teacher CHECKPOINT --data DATA --set tokens=…

takes the configuration and the changes that the run will be started with, reads the same rows in
the same order, and appends records (teacher.py) to FILE.top; started again it goes on. Several
teachers, each on a core of its own, write a file each; `train.py --teacher FILE.top …` reads them.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from models.train.state import load_checkpoint
from models.train.teacher import RECORD, TOP, order_of
from models.train.train import Run, Training, add_settings, changed_settings


@torch.no_grad()
def expect(model, x, bf16):
    """Records [n tokens] of the model's expectations behind each token of x [rows, n]."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(x)
    found = logits.float().softmax(-1).flatten(0, 1).topk(TOP, -1)
    records = np.empty(len(found.values), RECORD)
    records["tokens"], records["probabilities"] = found.indices.numpy(), found.values.numpy()
    return records


def parse_arguments():
    parser = argparse.ArgumentParser(description="Write a teacher's expectations for a run.")
    parser.add_argument("config", type=Path, help="of the run to be taught")
    parser.add_argument("out", type=Path, metavar="FILE.top")
    parser.add_argument("--teacher", type=Path, required=True, help="checkpoint of train.py")
    parser.add_argument("--weights", choices=("last", "average"), default="last")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    add_settings(parser)
    return parser.parse_args()


def write_records(run, forward, path):
    """Append what is missing of the run's records to `path`."""
    written = path.stat().st_size // RECORD.itemsize if path.exists() else 0
    began, shown = time.monotonic(), 0.0
    with open(path, "ab") as file:
        while run.tokens < run.training.tokens:
            stage = run.stage()
            end = run.tokens + stage["batch"] * stage["sequence"]
            if end > written:
                file.truncate(run.tokens * RECORD.itemsize)     # a batch that was cut off
                expect(forward, run.batch(stage)[0], run.bf16).tofile(file)
            run.tokens = end
            if time.monotonic() - shown > 20:
                shown = time.monotonic()
                print(f"{end:,} of {run.training.tokens:,} tokens, {shown - began:.0f} s",
                      flush=True)


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    training = Training(**changed_settings(args)["training"])
    model, _ = load_checkpoint(args.teacher, args.weights)
    run = Run(model.config, training, args.data, torch.device("cpu"))
    args.out.with_suffix(".json").write_text(json.dumps(order_of(training), indent=1) + "\n")
    write_records(run, torch.compile(model, dynamic=False) if args.compile else model, args.out)


if __name__ == "__main__":
    main()
