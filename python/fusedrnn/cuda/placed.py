# SPDX-License-Identifier: MIT
"""What a layer on a device does in its own way: options, parameters, arrays that come as arguments.

L layers, D directions, N sequences, H hidden units.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validate
from ..parameters import PROBABILITIES, Parameters
from ..weights import Array as HostArray
from .arrays import Array, bits, dtype_name, host, view
from .library import core, cuda_index, unfit
from .streams import stream_of

__all__ = ["OnDevice", "refuse"]


class OnDevice(Parameters):
    """In front of the layer's own class."""

    device: str
    hidden_size: int
    _letters: str
    _slots: list[Any]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but none that only a layer on the host heeds."""
        if "grads" in self.__dict__:
            if name == "engine":
                raise _unheeded(name, "the device's own", value)
            if name in PROBABILITIES and validate.probability(name, value):
                raise _unheeded(name, 0, value)
        super().__setattr__(name, value)

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place."""
        on = core().Stream(0, None)
        for name, grad in self._buffers("grads", self.grads, on, validate.WRITE).items():
            grad.zero(stream_of(None, self.grads[name]))

    def state_dict(self) -> dict[str, HostArray]:
        """Return copies of the parameters by name, on the host, bfloat16 as float32."""
        return {name: host(name, value) for name, value in self.params.items()}

    # What `Parameters` and `Recurrent` leave to the device

    def _check_options(self) -> None:
        for name in (*PROBABILITIES, "proj_size"):
            if value := getattr(self, name):
                raise _unheeded(name, 0, value)
        if getattr(self, "layer_norm", False):
            raise _unheeded("layer_norm", False, True)
        index = cuda_index(self.device)
        if reason := unfit(core(), index):
            raise RuntimeError(f"CUDA is not available on {self.device}: {reason}")
        self.device_index = index

    def _float_dtype(self, dtype: Any) -> Any:
        name = dtype_name(dtype, ("float32", "bfloat16"))
        return validate.F32 if name == "float32" else name

    def _placed(self, value: HostArray) -> Any:
        return Array(value, str(self.dtype), self.device)

    def _zeros(self, shape: tuple[int, ...]) -> Any:
        array = Array.of(core().Buffer(shape, str(self.dtype), self.device_index))
        array._buffer.zero(core().Stream(0, None))
        return array

    def _loadable(self, name: str, value: Any) -> HostArray:
        return super()._loadable(name, host(name, value))

    def _check_params(self, need: int = validate.READ) -> None:
        self._buffers("", self.params, core().Stream(0, None), need)

    def _assign(self, name: str, value: HostArray) -> None:
        on = core().Stream(0, None)
        buffer = self._view(name, self.params[name], value.shape, "", on)
        buffer.upload(bits(value, buffer.dtype))

    # Arguments

    def _view(
        self, name: str, value: Any, shape: tuple[int, ...] | None, rule: str, on: Any
    ) -> Any:
        buffer = view(name, value, str(self.dtype), shape, rule, on)
        if buffer.device != self.device_index:
            raise ValueError(f"{name}: expected memory of {self.device}, got cuda:{buffer.device}")
        return buffer

    def _buffers(
        self, owner: str, arrays: dict[str, Any], on: Any, need: int = validate.READ
    ) -> dict[str, Any]:
        """Return the checked memory of `params` or `grads`, which the user may have replaced."""
        buffers = {}
        for name, (shape, rule) in self._shapes.items():
            if name not in arrays:
                raise ValueError(f"{owner or 'params'}: expected an array named {name}, got none")
            label = f"{owner}[{name!r}]" if owner else name
            buffers[name] = buffer = self._view(label, arrays[name], shape, rule, on)
            if need == validate.WRITE and buffer.readonly:
                raise ValueError(f"{label}: expected a writable array, got a read-only one")
        return buffers

    @staticmethod
    def _share(a: Any, b: Any) -> bool:
        return bool(a.pointer < b.pointer + b.nbytes and b.pointer < a.pointer + a.nbytes)

    def _state(self, state: Any, N: int, names: Any, on: Any) -> tuple[Any, ...] | None:
        if state is None:
            return None
        expected = names[self._letters]
        parts = state if len(expected) > 1 else (state,)
        if not isinstance(parts, tuple) or len(parts) != len(expected):
            owner = "dstate" if expected[0].startswith("d") else "state"
            wanted = f"({', '.join(expected)})"
            got = validate.describe(parts)
            raise TypeError(f"{owner}: expected the tuple {wanted} or None, got {got}")
        shape, rule = (len(self._slots), N, self.hidden_size), "(L*D, N, H)"
        pairs = zip(expected, parts, strict=True)
        return tuple([self._view(name, part, shape, rule, on) for name, part in pairs])

    def _lengths(self, lengths: Any, T: int, N: int, on: Any) -> Any:
        """Return lengths on the device, None if no row is shorter than T."""
        checked = validate.lengths(host("lengths", lengths), T, N)
        if checked is None:
            return None
        buffer = core().Buffer((N,), "int32", self.device_index, on)
        buffer.upload(checked.astype(np.int32), on)
        return buffer


def refuse(**options: object) -> None:
    """Refuse options that the device lacks, by name."""
    for name, value in options.items():
        if value is not None:
            raise _unheeded(name, None, value)


def _unheeded(name: str, wanted: object, value: object) -> ValueError:
    got = value if isinstance(value, (bool, int, float)) else validate.describe(value)
    return ValueError(f'{name}: expected {wanted} with device="cuda", got {got}')
