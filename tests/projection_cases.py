# SPDX-License-Identifier: MIT
"""What the tests of proj_size share: a projected LSTM of every kind, and what a call takes."""

import numpy as np
from fusedrnn import LSTM
from layer_cases import like

T, N, I, H, P = 9, 6, 5, 21, 6
CELLS = {
    "lstm": {},
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "both": {"peephole": True, "coupled": True},
    "norm": {"layer_norm": True},
    "all": {"peephole": True, "coupled": True, "layer_norm": True},
}


def deep(cell="lstm", **options):
    """Two layers, both ways."""
    options = {"num_layers": 2, "bidirectional": True, "proj_size": P, "seed": 0} | options
    return LSTM(I, H, **(options | CELLS[cell]))


def arguments(layer, tokens=False):
    """x, state, dy, dstate."""
    rng, dtype = np.random.default_rng(0), layer.dtype
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I)).astype(dtype)
    width = (1 + layer.bidirectional) * layer.proj_size
    dy = rng.standard_normal((T, N, width)).astype(dtype)
    state = layer.zero_state(N)
    return x, like(state, rng), dy, like(state, rng)
