"""Rows of training text, packed or a story a row.

Both give the inputs and targets [rows, sequence] that a process asks for by the numbers of its rows
in the batch, and how many targets of the whole batch are scored: the loss of a batch is the mean
over those, whichever device computes them.
"""
import numpy as np
import torch

from models.train.model import IGNORED


def packed_batch(order, position, rows, length, mine):
    """Row r is the text from token position + r * length on: stories run on, nothing is padded."""
    read = np.stack([order.read(position + row * length, length + 1) for row in mine])
    tokens = torch.from_numpy(read.astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), rows * length


def documents_batch(order, position, rows, length, mine):
    """Row r is story position / length + r as evaluate.py reads it (end of text, story, end of
    text), cut after `length` targets; what a shorter one leaves is padding, which is not scored."""
    first = position // length
    x = torch.zeros(len(mine), length, dtype=torch.long)
    y = torch.full((len(mine), length), IGNORED)
    for place, row in enumerate(mine):
        story = torch.from_numpy(order.story(first + row).astype(np.int64))
        kept = min(len(story), length)
        x[place, 0] = story[-1]
        x[place, 1:kept] = story[:kept - 1]
        y[place, :kept] = story[:kept]
    scored = np.minimum(order.lengths(first, rows), length).sum()
    return x, y, int(scored)
