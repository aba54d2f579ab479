# SPDX-License-Identifier: MIT
"""`RNN`, `LSTM` and `GRU`: the constructors; `recurrent` does what they share.

Sizes: I = input_size, H = hidden_size, D = 2 if bidirectional, else 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import validate
from .recurrent import Recurrent
from .weights import Array

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent[Array]):
    """Vanilla RNN (Elman 1990): h = φ(W_ih x + b_ih + W_hh h' + b_hh), as `torch.nn.RNN`.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and how many layers are stacked.
    nonlinearity : "tanh" or "relu"
    bias : bool
        False: no bias_ih, bias_hh.
    batch_first : bool
        x and y are (N, T, ...), each copied once.
    dropout : float
        In `forward`, the probability that a layer does not see an output of the layer below; the
        rest is scaled by 1 / (1 - dropout).
    recurrent_dropout : float
        In `forward`, the probability that weight_hh does not see a unit of h, for a row's whole
        sequence (Gal and Ghahramani 2016); the rest is scaled likewise. h itself is whole.
    zoneout_h : float
        In `forward`, the probability that a unit of h stays as it was before the step (Krueger et
        al. 2017); without a tape all units take the mean, zoneout_h h' + (1 - zoneout_h) h.
    bidirectional : bool
        A second set of weights runs from the last step to the first; y is (T, N, 2*H).
    dtype : float32 or float64
    seed : int, optional
        For `numpy.random.default_rng`: the initial parameters are uniform in ±1/sqrt(H).
    device : "cpu", "cuda" or "cuda:1", ...
        With CUDA, weights, states, inputs and results are arrays in the memory of that device, of
        dtype float32 or "bfloat16": see `fusedrnn.cuda`.

    Examples
    --------
    >>> import numpy as np
    >>> rnn = RNN(4, 8, num_layers=2, seed=0)
    >>> y, h = rnn(np.zeros((5, 3, 4), np.float32))
    >>> y.shape, h.shape
    ((5, 3, 8), (2, 3, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        seed: Any = None,
        device: str = "cpu",
    ) -> None:
        self.nonlinearity = validate.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            f"rnn_{nonlinearity}", input_size, hidden_size, num_layers,
            bias=bias, batch_first=batch_first, bidirectional=bidirectional, dropout=dropout,
            recurrent_dropout=recurrent_dropout, zoneout_h=zoneout_h,
            dtype=dtype, seed=seed, device=device,
        )  # fmt: skip


class LSTM(Recurrent[tuple[Array, Array]]):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates i f g o, as `torch.nn.LSTM`.

    i, f, o = σ(·), g = tanh(·) of W_ih x + b_ih + W_hh h' + b_hh; c = f⊙c' + i⊙g; h = o⊙tanh(c).
    The state is the tuple (h, c).

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and how many layers are stacked.
    bias, batch_first, dropout, recurrent_dropout, zoneout_h, bidirectional, dtype, seed, device
        As for `RNN`.
    zoneout_c : float
        The same for c. The output gate sees the new c, whatever stays.
    proj_size : int
        P < H: h = W_hr (o⊙tanh(c)) with weight_hr (P, H) (Sak et al. 2014). Then P is the width of
        h, of y and of what weight_hh (4*H, P) multiplies. 0: no projection.
    peephole : bool
        i and f also see p_i⊙c' and p_f⊙c', o sees p_o⊙c (Gers and Schmidhuber 2000); the weights
        are weight_ch (3*H,) in the order i f o, or (2*H,) in the order f o if coupled.
    coupled : bool
        i = 1 - f (Greff et al. 2017): the gates are f g o.
    layer_norm : bool
        Layer normalisation (Ba et al. 2016), gate by gate: W_ih x becomes LN(W_ih x; γ_ih) and
        W_hh h' LN(W_hh h'; γ_hh), before the biases, and h = o⊙tanh(LN(c; γ_c) + β_c), where
        LN(v; γ) = γ⊙(v - mean v) / sqrt(var v + 1e-5) over the H units. The weights are
        weight_ln_ih and weight_ln_hh (4*H,), weight_ln_ch and bias_ln_ch (H,), initially 1 and 0.
        Peepholes see c itself, W_hr o⊙tanh of the norm. Threads share the sequences, not the
        units: N = 1 runs on one.

    Examples
    --------
    >>> import numpy as np
    >>> lstm = LSTM(4, 8, seed=0)
    >>> y, (h, c), tape = lstm.forward(np.zeros((5, 3, 4), np.float32))
    >>> dx, (dh, dc) = lstm.backward(tape, np.ones_like(y))
    >>> dx.shape, lstm.grads["weight_hh_l0"].shape
    ((5, 3, 4), (32, 8))
    >>> y, (h, c) = LSTM(4, 8, proj_size=2, seed=0)(np.zeros((5, 3, 4), np.float32))
    >>> y.shape, h.shape, c.shape
    ((5, 3, 2), (1, 3, 2), (1, 3, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        zoneout_c: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        dtype: Any = np.float32,
        seed: Any = None,
        device: str = "cpu",
    ) -> None:
        self.peephole = validate.flag("peephole", peephole)
        self.coupled = validate.flag("coupled", coupled)
        self.layer_norm = validate.flag("layer_norm", layer_norm)
        cell = lstm_name(self.peephole, self.coupled, self.layer_norm)
        super().__init__(
            cell, input_size, hidden_size, num_layers,
            bias=bias, batch_first=batch_first, bidirectional=bidirectional, dropout=dropout,
            recurrent_dropout=recurrent_dropout, zoneout_h=zoneout_h, zoneout_c=zoneout_c,
            proj_size=proj_size, dtype=dtype, seed=seed, device=device,
        )  # fmt: skip


class GRU(Recurrent[Array]):
    """Gated recurrent unit (Cho et al. 2014), gates r z n, as `torch.nn.GRU`: h = (1-z)⊙n + z⊙h'.

    r, z = σ(·) of W_ih x + b_ih + W_hh h' + b_hh, and n is, by `reset_after`,
    tanh(W_in x + b_in + r⊙(W_hn h' + b_hn)) or tanh(W_in x + b_in + W_hn (r⊙h') + b_hn).

    Many texts write h = (1-z)⊙h' + z⊙n. That is the same cell with the z rows of all weights and
    biases negated, and those of layer_norm as they are:
    `for name, a in gru.params.items(): a[H:2*H] *= 1 if "_ln_" in name else -1`.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and how many layers are stacked.
    reset_after : bool
        True: the form of version 1 of the paper, PyTorch and cuDNN. False: that of version 3.
    layer_norm : bool
        As for `LSTM`: LN(W_ih x; γ_ih) and LN(W_hh h'; γ_hh) gate by gate, with weight_ln_ih and
        weight_ln_hh (3*H,), initially 1. Without reset_after the last is LN(W_hn (r⊙h'); γ_hn).
    bias, batch_first, dropout, recurrent_dropout, zoneout_h, bidirectional, dtype, seed, device
        As for `RNN`.

    Examples
    --------
    >>> import numpy as np
    >>> gru = GRU(4, 8, bidirectional=True, seed=0)
    >>> y, h = gru(np.array([[0], [3], [1]]))  # token indices, the same as one-hot rows
    >>> y.shape, h.shape
    ((3, 1, 16), (2, 1, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        seed: Any = None,
        device: str = "cpu",
    ) -> None:
        self.reset_after = validate.flag("reset_after", reset_after)
        self.layer_norm = validate.flag("layer_norm", layer_norm)
        super().__init__(
            gru_name(self.reset_after, self.layer_norm), input_size, hidden_size, num_layers,
            bias=bias, batch_first=batch_first, bidirectional=bidirectional, dropout=dropout,
            recurrent_dropout=recurrent_dropout, zoneout_h=zoneout_h,
            dtype=dtype, seed=seed, device=device,
        )  # fmt: skip


def lstm_name(peephole: bool, coupled: bool, layer_norm: bool) -> str:
    """Return the name in `CELLS` of an LSTM of this form."""
    return "lstm" + "_peephole" * peephole + "_coupled" * coupled + "_norm" * layer_norm


def gru_name(reset_after: bool, layer_norm: bool) -> str:
    """Return the name in `CELLS` of a GRU of this form."""
    return "gru" + "_reset_before" * (not reset_after) + "_norm" * layer_norm


KINDS: dict[str, tuple[Callable[..., Recurrent[Any]], dict[str, Any]]] = {
    "rnn_tanh": (RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, {}),
    "lstm_peephole": (LSTM, {"peephole": True}),
    "lstm_coupled": (LSTM, {"coupled": True}),
    "lstm_peephole_coupled": (LSTM, {"peephole": True, "coupled": True}),
    "gru": (GRU, {}),
    "gru_reset_before": (GRU, {"reset_after": False}),
    "lstm_norm": (LSTM, {"layer_norm": True}),
    "lstm_peephole_norm": (LSTM, {"peephole": True, "layer_norm": True}),
    "lstm_coupled_norm": (LSTM, {"coupled": True, "layer_norm": True}),
    "lstm_peephole_coupled_norm": (LSTM, {"peephole": True, "coupled": True, "layer_norm": True}),
    "gru_norm": (GRU, {"layer_norm": True}),
    "gru_reset_before_norm": (GRU, {"reset_after": False, "layer_norm": True}),
}
"""Every name in `CELLS`: the layer, and the options that make it."""
