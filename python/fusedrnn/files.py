# SPDX-License-Identifier: MIT
"""Weights from and to safetensors files, as PyTorch has them there."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from .convert import Layer, expect_dtype, from_state_dict, on_host, own_names
from .errors import InputError, load_extra
from .layers import KINDS
from .weights import Array

__all__ = ["load_safetensors", "save_safetensors"]

MADE = ("batch_first", "dropout", "recurrent_dropout", "zoneout_h", "zoneout_c")
"""Options of a layer that neither its cell nor its weights tell."""


def load_safetensors(path: str | PathLike[str], prefix: str = "", **options: Any) -> Layer:
    """Return the layer that a safetensors file holds, as `from_state_dict` does.

    Only the layer's own arrays are read. A file of `save_safetensors` says which cell it is, and
    how the layer was made (batch_first, dropout, ...): `options` count more.

    Raises
    ------
    InputError
        Not a safetensors file, or safetensors is not installed.
    """
    safe_open = load_extra("safetensors").safe_open
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            dtypes = {name: _dtype(file, prefix + name) for name in own_names(file.keys(), prefix)}
            own = {
                name: _bfloat16(path, prefix + name)
                if dtype == "BF16"
                else file.get_tensor(prefix + name)
                for name, dtype in dtypes.items()
            }
    except (OSError, ValueError):
        raise
    except Exception as error:  # of a library of two languages, which documents no exceptions
        raise InputError(f"{path}: not safetensors that NumPy can read: {error}") from error
    if "BF16" in dtypes.values():
        expect_dtype(options)
    return from_state_dict(own, **(_told(path, metadata, prefix) | options))


def save_safetensors(layer: Layer, path: str | PathLike[str], prefix: str = "") -> None:
    """Write the parameters to a file that `safetensors.torch.load_file` and we read.

    Raises
    ------
    TypeError
        Not a layer.
    RuntimeError
        Read back, they are not the same.
    InputError
        safetensors is not installed.
    """
    layer = on_host(layer)
    from_state_dict(layer.state_dict(), cell=layer.cell)  # else a good file is lost to a bad layer
    arrays = {prefix + name: a for name, a in layer.state_dict().items()}
    made = {name: value for name in MADE if (value := getattr(layer, name))}
    metadata = {"format": "pt", f"{prefix}cell": layer.cell, f"{prefix}options": json.dumps(made)}
    load_extra("safetensors.numpy").save_file(arrays, path, metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the options, which the layer has
        loaded = load_safetensors(path, prefix)
    for name, a in layer.state_dict().items():
        if not np.array_equal(a, loaded.params[name], equal_nan=True):
            raise RuntimeError(f"{path}: {name} differs from what was written")


def _told(path: Any, metadata: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Return the options that a file of `save_safetensors` tells."""
    cell, text = metadata.get(f"{prefix}cell", ""), metadata.get(f"{prefix}options", "{}")
    try:
        made = json.loads(text)
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict) or not set(made) <= set(MADE):
        wanted = f"{prefix}options of {', '.join(MADE)}"
        raise InputError(f"{path}: expected {wanted} in its metadata, got {text}")
    return made | ({"cell": cell} if cell in KINDS else {})


def _dtype(file: Any, name: str) -> str:
    return str(file.get_slice(name).get_dtype())


def _bfloat16(path: Any, name: str) -> Array:
    """Return an array of a safetensors file as float32, of which bfloat16 is the upper half."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        halves = np.frombuffer(file.read(end - begin), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
