# SPDX-License-Identifier: MIT
"""The device kernels in the emulator: right, and of equal bits in every order and plan."""

import dataclasses

import pytest
from replay_cases import DEVICE_CELLS, SHAPES, SMALL, TYPES, Case, Device, every_way
from replay_runs import assert_equal, assert_right, run


@pytest.fixture(scope="session")
def replay(build_replay, tmp_path_factory):
    """replay(problems): their results, from the kernels as they are, without sanitizers."""
    executable = build_replay()
    return lambda problems: list(run(executable, problems, tmp_path_factory.mktemp("replay")))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("cell", DEVICE_CELLS)
def test_every_way_of_running(cell, type, replay, assert_close):
    cases = every_way(cell, type)
    for case, result in zip(cases, replay([(case, Device()) for case in cases]), strict=True):
        assert_right(case, result, assert_close)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("cell", DEVICE_CELLS)
def test_shapes(cell, type, replay, assert_close):
    cases = [Case(cell, type, **shape) for shape in SHAPES]
    for case, result in zip(cases, replay([(case, Device(1)) for case in cases]), strict=True):
        assert_right(case, result, assert_close)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("cell", DEVICE_CELLS)
def test_same_bits_in_every_order_and_plan(cell, type, replay, assert_close):
    case = Case(cell, type, T=3, N=35, I=3, H=20, D=2, lengths=(3, 0, 1, 2))
    few = Device(multiprocessors=2)
    devices = [Device(), Device(), few, few._replace(seed=1), few._replace(seed=2)]
    devices += [Device(seed=3), SMALL, SMALL._replace(seed=4)]
    results = replay([(case, device) for device in devices])
    for name in ("training", "backward"):
        plans = [getattr(result.plans, name) for result in results]
        assert [plan.persistent for plan in plans] == [True] * 6 + [False] * 2
        assert plans[0].row_blocks == 3 > plans[2].row_blocks
    assert_right(case, results[0], assert_close)
    for device, result in zip(devices, results, strict=True):
        assert_equal(result, results[0], device)


# Forward, 3 chunks of columns need more units than SHAPES have.
@pytest.mark.parametrize(("type", "H"), [("float32", 264), ("bfloat16", 520)])
@pytest.mark.parametrize("cell", ["rnn_relu", "gru_reset_before"])
def test_many_blocks(cell, type, H, replay, assert_close):
    case = Case(cell, type, T=2, N=2, I=2, H=H)
    persistent, by_steps = replay([(case, Device(1)), (case, SMALL)])
    assert persistent.plans.training.persistent
    assert not by_steps.plans.training.persistent
    assert_right(case, persistent, assert_close)
    assert_equal(by_steps, persistent, case)


def test_steps_ask_for_their_shared_memory(replay, assert_close):
    """More than 48 KB; the plan asked for nothing, for no block has room for its weights."""
    case = Case("gru", "float32", T=1, N=1, I=1, H=272)
    (result,) = replay([(case, SMALL._replace(shared_optin=54 * 1024))])
    assert result.plans.training[:4] == (0, 34, 1, 54528)
    assert_right(case, result, assert_close)


def test_only_what_is_wanted(replay):
    case = Case("lstm_peephole", "float32", T=2, N=3, I=2, H=5, D=2)
    ways = [case] + [
        dataclasses.replace(case, dx=dx, dweights=dweights)
        for dx, dweights in ((False, True), (True, False), (False, False))
    ]
    everything, *others = replay([(way, Device()) for way in ways])
    for way, other in zip(ways[1:], others, strict=True):
        assert ("dx" in other.training, "dweight_hh" in other.training) == (way.dx, way.dweights)
        assert_equal(other, everything, way)


def test_unknown_cell(replay):
    with pytest.raises(RuntimeError, match="cell: expected one that the device has, got lstm_norm"):
        replay([(Case("lstm_norm", "float32", 1, 1, 1, 1), Device())])
