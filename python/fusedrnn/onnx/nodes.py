# SPDX-License-Identifier: MIT
"""ONNX's operators RNN, GRU and LSTM on our kernels, in NumPy arrays: nothing here needs onnx.

ONNX's gates are z r h (GRU; h is our n) and i o f c (LSTM; c is our g), its peepholes i o f. It has
one bias B = [Wb, Rb], directions in axis 0 of all weights, and Y as (T, D, N, H). Where we have
i = 1 - f, input_forget has f = 1 - i: as 1 - σ(a) = σ(-a), f's weights are i's, negated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import functional
from ..layers import gru_name, lstm_name
from ..weights import CELLS, Array, State, Weights

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
GATES = {"RNN": "h", "GRU": "zrn", "LSTM": "iofg"}
PEEPHOLES = "iof"
ACTIVATIONS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Whether each direction runs from the last step to the first."""

ONNX_CELLS = (
    *("rnn_tanh", "rnn_relu", "gru", "gru_reset_before"),
    *("lstm", "lstm_peephole", "lstm_coupled", "lstm_peephole_coupled"),
)
"""Those of `CELLS` that ONNX has."""

Attributes = Mapping[str, Any]
"""Of a node; what is missing or None has its default."""


def cells(op: str, attributes: Attributes, peephole: bool = False) -> tuple[str, ...]:
    """Return our cell for each direction of a node; refuse, by name, what none of ours does."""
    if (clip := attributes.get("clip")) is not None:
        raise ValueError(f"clip: expected none, got {clip}")
    if (layout := attributes.get("layout")) not in (None, 0, 1):
        raise ValueError(f"layout: expected 0 or 1, got {layout}")
    D = len(directions(attributes))
    default = ACTIVATIONS[op]
    size = len(default)
    names = [name.lower() for name in attributes.get("activations") or default * D]
    each = [tuple(names[d * size : (d + 1) * size]) for d in range(D)]
    for one in each:
        if one != default and (op, one) != ("RNN", ("relu",)):
            choice = " or relu" if op == "RNN" else ""
            wanted = f"{', '.join(default)}{choice} for each direction"
            raise ValueError(f"activations: expected {wanted}, got {', '.join(names)}")
    if op == "RNN":
        return tuple([f"rnn_{one[0]}" for one in each])
    if op == "GRU":
        return (gru_name(bool(attributes.get("linear_before_reset")), False),) * D
    return (lstm_name(peephole, bool(attributes.get("input_forget")), False),) * D


def attributes_of(cell: str, D: int) -> tuple[str, dict[str, Any]]:
    """Return the operator, and the attributes with which it is D directions of this cell.

    Raises
    ------
    ValueError
        A cell that ONNX does not have.
    """
    if cell not in ONNX_CELLS:
        raise ValueError(f"cell: expected one of {', '.join(ONNX_CELLS)}, got {cell!r}")
    own: dict[str, Any] = {"direction": "bidirectional" if D == 2 else "forward"}
    if cell.startswith("rnn"):
        return "RNN", own | {"activations": [cell.removeprefix("rnn_").title()] * D}
    if cell.startswith("gru"):
        return "GRU", own | {"linear_before_reset": int(cell == "gru")}
    return "LSTM", own | {"input_forget": int(cell.endswith("coupled"))}


def directions(attributes: Attributes) -> tuple[bool, ...]:
    """Return, for each direction of a node, whether it is reverse."""
    name = attributes.get("direction") or "forward"
    if name not in DIRECTIONS:
        raise ValueError(f"direction: expected one of {', '.join(DIRECTIONS)}, got {name!r}")
    return DIRECTIONS[name]


def from_node(op: str, cell: str, W: Array, R: Array, B: Array | None, P: Array | None) -> Weights:
    """Return the weights of one direction, W (G*H, I), R (G*H, H), B (2*G*H,), P (3*H,)."""
    coupled, want = cell.endswith("coupled"), CELLS[cell].gate_letters

    def ours(a: Array, have: str, want: str) -> Array:
        blocks = dict(zip(have, np.split(a, len(have)), strict=True))
        if coupled:
            blocks["f"] = -blocks["i"]
        return np.concatenate([blocks[letter] for letter in want])

    ih, hh = (None, None) if B is None else (ours(half, GATES[op], want) for half in np.split(B, 2))
    ch = None if P is None else ours(P, PEEPHOLES, CELLS[cell].peephole_letters)
    return Weights(ours(W, GATES[op], want), ours(R, GATES[op], want), ih, hh, ch)


def to_node(op: str, cell: str, weights: Weights) -> list[Array | None]:
    """Return W, R, B and P of one direction: what `from_node` turns back."""
    coupled, have = cell.endswith("coupled"), CELLS[cell].gate_letters

    def theirs(a: Array, have: str, want: str) -> Array:
        blocks = dict(zip(have, np.split(a, len(have)), strict=True))
        if coupled:
            blocks["i"], blocks["f"] = -blocks["f"], np.zeros_like(blocks["f"])
        return np.concatenate([blocks[letter] for letter in want])

    W, R, *both = (None if a is None else theirs(a, have, GATES[op]) for a in weights[:4])
    B = None if both[0] is None or both[1] is None else np.concatenate([both[0], both[1]])
    P = weights.weight_ch
    return [W, R, B, None if P is None else theirs(P, CELLS[cell].peephole_letters, PEEPHOLES)]


def run(op: str, inputs: Mapping[str, Array], attributes: Attributes) -> tuple[Array, ...]:
    """Return Y, Y_h and, of an LSTM, Y_c, as ONNX's operators do.

    Past a row's length Y is zero, and Y_h is the state after the row's last step: of a row without
    steps the initial one, where ONNX Runtime has zeros.

    Parameters
    ----------
    op : "RNN", "GRU" or "LSTM"
    inputs : mapping
        By name in `INPUTS`; those not given are missing.
    attributes : mapping
        Of the node.

    Raises
    ------
    ValueError
        What no cell of ours does, by name; a shape or a dtype that does not fit.
    """
    names = cells(op, attributes, "P" in inputs)
    layout = attributes.get("layout") or 0
    time_first = {name: np.require(a, requirements=["C", "A"]) for name, a in inputs.items()}
    for name in ("X", "initial_h", "initial_c"):
        if layout and name in inputs:
            time_first[name] = np.ascontiguousarray(inputs[name].swapaxes(0, 1))
    _check(op, time_first, len(names), attributes.get("hidden_size"))
    ys, states = [], []
    for d, (cell, reverse) in enumerate(zip(names, directions(attributes), strict=True)):
        own = {name: a if name == "X" else a[d] for name, a in time_first.items() if a.ndim > 1}
        weights = from_node(op, cell, own["W"], own["R"], own.get("B"), own.get("P"))
        lengths = time_first.get("sequence_lens")
        y, state = functional.infer(
            cell, own["X"], _state(cell, own), weights, reverse=reverse, lengths=lengths
        )
        ys.append(y)
        states.append(state)
    outputs = [np.stack(part) for part in zip(*states, strict=True)]
    if layout:
        return np.stack(ys, 2).swapaxes(0, 1), *(a.swapaxes(0, 1) for a in outputs)
    return np.stack(ys, 1), *outputs


def _state(cell: str, own: Mapping[str, Array]) -> State | None:
    """Return the state before the first step of one direction; None is zeros."""
    given = [own.get("initial_h"), own.get("initial_c")][: CELLS[cell].states]
    one = next((a for a in given if a is not None), None)
    if one is None:
        return None
    return tuple([np.zeros_like(one) if a is None else a for a in given])


def _check(op: str, a: Mapping[str, Array], D: int, hidden_size: int | None) -> None:
    """Check shapes and dtypes, X and states with time or directions first."""
    _, N, I = _three_axes("X", a)
    H = check_weights(op, a, D, hidden_size, I)
    if (dtype := a["X"].dtype) not in (np.float32, np.float64):
        raise ValueError(f"X: expected dtype float32 or float64, got {dtype}")
    _check_shapes({"sequence_lens": (N,), "initial_h": (D, N, H), "initial_c": (D, N, H)}, a)
    for name in a:
        if name != "sequence_lens" and a[name].dtype != dtype:
            raise ValueError(f"{name}: expected dtype {dtype} as of X, got {a[name].dtype}")


def check_weights(
    op: str, a: Mapping[str, Array], D: int, hidden_size: int | None, I: int | None = None
) -> int:
    """Return H if W, R, B and P fit one another, D directions and I inputs; by default W's."""
    own_I, H = _three_axes("W", a)[2], _three_axes("R", a)[2]
    if hidden_size not in (None, 0, H):
        raise ValueError(f"hidden_size: expected {H} as in R, got {hidden_size}")
    GH = len(GATES[op]) * H
    shapes: dict[str, tuple[int, ...]] = {"W": (D, GH, own_I if I is None else I), "R": (D, GH, H)}
    _check_shapes(shapes | {"B": (D, 2 * GH), "P": (D, 3 * H)}, a)
    return H


def _three_axes(name: str, a: Mapping[str, Array]) -> tuple[int, ...]:
    """Return the shape of an array that must be there, with three axes."""
    if name not in a or a[name].ndim != 3:
        got = a[name].shape if name in a else "none"
        raise ValueError(f"{name}: expected an array of 3 axes, got {got}")
    return a[name].shape


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], a: Mapping[str, Array]) -> None:
    for name, shape in shapes.items():
        if name in a and a[name].shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {a[name].shape}")
