# SPDX-License-Identifier: MIT
"""The systems of the lecture this project grew out of, in its own notation.

Columns, one sequence, [h, x] stacked, gates f i C̃ o: each is ours with its matrices cut and put in
our order.
"""

import fusedrnn
import numpy as np
import pytest

T, I, H = 6, 3, 5
RNG = np.random.default_rng(11)
X = RNG.standard_normal((T, I))
C_0, H_0 = RNG.standard_normal(H), RNG.standard_normal(H)


def matrix():
    """A W for [h, x]."""
    return RNG.standard_normal((H, H + I))


def sigma(a):
    return 1 / (1 + np.exp(-a))


def load(layer, gates, biases=None, peepholes=None):
    """The conversion: gates in our order, [h, x] cut in two; one bias where we have two."""
    params = layer.params
    params["weight_hh_l0"][...] = np.concatenate([W[:, :H] for W in gates])
    params["weight_ih_l0"][...] = np.concatenate([W[:, H:] for W in gates])
    for name in ("bias_ih_l0", "bias_hh_l0"):
        if name in params:
            params[name][...] = 0
    if biases is not None:
        params["bias_ih_l0"][...] = np.concatenate(biases)
    if peepholes is not None:
        params["weight_ch_l0"][...] = np.concatenate(peepholes)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("peephole", [False, True])
def test_lstm_and_its_variants(peephole, coupled):
    W_f, W_i, W_C, W_o = (matrix() for _ in range(4))
    b_f, b_i, b_C, b_o = RNG.standard_normal((4, H))
    p_f, p_i, p_o = RNG.standard_normal((3, H)) * peephole  # what multiplies C in [C, h, x]
    C, h, wanted = C_0, H_0, []
    for x in X:
        hx = np.concatenate((h, x))
        f = sigma(p_f * C + W_f @ hx + b_f)
        i = sigma(p_i * C + W_i @ hx + b_i)
        C_tilde = np.tanh(W_C @ hx + b_C)
        C = f * C + (1 - f if coupled else i) * C_tilde
        o = sigma(p_o * C + W_o @ hx + b_o)
        h = o * np.tanh(C)
        wanted.append(h)

    lstm = fusedrnn.LSTM(I, H, peephole=peephole, coupled=coupled, dtype=np.float64)
    gates, biases, peeps = [W_i, W_f, W_C, W_o], [b_i, b_f, b_C, b_o], [p_i, p_f, p_o]
    if coupled:
        gates, biases, peeps = gates[1:], biases[1:], peeps[1:]
    load(lstm, gates, biases, peeps if peephole else None)
    y, (h_n, c_n) = lstm(X[:, None], (H_0[None, None], C_0[None, None]))
    np.testing.assert_allclose(y[:, 0], wanted, rtol=1e-12)
    np.testing.assert_allclose(c_n[0, 0], C, rtol=1e-12)
    np.testing.assert_allclose(h_n[0, 0], h, rtol=1e-12)


def test_gru():
    """h = (1 - z) h' + z h̃: our z is 1 - z, and σ(-a) = 1 - σ(a)."""
    W_z, W_r, W = matrix(), matrix(), matrix()
    h, wanted = H_0, []
    for x in X:
        hx = np.concatenate((h, x))
        z, r = sigma(W_z @ hx), sigma(W_r @ hx)
        h_tilde = np.tanh(W @ np.concatenate((r * h, x)))
        h = (1 - z) * h + z * h_tilde
        wanted.append(h)
    gru = fusedrnn.GRU(I, H, reset_after=False, bias=False, dtype=np.float64)
    load(gru, [W_r, -W_z, W])
    np.testing.assert_allclose(gru(X[:, None], H_0[None, None])[0][:, 0], wanted, rtol=1e-12)


@pytest.mark.parametrize("truncate", [0, 1, 3, 5, 9])
def test_bptt_of_two_loops(truncate):
    """The error of each step goes back over so many transitions: chunks of one step, `truncate`."""
    words, U, W = 4, RNG.standard_normal((H, 4)), RNG.standard_normal((H, H))
    V = RNG.standard_normal((words, H))
    x, y = RNG.integers(0, words, (2, T))
    s, o = np.zeros((T + 1, H)), np.zeros((T, words))  # s[-1] is the state before
    for t in range(T):
        s[t] = np.tanh(U[:, x[t]] + W @ s[t - 1])
        e = np.exp(V @ s[t])
        o[t] = e / e.sum()

    dLdU, dLdW, delta_o = np.zeros_like(U), np.zeros_like(W), o.copy()
    delta_o[np.arange(T), y] -= 1
    for t in reversed(range(T)):
        delta_t = V.T @ delta_o[t] * (1 - s[t] ** 2)
        for step in reversed(range(max(0, t - truncate), t + 1)):
            dLdW += np.outer(delta_t, s[step - 1])
            dLdU[:, x[step]] += delta_t
            delta_t = W.T @ delta_t * (1 - s[step - 1] ** 2)

    rnn = fusedrnn.RNN(words, H, bias=False, dtype=np.float64)
    rnn.params["weight_ih_l0"][...], rnn.params["weight_hh_l0"][...] = U, W
    for chunk in fusedrnn.chunks(rnn, x[:, None], 1, truncate + 1):
        logits = chunk.y @ V.T
        _, dlogits = fusedrnn.softmax_cross_entropy(logits, y[chunk.steps, None], reduction="sum")
        chunk.backward(np.ascontiguousarray(dlogits @ V))
    np.testing.assert_allclose(rnn.grads["weight_hh_l0"], dLdW, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(rnn.grads["weight_ih_l0"], dLdU, rtol=1e-10, atol=1e-13)

    rnn.zero_grad()
    rnn_y, _, tape = rnn.forward(x[:, None])
    _, dlogits = fusedrnn.softmax_cross_entropy(rnn_y @ V.T, y[:, None], reduction="sum")
    rnn.backward(tape, np.ascontiguousarray(dlogits @ V), truncate=truncate)
    np.testing.assert_allclose(rnn.grads["weight_hh_l0"], dLdW, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(rnn.grads["weight_ih_l0"], dLdU, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_negated_z_gives_the_other_convention_of_the_gru(layer_norm, assert_close):
    """The conversion in the docstring of GRU: h = (1-z)⊙h' + z⊙n is the same cell, z negated."""
    rng, N = np.random.default_rng(7), 3
    gru = fusedrnn.GRU(I, H, layer_norm=layer_norm, dtype=np.float64, seed=0)
    for a in gru.params.values():
        a[...] = rng.standard_normal(a.shape)
    x, h = rng.standard_normal((1, N, I)), rng.standard_normal((1, N, H))
    weight_ih, weight_hh, bias_ih, bias_hh, *gammas = gru.params.values()
    a_ih, a_hh = x[0] @ weight_ih.T, h[0] @ weight_hh.T
    if layer_norm:
        a_ih, a_hh = (normed(a) * gamma for a, gamma in zip((a_ih, a_hh), gammas, strict=True))
    a_ih, a_hh = a_ih + bias_ih, a_hh + bias_hh
    r, z = (sigma((a_ih + a_hh)[:, k * H : (k + 1) * H]) for k in range(2))
    n = np.tanh(a_ih[:, 2 * H :] + r * a_hh[:, 2 * H :])
    for name, a in gru.params.items():
        a[H : 2 * H] *= 1 if "_ln_" in name else -1
    assert_close(gru(x, h)[0], ((1 - z) * h + z * n), "y")


def normed(a):
    """Return a (N, 3*H) with each gate of each row at mean 0 and variance 1."""
    gates = a.reshape(len(a), 3, H)
    var = gates.var(axis=2, keepdims=True)
    return ((gates - gates.mean(axis=2, keepdims=True)) / np.sqrt(var + 1e-5)).reshape(a.shape)
