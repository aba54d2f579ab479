# SPDX-License-Identifier: MIT
"""What the user of the command line can put right, said in one line."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["InputError", "load_extra"]


class InputError(ValueError):
    """A file, an option or an installation that must change before the command can work.

    The command line prints the message as one line and exits with code 2.
    """


def load_extra(module: str, extra: str = "train") -> Any:
    """Import a module that only `pip install 'fusedrnn[extra]'` brings.

    Raises
    ------
    InputError
        It is not installed, or something that it needs is not.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        if (error.name or name).partition(".")[0] != name:
            raise InputError(f"{name} cannot be imported: {error}") from error
        raise InputError(f"{name} is missing: pip install 'fusedrnn[{extra}]'") from error
