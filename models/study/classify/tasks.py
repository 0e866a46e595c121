"""What classify.py learns: the paper's synthetic tasks, sets with one odd item out, image classes.

A problem gives batches (inputs, targets) for models/train/model.py. Invariants: the same seed gives
the same data; test examples are never drawn from what is trained on (images and sets: other images;
synthetic lists: independent ones, of which there are 10^16 and more); the random state of a
batch is torch's global one, which the trainer sets for each epoch.
"""
import numpy as np
import torch
import torch.nn.functional as F

from models.study.classify import images

SYMBOLS = 10
SYNTHETIC = {
    "reverse": lambda x: x.flip(1),
    "sort": lambda x: x.sort(1).values,
    "sub": lambda x: SYMBOLS - 1 - x,
    "swap": lambda x: x.roll(x.shape[1] // 2, 1),
    "copy": lambda x: x.clone()}


class Lists:
    """Lists of `length` digits; the class of position i is digit i of the answer."""

    def __init__(self, task, seed, length, train=10_000, test=2_000):
        if length % 2:
            raise ValueError(f"length {length}: swap needs an even one")
        generator = torch.Generator().manual_seed(seed)
        self.parts = {}
        for part, count in (("train", train), ("test", test)):
            x = torch.randint(0, SYMBOLS, (count, length), generator=generator)
            self.parts[part] = (x, SYNTHETIC[task](x))
        self.model = {"vocabulary": SYMBOLS, "outputs": SYMBOLS, "context": length}
        self.labels, self.image = tuple("0123456789"), None

    def count(self, part):
        return len(self.parts[part][0])

    def batch(self, part, rows):
        x, y = self.parts[part]
        return x[rows], y[rows]


class Pictures:
    """Images as patches; the class is read from the class row."""

    def __init__(self, task, seed, folder, patch, augment="none"):
        del seed        # the published images are the same for every seed
        self.sets = {part: images.load(task, folder, part) for part in ("train", "test")}
        self.pixels = {part: torch.from_numpy(np.ascontiguousarray(found.pixels))
                       for part, found in self.sets.items()}
        self.targets = {part: torch.from_numpy(found.labels) for part, found in self.sets.items()}
        _, channels, rows, columns = self.pixels["train"].shape
        if rows != columns:
            raise ValueError(f"{task}: images of {rows} × {columns}; the file contract is square")
        side = -(-rows // patch)
        self.patch, self.augment = patch, images.AUGMENTATIONS[augment]
        self.labels = self.sets["train"].names
        self.image = {"size": side * patch, "patch": patch, "channels": channels}
        self.model = {"input_kind": "features", "feature_length": channels * patch * patch,
                      "context": side * side, "class_row": True, "pooling": "first",
                      "outputs": len(self.labels)}

    def count(self, part):
        return len(self.targets[part])

    def batch(self, part, rows):
        x = self.pixels[part][rows].float() / 255
        x = self.augment(x) if part == "train" else x
        return images.patches(x, self.patch), self.targets[part][rows]


class OddOneOut:
    """Sets of ten images, nine of one class and one of another; the class is the odd one's place.

    The paper describes each image by a ResNet34 trained on ImageNet, which is not available here.
    These items are the images themselves, averaged over squares of `pool` × `pool` pixels.
    """

    SIZE = 10

    def __init__(self, task, seed, folder, source, pool=2, train=10_000, test=2_000):
        assert task == "odd"
        self.features, self.parts = {}, {}
        generator = torch.Generator().manual_seed(seed)
        for part, count in (("train", train), ("test", test)):
            found = images.load(source, folder, part)
            pixels = torch.from_numpy(np.ascontiguousarray(found.pixels)).float() / 255
            self.features[part] = F.avg_pool2d(pixels, pool).flatten(1)
            self.parts[part] = draw_sets(found.labels, len(found.names), count, generator)
        self.labels, self.image = None, None
        self.model = {"input_kind": "features", "context": self.SIZE, "outputs": 1,
                      "feature_length": self.features["train"].shape[1]}

    def count(self, part):
        return len(self.parts[part][1])

    def batch(self, part, rows):
        members, places = self.parts[part]
        return self.features[part][members[rows]], places[rows]


def draw_sets(labels, classes, count, generator):
    """(members [count, 10], place of the odd one [count]): indices of images, drawn at random."""
    size = OddOneOut.SIZE
    by_class = [torch.from_numpy(np.flatnonzero(labels == number)) for number in range(classes)]
    usual = torch.randint(0, classes, (count,), generator=generator)
    odd = (usual + torch.randint(1, classes, (count,), generator=generator)) % classes
    places = torch.randint(0, size, (count,), generator=generator)
    wanted = usual[:, None].repeat(1, size)
    wanted[torch.arange(count), places] = odd
    chance = torch.rand(count, size, generator=generator)
    sizes = torch.tensor([len(found) for found in by_class])
    first = sizes.cumsum(0) - sizes
    inside = (chance * sizes[wanted]).long().clamp(max=(sizes - 1)[wanted])
    return torch.cat(by_class)[first[wanted] + inside], places
