# SPDX-License-Identifier: MIT
"""What is measured, by whom, and when two answers are the same."""

import functools
import importlib.util

import fusedrnn
import numpy as np
from fusedrnn.bench_cmd import tasks

# T, N and H; I is H. Single sequences, batches, and the sizes of published models.
SHAPES = (
    (64, 1, 64), (256, 1, 128), (100, 1, 256), (100, 1, 512), (50, 1, 1024), (64, 16, 128),
    (64, 32, 256), (64, 64, 512), (32, 64, 1024), (256, 128, 64), (35, 20, 650),
)  # fmt: skip
# One step, and sizes that no vector or tile divides.
ODD_SHAPES = ((1, 1, 256), (50, 3, 100), (30, 7, 33))

CELLS = ("rnn_tanh", "lstm", "gru", "gru_reset_before")  # relu takes the time of tanh
TASKS = ("inference", "training")
CONTESTANTS = ("kernels", "torch", "reference")

# Difference of two float32 answers, relative to the largest value; measured: 2.8e-6 and 8.7e-6.
TOLERANCES = {"inference": 1e-5, "training": 3e-5}

# T*N*H*H, the multiplications of one gate: the NumPy reference is not timed beyond SLOW, and a run
# that times nothing leaves out what is beyond QUICK.
SLOW, QUICK = 5e8, 3e7


def contestants(cell, T, N, H):
    """Who can do this here, in a reasonable time."""
    torch = cell != "gru_reset_before" and importlib.util.find_spec("torch") is not None
    able = {"kernels": True, "torch": torch, "reference": T * N * H * H <= SLOW}
    return [name for name in CONTESTANTS if able[name]]


def run(contestant, task, cell, T, N, H):
    """What to call; the weights and the data are the same for all."""
    return _tasks(contestant == "torch", cell, T, N, H)[task][contestant]


@functools.lru_cache(maxsize=2)
def _tasks(with_torch, cell, T, N, H):
    torch = None
    if with_torch:
        import torch

        torch.set_num_threads(fusedrnn.get_num_threads())
    return dict(zip(TASKS, tasks(cell, T, N, H, torch), strict=True))


def arrays(result):
    """The answer of any contestant as NumPy arrays by name."""
    if not isinstance(result, dict):
        y, state = result
        states = state if isinstance(state, tuple) else (state,)
        result = dict(zip(("y", "h", "c"), (y, *states), strict=False))
    return {
        name: np.asarray(a.detach() if hasattr(a, "detach") else a) for name, a in result.items()
    }


@functools.lru_cache(maxsize=1)
def expected(task, cell, T, N, H):
    """The answer of the NumPy reference."""
    return arrays(run("reference", task, cell, T, N, H)())


def assert_same(task, answer, expected):
    """Two answers agree in every array, or AssertionError names the first that does not."""
    assert answer.keys() == expected.keys()
    for name, wanted in expected.items():
        assert answer[name].shape == wanted.shape, name
        difference = np.abs(answer[name] - wanted).max()
        bound = TOLERANCES[task] * np.abs(wanted).max()
        assert difference <= bound, f"{name}: differs by {difference}, allowed {bound}"
