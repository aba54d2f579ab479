# SPDX-License-Identifier: MIT
"""Whether the kernels can take a module's call; and what is done if they cannot."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

DTYPES = torch.float32, torch.float64
PLAIN = Tensor, torch.nn.Parameter
FUNC = "under a transform of torch.func"

said: set[str] = set()


def mode() -> str | None:
    """Return what PyTorch is doing that keeps the kernels out, None if nothing does."""
    if torch.is_autocast_enabled("cpu"):
        return "under autocast"
    if torch.compiler.is_compiling():
        return None
    if torch._C._get_tracing_state() is not None:
        return "under torch.jit.trace"
    if torch._C._are_functorch_transforms_active():
        return FUNC
    if forward_ad._current_level >= 0:
        return "under forward-mode differentiation"
    return None


def why_not(tensors: Iterable[Any]) -> str | None:
    """Return what keeps tensors from the kernels, None if nothing does.

    It is "" for what no module takes: `torch.nn` has the words.
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
            return f"on {tensor.device.type}"
    return None if dtype in DTYPES else f"with {dtype}"


@contextlib.contextmanager
def handed_over(reason: str) -> Iterator[None]:
    """Say, once for each reason in a process, that `torch.nn` runs in our place; let it run."""
    if reason and reason not in said:
        said.add(reason)
        message = f"fusedrnn.torch: torch.nn's own kernels run the recurrent layers {reason}"
        warnings.warn(message, stacklevel=6)
    with without_onednn() if reason == FUNC else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Let `torch.nn` run its own operators: oneDNN's LSTM has no second derivatives, nor vmap."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
