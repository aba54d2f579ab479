# SPDX-License-Identifier: MIT
"""Arrays in the memory of a device: our own, and views of other libraries'."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..parameters import as_array
from ..weights import Array as HostArray
from .library import core, cuda_index

__all__ = ["Array", "host", "view"]

DTYPES = ("float32", "bfloat16", "int32", "int64")


class Array:
    """A C-contiguous array in the memory of a CUDA device.

    Other libraries share its memory through `__dlpack__` and `__cuda_array_interface__`:
    `torch.from_dlpack(array)`, `cupy.asarray(array)`.

    Parameters
    ----------
    values : array_like
        What it holds in the beginning, copied.
    dtype : "float32", "bfloat16", "int32" or "int64", optional
        By default that of values. Floats of any width make floats, rounded to nearest, ties to
        even, bfloat16 by way of float32; integers make integers that hold them. No other cast is
        made.
    device : "cuda" or "cuda:0", "cuda:1", ...

    Raises
    ------
    TypeError
        A dtype of another kind; values that are no floats, or no integers, as it needs.
    ValueError
        No values; an integer beyond the dtype; a device that there is not.
    RuntimeError
        CUDA is not available, or out of memory.
    """

    __slots__ = ("_buffer",)
    _buffer: Any

    def __init__(self, values: Any, dtype: Any = None, device: str = "cuda") -> None:
        a = as_array("values", values)
        name = a.dtype.name if dtype is None else dtype_name(dtype, DTYPES)
        if name not in DTYPES:
            raise TypeError(f"dtype: expected one of {', '.join(DTYPES)}, got {name}")
        if a.size == 0:
            raise ValueError(f"values: expected sizes >= 1, got shape {a.shape}")
        values = bits(a, name)
        self._buffer = core().Buffer(a.shape, name, cuda_index(device))
        self._buffer.upload(values)

    @classmethod
    def of(cls, buffer: Any) -> Array:
        """Return the array of a buffer of the compiled module."""
        array: Array = cls.__new__(cls)
        array._buffer = buffer
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes."""
        return self._buffer.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> str:
        """The name of the dtype."""
        return self._buffer.dtype  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._buffer.nbytes  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """Where it is, as "cuda:0"."""
        return f"cuda:{self._buffer.device}"

    def numpy(self) -> HostArray:
        """Return a copy on the host, bfloat16 as float32, after all work on the device is done."""
        return host_values(self._buffer)

    def copy_from(self, values: Any) -> None:
        """Copy values of the same shape in, after all work on the device is done.

        Floats of any width into floats, rounded to nearest; integers into integers.

        Raises
        ------
        TypeError
            Values of another kind.
        ValueError
            Another shape; an integer beyond the dtype.
        """
        a = as_array("values", values)
        if a.shape != self.shape:
            raise ValueError(f"values: expected shape {self.shape}, got {a.shape}")
        self._buffer.upload(bits(a, self.dtype))

    def __repr__(self) -> str:
        return f"Array(shape={self.shape}, dtype={self.dtype}, device={self.device})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Array, (self.numpy(), self.dtype, self.device)

    def __array__(self, dtype: Any = None, copy: Any = None) -> HostArray:
        raise TypeError("Array: expected a call of .numpy(), which copies it to the host")

    def __dlpack__(self, **options: Any) -> Any:
        return self._buffer.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._buffer.__dlpack_device__()  # type: ignore[no-any-return]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._buffer.__cuda_array_interface__  # type: ignore[no-any-return]


def dtype_name(dtype: Any, names: tuple[str, ...]) -> str:
    """Return the name of a dtype, which must be one of these; "bfloat16" need not be known."""
    try:
        name = dtype if dtype == "bfloat16" else np.dtype(dtype).name
    except (TypeError, ValueError):
        name = str(dtype).removeprefix("torch.")
    if dtype is None or name not in names:
        raise TypeError(f"dtype: expected {' or '.join(names)}, got {dtype!r}")
    return str(name)


def bits(a: HostArray, name: str) -> HostArray:
    """Return checked values as NumPy holds those of a dtype: bfloat16 as its bits."""
    kinds, wanted = ("f", "floats") if name in DTYPES[:2] else ("iu", "integers")
    if a.dtype.kind not in kinds:
        raise TypeError(f"values: expected {wanted} for dtype {name}, got dtype {a.dtype}")
    if kinds == "iu":
        limits = np.iinfo(name)
        for n in (int(a.min()), int(a.max())):
            if not limits.min <= n <= limits.max:
                raise ValueError(f"values: expected integers that {name} holds, got {n}")
    if name != "bfloat16":
        return np.asarray(a, name, order="C")
    wide = np.asarray(a, np.float32, order="C")
    whole = wide.view(np.uint32)
    with np.errstate(over="ignore"):  # of NaN
        rounded = (whole + (0x7FFF + (whole >> 16 & 1))) >> 16
    return np.asarray(np.where(np.isnan(wide), whole >> 16 | 0x40, rounded), np.uint16)


def host_values(buffer: Any) -> HostArray:
    """Return a copy of a buffer, bfloat16 as float32."""
    a: HostArray = buffer.download()
    return a if buffer.dtype != "bfloat16" else (a.astype(np.uint32) << 16).view(np.float32)


def host(name: str, value: Any) -> Any:
    """Return an argument's values from a device or another library; NumPy's as they are."""
    if isinstance(value, Array):
        return value.numpy()
    if isinstance(value, np.ndarray):
        return value
    kind = value.__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else None
    if kind == 1:  # DLPack's number of host memory; it has neither bfloat16 nor PyTorch's signs
        return as_array(name, value) if hasattr(value, "__array__") else np.from_dlpack(value)
    if kind is not None or hasattr(value, "__cuda_array_interface__"):
        return host_values(core().Buffer.view(value, name, core().Stream(0, None)))
    return value


def view(
    name: str, value: Any, dtype: str, shape: tuple[int, ...] | None, rule: str, on: Any
) -> Any:
    """Return the checked memory of an argument, ready for work on the stream `on`."""
    buffer = value._buffer if isinstance(value, Array) else core().Buffer.view(value, name, on)
    if buffer.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {buffer.dtype}")
    if shape is not None and buffer.shape != shape:
        raise ValueError(f"{name}: expected shape {rule} = {shape}, got {buffer.shape}")
    return buffer
