# SPDX-License-Identifier: MIT
"""Layer normalisation (Ba et al. 2016, arXiv:1607.06450) in plain NumPy, forward and back.

H units; a row of G gates has G blocks of them, each with its own mean and variance. Analytic,
as all in `reference_cells`.
"""

from __future__ import annotations

import numpy as np

from .weights import Array

EPSILON = 1e-5  # added to every variance of a norm, as in torch.nn.LayerNorm


def normalised(v: Array, H: int) -> tuple[Array, Array]:
    """Return v (..., G*H), each block of H units with mean 0 and variance 1; and 1 / deviation."""
    blocks = v.reshape(*v.shape[:-1], -1, H)
    centred = blocks - blocks.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPSILON)
    return (centred * scale).reshape(v.shape), scale


def layer_norm_forward(v: Array, weight: Array, H: int) -> Array:
    """Normalise v (..., G*H) over each block of H units (Ba et al. 2016) and scale it."""
    y: Array = weight * normalised(v, H)[0]
    return y


def layer_norm_backward(v: Array, weight: Array, H: int, dy: Array) -> tuple[Array, Array]:
    """Return dv and dweight of `layer_norm_forward`: what mean and variance undo is taken off."""
    v_hat, scale = normalised(v, H)
    dweight = (dy * v_hat).reshape(-1, len(weight)).sum(axis=0)
    hat, d = (a.reshape(*v.shape[:-1], -1, H) for a in (v_hat, weight * dy))
    along = (d * hat).mean(axis=-1, keepdims=True)
    dv: Array = scale * (d - d.mean(axis=-1, keepdims=True) - hat * along)
    return dv.reshape(v.shape), dweight
