"""Reading a PyTorch checkpoint (.pt) without running anything that is in it.

A .pt file is a zip: one pickle that describes the tensors, and one member of raw bytes for each
storage. The pickle is read with an allow-list, so it can name tensors and plain containers and
nothing else; storages are read one at a time, when a tensor is asked for.

Invariants: no code of the file is ever called; a tensor that nobody reads (optimizer state, mask
buffers) costs no memory.
"""
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

# Storage classes of torch -> element type of the bytes. bfloat16 has no numpy type: u2 here, and
# widened to f32 when it is read.
STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}


class CheckpointError(Exception):
    """A checkpoint that cannot be read or does not fit; the message names the key or shape."""


@dataclass(frozen=True)
class Storage:
    kind: str
    member: str
    n_elements: int


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still in its file."""

    file: zipfile.ZipFile
    storage: Storage
    offset: int
    shape: tuple
    stride: tuple

    def read(self):
        """The values as float32 (integers as they are), shape as in PyTorch."""
        raw = self.file.read(self.storage.member)
        values = np.frombuffer(raw, dtype=STORAGES[self.storage.kind])
        if values.size < self.storage.n_elements:
            raise CheckpointError(f"{self.storage.member}: {values.size} elements, expected "
                                  f"{self.storage.n_elements}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if 0 in self.shape or self.offset < 0 or min((0, *self.stride)) < 0 or last >= values.size:
            raise CheckpointError(f"{self.storage.member}: a view of shape {list(self.shape)} "
                                  "does not fit its storage")
        if self.storage.kind == "BFloat16Storage":
            values = (values.astype("<u4") << 16).view("<f4")
        strides = tuple(s * values.itemsize for s in self.stride)
        view = np.lib.stride_tricks.as_strided(values[self.offset:], self.shape, strides)
        return np.ascontiguousarray(view, np.float32 if view.dtype.kind == "f" else None)


class TensorUnpickler(pickle.Unpickler):
    """Knows how tensors and containers are spelled; every other name is refused."""

    def __init__(self, stream, file, folder):
        super().__init__(stream)
        self.file, self.folder = file, folder

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, requires_grad, hooks: tensor
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and name in STORAGES:
            return name
        raise CheckpointError(f"the checkpoint names {module}.{name}, which is neither a tensor "
                              "nor a plain container: refused")

    def rebuild_tensor(self, storage, offset, shape, stride, *_):
        return LazyTensor(self.file, storage, offset, tuple(shape), tuple(stride))

    def persistent_load(self, identity):
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise CheckpointError("the checkpoint refers to something that is not a storage")
        _, kind, key, _, n_elements = identity
        if kind not in STORAGES:
            raise CheckpointError(f"storage {key}: found type {kind}, expected a torch storage")
        return Storage(kind, f"{self.folder}/data/{key}", n_elements)


def read_checkpoint(path):
    """The pickled object with LazyTensor in the place of tensors; CheckpointError if refused."""
    try:
        file = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: not a zip; checkpoints of torch before 1.6 have to be "
                              "saved again") from error
    pickles = [name for name in file.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path}: {len(pickles)} members data.pkl, expected 1")
    folder = pickles[0].rpartition("/")[0]
    if f"{folder}/byteorder" in file.namelist():
        order = file.read(f"{folder}/byteorder")
        if order != b"little":
            raise CheckpointError(f"{path}: byte order {order!r}, expected little")
    with file.open(pickles[0]) as stream:
        try:
            return TensorUnpickler(stream, file, folder).load()
        except (pickle.UnpicklingError, EOFError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: the pickle is damaged: {error}") from error


def state_dict(path):
    """(everything beside the weights as a dict, {name: LazyTensor} without DDP's `module.`)."""
    root = read_checkpoint(path)
    if not isinstance(root, dict):
        raise CheckpointError(f"{path}: found {type(root).__name__}, expected a dict")
    tensors = root.get("model_state_dict", root)
    about = {key: value for key, value in root.items() if key != "model_state_dict"}
    if tensors is root:
        about = {}
    wrong = [key for key, value in tensors.items() if not isinstance(value, LazyTensor)]
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]} is not a tensor; expected a state dict or a "
                              "dict with model_state_dict")
    prefix = "module."
    if tensors and all(name.startswith(prefix) for name in tensors):
        tensors = {name[len(prefix):]: tensor for name, tensor in tensors.items()}
    return about, dict(tensors)
