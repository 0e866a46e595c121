"""Writes GGUF files: the one writer of export, convert, expand and the golden data.

A file is keys and tensors, both in the order given. The header is written first, from names, shapes
and types alone, then one tensor after the other, read when its turn has come: a model that is
written needs no more memory than its largest tensor.
"""
from typing import Any, Callable, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q5_0": Type.Q5_0,
         "q4_0": Type.Q4_0}


class Value(NamedTuple):
    """A key's value of a stated type; without it the type is that of Python's value."""
    value: Any
    kind: GGUFValueType
    items: GGUFValueType | None = None


class Tensor(NamedTuple):
    """`read` gives bytes as the file has them: floats of `shape`, or whole blocks as uint8."""
    shape: tuple            # of what `read` gives, rows first
    dtype: Any
    kind: Type
    read: Callable[[], np.ndarray]


def encoded(shape, kind, read):
    """Floats [shape], that `read` gives when it is called, as a tensor of that type."""
    blocks = kind not in (Type.F32, Type.F16)
    dtype = np.uint8 if blocks else np.float16 if kind == Type.F16 else np.float32
    stored = quant_shape_to_byte_shape(shape, kind) if blocks else tuple(shape)
    return Tensor(stored, np.dtype(dtype), kind,
                  lambda: quantize(np.ascontiguousarray(read(), np.float32), kind))


def floats(values, kind=Type.F32):
    return encoded(np.shape(values), kind, lambda: values)


def blocks(data, kind):
    """What is encoded already: rows of bytes, or floats of that type."""
    return Tensor(data.shape, data.dtype, kind, lambda: data)


def matrix_kind(name, shape, kind):
    """The type of a model's tensor: matrices take `kind` where their rows are whole blocks of 32;
    what is added or multiplied element by element stays f32, and so does a table of positions."""
    if len(shape) < 2 or name == "position_embd.weight":
        return Type.F32
    return Type.F32 if kind not in (Type.F32, Type.F16) and shape[-1] % 32 else kind


def add_key(writer, key, value):
    """str, bool, int (u32), float (f32) or a list of one of them (of int: i32)."""
    if isinstance(value, Value):
        writer.add_key_value(key, *value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32,
               float: writer.add_float32}
        add[type(value)](key, value)


def write(path, architecture, keys, tensors, progress=lambda done: None):
    """keys {name: value}, tensors {name: Tensor}; `progress` is called behind each tensor."""
    writer = GGUFWriter(str(path), architecture)
    for key, value in keys.items():
        add_key(writer, key, value)
    for name, (shape, dtype, kind, _) in tensors.items():
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(name, shape, dtype, n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.write_padding(writer.fout[0], writer.fout[0].tell())  # there without tensors too
    for done, tensor in enumerate(tensors.values(), 1):
        writer.write_tensor_data(tensor.read())
        progress(done)
    writer.close()
