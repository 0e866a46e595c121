"""Train one language model from a configuration file, resumably.

    python -m models.train.train models/train/configs/stories-q-mqa.json --data DATA --out RUNS
    torchrun --nproc-per-node 8 -m models.train.train CONFIG --data DATA --out RUNS

RUNS/NAME/ holds config.json, log.jsonl, last.pt (the newest state), stable.pt (the state before the
rate decays, from which a longer run can go on) and final.pt. Invariants: a run that is stopped and
started again reads the same tokens in the same order with the same optimiser and random numbers, so
its loss curve is that of an unbroken run; padding is never scored; a batch is the same rows with
the same loss however many processes divide it, and in however many parts each computes its own.
"""
import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as distributed

from models.train.batches import documents_batch, packed_batch
from models.train.evaluate import held_out
from models.train.model import IGNORED, Config, Transformer
from models.train.optimizer import fast_bf16, make_optimizers, rate_at
from models.train.order import TrainingOrder
from models.train.teacher import Teachers

# Settings of a model that no weight depends on: a later stage of training may change them.
WEIGHTLESS = ("rope_base", "dropout")


@dataclass
class Training:
    """How to train. A stage is {"until": tokens, "sequence": n, "batch": rows}."""
    tokens: int = 20_000_000
    stages: list = field(default_factory=lambda: [{"sequence": 256, "batch": 8}])
    rows: str = "packed"            # packed: no padding; documents: a story a row, cut and padded
    weights: dict = field(default_factory=dict)     # share of a file's stories per epoch
    seed: int = 1
    weights_seed: int = 0           # of the first weights; 0: `seed`, as of everything else
    optimizer: str = "muon"         # muon, adamw
    rate: float = 3e-3
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    schedule: str = "wsd"           # wsd, cosine
    warmup_tokens: int = 100_000
    decay_tokens: int = 4_000_000
    final_rate_share: float = 0.0
    average: float = 0.998          # decay of the running mean of the weights; 0: none is kept
    micro_batch: int = 0            # rows that a process computes at once; 0: all of its rows
    bf16: bool = True               # where the hardware multiplies in it; f32 elsewhere
    teachers: list = field(default_factory=list)    # names of files: --teacher says where they are
    teacher_share: float = 0.5      # of the loss, where there are any
    evaluate_every: int = 500_000   # tokens
    evaluate_files: list = field(default_factory=list)
    evaluate_stories: int = 100


class Run:
    """The state of one training run: everything that a checkpoint holds."""

    def __init__(self, config, training, data, device, teachers=()):
        torch.manual_seed(training.weights_seed or training.seed)
        self.config, self.training, self.device = config, training, device
        self.bf16 = training.bf16 and fast_bf16(device)
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.check()
        self.model = Transformer(config).to(device)
        self.average = None
        if training.average:
            self.average = Transformer(config).to(device)
            self.average.load_state_dict(self.model.state_dict())
        self.optimizers = make_optimizers(self.model, training)
        self.order = TrainingOrder(data, training.weights, training.seed)
        self.teachers = Teachers(teachers, training) if teachers else None
        self.step, self.tokens, self.seconds = 0, 0, 0.0

    def check(self):
        """SystemExit for settings that cannot be trained as they are."""
        for stage in self.training.stages:
            rows = stage["batch"]
            if rows % self.world or (rows // self.world) % (self.training.micro_batch or 1):
                raise SystemExit(f"a batch of {rows} rows cannot be divided among {self.world} "
                                 f"processes in parts of {self.training.micro_batch}")
            if stage["sequence"] > self.config.context:
                raise SystemExit(f"a sequence of {stage['sequence']} tokens is longer than the "
                                 f"context, {self.config.context}")
        if self.training.rows not in ("packed", "documents"):
            raise SystemExit(f"rows={self.training.rows!r}: packed or documents")
        if self.training.rows == "documents" and len(self.training.stages) > 1:
            raise SystemExit("documents are counted by their rows: one stage only")

    def state(self):
        return {
            "config": dataclasses.asdict(self.config),
            "training": dataclasses.asdict(self.training),
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def restore(self, path, weights_only=False):
        """Go on from a checkpoint, or begin a run with its weights."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        weightless = {name: getattr(self.config, name) for name in WEIGHTLESS}
        if Config(**state["config"] | weightless) != self.config:
            raise SystemExit(f"{path} was trained with another model configuration")
        self.model.load_state_dict(state["model"])
        if self.average:
            averaged = None if weights_only else state["average"]
            self.average.load_state_dict(averaged or state["model"])
        if weights_only:
            return
        saved = state["optimizers"] or []       # of grow.py: weights alone
        for optimizer, moments in zip(self.optimizers, saved, strict=bool(saved)):
            optimizer.load_state_dict(moments)
        for name in ("step", "tokens", "seconds"):
            setattr(self, name, state[name])

    def stage(self):
        for stage in self.training.stages:
            if self.tokens < stage.get("until", self.training.tokens):
                return stage
        return self.training.stages[-1]

    def batch(self, stage):
        """This process's rows of the next batch: inputs and targets [rows, sequence], and how many
        targets of the whole batch are scored."""
        read = packed_batch if self.training.rows == "packed" else documents_batch
        x, y, scored = read(self.order, self.tokens, stage["batch"], stage["sequence"],
                            range(self.rank, stage["batch"], self.world))
        return x.to(self.device), y.to(self.device), scored

    def taught(self, stage):
        """What taught_loss takes for the rows of `batch`, or None without a teacher."""
        if self.teachers is None:
            return None
        tokens, probabilities = self.teachers.batch(
            self.tokens, stage["sequence"], range(self.rank, stage["batch"], self.world))
        return tokens.to(self.device), probabilities.to(self.device)

    def seed_step(self):
        """Random numbers of a step (dropout's) are its own, other ones in each process."""
        if self.config.dropout:
            torch.manual_seed((self.training.seed << 40) + (self.rank << 32) + self.step)


def save(state, path):
    """Write beside and rename: a run killed while writing keeps its previous checkpoint."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def accumulate_gradients(run, forward, stage):
    """Gradients of the mean loss over the whole batch; return this process's share of that loss."""
    x, y, scored = run.batch(stage)
    parts = len(x) // (run.training.micro_batch or len(x))
    total = torch.zeros((), device=run.device)
    taught = [None] * parts
    if run.teachers:
        taught = [(*part, run.training.teacher_share)
                  for part in zip(*(whole.chunk(parts) for whole in run.taught(stage)))]
    for number, (inputs, targets) in enumerate(zip(x.chunk(parts), y.chunk(parts))):
        # The processes exchange gradients once, with the last part.
        alone = run.world > 1 and number < parts - 1
        with forward.no_sync() if alone else contextlib.nullcontext():
            with torch.autocast(run.device.type, torch.bfloat16, enabled=run.bf16):
                loss = forward(inputs, targets, taught=taught[number])
            loss = loss * ((targets != IGNORED).sum() / scored)
            (loss * run.world).backward()       # what is exchanged is the processes' mean
        total += loss.detach()
    return total


def train_step(run, forward, stage):
    """One optimiser step; return this process's share of the batch's mean loss, and the rate."""
    rate = rate_at(run.tokens, run.training)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    run.seed_step()
    total = accumulate_gradients(run, forward, stage)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.training.clip)
    for optimizer in run.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if run.average:
        with torch.no_grad():
            keep = min(run.training.average, (run.step + 1) / (run.step + 10))
            torch._foreach_lerp_(
                list(run.average.parameters()), list(run.model.parameters()), 1 - keep)
    run.step += 1
    run.tokens += stage["batch"] * stage["sequence"]
    return total, rate


def agree(run, loss, stop):
    """(loss of the whole batch, whether any process wants to stop): the same in all processes."""
    if run.world == 1:
        return float(loss), stop
    both = torch.stack((loss.double(), torch.tensor(float(stop), device=run.device).double()))
    distributed.all_reduce(both)
    return float(both[0]), bool(both[1] > 0)


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
    return {name: held_out(model, data, files, stories, run.bf16)
            for name, model in (("last", run.model), ("average", run.average)) if model}


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
    shown_tokens, losses, settings, stop = run.tokens, [], run.training, False
    while run.tokens < settings.tokens and not stop:
        before, start = run.tokens, time.monotonic()
        loss, rate = train_step(run, forward, run.stage())
        over = bool(args.minutes) and time.monotonic() - began > args.minutes * 60
        loss, stop = agree(run, loss, over or bool(stopping))
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
        if settings.schedule == "wsd" and \
                before < settings.tokens - settings.decay_tokens <= run.tokens:
            save(run.state(), folder / "stable.pt")
        if now - saved > args.save_minutes * 60:
            save(run.state(), folder / "last.pt")
            saved = now
    if run.rank == 0:
        save(run.state(), folder / "last.pt")
    return run.tokens >= settings.tokens


def add_settings(parser):
    """The options that changed_settings reads."""
    parser.add_argument("--name", help="name of the run; default: that of the configuration")
    parser.add_argument("--variant", help="of a configuration that has several")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON",
                        help="change a training setting, for example tokens=40000000")
    parser.add_argument("--model", action="append", default=[], metavar="KEY=JSON",
                        help="change a setting of the model, for example rope_base=40000")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Train a language model.")
    parser.add_argument("config", type=Path, help='JSON: {"name", "model", "training"}')
    add_settings(parser)
    parser.add_argument("--teacher", type=Path, action="append", default=[], metavar="FILE.top",
                        help="what a trained model expects of this run's text, by teach.py")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--start", type=Path, help="checkpoint to start from (say stable.pt)")
    parser.add_argument("--weights-only", action="store_true",
                        help="of --start: the plan begins anew, with its tokens at 0")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--minutes", type=float, default=0, help="stop after this time")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--log-every", type=int, default=50, help="steps")
    return parser.parse_args()


def start_processes():
    """Join the other processes under torchrun; return this process's device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ:
        # The others wait as long as process 0 evaluates.
        distributed.init_process_group("gloo" if device.type == "cpu" else "nccl",
                                       timeout=datetime.timedelta(hours=2))
    return device


def read_settings(args):
    """The configuration file with --variant applied."""
    settings = json.loads(args.config.read_text())
    variants = settings.pop("variants", None)
    if variants is not None:
        if args.variant not in variants:
            raise SystemExit(f"--variant: one of {', '.join(variants)}")
        settings["model"] |= variants[args.variant]
        settings["name"] += "-" + args.variant.lower().replace("=", "eq")
    elif args.variant:
        raise SystemExit(f"{args.config} has no variants")
    return settings


def changed_settings(args):
    """read_settings with --set, --model and --name applied."""
    def changes(items):
        return {key: json.loads(value) for key, value in (item.split("=", 1) for item in items)}
    settings = read_settings(args)
    settings["training"] = settings.get("training", {}) | changes(args.set)
    settings["model"] = settings["model"] | changes(args.model)
    return settings | {"name": args.name or settings["name"]}


def main():
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = start_processes()
    settings = changed_settings(args)
    training = Training(**settings["training"] | {"teachers": [t.name for t in args.teacher]})
    run = Run(Config(**settings["model"]), training, args.data, device, args.teacher)
    folder = args.out / settings["name"]
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.pt"
    if last.exists() or args.start:
        resumed = last.exists()
        run.restore(last if resumed else args.start, args.weights_only and not resumed)
    if run.rank == 0:
        used = settings | {"model": dataclasses.asdict(run.config),
                           "training": dataclasses.asdict(training)}
        (folder / "config.json").write_text(json.dumps(used, indent=1) + "\n")
        print(f"{folder.name}: {run.model.parameter_count():,} parameters, from step {run.step}",
              flush=True)
    forward = run.model
    if run.world > 1:
        # Buffers are constant; sending them would let process 0 wait in its evaluations.
        forward = torch.nn.parallel.DistributedDataParallel(
            forward, device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False)
    if args.compile:
        forward = torch.compile(forward, dynamic=False)
    if train(run, forward, folder, args.data, args) and run.rank == 0:
        results = evaluate(run, args.data, None)
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        save(run.state(), folder / "final.pt")
    if run.world > 1:
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
