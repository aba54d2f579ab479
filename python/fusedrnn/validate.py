# SPDX-License-Identifier: MIT
"""Every check of an argument but `Weights`, one function per kind; nothing that computes.

A message is `name: expected rule = numbers, got what came`. TypeError is a wrong kind or dtype,
ValueError a wrong shape, size, layout or name. Nothing here converts or copies, except token
indices of another integer dtype. Good arguments pass with hardly a string being built.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .weights import CELLS, Array, Cell, State

ndarray = np.ndarray
ARRAYS = ndarray, np.memmap
F32, F64 = FLOATS = np.dtype(np.float32), np.dtype(np.float64)
INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)
MOST_INT64 = np.iinfo(np.int64).max
LARGEST_SIZE, MOST_LAYERS = 2**31 - 1, 2**16

# Bits of ndarray.flags.num, as NPY_ARRAY_C_CONTIGUOUS, _ALIGNED and _WRITEABLE in NumPy's C API:
# one attribute read instead of three.
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
READ = C_CONTIGUOUS | ALIGNED
WRITE = READ | WRITEABLE

# The arrays of a state and of its gradient, by `Cell.state_letters`.
STATE_NAMES = {"h": ("h_0",), "hc": ("h_0", "c_0")}
DSTATE_NAMES = {"h": ("dh_n",), "hc": ("dh_n", "dc_n")}


def array(
    name: str, a: object, dtype: np.dtype[Any], shape: tuple[int, ...], rule: str, need: int = READ
) -> None:
    """Check one array whose shape is known; `rule` says the shape in letters."""
    if type(a) is ndarray and a.dtype == dtype and a.shape == shape and a.flags.num & need == need:
        return
    checked = kind(name, a, (dtype,))
    if checked.shape != shape:
        raise ValueError(f"{name}: expected shape {rule} = {shape}, got {checked.shape}")
    layout(name, checked, need)


def rows(
    name: str, a: object, dtype: np.dtype[Any], shape: tuple[int, ...], rule: str, need: int = READ
) -> None:
    """Check an array (T, N, H) whose rows may lie apart, as in `big[:, :, :H]`."""
    if isinstance(a, np.ndarray) and a.shape == shape and not a.flags.c_contiguous:
        (step, row, unit), size = a.strides, a.itemsize
        if shape[1] == 1:  # the stride of an axis of size 1 means nothing
            row = step if shape[0] > 1 else shape[2] * size
        if shape[0] == 1:
            step = shape[1] * row
        together = unit == size or shape[2] == 1
        if together and row >= shape[2] * size and row % size == 0 and step == shape[1] * row:
            need &= ~C_CONTIGUOUS
    array(name, a, dtype, shape, rule, need)


def cell(name: str) -> Cell:
    """Return the cell of that name."""
    try:
        return CELLS[name]
    except (KeyError, TypeError):
        if not isinstance(name, str):
            raise TypeError(f"cell: expected str, got {type(name).__name__}") from None
        raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {name!r}") from None


def floats(name: str, a: object) -> Array:
    """Return an array of a dtype the kernels know, of any shape without a size of 0."""
    checked = kind(name, a, FLOATS)
    if checked.ndim == 0 or checked.size == 0:
        raise ValueError(f"{name}: expected 1 or more sizes >= 1, got shape {checked.shape}")
    return layout(name, checked, READ)


def inputs(
    x: object, dtype: np.dtype[Any], I: int, axes: tuple[str, ...] = ("T", "N", "I")
) -> Array:
    """Return an input: floats of every axis, or token indices, as int64, without the last one."""
    if isinstance(x, ndarray) and x.dtype.kind in "iu":
        return integers("x", x, axes[:-1])
    return sequence("x", x, dtype, I, axes)


def sequence(
    name: str, a: object, dtype: np.dtype[Any], width: int, axes: tuple[str, ...]
) -> Array:
    """Check an array whose last size is known; the others are its own, and "..." is any number."""
    checked = kind(name, a, (dtype,))
    shape = checked.shape
    if shape[-1:] != (width,) or (len(shape) != len(axes) and axes[0] != "..."):
        wanted = f"({', '.join(axes)}) with {axes[-1]} = {width}"
        raise ValueError(f"{name}: expected shape {wanted}, got {shape}")
    if checked.size == 0:
        raise ValueError(f"{name}: expected {', '.join(axes)} >= 1, got shape {shape}")
    return layout(name, checked, READ)


def integers(name: str, a: object, axes: tuple[str, ...]) -> Array:
    """Return indices as int64: itself, or one copy if they are of another integer dtype."""
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an ndarray of integers, got {describe(a)}")
    if a.ndim != len(axes) or a.size == 0:
        wanted = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        raise ValueError(f"{name}: expected integers {wanted}, sizes >= 1, got shape {a.shape}")
    layout(name, kind(name, a, (a.dtype,)), READ)
    if a.dtype == np.uint64 and a.max() > MOST_INT64:
        raise ValueError(f"{name}: expected integers up to {MOST_INT64}, got {a.max()}")
    return a if a.dtype == INT64 else a.astype(INT64)


def indices(name: str, a: Array, size: int) -> None:
    """Check that every element is in [0, size), as the kernels do for themselves."""
    if a.min() < 0 or a.max() >= size:
        raise ValueError(f"{name}: expected indices in [0, {size}), got {a.min()} to {a.max()}")


def lengths(value: object, T: int, N: int) -> Array | None:
    """Return lengths (N,) in [0, T] as int64; None if they are None or no row is shorter than T."""
    if value is None:
        return None
    checked = integers("lengths", value, ("N",))
    if checked.shape != (N,):
        raise ValueError(f"lengths: expected shape (N,) = ({N},), got {checked.shape}")
    least, most = checked.min(), checked.max()
    if least < 0 or most > T:
        raise ValueError(f"lengths: expected 0 to T = {T}, got {least} to {most}")
    if most == 0:
        raise ValueError("lengths: expected one of 1 or more, got zeros")
    return None if least == T else checked


def state(
    value: State,
    names: Sequence[str],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    rule: str,
    P: int | None = None,
) -> None:
    """Check a tuple with one array per name, such as `(h_0, c_0)`; h is P wide if P is given."""
    if not isinstance(value, tuple) or len(value) != len(names):
        owner = "dstate" if names[0].startswith("d") else "state"
        wanted = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
        raise TypeError(f"{owner}: expected the tuple {wanted} or None, got {describe(value)}")
    for name, a in zip(names, value):  # noqa: B905  # lengths are equal, and strict costs time
        if P is None or shape[-1] == P:
            array(name, a, dtype, shape, rule)
        else:
            array(name, a, dtype, (*shape[:-1], P), rule.replace("H)", "P)"))
            P = None  # only h, the first, is projected


def apart(name: str, written: Array, read: Array) -> None:
    """Check that memory to be written is not also read."""
    if np.may_share_memory(written, read):
        raise ValueError(f"{name}: expected memory of its own, got memory shared with an input")


def integer(name: str, value: object, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """Return an int within bounds, both included."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer, got {describe(value)}")
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {low} <= {name} <= {high}, got {number}")
    return number


def size(name: str, value: object) -> int:
    """Return a size of a layer as int."""
    return integer(name, value, 1, LARGEST_SIZE)


def probability(name: str, value: object) -> float:
    """Return a number in [0, 1] as float."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {value}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """Return True or False."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name}: expected True or False, got {describe(value)}")


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return one of these words."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected str, got {describe(value)}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def float_dtype(value: Any) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype."""
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError):
        dtype = INT64
    if value is None or dtype not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {value!r}")
    return F32 if dtype == F32 else F64


def kind(name: str, a: object, dtypes: Sequence[np.dtype[Any]]) -> Array:
    """Check the type and the dtype: a memory map is an array, a masked array is not."""
    if type(a) in ARRAYS and a.dtype in dtypes:  # type: ignore[attr-defined]
        return a  # type: ignore[return-value]
    wanted = " or ".join(map(str, dtypes))
    if type(a) in ARRAYS:
        raise TypeError(f"{name}: expected dtype {wanted}, got {a.dtype}")  # type: ignore[attr-defined]
    raise TypeError(f"{name}: expected ndarray of dtype {wanted}, got {describe(a)}")


def layout(name: str, a: Array, need: int) -> Array:
    """Check the flags in `need`."""
    lacks = need & ~a.flags.num
    if lacks & C_CONTIGUOUS:
        hint = "use np.ascontiguousarray"
        raise ValueError(f"{name}: expected C-contiguous, got strides {a.strides}; {hint}")
    if lacks & ALIGNED:
        raise ValueError(f"{name}: expected aligned memory, got unaligned; use its copy()")
    if lacks & WRITEABLE:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return a


def describe(value: object) -> str:
    """Say what came: the type, and what can be said of it in a few words."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"{kind} of dtype {value.dtype}, shape {value.shape}"
    if isinstance(value, tuple):
        return f"tuple of {len(value)}"
    return kind
