# SPDX-License-Identifier: MIT
"""One benchmark per contestant, in one group per cell, shape and task; the answer is asserted."""

import pytest
from contestants import (
    CELLS,
    ODD_SHAPES,
    QUICK,
    SHAPES,
    arrays,
    assert_same,
    contestants,
    expected,
    run,
)
from machine import line, machine


def pytest_report_header():
    return line()


def pytest_benchmark_update_machine_info(machine_info):
    machine_info |= machine()


def pytest_generate_tests(metafunc):
    if "contestant" not in metafunc.fixturenames:
        return
    quick = metafunc.config.getoption("benchmark_disable")
    cases = [
        pytest.param((cell, T, N, H), name, id=f"{cell}-{T}-{N}-{H}-{name}")
        for cell in CELLS
        for T, N, H in SHAPES + ODD_SHAPES
        if not quick or T * N * H * H <= QUICK
        for name in contestants(cell, T, N, H)
    ]
    metafunc.parametrize(("problem", "contestant"), cases)


@pytest.fixture
def measure(benchmark, problem, contestant):
    """measure(task): time one contestant and compare its answer with the NumPy reference."""

    def measure(task):
        cell, T, N, H = problem
        benchmark.group = f"{task} {cell} T={T} N={N} H=I={H}"
        result = benchmark(run(contestant, task, *problem))
        assert_same(task, arrays(result), expected(task, *problem))

    return measure
