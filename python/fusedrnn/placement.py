# SPDX-License-Identifier: MIT
"""Where a layer is: which class its constructor makes for a device, and copies for another one."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["Placed"]

OWN = ("self", "dtype", "seed", "device")
"""Of a constructor's parameters, those that are no options of the layer."""


class Placed:
    """What layers have that can be made for a device."""

    cell: str
    dtype: Any
    device: str
    """ "cpu", "cuda", or "cuda:1", ..."""

    def __new__(cls, *args: Any, device: Any = "cpu", **options: Any) -> Any:
        """Return a new object of this class, or of what it is on a device."""
        if device != "cpu":
            from .cuda.recurrent import class_on

            cls = class_on(cls, device)
        return object.__new__(cls)

    def to(self, device: str, dtype: Any = None) -> Any:
        """Return a new layer with these weights on a device; this one stays as it is.

        Parameters
        ----------
        device : "cpu", "cuda" or "cuda:1", ...
        dtype : optional
            By default that of this layer; float32 for bfloat16 on the host, which has none.

        Raises
        ------
        TypeError
            A dtype that the device does not have: "bfloat16" on the host, float64 with CUDA.
        ValueError
            An option that the device does not have.
        RuntimeError
            CUDA is not available, or out of memory.

        Examples
        --------
        >>> import fusedrnn
        >>> fusedrnn.GRU(2, 3, bidirectional=True).to("cpu", dtype="float64")
        GRU(2, 3, bidirectional=True, dtype=float64)
        """
        from .layers import KINDS

        kind = KINDS[self.cell][0]
        names = inspect.signature(kind).parameters
        options = {name: getattr(self, name) for name in names if name not in OWN}
        if dtype is None:
            dtype = "float32" if (device, self.dtype) == ("cpu", "bfloat16") else self.dtype
        layer: Any = kind(**options, dtype=dtype, device=device)
        layer.load_state_dict(self.state_dict())  # type: ignore[attr-defined]
        if device == "cpu" and "engine" in vars(self):
            layer.engine = vars(self)["engine"]
        return layer

    def _check_options(self) -> None:
        """Refuse options that the device does not have."""
