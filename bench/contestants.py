# SPDX-License-Identifier: MIT
"""What is measured, by whom, and when two answers are the same.

A problem is (cell, T, N, I, H). A contestant is what `make` of its module returns: what to call,
and how to read the answer of that call as arrays by name. Its library is imported when it is made.
"""

import functools
import importlib
import importlib.util

import numpy as np
from fusedrnn.layers import KINDS
from fusedrnn.weights import CELLS

# T, N, I, H. Single sequences, batches, and the sizes of published models.
GRID = tuple(
    (T, N, H, H)
    for T, N, H in (
        (64, 1, 64), (256, 1, 128), (100, 1, 256), (100, 1, 512), (50, 1, 1024), (64, 16, 128),
        (64, 32, 256), (64, 64, 512), (32, 64, 1024), (256, 128, 64), (35, 20, 650),
    )
)  # fmt: skip
# One step, sizes that no vector or tile divides, few rows, narrow and wide inputs, many steps.
ODD = (
    (1, 1, 256, 256), (50, 3, 100, 100), (30, 7, 33, 33),
    (64, 2, 256, 256), (64, 3, 256, 256), (64, 4, 256, 256), (64, 5, 256, 256),
    (200, 8, 10, 256), (64, 16, 1024, 64), (2048, 1, 64, 64), (4096, 2, 128, 128),
)  # fmt: skip

PEER_CELLS = ("rnn_tanh", "lstm", "gru", "gru_reset_before")  # relu takes the time of tanh
TASKS = ("inference", "training")

# The module that makes each contestant. A peer's name is the package it needs. The kernels pack the
# weights in every call, as a layer must whose weights may change; the frozen layer has packed them
# before, as ONNX Runtime and OpenVINO have.
CONTESTANTS = {
    "kernels": "ours",
    "frozen": "ours",
    "torch": "peer_torch",
    "onnxruntime": "peer_onnx",
    "openvino": "peer_onnx",
    "jax": "peer_jax",
    "reference": "ours",
}
OURS = ("kernels", "frozen")
PEERS = ("torch", "onnxruntime", "openvino", "jax")

# Difference of two float32 answers, relative to the largest value. The most that was seen between
# ours and a peer's: 4.8e-6 and 8.0e-6, both PyTorch.
TOLERANCES = {"inference": 1e-5, "training": 3e-5}
NORM_TOLERANCE = 5e-4  # an LSTM that normalises c amplifies rounding; seen: 1.5e-4

# By `work`: the NumPy reference is not timed beyond SLOW, and a run that times nothing leaves out
# what is beyond QUICK; JAX, which compiles every problem, and cells that no peer has, earlier.
SLOW = 5e8
QUICK, QUICKER = 3e7, 3e5


def installed(name):
    needs = {"peer_onnx": ("onnx", name), "ours": ()}.get(CONTESTANTS[name], (name,))
    return all(importlib.util.find_spec(package) is not None for package in needs)


def contestants(names, task, cell, T, N, I, H):
    """Those of the names that can do this, in a reasonable time."""
    able = dict.fromkeys(PEERS, cell in PEER_CELLS) | {
        "torch": cell in PEER_CELLS and cell != "gru_reset_before",
        "frozen": task == "inference",
        "onnxruntime": cell in PEER_CELLS and task == "inference",
        "openvino": cell in PEER_CELLS and task == "inference",
        "reference": work(cell, T, N, I, H) <= SLOW,
    }
    return [name for name in names if able.get(name, True)]


def is_quick(name, cell, T, N, I, H):
    """Whether a run that times nothing has this."""
    most = QUICKER if name == "jax" or cell not in PEER_CELLS else QUICK
    return work(cell, T, N, I, H) <= most


def work(cell, T, N, I, H):
    """Multiplications of one gate, or those of its input part if they are more."""
    return T * N * H * max(I, H)


@functools.lru_cache(maxsize=2)
def make(name, task, cell, T, N, I, H):
    """(call, arrays): arrays(call()) is the answer by name, the same names for all contestants."""
    module = importlib.import_module(CONTESTANTS[name])
    return module.make(name, task, cell, *data(cell, T, N, I, H))


@functools.lru_cache(maxsize=1)
def data(cell, T, N, I, H):
    """The weights by name, x and dy: the same for all."""
    x = np.random.default_rng(0).standard_normal((T, N, I), np.float32)
    dy = np.random.default_rng(1).standard_normal((T, N, H), np.float32)
    return layer(cell, I, H).state_dict(), x, dy


def layer(cell, I, H):
    """Our layer with the problem's weights."""
    kind, options = KINDS[cell]
    return kind(I, H, seed=0, **options)


@functools.lru_cache(maxsize=1)
def expected(*problem):
    """The answer of the NumPy reference."""
    call, arrays = make("reference", *problem)
    return arrays(call())


def assert_same(task, cell, answer, expected):
    """Two answers agree in every array, or AssertionError names the first that does not."""
    assert answer.keys() == expected.keys()
    for name, wanted in expected.items():
        assert answer[name].shape == wanted.shape, name
        difference = np.abs(answer[name] - wanted).max()
        tolerance = NORM_TOLERANCE if CELLS[cell].layer_norm else TOLERANCES[task]
        bound = tolerance * np.abs(wanted).max()
        assert difference <= bound, f"{name}: differs by {difference}, allowed {bound}"
