# SPDX-License-Identifier: MIT
"""Layers for the device kernels: their arrays, and what must come out."""

import dataclasses
from typing import NamedTuple

import numpy as np
from fusedrnn import reference
from fusedrnn.weights import CELLS, Array, State, Weights

TYPES = ("float32", "bfloat16")
DEVICE_CELLS = tuple(name for name, cell in CELLS.items() if not cell.layer_norm)
WEIGHTS = Weights._fields[:5]  # what the device has of them


class Device(NamedTuple):
    """The emulated device, and the order in which its threads run."""

    seed: int = 0
    multiprocessors: int = 132
    shared_optin: int = 227 * 1024
    shared_per_sm: int = 228 * 1024


# One multiprocessor with little shared memory: no layer of more than 32 units is persistent.
SMALL = Device(multiprocessors=1, shared_optin=99 * 1024, shared_per_sm=100 * 1024)
# With just two persistent blocks of any cell, which then walk over all rows; and with one.
TWO_BLOCKS = SMALL._replace(shared_per_sm=76 * 1024)
ONE_BLOCK = SMALL._replace(shared_per_sm=38 * 1024)


@dataclasses.dataclass(frozen=True)
class Case:
    """One layer; the sizes are the seed. lengths: how many steps of each row, repeated up to N."""

    cell: str
    type: str
    T: int
    N: int
    I: int
    H: int
    D: int = 1
    reverse: bool = False
    lengths: tuple[int, ...] | None = None
    state: bool = True
    bias: bool = True
    dx: bool = True
    dweights: bool = True


def every_way(cell: str, type: str) -> list[Case]:
    """Both orders of time and both at once, lengths, initial state and biases, and without."""
    directions = ((1, False), (1, True), (2, False))
    return [
        Case(cell, type, 3, 3, 2, 5, D, reverse, lengths, state, bias)
        for D, reverse in directions
        for lengths in (None, (2, 3, 0))
        for state in (True, False)
        for bias in (True, False)
    ]


# Sizes at which something in the kernels begins or ends: the tile of 16 rows, the block of 8 units
# and the 16 to which H is rounded, the product's 64 by 64 by 32, the chunk of 128 or 256 columns.
SHAPES = (
    {"T": 1, "N": 9, "I": 1, "H": 1},
    {"T": 2, "N": 16, "I": 32, "H": 16},
    {"T": 4, "N": 35, "I": 33, "H": 20, "D": 2, "lengths": (4, 0, 1, 2, 3)},
    {"T": 2, "N": 33, "I": 70, "H": 65, "reverse": True},
    {"T": 2, "N": 2, "I": 2, "H": 144, "bias": False},  # lstm: three chunks backward, or more
)


def to_bfloat16(a: Array) -> Array:
    """Bits (uint16) of the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(a), np.uint16(0x7FFF), rounded)


def from_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Layer:
    """The arrays of a case, in float32; for bfloat16 with its values."""

    def __init__(self, case: Case):
        self.case = case
        T, N, I, H, D = case.T, case.N, case.I, case.H, case.D
        self.entry = CELLS[case.cell]
        rng = np.random.default_rng([list(CELLS).index(case.cell), T, N, I, H, D])

        def normal(*shape):
            return self.rounded(rng.standard_normal(shape).astype(np.float32))

        self.lengths = None if case.lengths is None else np.resize(case.lengths, N).astype(np.int32)
        self.weights = [self.make_weights(normal) for _ in range(D)]
        self.x, self.dy = normal(T, N, I), normal(T, N, D * H)
        if self.lengths is not None:  # padding is NaN, for nothing may read it
            past = np.arange(T)[:, np.newaxis] >= self.lengths
            self.x[past], self.dy[past] = np.nan, np.nan
        self.state, self.dstate = (
            [normal(D, N, H) if case.state else None for _ in range(self.entry.states)]
            for _ in range(2)
        )

    def make_weights(self, normal) -> Weights:
        I, H, bias = self.case.I, self.case.H, self.case.bias
        rows, peepholes = self.entry.gates * H, self.entry.peepholes * H
        return Weights(
            self.rounded(normal(rows, I) * np.float32(1 / np.sqrt(I))),
            self.rounded(normal(rows, H) * np.float32(1 / np.sqrt(H))),
            normal(rows) if bias else None,
            normal(rows) if bias else None,
            normal(peepholes) if peepholes else None,
        )

    def rounded(self, a: Array) -> Array:
        return from_bfloat16(to_bfloat16(a)) if self.case.type == "bfloat16" else a

    def reversed(self, direction: int) -> bool:
        return direction == 1 if self.case.D == 2 else self.case.reverse

    def inputs(self) -> list[Array | None]:
        """As `replay` reads them."""
        none = [None] * (2 - self.entry.states)
        weights = [array for w in self.weights for array in w[:5]]
        return [self.lengths, *weights, self.x, *self.state, *none, self.dy, *self.dstate, *none]

    def outputs(self) -> list[dict[str, tuple[int, ...] | None]]:
        """Shapes by name, None for what is not wanted: of forward, and of backward."""
        c, states = self.case, self.entry.state_letters
        shape = (c.D, c.N, c.H)
        c_n = {} if "c" in states else {"c": None}
        state_n = {f"{letter}_n": shape for letter in states} | c_n
        gradients = {
            f"d{name}{'_reverse' * d}": w.shape if c.dweights and w is not None else None
            for d in range(c.D)
            for name, w in zip(WEIGHTS, self.weights[d], strict=False)
        }
        dstate_0 = {f"d{letter}_0": shape for letter in states} | c_n
        return [
            {"y": (c.T, c.N, c.D * c.H)} | state_n,
            {"dx": self.x.shape if c.dx else None} | gradients | dstate_0,
        ]

    def expected(self) -> dict[str, Array]:
        """Everything that the device computes, in float64, by name."""
        c, ys, results = self.case, [], {}
        for d in range(c.D):
            y, state_n, tapes = self.forward(d)
            dx, dstate, dweights = self.backward(d, tapes)
            ys.append(y)
            results["dx"] = results.get("dx", 0) + dx
            for letter, *arrays in zip(self.entry.state_letters, state_n, dstate, strict=True):
                for name, array in zip((f"{letter}_n", f"d{letter}_0"), arrays, strict=True):
                    results.setdefault(name, []).append(array)
            for name, array in zip(WEIGHTS, dweights, strict=False):
                results[f"d{name}{'_reverse' * d}"] = array
        results["y"] = np.concatenate(ys, axis=-1)
        return {name: np.asarray(a) for name, a in results.items() if a is not None}

    def forward(self, d: int) -> tuple[Array, State, list[tuple[int, reference.Tape]]]:
        """Step by step, so that h can be rounded in between: relu must see the device's signs."""
        c, weights, tapes = self.case, Weights(*map(wide, self.weights[d])), []
        y = np.empty((c.T, c.N, c.H))
        state = tuple(wide(a[d]) for a in self.state) if c.state else None
        for t in range(c.T)[:: -1 if self.reversed(d) else 1]:
            running = None if self.lengths is None else (t < self.lengths).astype(int)
            step = c.cell, wide(self.x[t : t + 1]), state, weights
            y[t], state, tape = reference.forward(*step, lengths=running)
            if c.type == "bfloat16":
                y[t], state = self.rounded(y[t]), (wide(self.rounded(state[0])), *state[1:])
            tapes.append((t, tape))
        return y, state, tapes

    def backward(self, d: int, tapes: list[tuple[int, reference.Tape]]):
        c, dx, dweights = self.case, np.empty(self.x.shape), Weights(*map(wide, self.weights[d]))
        dweights = dweights.zeros_like()
        dstate = tuple(wide(a[d]) for a in self.dstate) if c.state else None
        for t, tape in reversed(tapes):
            dy = wide(self.dy[t : t + 1, :, d * c.H : (d + 1) * c.H])
            dx[t], dstate, _ = reference.backward(tape, dy, dstate, grads=dweights)
        return dx, dstate, dweights


def wide(a: Array | None) -> Array | None:
    return None if a is None else a.astype(np.float64)
