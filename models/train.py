"""Train one language model from a configuration file, resumably.

    python models/train.py models/configs/stories-q-mqa.json --data DATA --out RUNS
    torchrun --nproc-per-node 8 models/train.py CONFIG --data DATA --out RUNS

RUNS/NAME/ holds config.json, log.jsonl, last.pt (the newest state), stable.pt (the state before the
rate decays, from which a longer run can go on) and final.pt. Invariants: a run that is stopped and
started again reads the same tokens in the same order with the same optimiser and random state, so
its loss curve is that of an unbroken run; padding is never scored (there is none: stories are
packed); with several processes the global batch is the same as with one.
"""
import argparse
import dataclasses
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as distributed

from data import TrainingOrder
from evaluate import held_out
from model import Config, Transformer
from optimizer import make_optimizers, rate_at


@dataclass
class Training:
    """How to train. A stage is {"until": tokens, "sequence": n, "batch": rows}."""
    tokens: int = 20_000_000
    stages: list = field(default_factory=lambda: [{"sequence": 256, "batch": 8}])
    weights: dict = field(default_factory=dict)     # share of a file's stories per epoch
    seed: int = 1
    optimizer: str = "muon"         # muon, adamw
    rate: float = 3e-3
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    schedule: str = "wsd"           # wsd, cosine
    warmup_tokens: int = 100_000
    decay_tokens: int = 4_000_000
    final_rate_share: float = 0.0
    average: float = 0.998          # decay of the running mean of the weights
    accumulate: int = 1             # parts that a batch is computed in
    bf16: bool = True
    evaluate_every: int = 500_000   # tokens
    evaluate_files: list = field(default_factory=list)
    evaluate_stories: int = 100


class Run:
    """The state of one training run: everything that a checkpoint holds."""

    def __init__(self, config, training, data, device):
        torch.manual_seed(training.seed)
        self.config, self.training, self.device = config, training, device
        self.model = Transformer(config).to(device)
        self.average = Transformer(config).to(device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = make_optimizers(self.model, training)
        self.order = TrainingOrder(data, training.weights, training.seed)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))

    def state(self):
        return {
            "config": dataclasses.asdict(self.config),
            "training": dataclasses.asdict(self.training),
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": torch.get_rng_state(),
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def restore(self, path):
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != dataclasses.asdict(self.config):
            raise SystemExit(f"{path} was trained with another model configuration")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["random"].cpu())
        for name in ("step", "tokens", "seconds"):
            setattr(self, name, state[name])

    def stage(self):
        for stage in self.training.stages:
            if self.tokens < stage.get("until", self.training.tokens):
                return stage
        return self.training.stages[-1]

    def batch(self, stage):
        """This process's rows of the next batch: inputs and targets [rows, sequence]."""
        rows, length = stage["batch"], stage["sequence"]
        tokens = torch.from_numpy(self.order.read(self.tokens, rows * length + 1).astype("int64"))
        x, y = tokens[:-1].view(rows, length), tokens[1:].view(rows, length)
        mine = slice(self.rank, None, self.world)
        return x[mine].to(self.device), y[mine].to(self.device)


def save(state, path):
    """Write beside and rename: a run killed while writing keeps its previous checkpoint."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def train_step(run, forward, stage):
    """One optimiser step; return the mean loss of the batch."""
    rate = rate_at(run.tokens, run.training)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    x, y = run.batch(stage)
    parts, total = run.training.accumulate, 0.0
    for inputs, targets in zip(x.chunk(parts), y.chunk(parts)):
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.training.bf16):
            loss = forward(inputs, targets) / parts
        loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.training.clip)
    for optimizer in run.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        keep = min(run.training.average, (run.step + 1) / (run.step + 10))
        torch._foreach_lerp_(
            list(run.average.parameters()), list(run.model.parameters()), 1 - keep)
    run.step += 1
    run.tokens += stage["batch"] * stage["sequence"]
    return float(total), rate


class Log:
    """log.jsonl of a run; lines after the restored step are dropped."""

    def __init__(self, path, step):
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))
        self.path = path

    def write(self, entry):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def evaluate(run, data, stories):
    """Held-out results of the weights and of their running mean."""
    files = run.training.evaluate_files or None
    return {name: held_out(model, data, files, stories, run.training.bf16)
            for name, model in (("last", run.model), ("average", run.average))}


def report(run, log, loss, rate, speed):
    left = (run.training.tokens - run.tokens) / max(speed, 1)
    log.write({"step": run.step, "tokens": run.tokens, "loss": round(loss, 4), "rate": rate,
               "tokens_per_second": round(speed), "seconds": round(run.seconds)})
    print(f"step {run.step} tokens {run.tokens:,} loss {loss:.3f} rate {rate:.2e} "
          f"{speed:,.0f} tokens/s, {left / 60:.0f} min left", flush=True)


def report_validation(run, log, results):
    short = {kind: {name: round(item["loss"], 4) for name, item in files.items()}
             for kind, files in results.items()}
    log.write({"step": run.step, "tokens": run.tokens, "validation": short})
    print(f"step {run.step} validation {json.dumps(short)}", flush=True)


def train(run, forward, folder, data, args):
    """Run until the tokens are read, the minutes are over or a signal asks to stop."""
    log = Log(folder / "log.jsonl", run.step) if run.rank == 0 else None
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))
    began = saved = shown = time.monotonic()
    shown_tokens, losses, settings = run.tokens, [], run.training
    while run.tokens < settings.tokens and not stopping:
        before, start = run.tokens, time.monotonic()
        loss, rate = train_step(run, forward, run.stage())
        now = time.monotonic()
        run.seconds += now - start
        losses.append(loss)
        if run.rank:
            continue
        if run.step % args.log_every == 0:
            speed = (run.tokens - shown_tokens) / (now - shown)
            report(run, log, sum(losses) / len(losses), rate, speed)
            shown, shown_tokens, losses = now, run.tokens, []
        if run.tokens // settings.evaluate_every > before // settings.evaluate_every:
            report_validation(run, log, evaluate(run, data, settings.evaluate_stories))
        if before < settings.tokens - settings.decay_tokens <= run.tokens:
            save(run.state(), folder / "stable.pt")
        if now - saved > args.save_minutes * 60:
            save(run.state(), folder / "last.pt")
            saved = now
        if args.minutes and now - began > args.minutes * 60:
            break
    if run.rank == 0:
        save(run.state(), folder / "last.pt")
    return run.tokens >= settings.tokens


def parse_arguments():
    parser = argparse.ArgumentParser(description="Train a language model.")
    parser.add_argument("config", type=Path, help='JSON: {"name", "model", "training"}')
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--name", help="name of the run; default: that of the configuration")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON",
                        help="change a training setting, for example tokens=40000000")
    parser.add_argument("--start", type=Path, help="checkpoint to start from (say stable.pt)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--minutes", type=float, default=0, help="stop after this time")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--log-every", type=int, default=50, help="steps")
    return parser.parse_args()


def start_processes():
    """Join the other processes under torchrun; return this process's device."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("nccl" if cuda else "gloo")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda \
        else torch.device("cpu")


def main():
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = start_processes()
    settings = json.loads(args.config.read_text())
    changes = {key: json.loads(value) for key, value in (s.split("=", 1) for s in args.set)}
    training = Training(**(settings.get("training", {}) | changes))
    run = Run(Config(**settings["model"]), training, args.data, device)
    folder = args.out / (args.name or settings["name"])
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.pt"
    if last.exists() or args.start:
        run.restore(last if last.exists() else args.start)
    used = settings | {"name": folder.name, "model": dataclasses.asdict(run.config),
                       "training": dataclasses.asdict(training)}
    (folder / "config.json").write_text(json.dumps(used, indent=1) + "\n")
    print(f"{folder.name}: {run.model.parameter_count():,} parameters, from step {run.step}",
          flush=True)
    forward = run.model
    if run.world > 1:
        forward = torch.nn.parallel.DistributedDataParallel(forward)
    if args.compile:
        forward = torch.compile(forward, dynamic=False)
    if train(run, forward, folder, args.data, args) and run.rank == 0:
        results = evaluate(run, args.data, None)
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        save(run.state(), folder / "final.pt")
    if run.world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
