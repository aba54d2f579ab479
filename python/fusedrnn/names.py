# SPDX-License-Identifier: MIT
"""Names and shapes of parameters, and what they begin as."""

from __future__ import annotations

import numpy as np

from . import check_weights
from .weights import CELLS, Array, Weights

Shapes = dict[str, tuple[tuple[int, ...], str]]
"""By parameter name: the shape, and the same shape in letters for messages."""

Names = tuple[str | None, ...]
"""Of the arrays of one `Weights`; None for those it lacks."""


def names_of_weights(cell: str, bias: bool, suffix: str = "", projected: bool = False) -> Names:
    """Return the names of one `Weights` of this cell."""
    lacks = CELLS[cell].lacks + (() if bias else ("bias_ih", "bias_hh"))
    lacks += () if projected else ("weight_hr",)
    return tuple([None if name in lacks else name + suffix for name in Weights._fields])


def shapes_of_weights(cell: str, I: int, H: int, names: Names, P: int | None = None) -> Shapes:
    """Return the shapes of one `Weights` of this cell; h is P wide if P is given."""
    G, Q, rules = CELLS[cell].gates, CELLS[cell].peepholes, check_weights.RULES[cell, P is not None]
    P, rows = H if P is None else P, (G * H,)
    shapes = ((G * H, I), (G * H, P), rows, rows, (Q * H,), (P, H), rows, rows, (H,), (H,))
    named = zip(names, shapes, rules, strict=True)
    return {name: (shape, rule) for name, shape, rule in named if name is not None}


def pick(arrays: dict[str, Array], names: Names) -> Weights:
    """Return the arrays of these names, None where there is no name."""
    return Weights._make(map(arrays.get, names))  # type: ignore[arg-type]


def initial(name: str, shape: tuple[int, ...], bound: float, rng: np.random.Generator) -> Array:
    """Return a parameter as layers begin with it: uniform, but norms leave what they normalise."""
    if "_ln_" in name:
        return np.full(shape, float(name.startswith("weight")))
    return rng.uniform(-bound, bound, shape)
