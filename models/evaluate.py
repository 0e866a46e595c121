"""Held-out loss of a language model, in a form that any runtime can repeat.

Every story is its own document <|endoftext|> story <|endoftext|>: all tokens after the first are
scored, given what stands before them. A document longer than the context is cut into windows that
are read afresh. Padding is never scored.
"""
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from order import TokenSet
from model import IGNORED


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


def held_out(model, folder, names=None, stories=None, bf16=False):
    """{file: {loss, perplexity, bits_per_byte, tokens}} for the validation parts of `folder`."""
    folder = Path(folder)
    stats, results = json.loads((folder / "stats.json").read_text()), {}
    for name, entry in sorted(stats["files"].items()):
        part = entry["validation"]
        if (names and name not in names) or not part["stories"]:
            continue
        sums, counts = token_losses(
            model, TokenSet(folder, name, "validation"), stories=stories, bf16=bf16)
        loss = sums.sum() / counts.sum()
        results[name] = {"loss": loss, "perplexity": math.exp(loss), "tokens": int(counts.sum())}
        if not stories:
            results[name]["bits_per_byte"] = sums.sum() / math.log(2) / part["bytes"]
    return results
