# SPDX-License-Identifier: MIT
"""`kernels` for arrays (T, N, ...) with unequal lengths: the padding is taken off, and put back."""

from __future__ import annotations

from typing import Any

from . import _core, kernels
from .kernels import Tape, dropout
from .ragged import Ragged
from .weights import Array, State, Weights

__all__ = ["backward", "dropout", "forward", "infer"]


def infer(cell: str, *args: Any, **form: Any) -> tuple[Array, State]:
    """Run as `functional.infer`."""
    y, state_n = _run(kernels.infer, cell, *args, **form)
    return y, state_n


def forward(cell: str, *args: Any, **form: Any) -> tuple[Array, State, Tape]:
    """Run as `functional.forward`."""
    y, state_n, tape = _run(kernels.forward, cell, *args, **form)
    return y, state_n, tape


def _run(
    run: Any,
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    *,
    out: Array | None = None,
    lengths: Array | Ragged | None = None,
    **form: Any,
) -> Any:
    if lengths is None:
        return run(cell, x, state, weights, out=out, **form)
    ragged = Ragged.of(lengths, len(x))
    packed = ragged.pack(x), ragged.pack_state(state)
    y, state_n, *tape = run(cell, *packed, weights, ragged=ragged, **form)
    return ragged.unpack(y, out), ragged.unpack_state(state_n, state), *tape


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    **into: Any,
) -> tuple[Array | None, State, Weights]:
    """Run as `functional.backward`."""
    ragged = tape.ragged
    if ragged is None:
        return kernels.backward(tape, dy, dstate, dx=dx, **into)
    packed = ragged.pack_any(dy), ragged.pack_state(dstate)
    new, dstate_0, grads = kernels.backward(tape, *packed, dx=ragged.pack_any(dx), **into)
    return ragged.unpack_dx(new, dx), ragged.unpack_state(dstate_0, dstate), grads
