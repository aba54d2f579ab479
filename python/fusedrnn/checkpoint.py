# SPDX-License-Identifier: MIT
"""A checkpoint: arrays in a safetensors file and a readable JSON beside it, or neither.

    checkpoint.json              facts, the name and SHA-256 of the arrays' file, its own SHA-256
    step-00000400.safetensors    arrays

The JSON is the checkpoint: renaming it into place, which the file system does at once or not at
all, is the moment when a new one takes effect. Its arrays are on disk before, under a name of
their own; those of the checkpoint before are removed after. Whatever the moment of a crash, the
JSON names a complete file that belongs to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError, load_extra
from .weights import Array

__all__ = ["load", "save"]

JSON = "checkpoint.json"
FORMAT = "fusedrnn checkpoint 1"
LARGEST_JSON = 1 << 26  # bytes
ARRAYS = re.compile(r"step-\d{8,}\.safetensors")


def save(folder: Path, step: int, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Put a checkpoint in the place of the one that `folder` holds, or of none.

    Parameters
    ----------
    folder : Path
        Exists.
    step : int
        Names the arrays' file, so it must differ from that of the checkpoint before, unless all
        arrays are equal.
    facts : mapping
        What JSON can hold, under any names but `format`, `arrays` and `sha256`.
    arrays : mapping of C-contiguous arrays
    """
    content = load_extra("safetensors.numpy").save(dict(arrays))
    name = f"step-{step:08}.safetensors"
    record = {
        "format": FORMAT,
        **facts,
        "arrays": {"file": name, "bytes": len(content), "sha256": _sha256(content)},
    }
    record["sha256"] = _sha256(_canonical(record))
    _write(folder / name, content)
    _write(folder / JSON, json.dumps(record, indent=2).encode() + b"\n")
    for other in os.listdir(folder):
        if is_own(other) and other not in (name, JSON):
            (folder / other).unlink(missing_ok=True)


def is_own(name: str) -> bool:
    """Tell whether `save` may overwrite or remove a file of this name."""
    whole = name.removesuffix(".partial")
    return whole == JSON or ARRAYS.fullmatch(whole) is not None


def load(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a checkpoint back: its facts and its arrays.

    Parameters
    ----------
    path : Path
        The folder, or either of its two files.

    Raises
    ------
    InputError
        There is none, it is not of this format, or not as it was written.
    """
    source = path
    if path.is_dir():
        source = path / JSON
    elif path.suffix == ".safetensors" and path.exists():
        source = path.with_name(JSON)
    record = _read_record(source)
    while True:
        try:
            return record, _read_arrays(source, record, path)
        except (InputError, OSError):
            before, record = record, _read_record(source)
            if record["arrays"] == before["arrays"]:
                raise  # else a running training has just replaced both files


def _read_record(source: Path) -> dict[str, Any]:
    """Read the JSON, and see to the part of it that this module wrote."""
    if source.name == JSON and source.parent.is_dir() and not source.exists():
        raise InputError(f"{source.parent}: holds no checkpoint ({JSON} is missing)")
    content = _read(source)
    try:
        record = json.loads(content)
        sha256 = record.pop("sha256", None) if isinstance(record, dict) else None
        canonical = _canonical(record)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not a fusedrnn checkpoint: not JSON, or damaged") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{source}: not a fusedrnn checkpoint: format is not {FORMAT!r}")
    if sha256 != _sha256(canonical):
        raise InputError(f"{source}: damaged or edited, it differs from what was written")
    match record.get("arrays"):
        case {"file": str(name), "bytes": int(), "sha256": str()} if ARRAYS.fullmatch(name):
            return record
    raise InputError(f"{source}: arrays: expected file, bytes and sha256")


def _read_arrays(source: Path, record: Mapping[str, Any], path: Path) -> dict[str, Array]:
    """Read the arrays that a record names; if `path` is an arrays' file, it must be that one."""
    arrays = source.parent / record["arrays"]["file"]
    if path.suffix == ".safetensors" and path.name != arrays.name:
        raise InputError(f"{path}: {source} belongs to {arrays.name}, not to this file")
    content = _read(arrays, record["arrays"]["bytes"])
    if _sha256(content) != record["arrays"]["sha256"]:
        raise InputError(f"{arrays}: damaged, it differs from what {source} says was written")
    safetensors = load_extra("safetensors.numpy")
    try:
        loaded: dict[str, Array] = safetensors.load(content)
    except Exception as error:  # a library of two languages, which documents no exceptions
        raise InputError(f"{arrays}: not safetensors: {error}") from error
    return loaded


def _read(path: Path, size: int | None = None) -> bytes:
    """Read a file of the given size, or of a size that a JSON of ours may have."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file or folder") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if size is not None and status.st_size != size:
            raise InputError(f"{path}: damaged, expected {size} bytes, got {status.st_size}")
        if size is None and status.st_size > LARGEST_JSON:
            raise InputError(
                f"{path}: not a fusedrnn checkpoint: {status.st_size} bytes are too many"
            )
        return file.read()


def _write(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it, even after a power cut."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
