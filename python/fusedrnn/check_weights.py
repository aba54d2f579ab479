# SPDX-License-Identifier: MIT
"""Checks of `Weights` and of their gradients, by a table of shapes, in the words of `validate`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import validate
from .weights import CELLS, NORMS, Array, Weights

WEIGHTS = f"Weights, a tuple of {len(Weights._fields)}"

# What messages say of gradients in `Weights`, and of the shapes of `Weights` by cell.
GRAD_NAMES = tuple(f"grads.{name}" for name in Weights._fields)
_NORMS = ("(G*H,)", "(G*H,)", "(H,)", "(H,)")
_SHAPES = {
    False: ("(G*H, I)", "(G*H, H)", "(G*H,)", "(G*H,)", "(Q*H,)", "None", *_NORMS),
    True: ("(G*H, I)", "(G*H, P)", "(G*H,)", "(G*H,)", "(Q*H,)", "(P, H)", *_NORMS),
}
SIZES = {name: (cell.gates, cell.peepholes) for name, cell in CELLS.items()}
"""G and Q."""
RULES = {
    (name, projected): tuple(
        rule.replace("G*", f"{cell.gates}*" if cell.gates > 1 else "").replace(
            "Q", str(cell.peepholes)
        )
        for rule in shapes
    )
    for name, cell in CELLS.items()
    for projected, shapes in _SHAPES.items()
}
"""By cell, and by whether there is a projection."""


def weights(w: Weights, cell: str) -> tuple[np.dtype[Any], int, int, int]:
    """Return the dtype, I, H and P that these weights speak of."""
    if not isinstance(w, tuple) or len(w) != len(Weights._fields):
        raise TypeError(f"weights: expected {WEIGHTS}, got {validate.describe(w)}")
    weight_ih, weight_hh, bias_ih, bias_hh, weight_ch, weight_hr, *norms = w
    rule_ih, rule_hh, rule_bias, _, rule_ch, *_ = RULES[cell, weight_hr is not None]
    G, Q = SIZES[cell]
    dtype = validate.kind("weight_hh", weight_hh, validate.FLOATS).dtype
    H = (weight_hh.shape or (1,))[0] // G or 1  # from the rows; the check sees to the columns
    P = H if weight_hr is None else _projection(weight_hr, cell, dtype, H)
    validate.array("weight_hh", weight_hh, dtype, (G * H, P), rule_hh)
    I = (validate.kind("weight_ih", weight_ih, validate.FLOATS).shape or (1,))[-1] or 1
    validate.array("weight_ih", weight_ih, dtype, (G * H, I), rule_ih)
    if bias_ih is not None:
        validate.array("bias_ih", bias_ih, dtype, (G * H,), rule_bias)
    if bias_hh is not None:
        validate.array("bias_hh", bias_hh, dtype, (G * H,), rule_bias)
    if Q:
        validate.array("weight_ch", weight_ch, dtype, (Q * H,), rule_ch)
    elif weight_ch is not None:
        raise TypeError(f"weight_ch: expected None for {cell}, got {validate.describe(weight_ch)}")
    if CELLS[cell].layer_norm or any(a is not None for a in norms):
        _check_norms(Weights(*w), cell, dtype, H)
    return dtype, I, H, P


def _projection(weight_hr: Array, cell: str, dtype: np.dtype[Any], H: int) -> int:
    """Check weight_hr (P, H) and return P."""
    if not CELLS[cell].projects:
        raise TypeError(f"weight_hr: expected None for {cell}, got {validate.describe(weight_hr)}")
    P = (validate.kind("weight_hr", weight_hr, (dtype,)).shape or (1,))[0] or 1
    validate.array("weight_hr", weight_hr, dtype, (P, H), RULES[cell, True][5])
    if P >= H:
        raise ValueError(f"weight_hr: expected shape (P, H) with P < H = {H}, got {(P, H)}")
    return P


def _check_norms(w: Weights, cell: str, dtype: np.dtype[Any], H: int) -> None:
    """Check the weights of layer normalisation, or that there are none."""
    rules = dict(zip(Weights._fields, RULES[cell, False], strict=True))
    for name in NORMS:
        a, rule = getattr(w, name), rules[name]
        if name not in CELLS[cell].lacks:
            validate.array(name, a, dtype, (H if rule == "(H,)" else CELLS[cell].gates * H,), rule)
        elif a is not None:
            raise TypeError(f"{name}: expected None for {cell}, got {validate.describe(a)}")


def grads(g: Weights, w: Weights, cell: str) -> None:
    """Check arrays that gradients of the weights `w` are added into: same shapes, writable."""
    if not isinstance(g, tuple) or len(g) != len(Weights._fields):
        raise TypeError(f"grads: expected {WEIGHTS}, got {validate.describe(g)}")
    rules = RULES[cell, w[5] is not None]
    for name, rule, a, weight in zip(GRAD_NAMES, rules, g, w, strict=True):
        if weight is None:
            if a is not None:
                raise TypeError(f"{name}: expected None as in weights, got {validate.describe(a)}")
            continue
        validate.array(name, a, weight.dtype, weight.shape, rule, validate.WRITE)
        if a is weight:
            raise ValueError(f"{name}: expected memory of its own, got the weight itself")
