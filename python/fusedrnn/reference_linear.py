# SPDX-License-Identifier: MIT
"""The two products of every gate in plain NumPy, forward and back: with x, and with h of before.

N sequences, I inputs, H hidden units, G gates; P, the width of h, is H but for a projected LSTM.
Each product is normalised where the cell has layer norms. Analytic, as all in `reference_cells`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .reference_norm import layer_norm_backward, layer_norm_forward
from .weights import Array, Weights


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Map x (..., I) to x Wᵀ + b (..., O), with weight (O, I) and bias (O,) or None."""
    y: Array = x @ weight.T
    return y if bias is None else y + bias


def linear_backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return dx (..., I), dweight (O, I), dbias (O,) of `linear_forward`, from dy (..., O)."""
    rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ weight, drows.T @ rows, drows.sum(axis=0)


def input_forward(x: Array, weights: Weights, H: int) -> Array:
    """Return a_ih (T, N, G*H) = x W_ihᵀ + b_ih of all steps x (T, N, I)."""
    a_ih = linear_forward(x, weights.weight_ih)
    if weights.weight_ln_ih is not None:
        a_ih = layer_norm_forward(a_ih, weights.weight_ln_ih, H)
    return a_ih if weights.bias_ih is None else a_ih + weights.bias_ih


def input_backward(
    x: Array, weights: Weights, H: int, da_ih: Array
) -> tuple[Array, Array, Array, Array | None]:
    """Return dx and the gradients by weight_ih, bias_ih and the norm of `input_forward`."""
    dbias, dproduct, dnorm = da_ih.reshape(-1, da_ih.shape[2]).sum(axis=0), da_ih, None
    if weights.weight_ln_ih is not None:
        product = linear_forward(x, weights.weight_ih)
        dproduct, dnorm = layer_norm_backward(product, weights.weight_ln_ih, H, da_ih)
    dx, dweight, _ = linear_backward(x, weights.weight_ih, dproduct)
    return dx, dweight, dbias, dnorm


class Hidden(NamedTuple):
    """What a step does to its state, or the gradients of that."""

    weight: Array
    """weight_hh (G*H, P)."""
    bias: Array
    """bias_hh (G*H,)."""
    peepholes: Array | None = None
    """weight_ch (Q*H,)."""
    projection: Array | None = None
    """weight_hr (P, H)."""
    norm: Array | None = None
    """weight_ln_hh (G*H,)."""
    norm_c: Array | None = None
    """weight_ln_ch (H,)."""
    bias_c: Array | None = None
    """bias_ln_ch (H,)."""
    seen: Array | None = None
    """(N, P): what weight_hh sees of h, by recurrent dropout; nothing has a gradient by it."""

    @classmethod
    def of(cls, weights: Weights) -> Hidden:
        """Return the hidden part of a layer's weights, zeros for a bias that is None."""
        _, weight, _, bias, peepholes, projection, _, *norms = weights
        if bias is None:
            bias = np.zeros_like(weight[:, 0])
        return cls(weight, bias, peepholes, projection, *norms)

    def weights(self, weight_ih: Array, bias_ih: Array, norm_ih: Array | None) -> Weights:
        """Return these and the input's as those of the layer, or gradients as gradients."""
        weight, bias, peepholes, projection, *norms, _ = self
        return Weights(weight_ih, weight, bias_ih, bias, peepholes, projection, norm_ih, *norms)

    @property
    def units(self) -> int:
        """H; h has as many where there is no c, and no projection."""
        return self.weight.shape[1] if self.norm_c is None else len(self.norm_c)

    def gates(self, first: int, last: int) -> Hidden:
        """Return the part of the gates first..last, with nothing of c."""
        rows = slice(first * self.units, last * self.units)
        norm = None if self.norm is None else self.norm[rows]
        return Hidden(self.weight[rows], self.bias[rows], norm=norm, seen=self.seen)

    def see(self, h: Array) -> Array:
        """Return h as weight_hh sees it; its own way back."""
        return h if self.seen is None else h * self.seen


def hidden_forward(h_prev: Array, hidden: Hidden) -> Array:
    """Return a_hh (N, G*H) = W_hh see(h') + b_hh, the product normalised if there is a norm."""
    h_seen = hidden.see(h_prev)
    if hidden.norm is None:
        return linear_forward(h_seen, hidden.weight, hidden.bias)
    product = linear_forward(h_seen, hidden.weight)
    return layer_norm_forward(product, hidden.norm, hidden.units) + hidden.bias


def hidden_backward(h_prev: Array, hidden: Hidden, da_hh: Array) -> tuple[Array, Hidden]:
    """Return dh' and the gradients of what `hidden_forward` used."""
    h_seen, dproduct, dnorm = hidden.see(h_prev), da_hh, None
    if hidden.norm is not None:
        product = linear_forward(h_seen, hidden.weight)
        dproduct, dnorm = layer_norm_backward(product, hidden.norm, hidden.units, da_hh)
    dh_seen, dweight, _ = linear_backward(h_seen, hidden.weight, dproduct)
    return hidden.see(dh_seen), Hidden(dweight, da_hh.sum(axis=0), norm=dnorm)
