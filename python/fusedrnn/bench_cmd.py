# SPDX-License-Identifier: MIT
"""`fusedrnn bench`: kernels, NumPy reference and PyTorch on a few shapes, as a table.

A first look at a machine. Contestants take turns, so that a machine that slows down slows all of
them, and each figure is a median.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from . import get_num_threads, isa, reference, set_num_threads
from .layers import KINDS
from .report import counted
from .weights import Array

__all__ = ["bench"]

SHAPES = ((100, 1, 256), (64, 32, 256), (64, 64, 512))
"""T, N and H; I is H."""

CONTESTANTS = ("kernels", "reference", "torch")

ROUNDS = 20
SECONDS = 1.0
"""For one cell, shape and task: rounds end when either is over, but not before the third."""

Task: TypeAlias = Callable[[], object]


def bench(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if args.threads is not None:
        set_num_threads(args.threads)
    torch = _torch()
    version = "not installed" if torch is None else torch.__version__
    print(f"float32, {counted(get_num_threads(), 'thread')}, {isa()}; torch {version}")
    print("milliseconds, medians; training is forward and backward with all gradients\n")
    print(f"{'':34}{'inference':^33}{'training':^33}")
    print(f"{'cell':18}{'T':>4}{'N':>5}{'H':>6} " + "".join(f"{c:>11}" for c in CONTESTANTS * 2))
    for cell in (args.cell,) if args.cell else KINDS:
        for T, N, H in SHAPES:
            cells = [
                f"{1e3 * seconds[name]:11.2f}" if name in seconds else f"{'-':>11}"
                for seconds in map(medians, tasks(cell, T, N, H, torch))
                for name in CONTESTANTS
            ]
            print(f"{cell:18}{T:4}{N:5}{H:6} " + "".join(cells), flush=True)
    return 0


def tasks(cell: str, T: int, N: int, H: int, torch: Any) -> tuple[dict[str, Task], dict[str, Task]]:
    """Return what to time: inference and training, each by contestant."""
    x, dy = np.random.default_rng(0).standard_normal((2, T, N, H), np.float32)
    kind, options = KINDS[cell]
    kernels, plain = (kind(H, H, seed=0, **options) for _ in range(2))
    plain.engine = reference
    inference: dict[str, Task] = {
        "kernels": lambda: kernels(x),
        "reference": lambda: plain(x),
    }
    training: dict[str, Task] = {
        "kernels": lambda: _train(kernels, x, dy),
        "reference": lambda: _train(plain, x, dy),
    }
    if torch is not None and cell in ("rnn_tanh", "rnn_relu", "lstm", "gru"):
        inference["torch"], training["torch"] = _torch_tasks(torch, cell, kernels, x, dy)
    return inference, training


def medians(contestants: Mapping[str, Task]) -> dict[str, float]:
    """Run the contestants in turns and return the median time of each, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for task in contestants.values():
        task()
    began = time.perf_counter()
    for i in range(ROUNDS):
        if i >= 3 and time.perf_counter() - began > SECONDS:
            break
        for name, task in contestants.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _train(layer: Any, x: Array, dy: Array) -> dict[str, Any]:
    y, _, tape = layer.forward(x)
    dx, _ = layer.backward(tape, dy, accumulate=False)
    return {"y": y, "dx": dx, **layer.grads}


def _torch() -> Any:
    """Return PyTorch on as many threads as ours, or None where it is not installed."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(get_num_threads())
    return torch


def _torch_tasks(torch: Any, cell: str, layer: Any, x: Array, dy: Array) -> tuple[Task, Task]:
    """Return inference and training of PyTorch's layer with the same weights."""
    kind, H = cell.partition("_")[0].upper(), x.shape[-1]
    options = {"nonlinearity": cell.removeprefix("rnn_")} if kind == "RNN" else {}
    module = getattr(torch.nn, kind)(H, H, **options)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in layer.state_dict().items()})
    data, gradient = torch.from_numpy(x), torch.from_numpy(dy)
    leaf = data.clone().requires_grad_()

    def infer() -> object:
        with torch.inference_mode():
            return module(data)

    def train() -> dict[str, Any]:
        module.zero_grad()
        leaf.grad = None
        y = module(leaf)[0]
        y.backward(gradient)
        return {"y": y, "dx": leaf.grad, **{n: p.grad for n, p in module.named_parameters()}}

    return infer, train
