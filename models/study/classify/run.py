"""Train the six bidirectional variants on the problems of tasks.py, and export what they learned.

    python -m models.study.classify.run run     --images IMAGES --out RUNS [--suite NAME…]
    python -m models.study.classify.run collect --out RUNS [--results FILE.json]
    python -m models.study.classify.run export  RUNS/NAME OUT.gguf --images IMAGES [--type f16]

`run` goes through the list of runs, first seeds first, from where it was stopped. RUNS/NAME/ holds
config.json, log.jsonl (one line an epoch), last.pt and, when it is finished, result.json.
Invariants: within a suite all variants have the same data, order, schedule and seed; a run that is
stopped goes on from its last whole epoch and ends with the same weights as an unbroken one.
"""
import argparse
import contextlib
import dataclasses
import fcntl
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from models.format import reference
from models.study.classify import tables as classify_table
from models.study.classify import tasks
from models.study.classify.suites import SUITES, VARIANTS
from models.train import export
from models.train.model import Config, Transformer
from models.train.optimizer import make_optimizers


@dataclass
class Training:
    """How to train. `schedule`: cosine after a warm-up, steps (×0.1 at 50 % and 75 %), constant."""
    epochs: int = 2
    batch: int = 128
    rate: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.05            # share of all steps, with cosine
    clip: float = 5.0               # 0: not
    optimizer: str = "adam"         # adam (the paper's) or muon (with AdamW for the rest)
    weight_decay: float = 0.0
    smoothing: float = 0.0          # of the labels
    seed: int = 0

    def rate_at(self, step, steps):
        if self.schedule == "steps":
            return self.rate * 0.1 ** ((step >= 0.5 * steps) + (step >= 0.75 * steps))
        if self.schedule == "constant":
            return self.rate
        warmup = max(1, int(self.warmup * steps))
        if step < warmup:
            return self.rate * (step + 1) / warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def start_like_pytorch(model):
    """PyTorch's default initialisation, which the paper's code leaves untouched.

    With two epochs it decides how far a model comes. The one-hot input of the paper is a table
    here, so its rows start as the columns of nn.Linear(10, d) plus its bias do: uniform, twice.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding)):
            module.reset_parameters()
    if model.config.input_kind == "tokens":
        table = model.embedding.weight
        bound = 1 / math.sqrt(len(table))
        bias = torch.empty(table.shape[1]).uniform_(-bound, bound)
        nn.init.uniform_(table, -bound, bound).data.add_(bias)
    if model.config.class_row:
        nn.init.normal_(model.positions.weight, std=0.02)


def make_problem(suite, task, seed, folder):
    given = dict(suite.problem)
    if suite.kind in ("pictures", "sets"):
        given["folder"] = folder
    kind = {"lists": tasks.Lists, "pictures": tasks.Pictures, "sets": tasks.OddOneOut}[suite.kind]
    return kind(task, seed, **given)


class Run:
    """One model on one problem: everything that a checkpoint holds."""

    def __init__(self, config, training, problem):
        torch.manual_seed(training.seed)
        self.training, self.problem = training, problem
        self.model = Transformer(config)
        if training.optimizer == "adam":
            start_like_pytorch(self.model)
            self.optimizers = [torch.optim.Adam(self.model.parameters(), training.rate,
                                                fused=True)]
        else:
            wanted = SimpleNamespace(rate=training.rate, beta2=0.95, optimizer="muon",
                                     weight_decay=training.weight_decay)
            self.optimizers = make_optimizers(self.model, wanted)
        self.epoch, self.seconds = 0, 0.0

    def state(self):
        return {"config": dataclasses.asdict(self.model.config),
                "training": dataclasses.asdict(self.training), "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "epoch": self.epoch, "seconds": self.seconds}

    def restore(self, path):
        state = torch.load(path, weights_only=True)
        if (Config(**state["config"]), state["training"]) != (
                self.model.config, dataclasses.asdict(self.training)):
            raise SystemExit(f"{path} was trained with other settings; move it away")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.epoch, self.seconds = state["epoch"], state["seconds"]

    def loss(self, x, y):
        logits = self.model(x)
        if self.model.config.outputs == 1:      # a score for each item of a set
            logits = logits.squeeze(-1)
        return F.cross_entropy(logits.flatten(0, -2), y.flatten(),
                               label_smoothing=self.training.smoothing)

    def train_epoch(self):
        """One epoch; its random numbers depend on the seed and its number alone."""
        began, total = time.process_time(), 0.0
        torch.manual_seed(self.training.seed * 100_003 + self.epoch)
        self.model.train()
        rows = torch.randperm(self.problem.count("train")).split(self.training.batch)
        for number, chosen in enumerate(rows):
            step = self.epoch * len(rows) + number
            rate = self.training.rate_at(step, self.training.epochs * len(rows))
            loss = self.loss(*self.problem.batch("train", chosen))
            loss.backward()
            if self.training.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            total += loss.item()
        self.epoch += 1
        self.seconds += time.process_time() - began
        return total / len(rows), rate


@torch.no_grad()
def predictions(model, problem, batch=256):
    """(predicted classes, right classes) of all test examples."""
    model.eval()
    found, right = [], []
    for rows in torch.arange(problem.count("test")).split(batch):
        x, y = problem.batch("test", rows)
        logits = model(x)
        found.append((logits.squeeze(-1) if logits.shape[-1] == 1 else logits).argmax(-1))
        right.append(y)
    return torch.cat(found), torch.cat(right)


def accuracy(model, problem):
    found, right = predictions(model, problem)
    return (found == right).float().mean().item()


def save(state, path):
    """Write beside and rename: a run killed while writing keeps its previous checkpoint."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def write_log(path, epoch, entry):
    """Append the line of an epoch; lines of epochs that were lost with a stop are dropped."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["epoch"] < epoch]
    path.write_text("".join(line + "\n" for line in kept + [json.dumps(entry)]))


def folder_name(name, task, variant, seed):
    plain = variant.lower().replace("=", "eq").replace("(", "").replace(")", "")
    return "-".join([name] + [task] * (task != name) + [plain, str(seed)])


def make_run(name, task, variant, seed, images):
    suite = SUITES[name]
    problem = make_problem(suite, task, seed, images)
    config = Config(**(problem.model | suite.model | VARIANTS[variant] | (
        {"plus_channels": suite.plus_channels} if variant.endswith("+") else {})))
    return Run(config, Training(**(suite.training | {"seed": seed})), problem)


def train(run, folder, deadline):
    """Train until it is finished (True) or the deadline has passed (False)."""
    last = folder / "last.pt"
    if last.exists():
        run.restore(last)
    first, began = run.epoch, time.monotonic()
    while run.epoch < run.training.epochs:
        if time.monotonic() > deadline:
            return False
        loss, rate = run.train_epoch()
        write_log(folder / "log.jsonl", run.epoch,
                  {"epoch": run.epoch, "loss": round(loss, 5), "rate": rate,
                   "seconds": round(run.seconds, 1)})
        save(run.state(), last)
        each = (time.monotonic() - began) / (run.epoch - first)
        left = each * (run.training.epochs - run.epoch)
        print(f"  {folder.name} epoch {run.epoch} of {run.training.epochs} loss {loss:.4f}, "
              f"{left / 60:.1f} min left", flush=True)
    return True


def waiting_runs(names, variants, out):
    """What is not finished (suite, task, variant, seed, folder): first seeds first."""
    for seed in range(max(SUITES[name].seeds for name in names)):
        for name in names:
            for task in SUITES[name].tasks:
                for variant in variants if seed < SUITES[name].seeds else ():
                    folder = out / folder_name(name, task, variant, seed)
                    if not (folder / "result.json").exists():
                        yield name, task, variant, seed, folder


@contextlib.contextmanager
def claimed(folder):
    """Whether this process may work in a run's folder: several can share one list of runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield not (folder / "result.json").exists()


def finish(run, folder, name, task, variant):
    """Write the settings and the result of a trained run; return its accuracy."""
    result = {"suite": name, "task": task, "variant": variant, "seed": run.training.seed,
              "accuracy": accuracy(run.model, run.problem),
              "parameters": run.model.parameter_count(), "seconds": round(run.seconds, 1)}
    (folder / "config.json").write_text(json.dumps(
        {"model": dataclasses.asdict(run.model.config),
         "training": dataclasses.asdict(run.training)}, indent=1) + "\n")
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result["accuracy"]


def train_all(args):
    names = args.suite or [name for name, suite in SUITES.items() if suite.default]
    deadline = time.monotonic() + args.minutes * 60 if args.minutes else math.inf
    todo, began = list(waiting_runs(names, args.variant or VARIANTS, args.out)), time.monotonic()
    for done, (name, task, variant, seed, folder) in enumerate(todo):
        with claimed(folder) as mine:
            if not mine:
                continue
            try:
                run = make_run(name, task, variant, seed, args.images)
            except FileNotFoundError as error:
                print(f"{folder.name}: left out, {error}", flush=True)
                continue
            if not train(run, folder, deadline):
                break
            reached = finish(run, folder, name, task, variant)
        left = (time.monotonic() - began) / (done + 1) * (len(todo) - done - 1)
        print(f"{folder.name}: accuracy {reached:.4f}, {run.seconds:.0f} s; "
              f"{len(todo) - done - 1} runs and about {left / 60:.0f} min left", flush=True)


def collect(args):
    found = [json.loads(path.read_text()) for path in sorted(args.out.glob("*/result.json"))]
    results = classify_table.summarise(found, SUITES, list(VARIANTS), torch.__version__)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    args.results.write_text(json.dumps(results, indent=1) + "\n")
    print(classify_table.markdown(results))


def check_export(model, path, problem, count):
    """(worst distance of logits, share of equal classes) between PyTorch and the file."""
    chosen = torch.arange(0, problem.count("test"), max(1, problem.count("test") // count))
    x, _ = problem.batch("test", chosen)
    stored, worst, same = reference.Model(str(path)), 0.0, []
    with torch.no_grad():
        expected = model.eval()(x).double()
    for row, want in zip(x, expected):
        got = reference.logits(stored, row.numpy()).view(want.shape)
        worst = max(worst, ((got - want).abs().max() / want.abs().max()).item())
        axis = -2 if want.shape[-1] == 1 else -1
        same.append((got.argmax(axis) == want.argmax(axis)).float().mean().item())
    return worst, sum(same) / len(same)


def export_run(args):
    result = json.loads((args.run / "result.json").read_text())
    suite = SUITES[result["suite"]]
    run = make_run(result["suite"], result["task"], result["variant"], result["seed"], args.images)
    run.restore(args.run / "last.pt")
    record = {"task": result["task"], "settings": dataclasses.asdict(run.training),
              "examples": run.problem.count("train"), "test_examples": run.problem.count("test"),
              "test_accuracy": round(result["accuracy"], 5), "data": suite.data,
              "seconds": result["seconds"], "torch": torch.__version__} | suite.problem
    about = {"license": "mit", "description": suite.about.format(variant=result["variant"])}
    export.write_gguf(run.model, args.file, args.type, args.name or args.run.name, about=about,
                      training=record, labels=run.problem.labels, image=run.problem.image)
    worst, same = check_export(run.model, args.file, run.problem, args.check)
    print(f"{args.file}: {args.file.stat().st_size:,} bytes, {result['parameters']:,} parameters, "
          f"accuracy {result['accuracy']:.4f}; against reference.py: worst logit {worst:.2e} of "
          f"the largest, same class in {100 * same:.2f} %")


def main():
    parser = argparse.ArgumentParser(description="Classification problems in the six variants.")
    commands = parser.add_subparsers(required=True)
    results = Path(__file__).parents[1] / "results" / "tasks.json"
    images = {"type": Path, "default": Path("."), "help": "folder with the image data sets"}
    command = commands.add_parser("run", help="train what is not finished")
    command.add_argument("--images", **images)
    command.add_argument("--out", type=Path, required=True, help="folder of runs")
    command.add_argument("--suite", nargs="+", choices=SUITES, help="default: the default ones")
    command.add_argument("--variant", nargs="+", choices=VARIANTS, help="default: all")
    command.add_argument("--minutes", type=float, default=0, help="stop after this time")
    command.set_defaults(command=train_all)
    command = commands.add_parser("collect", help="write the results and print the tables")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--results", type=Path, default=results)
    command.set_defaults(command=collect)
    command = commands.add_parser("export", help="write a finished run as GGUF")
    command.add_argument("run", type=Path)
    command.add_argument("file", type=Path)
    command.add_argument("--images", **images)
    command.add_argument("--type", choices=export.TYPES, default="f32")
    command.add_argument("--name")
    command.add_argument("--check", type=int, default=100, help="test examples to compare")
    command.set_defaults(command=export_run)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.command(args)


if __name__ == "__main__":
    main()
