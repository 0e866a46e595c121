"""Held-out figures of a pair of story models: bits per byte, their gap, and long contexts.

    python -m models.study.story_figures --data DATA --out JSON Q-MQA=A.pt QKV=B.pt
    python -m models.study.story_figures --data DATA --out JSON --caches Q-MQA=A.gguf QKV=B.gguf

Of checkpoints: loss and bits per byte on each held-out file, every story alone; the gap of the
first model to the second in perplexity, with the interval that 95 of 100 resamplings of the stories
give (the spread over texts; that over seeds takes more runs); and the loss by position in rows of
stories that run on, as long as the context, and that of the last 512 tokens of these rows with
less and more of what precedes them, so that the text is the same. Of GGUF files, by the engine
(`npm run build` first): the loss of the last 512 tokens of such rows by type of cache. Invariants:
both models of a pair score the same tokens; the random numbers are fixed, so the same files give
the same figures.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.tools.onekv_cli import onekv
from models.train.evaluate import windows
from models.train.state import load_checkpoint
from models.train.order import TokenSet

FILES = ("tinystories_github", "tinystories_v2_valid_1000")
CACHES = ("f16", "i8", "i4")
LAST = 512
RESAMPLINGS = 1000


@torch.no_grad()
def row_losses(model, inputs, targets):
    """Losses [n] in nats of one row."""
    logits = model(torch.from_numpy(inputs)[None])[0]
    return F.cross_entropy(logits.float(), torch.from_numpy(targets), reduction="none").numpy()


def story_losses(model, tokens):
    """Summed loss of each story [stories], in nats."""
    return np.array([sum(float(row_losses(model, x, y).sum())
                         for x, y in windows(tokens.story(index), model.config.context))
                     for index in range(len(tokens))])


def gap(first, second, n_tokens):
    """How much larger the first perplexity is, in per cent, and the interval of resamplings.

    first, second [stories]: losses of the same stories; n_tokens [stories]: their tokens.
    """
    generator, found = np.random.default_rng(1), []
    for _ in range(RESAMPLINGS):
        pick = generator.integers(0, len(first), len(first))
        found.append((first[pick] - second[pick]).sum() / n_tokens[pick].sum())
    low, high = np.quantile(found, (0.025, 0.975))
    whole = (first - second).sum() / n_tokens.sum()
    return {"percent": 100 * math.expm1(whole),
            "interval": [100 * math.expm1(low), 100 * math.expm1(high)]}


def long_rows(tokens, length, rows):
    """At most `rows` pieces [length + 1] of the held-out stories, one after the other."""
    text = np.asarray(tokens.tokens, np.int64)
    count = min(rows, (len(text) - 1) // length)
    if not count:
        raise SystemExit(f"the held-out file has {len(text)} tokens, fewer than {length + 1}")
    return [text[row * length:(row + 1) * length + 1] for row in range(count)]


def loss_by_position(model, pieces, span=LAST):
    """[{from, to, loss}]: mean loss of spans of positions over all pieces."""
    mean = np.mean([row_losses(model, piece[:-1], piece[1:]) for piece in pieces], 0)
    return [{"from": start, "to": min(start + span, len(mean)),
             "loss": float(mean[start:start + span].mean())}
            for start in range(0, len(mean), span)]


def loss_by_context(model, pieces):
    """[{context, loss}]: of the last LAST tokens of all pieces, read from 2 * LAST tokens before
    the piece's end, from twice as many, and so on, to the whole piece."""
    length = len(pieces[0]) - 1
    found = []
    for context in sorted({*(LAST << n for n in range(1, 16) if LAST << n < length), length}):
        losses = [row_losses(model, piece[-context - 1:-1], piece[-context:])[-LAST:].mean()
                  for piece in pieces]
        found.append({"context": context, "loss": float(np.mean(losses))})
    return found


def measure_checkpoints(items, data, rows, weights, changes):
    stats = json.loads((data / "stats.json").read_text())["files"]
    results, by_story = {"models": {}, "gap": {}}, {}
    for name, path in items:
        model, state = load_checkpoint(path, weights, **changes)
        entry = {"tokens_read": state["tokens"], "parameters": model.parameter_count()}
        for file in FILES:
            tokens = TokenSet(data, file, "validation")
            losses = by_story[name, file] = story_losses(model, tokens)
            entry[file] = {
                "loss": float(losses.sum() / len(tokens.tokens)), "tokens": len(tokens.tokens),
                "bits_per_byte":
                    float(losses.sum()) / math.log(2) / stats[file]["validation"]["bytes"]}
            print(name, file, entry[file], flush=True)
        pieces = long_rows(TokenSet(data, FILES[-1], "validation"), model.config.context, rows)
        entry["by_position"] = loss_by_position(model, pieces)
        entry["by_context"] = loss_by_context(model, pieces)
        results["models"][name] = entry
    if len(items) == 2:
        for file in FILES:
            lengths = np.diff(TokenSet(data, file, "validation").offsets)
            results["gap"][file] = gap(*(by_story[name, file] for name, _ in items), lengths)
    return results


def engine_nats(path, ids, cache):
    """What the engine's loss of ids[1:] sums to."""
    found = json.loads(onekv("eval", path, "--ids", ",".join(map(str, ids)), "--json",
                             "--context", len(ids), "--cache-type", cache))
    return found["nats"]


def measure_caches(items, data, rows, length):
    """Loss of the last 512 tokens of each row: all of it less the row without them."""
    pieces, results = long_rows(TokenSet(data, FILES[-1], "validation"), length, rows), {}
    for name, path in items:
        results[name] = []
        for cache in CACHES:
            loss = np.mean([(engine_nats(path, piece[:length], cache)
                             - engine_nats(path, piece[:length - LAST], cache)) / LAST
                            for piece in pieces])
            row = {"cache": cache, "loss": float(loss), "perplexity": math.exp(loss)}
            results[name].append(row)
            print(name, row, flush=True)
    return {"context": length, "rows": len(pieces), "scored_of_each": LAST, "models": results}


def main():
    parser = argparse.ArgumentParser(description="Held-out figures of a pair of story models.")
    parser.add_argument("models", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--weights", choices=("last", "average"), default="last")
    parser.add_argument("--rope-base", type=float, help="another base of RoPE than a model's own")
    parser.add_argument("--caches", action="store_true", help="GGUF files, by the engine")
    parser.add_argument("--rows", type=int, default=8, help="long rows to score")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a row for --caches")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    items = [item.split("=", 1) for item in args.models]
    results = measure_caches(items, args.data, args.rows, args.context) if args.caches else \
        measure_checkpoints(items, args.data, args.rows, args.weights,
                            {"rope_base": args.rope_base} if args.rope_base else {})
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
