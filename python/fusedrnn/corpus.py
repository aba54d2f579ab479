# SPDX-License-Identifier: MIT
"""Text into numbers: which files, which characters, which part is held out.

Everything here is a function of the files alone, so that a run can be continued on the same text.
How a model reads it, chunk by chunk, is in `training`.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError
from .weights import Array

__all__ = ["UNKNOWN", "Corpus", "Vocabulary", "read_corpus", "standard_library"]

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for every character outside the vocabulary; its index is 0."""

HELD_OUT = 0.05
"""Least part of the characters that is held out."""

LIBRARY_CHARACTERS = 12_000_000
"""Bound on the default corpus; CPython 3.11 has about 8 million."""

# Tests, tables, help texts: not the Python that one would learn to write. Folders and files.
LIBRARY_SKIPPED = {
    *("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"),
    *("idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data", "ensurepip"),
    *("locale.py", "entities.py"),
}


class Vocabulary:
    """The characters a model knows, numbered from 1 by code point; 0 is `UNKNOWN`.

    Parameters
    ----------
    characters : str
        In any order, `UNKNOWN` or not among them.

    Examples
    --------
    >>> vocabulary = Vocabulary("hello")
    >>> vocabulary.encode("hey").tolist(), vocabulary.decode([2, 1, 3])
    ([2, 1, 0], 'hel')
    """

    def __init__(self, characters: str) -> None:
        self.characters = UNKNOWN + "".join(sorted(set(characters) - {UNKNOWN}))
        self._points = _code_points(self.characters[1:])

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Collect the characters of a text; in a long one, those seen less than 1 in 10⁶ not."""
        points, counts = np.unique(_code_points(text), return_counts=True)
        common = points[counts >= len(text) / 1e6]
        return cls("".join(map(chr, common.tolist())))

    def __len__(self) -> int:
        """Count the characters, `UNKNOWN` among them."""
        return len(self.characters)

    def encode(self, text: str) -> Array:
        """Return the index of each character, (len(text),) int32."""
        points = _code_points(text)
        if not self._points.size:
            return np.zeros(points.size, np.int32)
        found = np.searchsorted(self._points, points).clip(max=self._points.size - 1)
        return np.where(self._points[found] == points, found + 1, 0).astype(np.int32)

    def decode(self, indices: Sequence[int] | Array) -> str:
        """Return the text of indices, the inverse of `encode`."""
        return "".join(self.characters[i] for i in indices)


@dataclass(frozen=True)
class Corpus:
    """A text for training and one held out, encoded; and what is needed to recognise it."""

    files: tuple[str, ...]
    """Where it came from; empty for the standard library."""
    vocabulary: Vocabulary
    """Of the training text."""
    train: Array
    """(characters,) int32."""
    held_out: Array
    """(characters,) int32, of files that are not in `train` where there are several."""
    sha256: str
    """Of both texts, and of where one ends."""


def standard_library() -> list[Path]:
    """List the source files of the running Python's standard library.

    Tests, tables and installed packages are left out. The order is scattered, so that any part of
    it has some of everything, and the same on every machine: by the SHA-256 of the path.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - LIBRARY_SKIPPED)
        sources = set(names) - LIBRARY_SKIPPED
        found += [Path(folder, name) for name in sources if name.endswith(".py")]
    relative = {path: path.relative_to(root).as_posix() for path in found}
    return sorted(found, key=lambda path: hashlib.sha256(relative[path].encode()).digest())


def read_corpus(files: Sequence[str | Path] = ()) -> Corpus:
    """Read text files, by default the standard library's, and hold out the last of them.

    Whole files from the end are held out until they make 5 % of the characters; of a single file,
    or where that would leave none, the last 5 %.

    Parameters
    ----------
    files : sequence of paths
        UTF-8, in the order in which they are to be read; line ends become new line characters.

    Raises
    ------
    InputError
        A file cannot be read or is not UTF-8, or there are too few characters.
    """
    if "" in files:  # which would be the current directory
        raise InputError("corpus: expected paths of files, got ''")
    texts = [_read(Path(path)) for path in files] if files else _read_library()
    train, held_out = _split(texts)
    if len(train) < 2 or len(held_out) < 2:
        total = sum(map(len, texts))
        raise InputError(f"corpus: too few characters to train on, got {total}")
    vocabulary = Vocabulary.of(train)
    if len(vocabulary) == 1:
        raise InputError("corpus: no character is known, all are replacement characters")
    return Corpus(
        files=tuple(os.path.abspath(path) for path in files),
        vocabulary=vocabulary,
        train=vocabulary.encode(train),
        held_out=vocabulary.encode(held_out),
        sha256=hashlib.sha256(f"{len(train)} {train}{held_out}".encode()).hexdigest(),
    )


def _read_library() -> list[str]:
    texts, total = [], 0
    for path in standard_library():
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        total += len(text)
        if total > LIBRARY_CHARACTERS:
            break
        texts.append(text)
    if not texts:
        raise InputError("corpus: this Python has no library sources; name text files instead")
    return texts


def _read(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path}: a directory, not a text file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(f"{path}: not UTF-8: byte 0x{byte:02x} at {error.start}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # as a null character, from a JSON of someone else
        raise InputError(f"{str(path)!r}: {error}") from error


def _split(texts: list[str]) -> tuple[str, str]:
    """Join texts, one after the other, into a training text and one held out."""
    wanted = HELD_OUT * sum(map(len, texts))
    first = len(texts)
    while first > 1 and sum(map(len, texts[first:])) < wanted:
        first -= 1
    train, held_out = "\n".join(texts[:first]), "\n".join(texts[first:])
    if len(held_out) < wanted or len(held_out) > len(train):
        whole = "\n".join(texts)
        cut = min(int((1 - HELD_OUT) * len(whole)), len(whole) - 2)
        train, held_out = whole[: max(cut, 0)], whole[max(cut, 0) :]
    return train, held_out


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
