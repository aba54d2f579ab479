# SPDX-License-Identifier: MIT
"""The compiled module `_cuda`: imported when it is first asked for, and why that may not work."""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

from .. import _core, validate

__all__ = [
    "core",
    "cuda_index",
    "device_index",
    "is_available",
    "origin",
    "unfit",
    "use",
    "why_not",
]

MINIMUM = (8, 0)
"""The compute capability from which on the tensor instructions of the kernels exist."""
TEGRA = (8, 7)
"""One that runs no machine code of others."""

_used: Any = None
_ready: Any = None
"""The module in use, once it was found to work."""


def use(module: Any) -> None:
    """Run on this module in the place of `_cuda` from now on; None ends it.

    It is for a module of the same functions, such as the emulator that the tests run on. Arrays and
    layers made before belong to the module before.
    """
    global _used, _ready
    _used, _ready = module, None


def origin() -> str:
    """Return where the module in use is from."""
    return f"built by {_core.cuda_build}" if _used is None else "a module given to cuda.use"


def why_not() -> str | None:
    """Return what keeps `device="cuda"` from working here, None if nothing does.

    The first device decides: with an older one there, `CUDA_VISIBLE_DEVICES` can name the others.

    Examples
    --------
    >>> isinstance(why_not(), str) or is_available()
    True
    """
    module = _used or _imported()
    if isinstance(module, str):
        return module
    try:
        count = module.device_count()
    except RuntimeError as error:
        return str(error)
    if count == 0:
        return "there is no CUDA device"
    return unfit(module, 0)


def unfit(module: Any, index: int) -> str | None:
    """Return why the kernels do not run on this device, None if they do."""
    facts = module.device(index)
    major, minor = facts["capability"]
    has = f"the device has compute capability {major}.{minor}"
    if (major, minor) < MINIMUM:
        return f"{has}, 8.0 or newer is needed"
    names = "" if module is _used else _core.cuda_build.partition("architectures ")[2]
    if names and not any(runs_on(name, major, minor) for name in names.split()):
        return f"{has}, the kernels are for {names}"
    return None if facts["memory_pools"] else "the device has no memory pools"


def runs_on(architecture: str, major: int, minor: int) -> bool:
    """Return whether what is compiled for it, as CMake names it, runs on a device."""
    known = re.fullmatch(r"(\d+)(\d)([af]?)(-real|-virtual)?", architecture)
    if known is None:  # native, all, all-major
        return True
    wanted, (suffix, only) = (int(known[1]), int(known[2])), known.groups()[2:]
    if suffix == "a":  # that device and no other
        return (major, minor) == wanted
    code = only != "-virtual" or suffix == "f"
    ptx = only != "-real" and suffix == ""
    if (major, minor) == TEGRA:
        code = code and wanted == TEGRA
    return (major, minor) >= wanted and ((code and major == wanted[0]) or ptx)


def is_available() -> bool:
    """Return whether `device="cuda"` works here; if not, `why_not` says why."""
    return why_not() is None


def core() -> Any:
    """Return the compiled module.

    Raises
    ------
    RuntimeError
        There is none, or no device for it.
    """
    global _ready
    if _ready is None:
        if (reason := why_not()) is not None:
            raise RuntimeError(f"CUDA is not available: {reason}")
        _ready = _used or _imported()
    return _ready


def device_index(device: object) -> int | None:
    """Return i of "cuda:i", 0 of "cuda", None of "cpu"."""
    if not isinstance(device, str):
        raise TypeError(f"device: expected str, got {validate.describe(device)}")
    if device == "cpu":
        return None
    known = re.fullmatch(r"cuda(?::(0|[1-9][0-9]{0,8}))?", device)
    if known is None:
        raise ValueError(f"device: expected cpu, cuda or cuda:0, cuda:1, ..., got {device!r}")
    return int(known[1] or 0)


def cuda_index(device: object) -> int:
    """Return i of "cuda:i", and 0 of "cuda", if there is that device."""
    if (index := device_index(device)) is None:
        raise ValueError(f"device: expected cuda or cuda:0, cuda:1, ..., got {device!r}")
    if index >= (count := core().device_count()):
        raise ValueError(f"device: expected cuda:0 to cuda:{count - 1}, got {device!r}")
    return index


@functools.cache
def _imported() -> Any:
    """Return the module `_cuda`, or why there is none."""
    if _core.cuda_build.startswith("not built"):
        return _core.cuda_build
    try:
        return importlib.import_module("fusedrnn._cuda")
    except ImportError as error:
        return f"_cuda cannot be imported: {error}"
