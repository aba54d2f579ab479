# SPDX-License-Identifier: MIT
"""Dropout and zoneout: random masks from a counter, as csrc/cpu/noise.h draws them.

A draw depends on (seed, kind, layer, step, row, unit) alone: it is the same for any split of the
batch or of the sequence and any number of threads, and nothing is kept for the way back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import validate
from .weights import Array, State

__all__ = ["CellNoise", "Noise"]

DROPOUT, RECURRENT_DROPOUT, ZONEOUT_H, ZONEOUT_C = range(4)
GAMMA, MASK32, MASK64 = 0x9E3779B97F4A7C15, 0xFFFFFFFF, 2**64 - 1


class Noise(NamedTuple):
    """What the random masks of one `forward` are drawn from.

    Examples
    --------
    The halves of a batch, one after the other, with the masks of the whole:

    >>> import numpy as np, fusedrnn
    >>> lstm = fusedrnn.LSTM(2, 3, recurrent_dropout=0.5, seed=0)
    >>> x = np.ones((4, 6, 2), np.float32)
    >>> y = lstm.forward(x, noise=fusedrnn.Noise(7))[0]
    >>> a = lstm.forward(x[:, :3].copy(), noise=fusedrnn.Noise(7))[0]
    >>> b = lstm.forward(x[:, 3:].copy(), noise=fusedrnn.Noise(7, first_row=3))[0]
    >>> bool((np.concatenate((a, b), axis=1) == y).all())
    True
    """

    seed: int
    """In [0, 2**64)."""
    first_step: int = 0
    """The time of x[0] in the whole sequence."""
    first_row: int = 0
    """The row of x[:, 0] in the whole batch."""

    def from_step(self, step: int) -> Noise:
        """Return the noise of the same sequence from a later step on."""
        return self._replace(first_step=self.first_step + step)


class LayerNoise(NamedTuple):
    """The noise of one call of a layer, as its options were: they may change before `backward`."""

    noise: Noise
    dropout: float
    recurrent_dropout: float
    zoneout: tuple[float, float]

    def from_step(self, step: int) -> LayerNoise:
        """Return the noise of the same sequence from a later step on."""
        return self._replace(noise=self.noise.from_step(step))

    def below(self, layer: int) -> Noise:
        """Return what the dropout between a layer and the one below is drawn from."""
        return self.noise._replace(seed=_seed_of(self.noise, layer))

    def of_slot(self, slot: int) -> CellNoise | None:
        """Return the noise of one layer in one direction, if it has any."""
        if not (self.recurrent_dropout or any(self.zoneout)):
            return None
        seed, (_, step, row) = _seed_of(self.noise, slot), self.noise
        return CellNoise(seed, self.recurrent_dropout, self.zoneout, False, step, row)


@dataclass(frozen=True, slots=True)
class CellNoise:
    """The noise of one layer in one direction, as engines take it."""

    seed: int
    recurrent_dropout: float = 0.0
    """Probability that weight_hh does not see a unit of h, for a whole sequence."""
    zoneout: tuple[float, float] = (0.0, 0.0)
    """Probability that a unit of h, and of c, stays as it was before the step."""
    expected: bool = False
    """Zoneout by its mean, as in inference."""
    first_step: int = 0
    first_row: int = 0
    rows: Array | None = None
    """int64 (N,): the rows' names in the draws, if they are not first_row and on."""
    steps: Array | None = None
    """int64 (N,): the name of each row's only step, if T is 1."""

    def from_step(self, step: int) -> CellNoise:
        """Return the noise of the same sequence from a later step on."""
        return replace(self, first_step=self.first_step + step)

    def of_rows(self, rows: Array) -> CellNoise:
        """Return the noise of these rows of the batch."""
        return replace(self, rows=self._names_of(rows))

    def one_step(self, t: Array, n: Array) -> CellNoise:
        """Return the noise of rows (t, n) as the rows of one step."""
        return replace(self, rows=self._names_of(n), steps=self.first_step + t, first_step=0)

    def names(self, N: int) -> Array:
        """Return the rows' names, (N,)."""
        return self._names_of(np.arange(N))

    def _names_of(self, rows: Array) -> Array:
        names: Array = self.first_row + rows if self.rows is None else self.rows[rows]
        return names

    def check(self) -> None:
        """Raise TypeError or ValueError for what `_core` would not take."""
        checked(Noise(self.seed, self.first_step, self.first_row))
        for name, p in (("recurrent_dropout", self.recurrent_dropout), *zip("hc", self.zoneout)):  # noqa: B905
            validate.probability(name if len(name) > 1 else f"zoneout_{name}", p)

    def core(self) -> tuple[Any, ...]:
        """Return it as `_core` takes it."""
        return (
            self.seed, self.recurrent_dropout, *self.zoneout, self.expected,
            self.first_step, self.first_row, self.rows, self.steps,
        )  # fmt: skip

    def seen(self, N: int, P: int, dtype: DTypeLike) -> Array | None:
        """Return what h is multiplied with before weight_hh, (N, P); None if it sees all."""
        p = self.recurrent_dropout
        if p == 0:
            return None
        dropped = drawn(self.seed, RECURRENT_DROPOUT, 0, self.names(N), P, p)
        return np.where(dropped, 0, scale(p)).astype(dtype)

    def zoned(self, t: int, before: State, after: State) -> State:
        """Return the state after zoneout of the step t."""
        kept = self._kept(t, after)
        return tuple([a if k is None else a + k * (before[i] - a) for i, (a, k) in enumerate(kept)])

    def split(self, t: int, dafter: State) -> tuple[State, State]:
        """Return the gradients that go on to the cell, and those that pass by it."""
        passing = tuple(
            [np.zeros_like(d) if k is None else k * d for d, k in self._kept(t, dafter)]
        )
        return tuple([d - part for d, part in zip(dafter, passing, strict=True)]), passing

    def _kept(self, t: int, state: State) -> list[tuple[Array, Any]]:
        """Return each part of a state and how much of it stays: its shape, the mean, or None."""
        steps, parts = self.first_step + t if self.steps is None else self.steps, list[Any]()
        for part, kind, p in zip(state, (ZONEOUT_H, ZONEOUT_C), self.zoneout, strict=False):
            kept: Any = p or None
            if p and not self.expected:
                units = drawn(self.seed, kind, steps, self.names(len(part)), part.shape[1], p)
                kept = units * part.dtype.type(1)
            parts.append((part, kept))
        return parts


def dropout(x: Array, p: float, noise: Noise, out: Array | None = None) -> Array:
    """Return x (T, N, K) with elements zero with probability p, the others scaled; out may be x."""
    T, N, K = x.shape
    y, rows = np.empty_like(x) if out is None else out, noise.first_row + np.arange(N)
    for t in range(T):
        dropped = drawn(noise.seed, DROPOUT, noise.first_step + t, rows, K, p)
        y[t] = np.where(dropped, 0, x[t] * x.dtype.type(scale(p)))
    return y


def scale(p: float) -> float:
    """Return what is left after dropout, times this, has the mean from before."""
    return 1 / (1 - p) if p < 1 else 0.0


def _seed_of(noise: Noise, slot: int) -> int:
    return (noise.seed + slot * GAMMA) & MASK64


def checked(noise: object) -> Noise:
    """Return a Noise of ints within their bounds."""
    if not isinstance(noise, Noise):
        raise TypeError(f"noise: expected fusedrnn.Noise, got {type(noise).__name__}")
    return Noise(
        validate.integer("noise.seed", noise.seed, 0, MASK64),
        validate.integer("noise.first_step", noise.first_step, 0, 2**62),
        validate.integer("noise.first_row", noise.first_row, 0, 2**62),
    )


def drawn(seed: int, kind: int, step: int | Array, rows: Array, K: int, p: float) -> Array:
    """Return bool (N, K): the units that are drawn, each with probability p."""
    key = _mix(_mix(np.array(seed, np.uint64)) ^ np.uint64(kind))
    key = _mix(_mix(key ^ np.asarray(step).astype(np.uint64)) ^ rows.astype(np.uint64))
    key = key[:, np.newaxis]
    low, high, mask = key & np.uint64(MASK32), key >> np.uint64(32), np.uint64(MASK32)
    x = (np.arange(K, dtype=np.uint64) * np.uint64(0x9E3779B9) + low) & mask  # lowbias32
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(0x7FEB352D)) & mask
    x ^= x >> np.uint64(15)
    x = ((x + high) * np.uint64(0x846CA68B)) & mask
    x ^= x >> np.uint64(16)
    chosen: Array = (x >> np.uint64(8)) < np.uint64(p * (1 << 24))
    return chosen


def _mix(z: Array) -> Array:
    """splitmix64 (Steele, Lea and Flood 2014), modulo 2**64."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed
