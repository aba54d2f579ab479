# SPDX-License-Identifier: MIT
"""The steps of the reference's cells, against answers that were not computed by it."""

import numpy as np
import pytest
from fusedrnn import reference
from fusedrnn.reference_cells import sigmoid
from fusedrnn.reference_linear import linear_backward, linear_forward
from fusedrnn.weights import CELLS, Weights
from reference_cases import FORMS, GRADIENT_ERROR, SAME_SUMS, H, complex_step, error, make, split

# One step whose answer is a fraction: sigmoid(ln 3) = 3/4, sigmoid(ln 4) = 4/5, tanh(ln 2) = 3/5,
# tanh(ln 3) = 4/5. Two units with different answers, so that blocks of rows cannot be mistaken.
LN2, LN3, LN4 = np.log([2.0, 3.0, 4.0])
H_0 = np.array([0.5, -0.25])
C = np.array([LN2, LN3])
C_0 = 4 * (C - [0.45, 0.48])  # makes c = C
C_0_COUPLED = [4, 5] * (C - [0.45, 0.48])  # as well, with f = 1/4 1/5
HAND = {  # cell: pre-activation of each gate, state after
    "rnn_tanh": ([[LN2, -LN3]], [[3 / 5, -4 / 5]]),
    "rnn_relu": ([[LN2, -LN3]], [[LN2, 0.0]]),
    "lstm": (
        [[LN3, LN4], [-LN3, -LN3], [LN2, LN2], [LN4, LN3]],  # i f g o = 3/4 4/5, 1/4, 3/5, 4/5 3/4
        [[12 / 25, 3 / 5], [LN2, LN3]],
    ),
    "lstm_coupled": (
        [[-LN3, -LN4], [LN2, LN2], [LN4, LN3]],  # f g o = 1/4 1/5, 3/5, 4/5 3/4
        [[12 / 25, 3 / 5], [LN2, LN3]],
    ),
    "gru": ([[LN3, LN4], [-LN3, -LN4], [LN2, -LN3]], [[23 / 40, -69 / 100]]),  # r z n
    "gru_reset_before": ([[LN3, LN4], [-LN3, -LN4], [LN2, -LN3]], [[23 / 40, -69 / 100]]),
}
HAND |= {f"lstm_peephole{form}": HAND[f"lstm{form}"] for form in ("", "_coupled")}


@pytest.mark.parametrize("cell", HAND)
def test_one_step_by_hand(cell):
    target, wanted = HAND[cell]
    rng, rows = np.random.default_rng(3), (len(target), 2)
    weight_hh = rng.standard_normal((*rows, 2))
    bias_ih, bias_hh = rng.standard_normal(rows), rng.standard_normal(rows)
    a_hh = weight_hh @ H_0 + bias_hh
    r = np.array([3 / 4, 4 / 5])
    if cell == "gru":
        a_hh[2] *= r
    if cell == "gru_reset_before":
        a_hh[2] = weight_hh[2] @ (r * H_0) + bias_hh[2]
    c_0, weight_ch = C_0_COUPLED if "coupled" in cell else C_0, None
    if "peephole" in cell:
        weight_ch = rng.standard_normal((rows[0] - 1, 2))
        a_hh[: rows[0] - 2] += weight_ch[:-1] * c_0
        a_hh[-1] += weight_ch[-1] * C
        weight_ch = weight_ch.ravel()
    weight_ih = target - a_hh - bias_ih  # for x = 1, and so the gates are what they should be

    flat = [weight_ih.reshape(-1, 1), weight_hh.reshape(-1, 2), bias_ih.ravel(), bias_hh.ravel()]
    state = (H_0[None], c_0[None])[: CELLS[cell].states]
    y, state_n = reference.infer(cell, np.ones((1, 1, 1)), state, Weights(*flat, weight_ch))
    assert error(y[0], wanted[:1]) <= SAME_SUMS
    assert error(np.concatenate(state_n), wanted) <= SAME_SUMS


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_gru_of_the_other_convention(cell):
    """h = (1-z) h' + z n, as many texts have it, is ours with the rows of z negated."""
    x, state, theirs = split(cell, make(cell)[0])
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (u_r, u_z, u_n) = (
        w.reshape(3, H, -1) for w in theirs[:4]
    )
    h, wanted = state[0].T, []  # columns, as in a text
    for x_t in x.transpose(0, 2, 1):
        r = 1 / (1 + np.exp(-(W_r @ x_t + b_r + U_r @ h + u_r)))
        z = 1 / (1 + np.exp(-(W_z @ x_t + b_z + U_z @ h + u_z)))
        hidden = r * (U_n @ h + u_n) if cell == "gru" else U_n @ (r * h) + u_n
        h = (1 - z) * h + z * np.tanh(W_n @ x_t + b_n + hidden)
        wanted.append(h.T)
    for w in theirs[:4]:
        w[H : 2 * H] *= -1
    assert error(reference.infer(cell, x, state, theirs)[0], wanted) <= SAME_SUMS


@pytest.mark.parametrize("cell", [cell for cell in CELLS if CELLS[cell].projects])
def test_projection_is_a_factor_of_weight_hh(cell):
    """The LSTM whose weight_hh is weight_hh weight_hr has the same c, and weight_hr h for h."""
    x, (h, c), weights = split(cell, make(cell, P=2)[0])
    W_hh, W_hr = weights.weight_hh, weights.weight_hr
    u = h @ np.linalg.pinv(W_hr).T  # weight_hr u is h
    y, (h_n, c_n) = reference.infer(cell, x, (h, c), weights)
    whole = weights._replace(weight_hh=W_hh @ W_hr, weight_hr=None)
    wanted, (_, wanted_c) = reference.infer(cell, x, (u, c), whole)
    assert error(y, wanted @ W_hr.T) <= SAME_SUMS
    assert error(c_n, wanted_c) <= SAME_SUMS
    np.testing.assert_array_equal(h_n, y[-1])


@pytest.mark.parametrize(("cell", "P"), [form for form in FORMS if CELLS[form[0]].layer_norm])
def test_layer_norm_row_by_row_and_gate_by_gate(cell, P):
    """Ba, Kiros and Hinton 2016, with the mean and variance that NumPy says."""

    def norm(v, gain):
        return gain * (v - np.mean(v)) / np.sqrt(np.var(v) + 1e-5)

    x, state, w = split(cell, make(cell, P=P)[0])
    y, state_n = reference.infer(cell, x[:1], state, w)
    for n in range(len(y[0])):
        products = (
            np.reshape(w.weight_ih @ x[0, n], (-1, H)),
            np.reshape(w.weight_hh @ state[0][n], (-1, H)),
        )
        ih, hh = (
            np.array(
                [norm(v, gain) for v, gain in zip(product, np.reshape(gains, (-1, H)), strict=True)]
            )
            + bias.reshape(-1, H)
            for product, gains, bias in zip(products, w[6:8], w[2:4], strict=True)
        )
        if cell.startswith("lstm"):
            c_prev, letters = state[1][n], CELLS[cell].peephole_letters
            rows = np.reshape(w.weight_ch, (-1, H)) if letters else ()
            sees = dict(zip(letters, rows, strict=True))
            a = dict(zip(CELLS[cell].gate_letters, ih + hh, strict=True))
            f = sigmoid(a["f"] + sees.get("f", 0) * c_prev)
            i = sigmoid(a["i"] + sees.get("i", 0) * c_prev) if "i" in a else 1 - f
            c = f * c_prev + i * np.tanh(a["g"])
            o = sigmoid(a["o"] + sees.get("o", 0) * c)
            h = o * np.tanh(norm(c, w.weight_ln_ch) + w.bias_ln_ch)
            h = h if w.weight_hr is None else w.weight_hr @ h
            assert error(state_n[1][n], c) <= SAME_SUMS
        else:
            r, z = sigmoid(ih[:2] + hh[:2])
            late = r * hh[2]
            if cell == "gru_reset_before_norm":
                product = w.weight_hh[2 * H :] @ (r * state[0][n])
                late = norm(product, w.weight_ln_hh[2 * H :]) + w.bias_hh[2 * H :]
            h = (1 - z) * np.tanh(ih[2] + late) + z * state[0][n]
        assert error(y[0, n], h) <= SAME_SUMS


def test_far_inputs():
    a = np.array([-np.inf, -1e4, -700.0, 0.0, 700.0, 1e4, np.inf, np.nan])
    with np.errstate(over="raise", invalid="raise"):
        got = sigmoid(a)
    np.testing.assert_array_equal(got, [0, 0, np.exp(-700), 0.5, 1, 1, 1, np.nan])
    weights = Weights(np.ones((1, 1)), np.zeros((1, 1)), None, None)
    x = np.array([np.nan, -1.0, np.inf]).reshape(1, 3, 1)
    y, _ = reference.infer("rnn_relu", x, None, weights)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 0, np.inf])


def test_linear():
    rng = np.random.default_rng(5)
    arrays = {"x": rng.random((2, 3, 4)), "weight": rng.random((5, 4)), "bias": rng.random(5)}
    dy = rng.random((2, 3, 5))
    y = linear_forward(**arrays)
    assert error(y[1, 2], arrays["weight"] @ arrays["x"][1, 2] + arrays["bias"]) <= SAME_SUMS
    grads = linear_backward(arrays["x"], arrays["weight"], dy)
    for name, grad in zip(arrays, grads, strict=True):
        wanted = complex_step(lambda a: (dy * linear_forward(**a)).sum(), arrays, name)
        assert error(grad, wanted) <= GRADIENT_ERROR
