# SPDX-License-Identifier: MIT
"""The device kernels in the emulator, under the sanitizers: few cells, of each kind."""

import os
import subprocess

import pytest
from host_build import ASAN, FEW, TSAN
from replay_cases import ONE_BLOCK, SHAPES, SMALL, TWO_BLOCKS, TYPES, Case, Device, every_way
from replay_runs import assert_right, run

pytestmark = pytest.mark.slow
OPTIONS = {  # fibers that end in the middle of a function look like leaks
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


@pytest.fixture(scope="session")
def sanitized(build_replay, tmp_path_factory):
    """sanitized(flags, problems): their results; RuntimeError with the report if there is one."""

    def replay(flags, problems):
        executable, folder = build_replay(*flags, few=True), tmp_path_factory.mktemp("replay")
        environment = os.environ | OPTIONS
        skip_if_it_cannot_run(executable, environment)
        return list(run(executable, problems, folder, env=environment))

    return replay


def skip_if_it_cannot_run(executable, environment):
    done = subprocess.run([executable], capture_output=True, text=True, env=environment)
    if done.returncode:
        pytest.skip(done.stderr[:200])


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("cell", FEW)
def test_addresses_and_undefined_behaviour(cell, type, sanitized, assert_close):
    problems = [(case, Device(seed=1)) for case in every_way(cell, type)]
    for device in (Device(seed=2), SMALL):
        problems += [(Case(cell, type, **shape), device) for shape in SHAPES]
    for (case, _), result in zip(problems, sanitized(ASAN, problems), strict=True):
        assert_right(case, result, assert_close)


# A fiber of the thread sanitizer takes a megabyte: few blocks at a time.
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("cell", FEW)
def test_races(cell, type, sanitized, assert_close):
    two_tiles = Case(cell, type, T=3, N=19, I=3, H=12, lengths=(3, 1, 2))
    both = Case(cell, type, T=2, N=3, I=2, H=5, D=2)
    problems = [(two_tiles, TWO_BLOCKS), (two_tiles, ONE_BLOCK), (both, Device(seed=1))]
    results = sanitized(TSAN, problems)
    assert [result.plans.training.persistent for result in results] == [True, False, True]
    for (case, _), result in zip(problems, results, strict=True):
        assert_right(case, result, assert_close)


@pytest.mark.parametrize("type", TYPES)
def test_races_between_chunks(type, sanitized, assert_close):
    case = Case("lstm_peephole", type, **SHAPES[-1])
    for result in sanitized(TSAN, [(case, ONE_BLOCK)]):
        assert_right(case, result, assert_close)
