"""The paper's comparison at our scale: every sharing variant on equal tokens, with seeds.

    python -m models.study.table run --data DATA --out RUNS --jobs 2 [--minutes 60]
    python -m models.study.table collect --data DATA --out RUNS --results models/study/results

`run` trains what is not finished, one process per core, from its last checkpoint; it can be stopped
and started at any time. `collect` evaluates what is finished on all held-out stories and writes
table.json, equal.json, rope.json and the tables in RESULTS.md. Invariants: within a table all runs
read the same tokens in the same order for a seed, with the same schedule; only the named variant
differs, and in `equal` the MLP's width, by which all have the parameters of QKV.
"""
import argparse
import json
import math
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from models.tools.onekv_cli import ROOT
from models.tools.pages import replace_part
from models.train.evaluate import by_position, summary, token_losses
from models.train.order import TokenSet
from models.train.state import load_checkpoint

SCORED = "tinystories_github"
TRAINING = {"tokens": 4_000_000, "warmup_tokens": 100_000, "decay_tokens": 1_000_000,
            "stages": [{"sequence": 256, "batch": 8}], "rate": 0.004,
            "evaluate_files": [SCORED], "evaluate_every": 1_000_000}
# The paper's GPT (LayerNorm, biases, learned positions, GELU erf), 16 query heads.
GPT = {"layers": 3, "width": 128, "heads": 16, "mlp_width": 512, "context": 256,
       "vocabulary": 2048, "positions": "learned", "norm": "layer", "activation": "gelu_erf",
       "bias": True}
LLAMA = {"layers": 3, "width": 128, "heads": 16, "mlp_width": 352, "context": 256,
         "vocabulary": 2048}
TABLE = {
    "QKV": ({"projection": "QKV"}, 3), "Q-K=V": ({"projection": "Q-K=V"}, 3),
    "Q=K-V": ({"projection": "Q=K-V"}, 1), "Q=K=V": ({"projection": "Q=K=V"}, 1),
    "GQA-4": ({"projection": "QKV", "kv_heads": 4}, 1),
    "MQA": ({"projection": "QKV", "kv_heads": 1}, 3),
    "Q-GQA-4": ({"projection": "Q-K=V", "kv_heads": 4}, 1),
    "Q-MQA": ({"projection": "Q-K=V", "kv_heads": 1}, 3)}
Q_MQA = {"projection": "Q-K=V", "kv_heads": 1}
ROPE = {
    "QKV rope": ({}, 2), "QKV learned": ({"positions": "learned"}, 2),
    "Q-MQA rotate-at-read": (Q_MQA, 2), "Q-MQA learned": (Q_MQA | {"positions": "learned"}, 2),
    "Q-MQA rotate-unrotate": (Q_MQA | {"shared_rope": "rotate-unrotate"}, 2)}
# Perplexity against QKV in percent, 300M parameters on 10 G tokens (paper, table 4), where a share
# of the scored tokens is padding.
PAPER_CHANGE = {"Q-K=V": 3.1, "Q=K-V": 4.9, "Q=K=V": 25.4, "GQA-4": 0.7, "MQA": 1.5,
                "Q-GQA-4": 3.9, "Q-MQA": 4.8}


def equal_mlp(changes):
    """The MLP's width that gives GPT with these changes as many parameters as it has without."""
    heads, width = GPT["heads"], GPT["width"]
    kv_width = width // heads * changes.get("kv_heads", heads)
    projections = 2 if changes["projection"] == "QKV" else 1
    # A row of a projection has `width` weights and a bias; a column of the MLP one row in, and
    # `width` weights out.
    saved = (2 * width - projections * kv_width) * (width + 1)
    return GPT["mlp_width"] + round(saved / (2 * width + 1))


EQUAL = {label: (TABLE[label][0] | {"mlp_width": equal_mlp(TABLE[label][0])}, 3)
         for label in ("QKV", "Q-K=V", "GQA-4", "MQA", "Q-GQA-4", "Q-MQA")}
# Half the tokens of the others: these are 18 runs.
SHORT = {"tokens": 2_000_000, "decay_tokens": 500_000, "evaluate_every": 500_000}
TABLES = {"table": (GPT, TABLE, {}), "equal": (GPT, EQUAL, SHORT), "rope": (LLAMA, ROPE, {})}
# The text that all tables read, whatever else a folder has.
WEIGHTS = {"tinystories_github": 1, "african_storybook_en": 1, "fairytaleqa_pd": 0.25,
           "pd_children_books": 0.1, "tinystories_more": 0, "picture_books_cc_by": 0}


def run_name(table, label, seed):
    return f"{table}-{label.replace('=', 'eq').replace(' ', '-').lower()}-{seed}"


def configurations():
    """Yield (table, label, seed, configuration), first seeds of everything first."""
    for seed in (1, 2, 3):
        for table, (base, variants, training) in TABLES.items():
            for label, (changes, seeds) in variants.items():
                if seed <= seeds:
                    yield table, label, seed, {
                        "name": run_name(table, label, seed), "model": base | changes,
                        "training": TRAINING | training | {"seed": seed, "weights": WEIGHTS}}


def start(configuration, args):
    """Start or continue one run in its own process, niced, on one thread."""
    folder = args.out / configuration["name"]
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "asked.json"
    asked.write_text(json.dumps(configuration))
    command = ["nice", "-n", "19", sys.executable, "-m", "models.train.train", str(asked),
               "--data", str(args.data), "--out", str(args.out), "--threads", "1"]
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def run(args):
    """Keep args.jobs processes busy until all is trained or the minutes are over."""
    waiting = [c for table, *_, c in configurations() if args.only in (None, table)
               and not (args.out / c["name"] / "final.pt").exists()]
    running, end = {}, time.monotonic() + args.minutes * 60 if args.minutes else math.inf
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the runs are saved"))
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < args.jobs:
                configuration = waiting.pop(0)
                running[configuration["name"]] = start(configuration, args)
                print(f"{configuration['name']} started, {len(waiting)} waiting", flush=True)
            time.sleep(2)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                print(f"{name} ended with status {running.pop(name).returncode}", flush=True)
    finally:
        for process in running.values():
            process.terminate()     # train.py saves its state on SIGTERM
        for process in running.values():
            process.wait()


def training_speed(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return statistics.median(line["tokens_per_second"] for line in lines if "loss" in line)


def measure(folder, data):
    """Held-out figures of one finished run, cached beside it."""
    cached = folder / "measured.json"
    if cached.exists():
        return json.loads(cached.read_text())
    model, _ = load_checkpoint(folder / "final.pt", "last")
    sums, counts = token_losses(model, TokenSet(data, SCORED, "validation"))
    stats = json.loads((data / "stats.json").read_text())["files"][SCORED]["validation"]
    result = summary(sums, counts, stats["bytes"]) | {
        "by_position": by_position(sums, counts),
        "parameters": model.parameter_count(),
        "cache_bytes_per_token_f16": 2 * model.config.cached_per_token,
        "training_tokens_per_second": training_speed(folder)}
    cached.write_text(json.dumps(result, indent=1) + "\n")
    return result


def summarise(label, measured, base):
    """One row: means over seeds, spread, change of the perplexity against QKV (seed by seed)."""
    losses = [entry["loss"] for _, entry in measured]
    changes = [100 * math.expm1(entry["loss"] - base[seed]) for seed, entry in measured
               if seed in base]
    first = measured[0][1]
    mean = statistics.mean
    row = {"variant": label, "seeds": len(measured), "loss": mean(losses),
           "perplexity": mean(map(math.exp, losses)),
           "perplexity_spread": max(map(math.exp, losses)) - min(map(math.exp, losses)),
           "perplexity_per_byte": mean(entry["perplexity_per_byte"] for _, entry in measured),
           "bits_per_byte": mean(entry["bits_per_byte"] for _, entry in measured),
           "change_percent": mean(changes) if changes else None,
           "change_percent_by_seed": changes}
    spans = zip(*(entry["by_position"] for _, entry in measured))
    row["perplexity_by_position"] = [
        {"from": same[0]["from"], "to": same[0]["to"],
         "perplexity": math.exp(mean(span["loss"] for span in same))} for same in spans]
    for key in ("parameters", "cache_bytes_per_token_f16"):
        row[key] = first[key]
    row["training_tokens_per_second"] = mean(
        entry["training_tokens_per_second"] for _, entry in measured)
    return row


def written(label):
    """A label as documents write it: Q-MQA is Q-K=V MQA."""
    return re.sub(r"(?<!\S)(Q-)?(?=[GM]QA)", lambda found: "Q-K=V " if found[1] else "QKV ",
                  label)


def markdown(result, paper):
    """Lines of one table; `paper` {variant: change in percent at 300M} adds a column."""
    standard = result["rows"][0]["cache_bytes_per_token_f16"]
    lines = ["| variant | perplexity per token | per byte | change | paper's | parameters | "
             "cache B/token, f16 | saved | training tokens/s | seeds |", "|---" * 10 + "|"]
    for row in result["rows"]:
        change = "–"
        if row["change_percent"] is not None and row is not result["rows"][0]:
            changes = row["change_percent_by_seed"]
            change = f"{row['change_percent']:+.1f} %"
            if len(changes) > 1:
                change += f" ({min(changes):+.1f} to {max(changes):+.1f})"
        spread = f" ± {row['perplexity_spread'] / 2:.2f}" if row["seeds"] > 1 else ""
        theirs = paper.get(row["variant"])
        lines.append(
            f"| {written(row['variant'])} | {row['perplexity']:.2f}{spread} | "
            f"{row['perplexity_per_byte']:.4f} | {change} | "
            f"{'–' if theirs is None else f'{theirs:+.1f} %'} | {row['parameters']:,} | "
            f"{row['cache_bytes_per_token_f16']} | "
            f"{100 - 100 * row['cache_bytes_per_token_f16'] / standard:.1f} % | "
            f"{row['training_tokens_per_second']:,.0f} | {row['seeds']} |")
    return lines + positions_table(result["rows"])


def positions_table(rows):
    """Change of the perplexity against the first row by position in the context."""
    base = rows[0]["perplexity_by_position"]
    heads = [f"{span['from']}–{span['to'] - 1}" for span in base]
    cells = [f"{span['perplexity']:.2f}" for span in base]
    lines = ["", f"| position | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|",
             f"| {rows[0]['variant']}, perplexity | {' | '.join(cells)} |"]
    for row in rows[1:]:
        changes = (100 * (span["perplexity"] / same["perplexity"] - 1)
                   for span, same in zip(row["perplexity_by_position"], base))
        cells = " | ".join(f"{x:+.1f} %" for x in changes)
        lines.append(f"| {written(row['variant'])} | {cells} |")
    return lines


def collect(args):
    args.results.mkdir(parents=True, exist_ok=True)
    found = {}
    for table, label, seed, configuration in configurations():
        folder = args.out / configuration["name"]
        if (folder / "final.pt").exists():
            entry = (seed, measure(folder, args.data))
            found.setdefault(table, {}).setdefault(label, []).append(entry)
    for table, rows in found.items():
        standard = rows.get(next(iter(TABLES[table][1])), [])
        base = {seed: entry["loss"] for seed, entry in standard}
        base_model, _, training = TABLES[table]
        result = {"model": base_model, "training": TRAINING | training, "scored": SCORED,
                  "torch": torch.__version__,
                  "rows": [summarise(label, entries, base) for label, entries in rows.items()]}
        path = args.results / f"{table}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        lines = markdown(result, {} if table == "rope" else PAPER_CHANGE)
        replace_part(Path(__file__).with_name("RESULTS.md"), f"{table} of variants", lines)
        print("\n".join([str(path), *lines]))


def main():
    parser = argparse.ArgumentParser(description="Train and collect the comparison tables.")
    parser.add_argument("command", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", choices=TABLES, help="of the tables")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    (run if args.command == "run" else collect)(args)


if __name__ == "__main__":
    main()
