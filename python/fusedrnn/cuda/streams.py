# SPDX-License-Identifier: MIT
"""On which stream a call runs, and to which library its results go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .. import validate
from .library import core, cuda_index

__all__ = ["Stream", "library_of", "stream_of"]


class Stream:
    """A new CUDA stream for `stream=` of a call, for those who have none of PyTorch or CuPy.

    What is computed on it keeps it alive.

    Parameters
    ----------
    device : "cuda" or "cuda:1", ...

    Raises
    ------
    ValueError
        A device that there is not.
    RuntimeError
        CUDA is not available.
    """

    def __init__(self, device: str = "cuda") -> None:
        self._core = core().Stream.create(cuda_index(device))

    def synchronize(self) -> None:
        """Wait until all that was enqueued is done.

        Raises
        ------
        RuntimeError
            A kernel failed.
        """
        self._core.synchronize()

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._core.handle


def library_of(x: object) -> str:
    """Return the name of the package that x's type is from, or one that it is derived from."""
    names = [kind.__module__.partition(".")[0] for kind in type(x).__mro__]
    return next((name for name in names if name in ("torch", "cupy")), names[0])


def importer_of(x: object) -> Callable[[Any], Any]:
    """Return what makes arrays of x's library out of ours, or leaves them as they are."""
    module = sys.modules.get(library_of(x))
    return getattr(module, "from_dlpack", None) or (lambda array: array)


def stream_of(stream: Any, x: object) -> Any:
    """Return the compiled module's stream of a `stream=` argument of a call with input x."""
    if stream is None:
        stream = _current(x)
    if isinstance(stream, Stream):
        return stream._core
    handle = stream
    if hasattr(stream, "__cuda_stream__"):
        handle = stream.__cuda_stream__()[1]
    else:
        for name in ("cuda_stream", "ptr"):  # PyTorch's, CuPy's
            handle = getattr(stream, name, handle)
    if not isinstance(handle, int) or isinstance(handle, bool):
        wanted = "None, a stream of PyTorch or CuPy, an object with __cuda_stream__, or a handle"
        raise TypeError(f"stream: expected {wanted}, got {validate.describe(stream)}")
    if not 0 <= handle < 2**64:
        raise ValueError(f"stream: expected a handle >= 0 of 64 bits, got {handle}")
    return core().Stream(0 if handle == 1 else handle, stream)  # 1 is another name of the default


def _current(x: object) -> Any:
    """Return the current stream of x's library; 0, the default stream, of others."""
    library, device = library_of(x), str(getattr(x, "device", ""))
    if library == "torch" and device.startswith("cuda"):
        return sys.modules["torch"].cuda.current_stream(device)
    if library == "cupy":
        return sys.modules["cupy"].cuda.get_current_stream()
    return 0
