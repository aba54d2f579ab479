# SPDX-License-Identifier: MIT
"""`RNN`, `LSTM` and `GRU` with device="cuda": the layers of `layers`, their arrays on a device.

Sizes as in `recurrent`. Weights, states, inputs and results are of one dtype, float32 or bfloat16;
sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import layers, validate
from ..recurrent import Recurrent
from ..weights import unwrapped
from . import stack
from .arrays import Array
from .library import core, device_index
from .placed import OnDevice, refuse
from .streams import importer_of, stream_of

__all__ = ["DeviceTape"]


@dataclass(slots=True, eq=False)
class DeviceTape:
    """What `forward` keeps for `backward`, which leaves it as it was.

    It refers to x and the weights: they must not change in between.
    """

    layer: object = field(repr=False)
    shape: tuple[int, ...]
    """That of y."""
    calls: list[stack.Call] = field(repr=False)
    """Layer by layer."""
    importer: Callable[[Any], Any] = field(repr=False)
    """What makes arrays of x's library."""

    @property
    def nbytes(self) -> int:
        """Memory of the kernels' records, in bytes; x, the outputs and the weights come on top."""
        return sum(call.tape.nbytes for call in self.calls)


class DeviceRecurrent(OnDevice, Recurrent[Any]):
    """What the layers on a device share."""

    def __call__(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        resets: Any = None,
        *,
        stream: Any = None,
    ) -> tuple[Any, Any]:
        """Run over a sequence and keep nothing: `forward` without its tape."""
        y, state_n, _ = self._pass(x, state, lengths, resets, stream, keep=False)
        return y, state_n

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        resets: Any = None,
        *,
        checkpoint: Any = None,
        memory_budget: Any = None,
        noise: Any = None,
        stream: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Run over a sequence and keep what `backward` needs.

        As on the host, but for what is said here. Nothing is copied, except x and y once if
        batch_first. It returns when the work is enqueued; with lengths, once the stream's earlier
        work is done.

        Parameters
        ----------
        x : array (T, N, I), or (N, T, I) if batch_first, of the layer's dtype
            Of any library with DLPack or the CUDA array interface, or a `fusedrnn.cuda.Array`. The
            results are arrays of the same library if it has a `from_dlpack`, else of ours.
        state : array h (L*D, N, H), for LSTM the tuple (h, c); optional
        lengths : integers (N,) in [0, T], optional
            Of NumPy or any library. From a device they are copied to the host to be checked.
        stream : optional
            A stream of PyTorch or CuPy, an object with `__cuda_stream__`, or a handle; by default
            the current stream of x's library if that is PyTorch or CuPy, else the default stream.
            It must live as long as what was computed on it; arrays of another stream, given to a
            call, until their work here is done; and results, until work on another stream is that
            their library does not order with this one (`record_stream` does not reach them).

        Raises
        ------
        TypeError
            An argument of another kind or dtype; memory of the host.
        ValueError
            A shape or size that does not fit, or of 0; an array that is not C-contiguous; another
            device; an option that device="cuda" does not have.
        RuntimeError
            A CUDA call failed, such as for lack of memory: which one, and why.
        """
        refuse(checkpoint=checkpoint, memory_budget=memory_budget, noise=noise)
        return self._pass(x, state, lengths, resets, stream, keep=True)

    def _pass(
        self, x: Any, state: Any, lengths: Any, resets: Any, stream: Any, keep: bool
    ) -> tuple[Any, Any, DeviceTape]:
        refuse(resets=resets)
        importer, on = importer_of(x), stream_of(stream, x)
        run = stack.Run(self, on)
        given = self._view("x", x, None, "", on)
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        if len(given.shape) != 3 or given.shape[2] != self.input_size:
            wanted = f"{axes} with I = {self.input_size}"
            raise ValueError(f"x: expected shape {wanted}, got {given.shape}")
        steps, rows = given.shape[:2][:: -1 if self.batch_first else 1]
        before = self._state(state, rows, validate.STATE_NAMES, on)
        params = self._buffers("", self.params, on)
        until = None if lengths is None else self._lengths(lengths, steps, rows, on)
        y, state_n, calls = stack.forward(run, run.swapped(given), before, until, params, keep)
        y = run.swapped(y)
        tape = DeviceTape(self, y.shape, calls, importer)
        return importer(Array.of(y)), self._given_back(state_n, importer), tape

    def backward(
        self,
        tape: Any,
        dy: Any,
        dstate: Any = None,
        *,
        truncate: Any = None,
        accumulate: bool = True,
        stream: Any = None,
    ) -> tuple[Any, Any]:
        """Backpropagate through time and add the weights' gradients into `grads`.

        As on the host: dy is of the shape and dtype of y, or None; dstate as the state; without
        accumulate `grads` is written over. A failure, but in the adding itself, which is last and
        needs no memory, leaves `grads` as they were. Results are arrays of the library of
        `forward`'s x.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `forward`; the tape of another layer.
        """
        refuse(truncate=truncate)
        self._check_tape(tape, DeviceTape)
        accumulate = validate.flag("accumulate", accumulate)
        x = tape.calls[0].x
        given = (dy, *dstate) if isinstance(dstate, tuple) else (dy, dstate)
        on = stream_of(stream, next((a for a in given if a is not None), None))
        run = stack.Run(self, on)
        if dy is None:
            dy_buffer = run.new(*tape.shape)
            dy_buffer.zero(on)
        else:
            rule = "(N, T, D*H)" if self.batch_first else "(T, N, D*H)"
            dy_buffer = self._view("dy", dy, tape.shape, rule, on)
        after = self._state(dstate, x.shape[1], validate.DSTATE_NAMES, on)
        grads = self._buffers("grads", self.grads, on, validate.WRITE)
        params = self._buffers("", self.params, on)
        dstates = zip(validate.DSTATE_NAMES[self._letters], after or (), strict=False)
        self._check_apart(grads, {"x": x, "dy": dy_buffer, **dict(dstates), **params})
        dy_buffer = run.swapped(dy_buffer)
        dx, dstate_0 = stack.backward(run, tape.calls, dy_buffer, after, grads, accumulate)
        return tape.importer(Array.of(dx)), self._given_back(dstate_0, tape.importer)

    def freeze(self, batch_size: int = 1) -> Any:
        """Refuse: the kernels of the device pack the weights in every call."""
        raise ValueError('freeze: expected a layer on the host, got one with device="cuda"')

    def _given_back(self, parts: tuple[Any, ...], importer: Callable[[Any], Any]) -> Any:
        return unwrapped(tuple([importer(Array.of(part)) for part in parts]))


ON_DEVICE: dict[type, type] = {
    getattr(layers, name): type(
        name,
        (DeviceRecurrent, getattr(layers, name)),
        {"__module__": __name__, "__doc__": f'`fusedrnn.{name}` with device="cuda".'},
    )
    for name in layers.__all__
}
"""By the class of the host."""

globals().update({kind.__name__: kind for kind in ON_DEVICE.values()})  # where pickle looks


def class_on(kind: type, device: object) -> type:
    """Return what a class of layers is on a device; "cpu" leaves it as it is."""
    if device_index(device) is None or issubclass(kind, DeviceRecurrent):
        return kind
    if kind not in ON_DEVICE:
        raise TypeError(f"device: expected cpu for a subclass, {kind.__name__}, got {device!r}")
    core()  # or says why there is none
    return ON_DEVICE[kind]
