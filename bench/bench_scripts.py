# SPDX-License-Identifier: MIT
"""The scripts that print tables of their own run, on tiny problems; nothing is said of time."""

import argparse
import math
import os
import shutil
import unittest.mock

import budget
import growth
import memory
import pytest
import ragged
import threads
import torch_loop
from contestants import TASKS, installed
from machine import width
from turns import LIMITS, Turns

SHAPE = (5, 2, 3, 16)
NAMES = {"kernels", *filter(installed, ("torch",))}

needs_compiler = pytest.mark.skipif(
    not os.environ.get("CXX") and shutil.which("c++") is None, reason="limits.cpp is compiled"
)


@pytest.fixture(autouse=True)
def _environment():
    """What set_environment does to os.environ, undone."""
    with unittest.mock.patch.dict(os.environ):
        yield


@needs_compiler
def test_growth(tmp_path):
    pytest.importorskip("matplotlib")
    axes, base = {"T": (2, 4), "N": (1, 2), "H": (8, 16)}, {"T": 4, "N": 2, "H": 8}
    times = {2: growth.measure("lstm", 2, axes, base, 1, 0)}
    shapes = {shape for axis, sizes in axes.items() for shape in growth.shapes(axis, sizes, base)}
    assert times[2].keys() == {(task, shape) for task in TASKS for shape in shapes}
    assert all(found.keys() == {*NAMES, "bound"} for found in times[2].values())
    rows = list(growth.exponents(times, axes, base))
    assert len(rows) == 2 + len(TASKS) * (len(NAMES) + 1)
    assert all(len(row) == 3 + len(axes) for row in rows)
    picture = tmp_path / "growth.svg"
    growth.draw(picture, "lstm", times, axes, base, "title")
    assert 0 < picture.stat().st_size < 150_000


@pytest.mark.parametrize("task", TASKS)
def test_ragged(task):
    found = ragged.measure(task, "gru", (8, 3, 4), 1, 0)
    assert found.keys() == {(name, how) for name in NAMES for how in ragged.HOWS}
    assert len(ragged.row(task, "gru", (8, 3, 4), found)) == len(ragged.HEAD)


def test_budget():
    shape = budget.shape("2000,2,16")
    found = budget.measure("gru", shape, 1, 0)
    assert found.keys() == {budget.WHOLE, *budget.SHARES}
    assert found[budget.WHOLE][2] == 2000 > found[0.1][2] > found[0.05][2] > 0
    assert len(budget.row("gru", shape, 0.1, found)) == len(budget.HEAD)


def test_slope():
    sizes = (1, 2, 4, 8)
    assert math.isclose(growth.slope(sizes, [3 * size**2 for size in sizes]), 2)
    assert math.isclose(growth.slope(sizes, [9, 9, 4, 8], 2), 1)


@pytest.mark.parametrize("cell", memory.VALUES)
def test_tape_is_as_documented(cell):
    T, N, H = 300, 4, 33
    tape = memory.fresh("kernels", memory.our_tape, cell, (T, N, 5, H))
    without_padding = memory.documented(cell, T, N, 5, H // width() * width())
    assert without_padding < tape <= memory.documented(cell, T, N, 5, H) + 4096


def test_memory():
    measured = memory.measure("lstm", SHAPE, calls=(2, 3))
    assert measured.keys() == NAMES
    for one in measured.values():
        assert one["peak"] >= 0
        assert one["tape"] > 0
        assert len(one["held"]) == 2
    assert len(memory.row("lstm", SHAPE, measured)) == len(memory.HEAD)
    assert "of 1: " in memory.summary({("lstm", SHAPE): measured}) or len(NAMES) == 1


@needs_compiler
def test_threads():
    args = argparse.Namespace(threads=2, asked=8, rounds=1, seconds=0.001)
    problem = ("training", "lstm", *SHAPE)
    with Turns(("kernels",)) as turns:
        figures = turns.call(LIMITS, threads.measure_figures, args.threads)
        assert all(ratio > 0 for ratio in threads.measure(turns, args, problem))
    assert "a barrier of" in threads.describe(figures)
    of_one_vector = (*problem[:-1], width())
    one, more = (threads.model(figures, P, *of_one_vector) for P in (1, 2))
    assert 0 < one == more


def test_torch_loop():
    pytest.importorskip("torch")
    theirs, ours, layers = torch_loop.measure("GRU", (3, 2, 5), rounds=1, seconds=0)
    assert min(theirs, ours, layers) > 0
