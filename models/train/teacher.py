"""What teachers expect at every token of a run: files that teach.py writes and train.py reads.

A file is a record for each target of the run, in the order in which the run reads them: the TOP
likeliest tokens (uint16) and their probabilities (f16). FILE.json beside it holds the settings that
this order follows from. Invariant: a run is never taught by the records of another order.
"""
import json
from pathlib import Path

import numpy as np
import torch

TOP = 16
RECORD = np.dtype([("tokens", "<u2", TOP), ("probabilities", "<f2", TOP)])


def order_of(training):
    """The settings that the order of a run's targets follows from."""
    return {name: getattr(training, name) for name in ("seed", "weights", "stages", "rows")}


class Teachers:
    """The records of several files, which one run reads by token position."""

    def __init__(self, paths, training):
        """SystemExit for files of another order than `training`'s or with too few records."""
        if training.rows != "packed":
            raise SystemExit("a teacher goes with packed rows: padding has no records")
        self.records = []
        for path in map(Path, paths):
            order = json.loads(path.with_suffix(".json").read_text())
            if order != order_of(training):
                raise SystemExit(f"{path}: written for {order}, this run is {order_of(training)}")
            records = np.memmap(path, RECORD, "r")
            if len(records) < training.tokens:
                raise SystemExit(f"{path}: {len(records):,} records for a run of "
                                 f"{training.tokens:,} tokens")
            self.records.append(records)

    def batch(self, position, length, mine):
        """Rows `mine` of the batch at `position`, as taught_loss takes them: tokens and
        probabilities [rows * length, teachers, TOP]."""
        read = [np.concatenate([records[position + row * length:][:length] for row in mine])
                for records in self.records]
        both = np.stack(read, 1)
        return (torch.from_numpy(both["tokens"].astype(np.int64)),
                torch.from_numpy(both["probabilities"].astype(np.float32)))
