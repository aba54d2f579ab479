# SPDX-License-Identifier: MIT
"""Whether the kernels can take a module's call; and what is done if they cannot."""

from __future__ import annotations

import contextlib
import operator
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Module

from .. import _core, cuda, validate

DTYPES = torch.float32, torch.float64
CUDA_DTYPES = torch.float32, torch.bfloat16
PLAIN = Tensor, torch.nn.Parameter
FUNC, FORWARD = "under a transform of torch.func", "under forward-mode differentiation"

said: set[str] = set()

cuda_kernels = False


def use_cuda_kernels(on: bool) -> None:
    """Let modules on a CUDA device run on fusedrnn's kernels from now on, or again on PyTorch's.

    At first they run on PyTorch's, which are cuDNN: ours have never run on a GPU. They take
    float32 and bfloat16, no packed sequences, no projection, no cells, not under `torch.compile`;
    the rest goes on with `torch.nn`, and a warning says so once.

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


def look(
    tensors: tuple[Any, ...], devices: bool
) -> tuple[Sequence[Sequence[int]] | None, str | None]:
    """Return the shapes of tensors, and what keeps the kernels out.

    The one is None of tensors that are to be made plain (`bridge.plain`), the other if nothing
    does. It is "" for what no module takes: `torch.nn` has the words. `devices`: there are kernels
    for a device as well, which have no packed sequences, no projection, no cells.
    """
    compiling = torch.compiler.is_compiling()
    reason = mode(compiling)
    if reason is not None:
        return None, reason
    shapes = None if compiling else _core.plain_shapes(tensors)
    return shapes, None if shapes else why_not(tensors, devices, compiling)


def mode(compiling: bool) -> str | None:
    """Return what PyTorch is doing that keeps the kernels out, None if nothing does."""
    if torch._C._is_any_autocast_enabled() and (
        torch.is_autocast_enabled("cpu") or (cuda_kernels and torch.is_autocast_enabled("cuda"))
    ):
        return "under autocast"
    if torch._C._are_functorch_transforms_active():
        return FUNC
    if compiling:
        return "in torch.onnx.export" if exports_to_onnx() else None
    if torch._C._get_tracing_state() is not None:
        return "under torch.jit.trace"
    if forward_ad._current_level >= 0:
        return FORWARD
    if torch._C._len_torch_dispatch_stack():  # which sees PyTorch's operators, and not ours
        return "under a TorchDispatchMode"
    return None


@torch._dynamo.assume_constant_result
def exports_to_onnx() -> bool:
    """Whether `torch.onnx.export` traces, which knows `torch.nn`'s operators and not ours."""
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def why_not(tensors: Sequence[Any], devices: bool = True, compiling: bool = False) -> str | None:
    """Return what keeps tensors from the kernels, as `look` does."""
    dtype = None
    for tensor in tensors:
        if type(tensor) not in PLAIN and not (compiling and isinstance(tensor, Tensor)):
            return f"with {type(tensor).__name__}" if isinstance(tensor, Tensor) else ""
        if not compiling and (
            tensor.layout != torch.strided
            or tensor.is_nested
            or tensor._is_zerotensor()
            or torch._is_functional_tensor(tensor)
        ):
            return ""
        if tensor.dtype != dtype:
            if dtype is not None:
                return ""
            dtype = tensor.dtype
        if not tensor.is_cpu:
            return _why_not_there(tensors, devices, compiling)
    return None if dtype is None or dtype in DTYPES else f"with {dtype}"


def _why_not_there(tensors: Sequence[Any], devices: bool, compiling: bool) -> str | None:
    """Return the same where not all tensors are on the host."""
    kinds: set[Any] = {(getattr(a, "device", None), getattr(a, "dtype", None)) for a in tensors}
    if len(kinds) > 1:
        return ""
    device, dtype = kinds.pop()
    where = f"on {device.type}"
    if not cuda_kernels or where != "on cuda":
        return where
    if not devices:
        return f"{where} with packed sequences, a projection or a cell"
    if compiling:
        return f"{where} under torch.compile"
    return None if dtype in CUDA_DTYPES else f"{where} with {dtype}"


def weights_of(module: Module, names: Sequence[str]) -> tuple[Any, ...]:
    """Return the weights as the module has them now."""
    parameters = module._parameters
    try:
        return tuple([parameters[name] for name in names])
    except KeyError:  # some are computed, by a parametrization or a hook
        return tuple([getattr(module, name, None) for name in names])


def flat_weights_of(module: Any) -> tuple[Any, ...]:
    """Return those of a layer, or what someone put into `_flat_weights` in their place."""
    own = module.__dict__  # as in `modules.settings_of`
    names, flat, parameters = own["_flat_weights_names"], own["_flat_weights"], own["_parameters"]
    named = tuple(map(parameters.get, names))
    if len(named) == len(flat) and all(map(operator.is_, named, flat)):
        return named
    if not torch.compiler.is_compiling() and not all(map(parameters.__contains__, names)):
        module._update_flat_weights()  # as torch.nn: it computes a parametrized weight twice
        return tuple(module._flat_weights)
    named = weights_of(module, names)
    return named if module._weights_have_changed() else tuple(flat)


def run_theirs(run: Any, reason: str, *arguments: Any) -> Any:
    """Let `torch.nn` run in our place, and say so once for each reason in a process."""
    say(reason)
    by_onednn = reason not in (FUNC, FORWARD) or not forward_mode()
    with contextlib.nullcontext() if by_onednn else without_onednn():
        return run(*arguments)


@torch._dynamo.assume_constant_result  # while Dynamo traces: a warning cannot be traced
def say(reason: str) -> None:
    """Warn, once for each reason in a process."""
    if reason and reason not in said:
        said.add(reason)
        message = f"fusedrnn.torch: torch.nn's own kernels run the recurrent layers {reason}"
        warnings.warn(message, stacklevel=7)


def forward_mode() -> bool:
    """Whether derivatives are taken forward, which oneDNN's LSTM cannot."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    jvp = torch._C._functorch.TransformType.Jvp
    return forward_ad._current_level >= 0 or any(level.key() == jvp for level in levels)


class _OneDNN:
    """PyTorch's switch, one for all threads: off while one of them wants it off."""

    lock = threading.Lock()
    wanted_off = 0
    before = True


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Let `torch.nn` run its own operators."""
    with _OneDNN.lock:
        if not _OneDNN.wanted_off:
            _OneDNN.before = torch._C._get_mkldnn_enabled()
            torch._C._set_mkldnn_enabled(False)
        _OneDNN.wanted_off += 1
    try:
        yield
    finally:
        with _OneDNN.lock:
            _OneDNN.wanted_off -= 1
            if not _OneDNN.wanted_off:
                torch._C._set_mkldnn_enabled(_OneDNN.before)
