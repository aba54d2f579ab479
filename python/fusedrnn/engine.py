# SPDX-License-Identifier: MIT
"""Which functions a layer or a cell computes with: `functional`, the kernels, or `reference`."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Protocol

from . import functional, validate


class Engine(Protocol):
    """What `functional` and `reference` both are; the types are in `functional`."""

    infer: Any
    forward: Any
    backward: Any
    dropout: Any


def unchecked(engine: Engine) -> Any:
    """Return the engine's functions for arguments that are checked already.

    Where lengths are unequal, `kernels` takes arrays without padding, `reference` with it.
    """
    return getattr(engine, "unchecked", engine)


class Computed:
    """What has an engine, which a copy of it has as well."""

    engine: Engine = functional
    """Set it to `fusedrnn.reference` to run the same in plain NumPy."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; TypeError for an engine that is none."""
        if name == "engine" and not all(
            hasattr(value, function) for function in Engine.__annotations__
        ):
            got = getattr(value, "__name__", validate.describe(value))
            raise TypeError(
                f"engine: expected fusedrnn.functional or fusedrnn.reference, got {got}"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes; an engine that is a module, which has no copy, by its name."""
        state = self.__dict__.copy()
        if isinstance(engine := state.get("engine"), ModuleType):
            state["engine"] = engine.__name__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes of `__getstate__`."""
        engine = state.get("engine")
        if isinstance(engine, str):
            state = state | {"engine": importlib.import_module(engine)}
        self.__dict__.update(state)
