# SPDX-License-Identifier: MIT
"""The first link of the trust chain: the NumPy reference, proven without another implementation.

Its gradients equal complex-step derivatives of its forward, f'(x) = Im f(x + ih) / h, exact but for
rounding. That its forward is the right one is in test_reference_cells.py.
"""

import numpy as np
import pytest
from fusedrnn import reference
from fusedrnn.reference_cells import GATES, STEPS
from fusedrnn.weights import CELLS, Weights
from reference_cases import (
    COMPLEX_STEP,
    FLOAT32_ERROR,
    FORMS,
    GRADIENT_ERROR,
    NORM_FLOAT32_ERROR,
    SAME_SUMS,
    I,
    N,
    T,
    complex_step,
    error,
    make,
    split,
)

each_cell = pytest.mark.parametrize(("cell", "P"), FORMS)
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def results(cell, arrays, dy, dstate, **options):
    """y and state_n; then every gradient by name."""
    y, state_n, tape = reference.forward(cell, *split(cell, arrays), **options)
    dx, dstate_0, grads = reference.backward(tape, dy, dstate)
    by_state = {f"{s}_0": d for s, d in zip(CELLS[cell].state_letters, dstate_0, strict=True)}
    by_name = {"x": dx, **by_state, **grads._asdict()}
    for name in (*CELLS[cell].lacks, *({"weight_hr"} - arrays.keys())):
        assert by_name.pop(name) is None
    return (y, *state_n), by_name


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@each_direction
@each_cell
def test_gradients_equal_complex_step_derivatives(cell, P, reverse, bias):
    arrays, dy, dstate = make(cell, P=P, bias=bias)

    def loss(arrays):
        y, state_n = reference.infer(cell, *split(cell, arrays), reverse=reverse)
        return (dy * y).sum() + sum((d * s).sum() for d, s in zip(dstate, state_n, strict=True))

    _, grads = results(cell, arrays, dy, dstate, reverse=reverse)
    for name in arrays:
        assert error(grads[name], complex_step(loss, arrays, name)) <= GRADIENT_ERROR, name
    assert bias or grads["bias_ih"] is grads["bias_hh"] is None


@each_cell
def test_backward_is_analytic_too(cell, P):
    """Second derivatives, by a complex step through backward, are symmetric in x and weight_hh."""
    arrays, dy, dstate = make(cell, P=P, dtype=complex)
    rng = np.random.default_rng(0)
    along = {name: rng.standard_normal(arrays[name].shape) for name in ("x", "weight_hh")}

    def second(by, of):
        shifted = arrays | {by: arrays[by] + 1j * COMPLEX_STEP * along[by]}
        return results(cell, shifted, dy, dstate)[1][of].imag / COMPLEX_STEP * along[of]

    one, other = second("x", "weight_hh"), second("weight_hh", "x")
    assert abs(one.sum() - other.sum()) <= GRADIENT_ERROR * np.abs(one).sum()  # sums may cancel


@each_direction
@each_cell
def test_tokens_are_one_hot_rows(cell, P, reverse):
    arrays, dy, dstate = make(cell, P=P)
    tokens = np.random.default_rng(1).integers(0, I, (T, N))
    outputs, grads = results(cell, arrays | {"x": tokens}, dy, dstate, reverse=reverse)
    dense = (tokens[..., None] == np.arange(I)).astype(float)
    wanted_outputs, wanted = results(cell, arrays | {"x": dense}, dy, dstate, reverse=reverse)
    np.testing.assert_equal(outputs, wanted_outputs)
    assert grads.pop("x") is None
    for name, grad in grads.items():
        np.testing.assert_array_equal(grad, wanted[name])


@pytest.mark.parametrize("cut", range(1, T))
@each_cell
def test_whole_equals_pieces(cell, P, cut):
    """State carried on, and its gradient back; the weights' gradients add up."""
    arrays, dy, dstate = make(cell, P=P)
    (y, *state_n), wanted = results(cell, arrays, dy, dstate)
    x, state, weights = split(cell, arrays)
    y_pieces, dx, grads = np.empty_like(y), np.zeros_like(x), weights.zeros_like()
    first, last = slice(cut), slice(cut, T)
    _, state, tape_1 = reference.forward(cell, x[first], state, weights, out=y_pieces[first])
    _, state, tape_2 = reference.forward(cell, x[last], state, weights, out=y_pieces[last])
    _, dstate, _ = reference.backward(tape_2, dy[last], dstate, dx=dx[last], grads=grads)
    _, dstate, _ = reference.backward(tape_1, dy[first], dstate, dx=dx[first], grads=grads)
    assert error(y_pieces, y) <= SAME_SUMS
    for got, whole in zip(state, state_n, strict=True):
        assert error(got, whole) <= SAME_SUMS
    names = ("x", *Weights._fields, "h_0", "c_0")
    by_name = zip(names, (dx, *grads, *dstate), strict=False)
    for name, got in ((name, got) for name, got in by_name if name in wanted):
        assert error(got, wanted[name]) <= SAME_SUMS, name


@each_cell
def test_reverse_is_flip_forward_flip(cell, P):
    arrays, dy, dstate = make(cell, P=P)
    (y, *state_n), grads = results(cell, arrays, dy, dstate, reverse=True)
    flipped = arrays | {"x": arrays["x"][::-1]}
    (y_flip, *state_flip), wanted = results(cell, flipped, dy[::-1], dstate)
    assert error(y, y_flip[::-1]) <= SAME_SUMS
    for got, flip in zip(state_n, state_flip, strict=True):
        assert error(got, flip) <= SAME_SUMS
    wanted["x"] = wanted["x"][::-1]
    for name, grad in grads.items():
        assert error(grad, wanted[name]) <= SAME_SUMS, name


@each_cell
def test_arguments_and_results_keep_their_type_and_place(cell, P):
    arrays, dy, dstate = make(cell, P=P, dtype=np.float32)
    x, state, weights = split(cell, arrays)
    before = {k: a.copy() for k, a in arrays.items()}
    wide = np.full((T, N, 2 * P), np.nan, np.float32)
    outputs, grads = results(cell, arrays, dy, dstate, out=wide[:, :, :P])
    assert outputs[0].base is wide
    assert np.isnan(wide[:, :, P:]).all()
    np.testing.assert_equal(arrays, before)
    assert {a.dtype for a in (*outputs, *grads.values())} == {np.dtype(np.float32)}
    exact, exact_grads = results(cell, *make(cell, P=P))
    rounding = NORM_FLOAT32_ERROR if CELLS[cell].layer_norm else FLOAT32_ERROR
    assert error(outputs[0], exact[0]) <= rounding
    for name, grad in grads.items():
        assert error(grad, exact_grads[name]) <= rounding, name

    _, state_n, tape = reference.forward(cell, x, state, weights)
    for array in (*state, *state_n):
        array[:] = np.nan  # the caller's to change: the tape has its own
    into = Weights(*(None if w is None else np.ones_like(w) for w in weights))
    dx = np.ones_like(x)
    got_dx, _, got = reference.backward(tape, dy, dstate, dx=dx, grads=into)
    assert got_dx is dx
    for name, total, given in zip(Weights._fields, got, into, strict=True):
        assert total is given
        if total is not None:
            np.testing.assert_array_equal(total, 1 + grads[name])


@each_cell
def test_none_is_zeros(cell, P):
    arrays, dy, _ = make(cell, P=P)
    x, state, weights = split(cell, arrays)
    zeros = tuple(np.zeros_like(s) for s in state)
    for a, b in [(None, zeros), (zeros, None)]:
        y, state_n, tape = reference.forward(cell, x, a, weights)
        np.testing.assert_equal(reference.infer(cell, x, b, weights), (y, state_n))
        np.testing.assert_equal(reference.backward(tape, dy, a), reference.backward(tape, dy, b))

    for name in ("bias_ih", "bias_hh"):
        none = weights._replace(**{name: None})
        zero = weights._replace(**{name: np.zeros_like(weights.bias_ih)})
        y, state_n, tape = reference.forward(cell, x, state, zero)
        np.testing.assert_equal(reference.infer(cell, x, state, none), (y, state_n))
        wanted = reference.backward(tape, dy)[2]._replace(**{name: None})
        *_, tape = reference.forward(cell, x, state, none)
        np.testing.assert_equal(reference.backward(tape, dy)[2]._asdict(), wanted._asdict())


def test_names_and_tokens_are_checked():
    assert STEPS.keys() == GATES.keys() == CELLS.keys()
    x, state, weights = split("gru", make("gru")[0])
    with pytest.raises(ValueError, match=r"cell: expected one of rnn_tanh, .*, got 'GRU'"):
        reference.infer("GRU", x, state, weights)
    for token in (-1, I):
        with pytest.raises(ValueError, match=r"x: expected indices in \[0, 4\)"):
            reference.infer("gru", np.full((T, N), token), state, weights)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_cross_entropy(reduction):
    logits = np.random.default_rng(6).normal(0, 3, (2, 3, 4))
    targets = np.array([[0, 3, -1], [1, 1, 2]])

    def run(logits, targets=targets):
        return reference.softmax_cross_entropy(
            logits, targets, ignore_index=-1, reduction=reduction
        )

    loss, dlogits = run(logits)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    terms = [-np.log(p[i, j, k]) for (i, j), k in np.ndenumerate(targets) if k >= 0]
    assert error(loss, getattr(np, reduction)(terms)) <= SAME_SUMS
    wanted = complex_step(lambda a: run(a["logits"])[0], {"logits": logits}, "logits")
    assert error(dlogits, wanted) <= GRADIENT_ERROR
    assert not dlogits[0, 2].any()
    assert run(logits.astype(np.float32))[1].dtype == np.float32

    far = np.array([[1e4, 0.0, -1e4, -np.inf]])
    assert run(far, np.array([1]))[0] == 1e4
    np.testing.assert_array_equal(run(far, np.array([0]))[1], np.zeros((1, 4)))
    nothing, zeros = run(logits, np.full((2, 3), -1))
    np.testing.assert_equal(nothing, np.nan if reduction == "mean" else 0.0)
    assert not zeros.any()
    with pytest.raises(ValueError, match=r"targets: expected indices in \[0, 4\), got 0 to 4"):
        run(logits, targets + 1)
