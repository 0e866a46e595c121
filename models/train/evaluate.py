"""Held-out loss of a language model, in a form that any runtime can repeat.

    python -m models.train.evaluate --data DATA --out FILE.json [--plot FILE.svg] NAME=CHECKPOINT …

writes loss and perplexity of checkpoints, in all and by position in the context. Every story is its
own document <|endoftext|> story <|endoftext|>: all tokens after the first are scored, given what
stands before them. A document longer than the context is cut into windows that are read afresh; a
position is counted within its window. Padding is never scored.
"""
import argparse
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.train.model import IGNORED
from models.train.order import TokenSet
from models.train.state import load_checkpoint


def windows(tokens, context):
    """(inputs, targets) pairs of at most `context` tokens of one story and its end of text."""
    document = np.concatenate((tokens[-1:], tokens)).astype(np.int64)
    for start in range(0, len(document) - 1, context):
        stop = min(start + context, len(document) - 1)
        yield document[start:stop], document[start + 1:stop + 1]


def batches(pairs, rows):
    """Pad windows of similar length to [rows, n] tensors; padded targets are IGNORED."""
    pairs = sorted(pairs, key=lambda pair: len(pair[0]))
    for start in range(0, len(pairs), rows):
        part = pairs[start:start + rows]
        length = max(len(inputs) for inputs, _ in part)
        x = torch.zeros(len(part), length, dtype=torch.long)
        y = torch.full((len(part), length), IGNORED)
        for row, (inputs, targets) in enumerate(part):
            x[row, :len(inputs)] = torch.from_numpy(inputs)
            y[row, :len(targets)] = torch.from_numpy(targets)
        yield x, y


@torch.no_grad()
def token_losses(model, token_set, stories=None, rows=8, bf16=False):
    """Sum and count of the losses by position in the window, in nats: two arrays [context]."""
    device, context = next(model.parameters()).device, model.config.context
    count = min(len(token_set), stories or len(token_set))
    pairs = [pair for index in range(count)
             for pair in windows(token_set.story(index), context)]
    sums, counts = np.zeros(context), np.zeros(context, np.int64)
    was_training = model.training
    model.eval()
    for x, y in batches(pairs, rows):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(x.to(device))
        loss = F.cross_entropy(logits.float().transpose(1, 2), y.to(device),
                               ignore_index=IGNORED, reduction="none")
        length = y.shape[1]
        sums[:length] += loss.double().sum(0).cpu().numpy()
        counts[:length] += (y != IGNORED).sum(0).numpy()
    model.train(was_training)
    return sums, counts


EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def by_position(sums, counts):
    """[{from, to, tokens, loss, perplexity}]: spans of positions that double, `to` excluded."""
    rows = []
    for start, end in zip(EDGES, EDGES[1:]):
        count = int(counts[start:end].sum())
        if count:
            loss = float(sums[start:end].sum() / count)
            rows.append({"from": start, "to": min(end, len(sums)), "tokens": count, "loss": loss,
                         "perplexity": math.exp(loss)})
    return rows


def summary(sums, counts, n_bytes=None):
    """Loss, perplexity and, for n_bytes of text, both per byte."""
    total, count = float(sums.sum()), int(counts.sum())
    result = {"loss": total / count, "perplexity": math.exp(total / count), "tokens": count}
    if n_bytes:
        result["bits_per_byte"] = total / math.log(2) / n_bytes
        result["perplexity_per_byte"] = math.exp(total / n_bytes)
    return result


def held_out(model, folder, names=None, stories=None, bf16=False, positions=False):
    """{file: summary} for the validation parts of `folder`; `positions` adds by_position."""
    folder = Path(folder)
    stats, results = json.loads((folder / "stats.json").read_text()), {}
    for name, entry in sorted(stats["files"].items()):
        part = entry["validation"]
        if (names and name not in names) or not part["stories"]:
            continue
        sums, counts = token_losses(
            model, TokenSet(folder, name, "validation"), stories=stories, bf16=bf16)
        results[name] = summary(sums, counts, None if stories else part["bytes"])
        if positions:
            results[name]["by_position"] = by_position(sums, counts)
    return results


def plot(results, path):
    """Perplexity over the position, a panel for each file, a line a model."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "onekv"       # the same file for the same figures
    from matplotlib import pyplot
    files = list(dict.fromkeys(file for result in results.values() for file in result))
    figure, panels = pyplot.subplots(1, len(files), figsize=(5 * len(files), 4), squeeze=False,
                                     layout="constrained")
    for file, panel in zip(files, panels.flat):
        for name, result in results.items():
            rows = result[file]["by_position"]
            panel.plot([row["to"] for row in rows], [row["perplexity"] for row in rows],
                       marker="o", markersize=3, label=name)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_title(file, fontsize=10)
        panel.set_xlabel("position in the context, to", fontsize=8)
        panel.set_ylabel("perplexity", fontsize=8)
        panel.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description="Held-out perplexity by position.")
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--file", action="append", help="validation file (default: all)")
    parser.add_argument("--weights", choices=("last", "average"), default="last")
    parser.add_argument("--context", type=int, help="windows of so many tokens (default: the "
                        "model's context)")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    parser.add_argument("--plot", type=Path, help="SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, path in (item.split("=", 1) for item in args.checkpoints):
        model, _ = load_checkpoint(path, args.weights)
        if args.context:
            model.config = dataclasses.replace(model.config, context=args.context)
        results[name] = held_out(model, args.data, args.file, positions=True)
        print(name, {file: round(entry["perplexity"], 3)
                     for file, entry in results[name].items()}, flush=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
