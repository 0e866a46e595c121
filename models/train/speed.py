"""Training speed of one set-up: python -m models.train.speed CONFIG [--threads 2] [--no-compile]

Prints tokens per second by the clock and per CPU-second (the second is steadier on a machine that
does other work too). Random tokens: the figures do not depend on the text.
"""
import argparse
import json
import time
from pathlib import Path

import torch

from models.train import fast_attention
from models.train.model import Config, Transformer
from models.train.optimizer import make_optimizers
from models.train.train import Training


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measure training speed.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--fast-attention", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def measure(args):
    """(tokens per second, tokens per CPU-second) after a warm-up."""
    torch.set_num_threads(args.threads)
    if not args.fast_attention:
        fast_attention.WIDTHS = ()
    model = Transformer(Config(**json.loads(args.config.read_text())["model"]))
    optimizers = make_optimizers(model, Training(optimizer=args.optimizer))
    forward = torch.compile(model, dynamic=False) if args.compile else model
    tokens = torch.randint(model.config.vocabulary, (args.batch, args.sequence + 1))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = forward(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    for _ in range(3):
        step()
    clock, cpu, steps = time.monotonic(), time.process_time(), 0
    while time.monotonic() - clock < args.seconds:
        step()
        steps += 1
    done = steps * args.batch * args.sequence
    return done / (time.monotonic() - clock), done / (time.process_time() - cpu)


def main():
    args = parse_arguments()
    by_clock, by_cpu = measure(args)
    settings = {key: value for key, value in vars(args).items() if key not in ("config", "seconds")}
    print(f"{by_clock:,.0f} tokens/s, {by_cpu:,.0f} tokens/CPU-s {settings}", flush=True)


if __name__ == "__main__":
    main()
