# SPDX-License-Identifier: MIT
"""A random layer as the kernels see it, and a direct call of _core on it."""

import dataclasses
import zlib

import numpy as np
from fusedrnn import _core
from fusedrnn.weights import CELLS, NORMS, Array, State, Weights, state_widths

# Every cell, and four with a projection: the cell, and how many times H is P.
FORMS = {cell: (cell, 1) for cell in CELLS} | {
    "lstm_projected": ("lstm", 3),
    "lstm_peephole_coupled_projected": ("lstm_peephole_coupled", 2),
    "lstm_peephole_coupled_norm_projected": ("lstm_peephole_coupled_norm", 2),
    "lstm_norm_projected": ("lstm_norm", 3),
}


@dataclasses.dataclass
class Problem:
    cell: str
    x: Array
    state: State | None
    weights: Weights
    dy: Array
    dstate: State | None
    reverse: bool

    def replace(self, **changes) -> "Problem":
        return dataclasses.replace(self, **changes)

    def as_float64(self):
        def wide(a):
            return a if a is None or a.dtype == np.int64 else a.astype(np.float64)

        def each(arrays):
            return None if arrays is None else tuple(map(wide, arrays))

        return (
            wide(self.x),
            each(self.state),
            Weights(*map(wide, self.weights)),
            wide(self.dy),
            each(self.dstate),
        )

    def named(self, y, state_n, dx, dstate_0, grads) -> dict[str, Array]:
        """Results by name; those that do not exist are left out."""
        letters = CELLS[self.cell].state_letters
        named = {"y": y, "dx": dx}
        named |= {f"{letter}_n": a for letter, a in zip(letters, state_n, strict=True)}
        named |= {f"d{letter}_0": a for letter, a in zip(letters, dstate_0, strict=True)}
        named |= {f"d{name}": a for name, a in zip(Weights._fields, grads, strict=True)}
        return {name: a for name, a in named.items() if a is not None}


def make_problem(
    form, *, T, N, I, H, P=None, dtype, reverse=False, tokens=False, bias=True, state=True
) -> Problem:
    """Weights as layers begin with, all else standard normal; name and sizes are the seed.

    A projection is to P < H, by default as FORMS has it (none if H is 1).
    """
    rng = np.random.default_rng([zlib.crc32(form.encode()), T, N, I, H])
    cell, ratio = FORMS[form]
    entry, bound = CELLS[cell], 1 / np.sqrt(H)
    least = 2 if entry.layer_norm else 1  # the norm of what one h gives knows little but its sign
    P = P or min(max(H // ratio, least), H)
    rows = entry.gates * H

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def uniform(shape):
        return rng.uniform(-bound, bound, shape).astype(dtype)

    weights = Weights(*map(uniform, [(rows, I), (rows, P), (rows,), (rows,)]))
    if entry.peepholes:
        weights = weights._replace(weight_ch=normal(entry.peepholes * H))
    if P < H:
        weights = weights._replace(weight_hr=uniform((P, H)))
    if entry.layer_norm:
        gains = ((2 + normal(n)) / 4 for n in (rows, rows, H))
        norms = dict(zip(NORMS, (*gains, normal(H)), strict=True))
        lacks = CELLS[cell].lacks
        weights = weights._replace(**{k: a for k, a in norms.items() if k not in lacks})
        if entry.peepholes:  # else any float32, NumPy's too, is off by 3e-5 after 70 steps
            weights.weight_ch[...] /= 2
        if "reset_before" in cell:  # as well, after 200
            weights.weight_ln_hh[...] /= 2
    if not bias:
        weights = weights._replace(bias_ih=None, bias_hh=None)
    x = rng.integers(0, I, (T, N)) if tokens else normal(T, N, I)
    widths = state_widths(cell, weights)
    state_0, dstate = (tuple(normal(N, width) for width in widths) for _ in range(2))
    return Problem(cell, x, state_0 if state else None, weights, normal(T, N, P), dstate, reverse)


def filled(shape, dtype, value=np.nan, strided=False) -> Array:
    """An array full of value; strided: its rows are part of longer ones."""
    wide = np.full((*shape[:-1], 2 * shape[-1] + 1), value, dtype)
    return wide[..., 1 : 1 + shape[-1]] if strided else np.full(shape, value, dtype)


def run_forward(p: Problem, tape=None, strided=False):
    """y and state_n."""
    widths, dtype = state_widths(p.cell, p.weights), p.weights.weight_hh.dtype
    T, N = p.x.shape[:2]
    y = filled((T, N, widths[0]), dtype, strided=strided)
    state_n = tuple(filled((N, width), dtype) for width in widths)
    _core.forward(p.cell, p.x, tuple(p.weights), p.state, p.reverse, y, state_n, tape)
    return y, state_n


def run_kernel(p: Problem, *, add=None, strided=False) -> dict[str, Array]:
    """Everything the kernels compute for p, by name. add: gradients start from this value."""
    tape, dtype = _core.Tape(), p.weights.weight_hh.dtype
    y, state_n = run_forward(p, tape, strided)
    value = np.nan if add is None else add
    dx = None if p.x.ndim == 2 else filled(p.x.shape, dtype, value)
    grads = tuple(None if w is None else filled(w.shape, dtype, value) for w in p.weights)
    dstate_0 = tuple(filled(s.shape, dtype) for s in state_n)
    dy = p.dy
    if strided:
        dy = filled(dy.shape, dtype, strided=True)
        dy[...] = p.dy
    accumulate = add is not None
    _core.backward(
        tape, p.x, y, tuple(p.weights), dy, p.dstate, dx, accumulate, grads, accumulate, dstate_0
    )
    return p.named(y, state_n, dx, dstate_0, grads)
