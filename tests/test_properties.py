# SPDX-License-Identifier: MIT
"""The numerical promise: the same bits wherever and however a row is computed.

In any batch, on any number of threads, in every repeat, for any cut of the sequence, and on every
instruction set that has fused multiply-add.
"""

import itertools

import numpy as np
import pytest
from fusedrnn import _core
from fusedrnn.weights import Weights
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS, Problem, make_problem, run_forward, run_kernel

# Small and odd, units split with a tail, rows split, several chunks of rows, and whole vectors of
# units and inputs, where backward reads the weights of few rows as they lie
SHAPES = [(3, 2, 5, 17), (2, 3, 1030, 40), (40, 1, 33, 150), (12, 64, 20, 45), (9, 50, 16, 130)]
SHAPES += [(1, 12, 48, 32), (2, 3, 16, 144)]
ROWS_SPLIT = {"N": (2, 90), "H": (20, 48), "threads": (2, 5)}
parametrize_cells = pytest.mark.parametrize("cell", FORMS)
parametrize_shapes = pytest.mark.parametrize(("T", "N", "I", "H"), SHAPES)
BATCH_SUMS = tuple(f"d{name}" for name in Weights._fields)


def assert_same_bits(a: dict, b: dict, names=None) -> None:
    for name in names or a:
        if a[name] is None:
            assert b[name] is None
            continue
        np.testing.assert_array_equal(a[name].view(np.uint8), b[name].view(np.uint8), err_msg=name)


def rows_of(p: Problem, rows: slice) -> Problem:
    def cut(states):
        return None if states is None else tuple(np.ascontiguousarray(s[rows]) for s in states)

    x, dy = np.ascontiguousarray(p.x[:, rows]), np.ascontiguousarray(p.dy[:, rows])
    return p.replace(x=x, state=cut(p.state), dy=dy, dstate=cut(p.dstate))


@parametrize_shapes
@parametrize_cells
def test_threads_and_repeats(cell, T, N, I, H, isa, threads):
    for tokens in (False, True):
        p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32", tokens=tokens)
        threads(1)
        one = run_kernel(p)
        for n in (1, 2, 3, 7):
            threads(n)
            assert_same_bits(run_kernel(p), one)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_threads_that_share_rows_unevenly(data):
    """Weights are small: threads split the rows, and no two of them need have as many."""
    cell, isa = data.draw(st.sampled_from(list(FORMS))), data.draw(st.sampled_from(_core.isas()))
    N, H, n = (data.draw(st.integers(*range_), name) for name, range_ in ROWS_SPLIT.items())
    tokens = data.draw(st.booleans(), "tokens")
    p = make_problem(cell, T=40, N=N, I=9, H=H, dtype="float32", tokens=tokens)
    before = _core.isa(), _core.num_threads()
    try:
        _core.set_isa(isa)
        _core.set_num_threads(1)
        one = run_kernel(p)
        _core.set_num_threads(n, beyond_processors=True)
        assert_same_bits(run_kernel(p), one)
    finally:
        _core.set_isa(before[0])
        _core.set_num_threads(before[1])


@parametrize_shapes
@parametrize_cells
def test_a_row_alone_and_in_the_batch(cell, T, N, I, H, isa):
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32")
    whole = run_kernel(p)
    for rows in (slice(0, 1), slice(N - 1, N), slice(N // 3, N // 3 + min(N, 7))):
        part = run_kernel(rows_of(p, rows))
        for name, value in part.items():
            if name in BATCH_SUMS:
                continue
            expected = whole[name][:, rows] if value.ndim == 3 else whole[name][rows]
            np.testing.assert_array_equal(value, expected, err_msg=name)


@parametrize_shapes
@parametrize_cells
@pytest.mark.parametrize("reverse", [False, True])
def test_whole_and_in_pieces(cell, T, N, I, H, reverse, isa):
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32", reverse=reverse)
    y, state_n = run_forward(p)
    pieces = list(itertools.pairwise(sorted({0, 1, T // 2, T})))
    state = p.state
    for first, last in reversed(pieces) if reverse else pieces:
        part, state = run_forward(p.replace(x=p.x[first:last], state=state))
        np.testing.assert_array_equal(part, y[first:last])
    for got, wanted in zip(state, state_n, strict=True):
        np.testing.assert_array_equal(got, wanted)


@parametrize_shapes
@parametrize_cells
def test_inference_and_training(cell, T, N, I, H, isa):
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32")
    kept, free = run_forward(p, _core.Tape()), run_forward(p)
    np.testing.assert_array_equal(kept[0], free[0])
    for a, b in zip(kept[1], free[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@parametrize_shapes
@parametrize_cells
def test_instruction_sets_with_fma(cell, T, N, I, H, dtype, set_isa):
    fused = [name for name in _core.isas() if name != "baseline"]
    if len(fused) < 2:
        pytest.skip("fewer than two instruction sets with fused multiply-add")
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype=dtype)
    results = []
    for name in fused:
        set_isa(name)
        results.append(run_kernel(p))
    assert_same_bits(results[0], results[1])


@parametrize_cells
def test_tokens_are_one_hot_rows(cell, isa):
    p = make_problem(cell, T=20, N=64, I=37, H=45, dtype="float32", tokens=True)
    one_hot = np.eye(37, dtype=np.float32)[p.x]
    for reverse in (False, True):
        tokens = run_kernel(p.replace(reverse=reverse))
        assert_same_bits(tokens, run_kernel(p.replace(x=one_hot, reverse=reverse)))


@parametrize_cells
def test_reverse_is_flip_forward_flip(cell, isa):
    p = make_problem(cell, T=20, N=64, I=7, H=45, dtype="float32")
    flipped = p.replace(x=p.x[::-1].copy(), dy=p.dy[::-1].copy(), reverse=True)
    a, b = run_kernel(p), run_kernel(flipped)
    for name in ("y", "dx"):
        b[name] = b[name][::-1]
    for name, value in a.items():
        if name not in BATCH_SUMS:  # those sum the batch's rows in the other order
            np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_a_tape_may_run_again_and_on_its_own_instruction_set(set_isa):
    p = make_problem("gru", T=5, N=3, I=4, H=19, dtype="float32")
    tape = _core.Tape()
    set_isa(_core.isas()[-1])
    y, _ = run_forward(p, tape)
    results = []
    for name in (_core.isas()[-1], _core.isas()[0]):
        set_isa(name)
        dx, grads = np.empty_like(p.x), Weights(*map(np.empty_like, p.weights[:4]))
        _core.backward(
            tape,
            p.x,
            y,
            tuple(p.weights),
            p.dy,
            None,
            dx,
            False,
            grads,
            False,
            (np.empty_like(y[0]),),
        )
        results.append({"dx": dx} | dict(zip(p.weights._fields, grads, strict=True)))
    assert_same_bits(results[0], results[1])
