# SPDX-License-Identifier: MIT
"""One benchmark per contestant, in one group per cell, shape and task; the answer is asserted.

All contestants share this process; table.py, which gives each its own, compares more fairly.
"""

import importlib

import pytest
from contestants import (
    GRID,
    ODD,
    OURS,
    PEERS,
    assert_same,
    contestants,
    expected,
    installed,
    is_quick,
    make,
)
from fusedrnn.layers import KINDS
from machine import line, machine

for peer in filter(installed, PEERS):  # all before JAX starts its threads: OpenVINO's import forks
    importlib.import_module(peer)


def pytest_report_header():
    return line()


def pytest_benchmark_update_machine_info(machine_info):
    machine_info |= machine()


def pytest_generate_tests(metafunc):
    if "contestant" not in metafunc.fixturenames:
        return
    quick = metafunc.config.getoption("benchmark_disable")
    names = [*OURS, *filter(installed, PEERS), "reference"]
    task = metafunc.module.TASK
    cases = [
        pytest.param((task, cell, *shape), name, id="-".join(map(str, (cell, *shape, name))))
        for cell in KINDS
        for shape in GRID + ODD
        for name in contestants(names, task, cell, *shape)
        if not quick or is_quick(name, cell, *shape)
    ]
    metafunc.parametrize(("problem", "contestant"), cases)


@pytest.fixture
def measure(benchmark, problem, contestant):
    """measure(): time one contestant and compare its answer with the NumPy reference."""

    def measure():
        task, cell, T, N, I, H = problem
        benchmark.group = f"{task} {cell} T={T} N={N} I={I} H={H}"
        call, arrays = make(contestant, *problem)
        assert_same(task, cell, arrays(benchmark(call)), expected(*problem))

    return measure
