"""Records what PyTorch says of test digits with the digit models that ship: writes digits.bin.

    python -m tests.real.digits --images IMAGES --out RUNS

IMAGES and RUNS are those of models/study/classify/run.py, whose suite digits-shipped is trained.
PyTorch runs the checkpoint with its f32 weights, not the exported file, so the test holds the
export, too. The digits are every tenth of the test images, none picked. Layout:
tests/native/test_digits.c.
"""
import argparse
import struct
from pathlib import Path

import numpy as np
import torch

from models.study.classify import images
from models.study.classify import run as classify

HERE = Path(__file__).resolve().parent

SUITE, TASK = "digits-shipped", "digits"
VARIANTS = ("QKV", "Q-K=V")
EVERY = 10


def main():
    parser = argparse.ArgumentParser(description="Record PyTorch's logits of test digits.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = images.load_digits(args.images / "mnist", "test")
    pixels, labels = test.pixels[::EVERY], test.labels[::EVERY].astype(np.uint8)
    logits = []
    for variant in VARIANTS:
        run = classify.make_run(SUITE, TASK, variant, 0, args.images)
        run.restore(args.out / classify.folder_name(SUITE, TASK, variant, 0) / "last.pt")
        x, _ = run.problem.batch("test", torch.arange(0, len(test.labels), EVERY))
        with torch.no_grad():
            logits.append(run.model.eval()(x).numpy())
        right = (logits[-1].argmax(1) == labels).sum()
        print(f"{variant}: {right} of {len(labels)} right")
    header = struct.pack("<4sII", b"OKVD", len(labels), len(VARIANTS))
    parts = (np.stack(logits).astype("<f4"), labels, pixels)
    (HERE / "digits.bin").write_bytes(header + b"".join(part.tobytes() for part in parts))


if __name__ == "__main__":
    main()
