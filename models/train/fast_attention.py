"""Causal attention for training on CPUs as a PyTorch operator, from fast_attention.c.

Built once with the machine's C compiler into a cache folder; where there is none, library() is
None and the model uses PyTorch's own kernel. q is [B, T, H, h], k and v are [B, T, G, h], f32.
"""
import ctypes
import functools
import hashlib
import math
import os
import shutil
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F

SOURCE = Path(__file__).with_name("fast_attention.c")
WIDTHS = (8, 16, 32, 64)
FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]


@functools.cache
def library():
    """The built library, or None without a C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "onekv"
    built = cache / f"fast_attention-{key}.so"
    if not built.exists():
        cache.mkdir(parents=True, exist_ok=True)
        beside = built.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(beside), "-lm"]
        if subprocess.run(command, check=False).returncode:
            return None
        os.replace(beside, built)
    return ctypes.CDLL(str(built))


def _call(name, q, k, *tensors):
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2], q.shape[3])
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (q, k, *tensors)]
    status = getattr(library(), name)(*shape, *pointers)
    if status:
        raise RuntimeError(f"{name}{shape}: status {status}")


@torch.library.custom_op("onekv::attention", mutates_args=())
def attention(q: torch.Tensor, k: torch.Tensor,
              v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    o, lse = torch.empty_like(q), q.new_empty(q.shape[0], q.shape[2], q.shape[1])
    _call("onekv_attention_forward", q, k, v, o, lse)
    return o, lse


@attention.register_fake
def _(q, k, v):
    return torch.empty_like(q), q.new_empty(q.shape[0], q.shape[2], q.shape[1])


@torch.library.custom_op("onekv::attention_backward", mutates_args=())
def attention_backward(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor, lse: torch.Tensor,
        dout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tensors = [tensor.contiguous() for tensor in (q, k, v, o, lse, dout)]
    gradients = torch.empty_like(tensors[0]), torch.empty_like(k), torch.empty_like(v)
    _call("onekv_attention_backward", *tensors, *gradients)
    return gradients


@attention_backward.register_fake
def _(q, k, v, o, lse, dout):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def attend(q, k, v):
    """Attention for every width of WIDTHS; heads of 8 are padded to the 16 lanes of the kernel."""
    width = q.shape[-1]
    if width < 16:
        pad = (0, 16 - width)
        q = q * math.sqrt(16 / width)       # the kernel divides by sqrt(16)
        return attention(*(F.pad(x, pad) for x in (q, k, v)))[0][..., :width]
    return attention(q, k, v)[0]


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx, dout, _):
    q, k, v, o, lse = ctx.saved_tensors
    return attention_backward(q, k, v, o, lse, dout)


attention.register_autograd(_backward, setup_context=_setup)
