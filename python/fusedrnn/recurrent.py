# SPDX-License-Identifier: MIT
"""What `RNN`, `LSTM` and `GRU` do: forward and backward over stacked layers, in both directions.

The arithmetic is one call of `engine` per layer and direction. Sizes: T time steps, N sequences,
I inputs, H hidden units, L layers, D directions (1 or 2); P, the width of h, is H but for a
projected LSTM. Shapes, names, state order and initialisation are those of `torch.nn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import functional, recompute, stack, stretches, validate
from .engine import Computed, unchecked
from .noise import Noise
from .stack import LayerTape
from .structure import Structure
from .weights import Array, unwrapped

if TYPE_CHECKING:
    from .frozen import Frozen

__all__ = ["LayerTape", "Recurrent"]

LayerState = TypeVar("LayerState")  # h (L*D, N, P), or (h, c), c (L*D, N, H)


class Recurrent(Computed, Structure, Generic[LayerState]):
    """What the layers share, whatever their cell."""

    def __call__(
        self,
        x: Array,
        state: LayerState | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> tuple[Array, LayerState]:
        """Run over a sequence and keep nothing: `forward` without its tape, y writable."""
        return self._forward(self._checked(x, state, lengths, resets))

    def zero_state(self, N: int) -> LayerState:
        """Return the state that a call without one begins with: new zeros, h (L*D, N, P)."""
        rows = len(self._slots), validate.size("N", N)
        widths = (self._h_size, self.hidden_size)[: len(self._letters)]
        return unwrapped(tuple([self._zeros((*rows, width)) for width in widths]))  # type: ignore[no-any-return]

    def freeze(self, batch_size: int = 1) -> Frozen[LayerState]:
        """Return this layer with a copy of its weights, packed once: for inference and streaming.

        It runs on the kernels, whatever the layer's `engine` is.

        Parameters
        ----------
        batch_size : int
            Rows of the calls it is to be fastest for. Any number can be run, numbers far from it
            up to a tenth slower.

        Examples
        --------
        >>> import numpy as np, fusedrnn
        >>> gru = fusedrnn.GRU(2, 3, seed=0)
        >>> frozen = gru.freeze()
        >>> h = frozen.step(np.ones((1, 2), np.float32), gru.zero_state(1))
        """
        from .frozen import Frozen

        return Frozen(self, batch_size)

    def forward(
        self,
        x: Array,
        state: LayerState | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
        *,
        checkpoint: int | None = None,
        memory_budget: int | None = None,
        noise: Noise | None = None,
    ) -> tuple[Array, LayerState, LayerTape]:
        """Run over a sequence and keep what `backward` needs.

        Nothing is copied, except x and y once if batch_first or with lengths (then without their
        padding), and indices that are not int64.

        Parameters
        ----------
        x : ndarray (T, N, I), or (N, T, I) if batch_first, of the layer's dtype
            Or integers (T, N) or (N, T): token indices in [0, I), the same as one-hot rows.
        state : ndarray h (L*D, N, P), for LSTM the tuple (h, c), c (L*D, N, H); optional
            The state before the first step of each direction; None is zeros. Layer l, direction d
            is row l*D + d.
        lengths : ndarray (N,) of integers in [0, T], not all 0, optional
            In any order. Steps past a row's length give zeros in y, leave its state as it is and
            cost nothing; the reverse direction of a row begins with its own last step.
        resets : ndarray (T, N) of bool, or (N, T) if batch_first, optional
            Where true, no state passes between t-1 and t, in either direction.
        checkpoint : int, optional
            Keep the state every so many steps instead of a tape, and let `backward` run each
            stretch again: the same bits in a third more time. About sqrt(T) takes least memory.
        memory_budget : int, optional
            Bytes: choose `checkpoint` so that what the tape keeps, and in `backward` the tape and
            y of one stretch, are no more; None if the whole tape fits (an RNN's own, without
            lengths, recurrent dropout and zoneout, is little more than a state). x, y, gradients
            and the kernels' workspace come on top; if bidirectional, those of every layer.
        noise : Noise, optional
            What dropout and zoneout are drawn from; by default a seed of the layer's own generator.

        Returns
        -------
        y : ndarray (T, N, D*P), or (N, T, D*P) if batch_first
            h of every step of the last layer, P = H without projection; the reverse direction is
            the second half of a row. Read-only, for `backward` may read it.
        state : as the argument
            The state after the last step of each direction: after t = 0 for the reverse one.
        tape : LayerTape
            For `backward`. x and the parameters must not change before.

        Raises
        ------
        TypeError
            An argument, or an array put into `params`, of another kind or dtype.
        ValueError
            A shape or size that does not fit, or of 0; an array that is not C-contiguous; a token
            outside [0, I); both `checkpoint` and `memory_budget`; a budget that no interval fits.

        Examples
        --------
        Two sequences, of 200 and 3 steps, with a state kept every 16 steps:

        >>> import numpy as np, fusedrnn
        >>> lstm, x = fusedrnn.LSTM(2, 8, seed=0), np.ones((200, 2, 2), np.float32)
        >>> y, (h, c), tape = lstm.forward(x, lengths=np.array([200, 3]), checkpoint=16)
        >>> bool((h[0, 1] == y[2, 1]).all()), bool((y[3:, 1] == 0).all())
        (True, True)
        >>> tape.nbytes < lstm.forward(x)[2].nbytes / 10
        True
        """
        engine, tapes = self.engine, list[Any]()
        checkpoint, memory_budget = recompute.checked(checkpoint, memory_budget)
        call = self._checked(x, state, lengths, resets)
        if memory_budget is not None:
            checkpoint = stretches.interval(self, call, memory_budget)
        drawn = self._drawn(noise, call.x, call.form.get("lengths"))
        call = call._replace(noise=drawn, checkpoint=checkpoint)
        y, state_n = self._forward(call, tapes)
        y.flags.writeable = False
        return y, state_n, LayerTape(self, engine, y.shape, tapes, call.weights, drawn)

    def backward(
        self,
        tape: LayerTape,
        dy: Array | None,
        dstate: LayerState | None = None,
        *,
        truncate: int | None = None,
        accumulate: bool = True,
    ) -> tuple[Array | None, LayerState]:
        """Backpropagate through time and add the weights' gradients into `grads`.

        Everything is checked before anything is added. One thread at a time may add to `grads`.

        Parameters
        ----------
        tape : LayerTape
            From `forward` of this layer.
        dy : ndarray, shape and dtype of y, or None
            Gradient of y; None is zeros, for a loss of the state alone.
        dstate : as state, optional
            Gradient of the state that `forward` returned; None is zeros.
        truncate : int >= 0, optional
            The error of a step reaches back over so many state transitions of each layer, no
            further. Each costs a product of W_hh with all steps at once; None, or T and more, is
            the whole way. It needs the whole tape: after `forward(checkpoint=...)` the forward run
            is repeated, in the memory of that; of one layer and direction after the other if
            bidirectional.
        accumulate : bool
            False: `grads` is written over instead, as after `zero_grad` but with less traffic of
            memory; a tenth of the time and more where T*N is small.

        Returns
        -------
        dx : ndarray, shape of x, or None for token input
        dstate : as state
            Gradient of the state that `forward` was given.

        Raises
        ------
        TypeError
            An argument, or an array put into `grads`, of another kind or dtype.
        ValueError
            The tape of another layer; a shape that does not fit; an array that is not C-contiguous.

        Examples
        --------
        The error of the last step alone, over three transitions:

        >>> import numpy as np, fusedrnn
        >>> gru, x = fusedrnn.GRU(2, 8, seed=0), np.ones((9, 1, 2), np.float32)
        >>> y, h, tape = gru.forward(x)
        >>> dx, dh = gru.backward(tape, None, np.ones_like(h), truncate=3)
        >>> dx.any(axis=(1, 2)).tolist()
        [False, False, False, False, False, True, True, True, True]
        """
        self._check_tape(tape, LayerTape)
        rule = "(N, T, D*H)" if self.batch_first else "(T, N, D*H)"
        if self.proj_size:
            rule = rule.replace("H", "P")
        if dy is not None:
            validate.array("dy", dy, self.dtype, tape.shape, rule)
        N, names = tape.shape[not self.batch_first], validate.DSTATE_NAMES
        dstates = stack.split_state(self, dstate, N, names)
        parts = dstate if isinstance(dstate, tuple) else (dstate,)
        if truncate is not None:
            truncate = validate.integer("truncate", truncate, 0)
            truncate = truncate if truncate < tape.shape[self.batch_first] else None
        read: dict[str, Any] = {}
        if truncate is not None or not stack.is_one_call(tape):
            after = zip(names[self._letters], parts, strict=False)
            read = {"x": tape.tapes[0].x, "dy": dy, **dict(after)}
        if tape.weights is not self._weights():  # replaced since; the tape still has those
            read |= {f"parameter {i} of forward": a for i, a in enumerate(chain(*tape.weights))}
        grads = self._dweights(read)
        accumulate = validate.flag("accumulate", accumulate)
        if dy is not None:
            dy = self._swapped(dy)
        dx, dstate_0 = stretches.backward(self, tape, dy, dstates, grads, truncate, accumulate)
        return None if dx is None else self._swapped(dx), stack.join_states(self, dstate_0)

    def _forward(
        self, call: stack.Call, tapes: list[Any] | None = None
    ) -> tuple[Array, LayerState]:
        """Run; a list of tapes is filled."""
        y, state_n = stretches.forward(self, call, tapes)
        return self._swapped(y), stack.join_states(self, state_n)

    def _checked(
        self,
        x: Array,
        state: LayerState | None,
        lengths: Array | None,
        resets: Array | None,
        packed: Sequence[Any] | None = None,
    ) -> stack.Call:
        """Check a call's arguments; it runs on packed weights if there are some."""
        axes = ("N", "T", "I") if self.batch_first else ("T", "N", "I")
        x = self._swapped(validate.inputs(x, self.dtype, self.input_size, axes))
        states = stack.split_state(self, state, x.shape[1], validate.STATE_NAMES)
        weights: Any = packed or self._weights()
        engine = unchecked(functional if packed else self.engine)
        form = {}
        lengths = validate.lengths(lengths, *x.shape[:2])
        if lengths is not None:
            form["lengths"] = lengths
        if resets is not None:
            form["resets"] = self._resets(resets, x.shape[:2])
        return stack.Call(engine, x, states, weights, form)
