"""Checkpoints that train.py leaves behind, read back as models.

Invariant: only tensors and plain values are unpickled.
"""
import torch

from models.train.model import Config, Transformer


def load_checkpoint(path, weights="average", **changes):
    """(model, state) of a train.py checkpoint; `weights`: "last" or their running "average";
    `changes`: settings that no weight depends on, rope_base for example."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = Transformer(Config(**state["config"] | changes))
    if weights == "average" and state["average"] is None:
        raise SystemExit(f"{path} has no running mean of the weights: --weights last")
    model.load_state_dict(state["model" if weights == "last" else "average"])
    return model.eval(), state
