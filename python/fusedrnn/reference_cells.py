# SPDX-License-Identifier: MIT
"""One step of every cell in plain NumPy, forward and back; `reference` runs them over time.

N sequences, I inputs, H hidden units, G gates. h' and c' are the state of the step before
(`h_prev`, `c_prev`), ⊙ is elementwise, `da` is the gradient of the loss by `a`. Every function is
analytic (no abs, no conjugate, branches look at the real part), on complex numbers as on real ones.
With projection an LSTM's h and h' are (N, P).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from .reference_linear import (
    Hidden,
    hidden_backward,
    hidden_forward,
    linear_backward,
    linear_forward,
)
from .reference_norm import layer_norm_backward, layer_norm_forward
from .weights import Array, State

Saved: TypeAlias = tuple[Array, ...]  # what one step keeps for its way back, each (N, H)
StepGrads: TypeAlias = tuple[State, Array, Hidden]  # dstate', da_ih, and of the hidden part


def sigmoid(a: Array) -> Array:
    """Return σ(a) = 1 / (1 + exp(-a)), in the form whose exp cannot overflow."""
    positive = a.real > 0
    e = np.exp(np.where(positive, -a, a))
    value: Array = np.where(positive, 1, e) / (1 + e)
    return value


# The cells: one step forward, then the same step back, undoing its lines from last to first; each
# comment there is the line undone. a_ih (N, G*H) = x_t W_ihᵀ + b_ih is given, the step adds its own
# hidden part. σ and tanh know their slope from their value: σ' = σ (1 - σ), tanh' = 1 - tanh².


def rnn_tanh_forward(a_ih: Array, state: State, hidden: Hidden) -> tuple[State, Saved]:
    """Vanilla RNN (Elman 1990): h = tanh(a_ih + a_hh)."""
    (h_prev,) = state
    a_hh = hidden_forward(h_prev, hidden)
    h = np.tanh(a_ih + a_hh)
    return (h,), (h_prev, h)


def rnn_tanh_backward(dstate: State, saved: Saved, hidden: Hidden) -> StepGrads:
    """Undo `rnn_tanh_forward`."""
    (dh,), (h_prev, h) = dstate, saved
    da = dh * (1 - h * h)  # h = tanh(a_ih + a_hh)
    dh_prev, dhidden = hidden_backward(h_prev, hidden, da)  # a_hh = linear(h_prev)
    return (dh_prev,), da, dhidden


def rnn_relu_forward(a_ih: Array, state: State, hidden: Hidden) -> tuple[State, Saved]:
    """RNN with rectifier (Le et al. 2015): h = max(0, a_ih + a_hh)."""
    (h_prev,) = state
    a = a_ih + hidden_forward(h_prev, hidden)
    h = np.where(a.real <= 0, 0, a)  # 0 where a <= 0, not a where a > 0: NaN stays NaN
    return (h,), (h_prev, h)


def rnn_relu_backward(dstate: State, saved: Saved, hidden: Hidden) -> StepGrads:
    """Undo `rnn_relu_forward`: the gradient passes where the unit was on."""
    (dh,), (h_prev, h) = dstate, saved
    da = np.where(h.real <= 0, 0, dh)  # h = max(0, a)
    dh_prev, dhidden = hidden_backward(h_prev, hidden, da)  # a = a_ih + linear(...)
    return (dh_prev,), da, dhidden


def lstm_forward(
    a_ih: Array, state: State, hidden: Hidden, coupled: bool = False
) -> tuple[State, Saved]:
    """LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000): c = f⊙c' + i⊙g, h = o⊙tanh(c).

    With peepholes (Gers and Schmidhuber 2000) i and f also see c', and o the new c. With coupled
    gates (Greff et al. 2017) there is no gate i: i = 1 - f. With a norm (Ba et al. 2016)
    h = o⊙tanh(LN(c) + bias_c); peepholes see c itself. A projection (Sak et al. 2014) is of that h.
    """
    h_prev, c_prev = state
    a = a_ih + hidden_forward(h_prev, hidden)
    *a_i, a_f, a_g, a_o = np.split(a, 3 if coupled else 4, axis=1)
    *p_i, p_f, p_o = peepholes(hidden, coupled)
    f = sigmoid(a_f + p_f * c_prev)
    i = 1 - f if coupled else sigmoid(a_i[0] + p_i[0] * c_prev)
    g = np.tanh(a_g)
    c = f * c_prev + i * g
    o = sigmoid(a_o + p_o * c)
    seen = c
    if hidden.norm_c is not None:
        seen = layer_norm_forward(c, hidden.norm_c, c.shape[1]) + hidden.bias_c
    tanh_c = np.tanh(seen)
    h = o * tanh_c
    if hidden.projection is not None:
        h = linear_forward(h, hidden.projection)
    return (h, c), (h_prev, c_prev, i, f, g, o, tanh_c, c)


def lstm_backward(dstate: State, saved: Saved, hidden: Hidden, coupled: bool = False) -> StepGrads:
    """Undo `lstm_forward`: dc comes from this h, from the next step and, by a peephole, from o."""
    (dh, dc), (h_prev, c_prev, i, f, g, o, tanh_c, c) = dstate, saved
    *p_i, p_f, p_o = peepholes(hidden, coupled)
    dprojection = dbias_c = dnorm_c = None
    if hidden.projection is not None:
        dh, dprojection, _ = linear_backward(o * tanh_c, hidden.projection, dh)  # h = linear(...)
    do, dtanh_c = dh * tanh_c, dh * o  # h = o * tanh_c
    da_o = do * o * (1 - o)  # o = sigmoid(a_o + p_o * c)
    dseen = dtanh_c * (1 - tanh_c * tanh_c)  # tanh_c = tanh(c), or of the normalised c
    if hidden.norm_c is not None:
        dbias_c = dseen.sum(axis=0)
        dseen, dnorm_c = layer_norm_backward(c, hidden.norm_c, c.shape[1], dseen)
    dc = dc + dseen + da_o * p_o  # the next step; this h; o
    di, df, dg, dc_prev = dc * g, dc * c_prev, dc * i, dc * f  # c = f * c_prev + i * g
    da_g = dg * (1 - g * g)  # g = tanh(a_g)
    da_i = [] if coupled else [di * i * (1 - i)]  # i = sigmoid(a_i + p_i * c_prev)
    if coupled:
        df = df - di  # i = 1 - f
    da_f = df * f * (1 - f)  # f = sigmoid(a_f + p_f * c_prev)
    for da_gate, p_gate in zip([*da_i, da_f], [*p_i, p_f], strict=True):
        dc_prev = dc_prev + da_gate * p_gate
    da = np.concatenate([*da_i, da_f, da_g, da_o], axis=1)  # split(a_ih + a_hh)
    dh_prev, dhidden = hidden_backward(h_prev, hidden, da)  # a_hh = hidden(h_prev)
    seen = [*((da_gate, c_prev) for da_gate in (*da_i, da_f)), (da_o, c)]
    dpeepholes = np.concatenate([(da_gate * c_seen).sum(axis=0) for da_gate, c_seen in seen])
    dhidden = dhidden._replace(
        peepholes=dpeepholes, projection=dprojection, norm_c=dnorm_c, bias_c=dbias_c
    )
    return (dh_prev, dc_prev), da, dhidden


def peepholes(hidden: Hidden, coupled: bool) -> list[Array]:
    """Return p_i, p_f, p_o, or p_f, p_o if the gates are coupled; zeros if there are none."""
    count, weight = 2 if coupled else 3, hidden.peepholes
    H = len(hidden.weight) // (count + 1)
    return np.split(np.zeros_like(hidden.bias[: count * H]) if weight is None else weight, count)


def gru_forward(a_ih: Array, state: State, hidden: Hidden) -> tuple[State, Saved]:
    """GRU, reset after the product (Cho et al. 2014, v1): n = tanh(ih_n + r⊙hh_n).

    Both GRUs here end in h = (1-z)⊙n + z⊙h'. A text with h = (1-z)⊙h' + z⊙n means the same cell
    with the rows of z, [H:2*H], negated in both weights and both biases.
    """
    (h_prev,) = state
    a_hh = hidden_forward(h_prev, hidden)
    (ih_r, ih_z, ih_n), (hh_r, hh_z, hh_n) = np.split(a_ih, 3, axis=1), np.split(a_hh, 3, axis=1)
    r, z = sigmoid(ih_r + hh_r), sigmoid(ih_z + hh_z)
    n = np.tanh(ih_n + r * hh_n)
    h = (1 - z) * n + z * h_prev
    return (h,), (h_prev, r, z, n, hh_n)


def gru_backward(dstate: State, saved: Saved, hidden: Hidden) -> StepGrads:
    """Undo `gru_forward`; a_ih and a_hh part ways at n, so each has its own gradient."""
    (dh,), (h_prev, r, z, n, hh_n) = dstate, saved
    dz, dn, dh_prev = dh * (h_prev - n), dh * (1 - z), dh * z  # h = (1 - z) * n + z * h_prev
    dih_n = dn * (1 - n * n)  # n = tanh(ih_n + r * hh_n)
    dr, dhh_n = dih_n * hh_n, dih_n * r
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)  # r, z = sigmoid
    da_ih = np.concatenate([da_r, da_z, dih_n], axis=1)  # split(a_ih), split(a_hh)
    da_hh = np.concatenate([da_r, da_z, dhh_n], axis=1)
    dh_more, dhidden = hidden_backward(h_prev, hidden, da_hh)  # hidden(h_prev)
    return (dh_prev + dh_more,), da_ih, dhidden


def gru_reset_before_forward(a_ih: Array, state: State, hidden: Hidden) -> tuple[State, Saved]:
    """GRU, reset before the product (Cho et al. 2014, v3): n = tanh(ih_n + hidden_n(r⊙h')).

    With a norm (Ba et al. 2016) it is that of the product W_hn (r⊙h'), as of any other.
    """
    (h_prev,) = state
    ih_r, ih_z, ih_n = np.split(a_ih, 3, axis=1)
    hh_r, hh_z = np.split(hidden_forward(h_prev, hidden.gates(0, 2)), 2, axis=1)
    r, z = sigmoid(ih_r + hh_r), sigmoid(ih_z + hh_z)
    rh = r * h_prev
    n = np.tanh(ih_n + hidden_forward(rh, hidden.gates(2, 3)))
    h = (1 - z) * n + z * h_prev
    return (h,), (h_prev, r, z, rh, n)


def gru_reset_before_backward(dstate: State, saved: Saved, hidden: Hidden) -> StepGrads:
    """Undo `gru_reset_before_forward`; h' was used four times: z⊙h', r⊙h' and two products."""
    (dh,), (h_prev, r, z, rh, n) = dstate, saved
    dz, dn, dh_prev = dh * (h_prev - n), dh * (1 - z), dh * z  # h = (1 - z) * n + z * h_prev
    da_n = dn * (1 - n * n)  # n = tanh(ih_n + hidden_n(rh))
    drh, dlate = hidden_backward(rh, hidden.gates(2, 3), da_n)
    dr, dh_rh = drh * h_prev, drh * r  # rh = r * h_prev
    da_rz = np.concatenate([dr * r * (1 - r), dz * z * (1 - z)], axis=1)  # r, z = sigmoid
    dh_rz, dearly = hidden_backward(h_prev, hidden.gates(0, 2), da_rz)
    da = np.concatenate([da_rz, da_n], axis=1)  # split(a_ih)
    pairs = zip(dearly, dlate, strict=True)
    dhidden = Hidden(*[None if a is None else np.concatenate([a, b]) for a, b in pairs])  # type: ignore[arg-type]
    return (dh_prev + dh_rh + dh_rz,), da, dhidden


Steps: TypeAlias = tuple[Callable[..., tuple[State, Saved]], Callable[..., StepGrads]]

LSTM_COUPLED: Steps = (partial(lstm_forward, coupled=True), partial(lstm_backward, coupled=True))

STEPS: dict[str, Steps] = {
    "rnn_tanh": (rnn_tanh_forward, rnn_tanh_backward),
    "rnn_relu": (rnn_relu_forward, rnn_relu_backward),
    "lstm": (lstm_forward, lstm_backward),
    "lstm_peephole": (lstm_forward, lstm_backward),
    "lstm_coupled": LSTM_COUPLED,
    "lstm_peephole_coupled": LSTM_COUPLED,
    "gru": (gru_forward, gru_backward),
    "gru_reset_before": (gru_reset_before_forward, gru_reset_before_backward),
    "lstm_norm": (lstm_forward, lstm_backward),
    "lstm_peephole_norm": (lstm_forward, lstm_backward),
    "lstm_coupled_norm": LSTM_COUPLED,
    "lstm_peephole_coupled_norm": LSTM_COUPLED,
    "gru_norm": (gru_forward, gru_backward),
    "gru_reset_before_norm": (gru_reset_before_forward, gru_reset_before_backward),
}

LSTM_GATES = {"i": 2, "f": 3, "g": 4, "o": 5}

GATES: dict[str, dict[str, int]] = {
    "rnn_tanh": {"h": 1},
    "rnn_relu": {},
    "lstm": LSTM_GATES,
    "lstm_peephole": LSTM_GATES,
    "lstm_coupled": LSTM_GATES,
    "lstm_peephole_coupled": LSTM_GATES,
    "gru": {"r": 1, "z": 2, "n": 3},
    "gru_reset_before": {"r": 1, "z": 2, "n": 4},
    "lstm_norm": LSTM_GATES,
    "lstm_peephole_norm": LSTM_GATES,
    "lstm_coupled_norm": LSTM_GATES,
    "lstm_peephole_coupled_norm": LSTM_GATES,
    "gru_norm": {"r": 1, "z": 2, "n": 3},
    "gru_reset_before_norm": {"r": 1, "z": 2, "n": 4},
}
"""Where in `Saved` the values of σ and tanh are that a step's gates have, g, n and h of tanh."""
