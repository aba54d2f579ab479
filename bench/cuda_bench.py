# SPDX-License-Identifier: MIT
"""Times of calls on the device, ours and those of torch.nn's layers, which cuDNN runs.

One process, contestants in turns, each call until the device has done its work. Shapes are those
of FlashRNN's and of haste's tables.
"""

import importlib.util
import statistics
import sys
from typing import NamedTuple

import fusedrnn
import numpy as np
from cuda_model import HASTE_H, HASTE_I, HASTE_N, HASTE_T, HEADLINE
from cuda_parity import make
from cuda_plan import Problem
from cuda_times import DEVICES, TASKS, seconds
from turns import timed

DEVICE = "cuda"  # PyTorch's name of it
# What nvidia-smi calls those of cuda_times.py. Others of their families differ in all that counts.
MODELS = {"NVIDIA H100 80GB HBM3": "H100", "NVIDIA GeForce RTX 5070": "RTX 5070"}
CELLS = ("lstm", "gru", "rnn_tanh")
FLASHRNN_N, FLASHRNN_T = (2, 8, 16, 32, 64, 128, 256), (256, 512, 1024, 2048)
SHAPES = {
    "FlashRNN": tuple(
        dict.fromkeys(
            [(1024, N, 768, 768) for N in FLASHRNN_N] + [(T, 16, 768, 768) for T in FLASHRNN_T]
        )
    ),
    "haste": tuple((HASTE_T, N, HASTE_I, H) for N in HASTE_N for H in HASTE_H),
}


class Contestant(NamedTuple):
    library: str  # "ours" or "cuDNN"
    dtype: str
    tf32: bool = False

    def __str__(self):
        return f"{self.library} {'tf32' if self.tf32 else self.dtype}"


OURS = tuple(Contestant("ours", dtype) for dtype in ("bfloat16", "float32"))
THEIRS = (
    Contestant("cuDNN", "float16"),
    Contestant("cuDNN", "bfloat16"),
    Contestant("cuDNN", "float32"),
    Contestant("cuDNN", "float32", tf32=True),
)
# Whose times are divided.
RIVALS = ((OURS[0], THEIRS[1]), (OURS[1], THEIRS[2]))


def contestants():
    """Ours, and cuDNN's if PyTorch is here and sees the device."""
    if importlib.util.find_spec("torch") is None:
        return OURS
    import torch

    return (*OURS, *THEIRS) if torch.cuda.is_available() else OURS


def problems(cells):
    """(table, cell, shape, task): LSTM at all shapes, the others at the one that is published."""
    for table, shapes in SHAPES.items():
        for cell in filter(cells.__contains__, CELLS):
            for shape in shapes if cell == "lstm" else {HEADLINE[2:6]} & {*shapes}:
                for task in TASKS:
                    yield table, cell, shape, task


def measure(names, cell, shape, task, rounds, least):
    """Median seconds by contestant, or why it failed."""
    times, calls = {}, {}
    for who in names:
        try:
            calls[who] = call_of(who, cell, shape, task)
            calls[who]()
        except (RuntimeError, ValueError) as error:  # lack of memory, mostly
            calls.pop(who, None)
            times[who] = str(error).splitlines()[0]
    taken = {who: [] for who in calls}
    for i in range(rounds):
        for who in reversed(calls) if i % 2 else calls:
            set_tf32(who)
            taken[who].append(timed(calls[who], least))
    return times | {who: statistics.median(each) for who, each in taken.items()}


def call_of(who, cell, shape, task):
    set_tf32(who)
    return (our_call if who.library == "ours" else their_call)(who.dtype, cell, shape, task)


def our_call(dtype, cell, shape, task):
    T, N, I, H = shape
    layer, stream = make(cell, dtype, (I, H)), fusedrnn.cuda.Stream()
    x, dy = (
        fusedrnn.cuda.Array(np.random.default_rng(0).standard_normal(sizes, np.float32), dtype)
        for sizes in ((T, N, I), (T, N, H))
    )

    def infer():
        layer(x, stream=stream)
        stream.synchronize()

    def train():
        tape = layer.forward(x, stream=stream)[2]
        layer.backward(tape, dy, stream=stream)
        stream.synchronize()

    return train if task == "training" else infer


def their_call(dtype, cell, shape, task):
    import torch

    T, N, I, H = shape
    kind, _, nonlinearity = cell.partition("_")
    options = {"nonlinearity": nonlinearity} if nonlinearity else {}
    where = {"device": DEVICE, "dtype": getattr(torch, dtype)}
    module = getattr(torch.nn, kind.upper())(I, H, **options, **where)
    x, dy = torch.randn(T, N, I, **where), torch.randn(T, N, H, **where)
    leaf = x.clone().requires_grad_()

    def infer():
        with torch.inference_mode():
            module(x)
        torch.cuda.synchronize()

    def train():
        module.zero_grad()
        leaf.grad = None
        module(leaf)[0].backward(dy)
        torch.cuda.synchronize()

    return train if task == "training" else infer


def set_tf32(who):
    if who.library == "cuDNN":
        sys.modules["torch"].backends.cudnn.allow_tf32 = who.tf32


def predicted(device_name, who, cell, shape, task):
    """Seconds that the model says, NaN for a device it does not know."""
    if (known := MODELS.get(device_name)) is None:
        return np.nan
    return seconds(DEVICES[known][1], Problem(cell, who.dtype, *shape), task)
