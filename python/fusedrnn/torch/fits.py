# SPDX-License-Identifier: MIT
"""Whether the kernels can take a module's call; and what is done if they cannot."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor
from torch.autograd import forward_ad

from .. import cuda, validate

DTYPES = torch.float32, torch.float64
CUDA_DTYPES = torch.float32, torch.bfloat16
PLAIN = Tensor, torch.nn.Parameter
FUNC = "under a transform of torch.func"

said: set[str] = set()

cuda_kernels = False


def use_cuda_kernels(on: bool) -> None:
    """Let modules on a CUDA device run on fusedrnn's kernels from now on, or again on PyTorch's.

    At first they run on PyTorch's, which are cuDNN: ours have not been measured on a device. They
    take float32 and bfloat16, no packed sequences, no projection, not under `torch.compile`; the
    rest goes on with `torch.nn`, and a warning says so once.

    Parameters
    ----------
    on : bool

    Raises
    ------
    TypeError
        Not True or False.
    RuntimeError
        CUDA is not available: `fusedrnn.cuda.why_not()`.
    """
    global cuda_kernels
    if validate.flag("on", on) and (reason := cuda.why_not()) is not None:
        raise RuntimeError(f"CUDA is not available: {reason}")
    cuda_kernels = on


def mode() -> str | None:
    """Return what PyTorch is doing that keeps the kernels out, None if nothing does."""
    if torch.is_autocast_enabled("cpu") or (cuda_kernels and torch.is_autocast_enabled("cuda")):
        return "under autocast"
    if torch._C._are_functorch_transforms_active():
        return FUNC
    if torch.compiler.is_compiling():
        return None
    if torch._C._get_tracing_state() is not None:
        return "under torch.jit.trace"
    if forward_ad._current_level >= 0:
        return "under forward-mode differentiation"
    return None


def why_not(tensors: Sequence[Any], plain: bool = True) -> str | None:
    """Return what keeps tensors from the kernels, None if nothing does.

    It is "" for what no module takes: `torch.nn` has the words. `plain`: without packed sequences
    and projection.
    """
    dtype, compiling = None, torch.compiler.is_compiling()
    for tensor in tensors:
        if type(tensor) not in PLAIN and not (compiling and isinstance(tensor, Tensor)):
            return f"with {type(tensor).__name__}" if isinstance(tensor, Tensor) else ""
        if tensor.dtype != dtype:
            if dtype is not None:
                return ""
            dtype = tensor.dtype
        if not tensor.is_cpu:
            return _why_not_there(tensors, plain, compiling)
    return None if dtype in DTYPES else f"with {dtype}"


def _why_not_there(tensors: Sequence[Any], plain: bool, compiling: bool) -> str | None:
    """Return the same where not all tensors are on the host."""
    kinds: set[Any] = {(getattr(a, "device", None), getattr(a, "dtype", None)) for a in tensors}
    if len(kinds) > 1:
        return ""
    device, dtype = kinds.pop()
    where = f"on {device.type}"
    if not cuda_kernels or where != "on cuda":
        return where
    if not plain:
        return f"{where} with packed sequences or a projection"
    if compiling:
        return f"{where} under torch.compile"
    return None if dtype in CUDA_DTYPES else f"{where} with {dtype}"


@contextlib.contextmanager
def handed_over(reason: str) -> Iterator[None]:
    """Say, once for each reason in a process, that `torch.nn` runs in our place; let it run."""
    say(reason)
    with without_onednn() if reason == FUNC else contextlib.nullcontext():
        yield


@torch._dynamo.assume_constant_result  # while Dynamo traces: a warning cannot be traced
def say(reason: str) -> None:
    """Warn, once for each reason in a process."""
    if reason and reason not in said:
        said.add(reason)
        message = f"fusedrnn.torch: torch.nn's own kernels run the recurrent layers {reason}"
        warnings.warn(message, stacklevel=7)


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Let `torch.nn` run its own operators: oneDNN's LSTM has no second derivatives, nor vmap."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
