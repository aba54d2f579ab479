# SPDX-License-Identifier: MIT
"""A training run and the folder it lives in: begun, stored, taken up again, read as a model."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, checkpoint
from .charlm import CharModel
from .corpus import Corpus, Vocabulary, read_corpus
from .errors import InputError
from .training import Settings, Trainer, part
from .weights import Array

__all__ = ["Limits", "Run", "load_model"]

LOCK = "lock"
"""File that a training holds locked; it stays, for to remove it would let two in."""

PICTURE = "loss.png"
"""File that the report of a run writes."""


@dataclass(frozen=True)
class Limits:
    """When to stop: at the first of these that is reached.

    The defaults make Python-like text on 2 cores, and are over in time on slower ones.
    """

    steps: int | None = 6000
    minutes: float | None = 2.0
    """Time spent in training, over all continuations."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value}")


@dataclass
class Run:
    """A trainer, when it is to stop, and where its checkpoint is."""

    folder: Path
    corpus: Corpus
    trainer: Trainer
    limits: Limits
    seconds: float = 0.0
    """Spent in training so far."""

    @classmethod
    @contextmanager
    def start(cls, folder: Path, files: Sequence[str], settings: Settings) -> Iterator[Run]:
        """Begin a run in a folder that holds none, and keep other trainings out of it.

        Raises
        ------
        InputError
            The folder holds a run or what this one would overwrite, or the files will not do.
        """
        _check_holds_no_run(folder)
        corpus = read_corpus(files)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _check_holds_no_run(folder)  # another may have come and gone in the meantime
            yield cls(folder, corpus, Trainer(settings, corpus), Limits())

    @classmethod
    @contextmanager
    def resume(cls, folder: Path, files: Sequence[str], given: Mapping[str, Any]) -> Iterator[Run]:
        """Take up the run of a folder where its checkpoint left it; keep other trainings out.

        Parameters
        ----------
        folder : Path
        files : sequence of str
            The text, if its files have moved.
        given : mapping
            Settings, by name, which must be those of the run.

        Raises
        ------
        InputError
            There is no checkpoint, it is damaged, or of other settings or another text.
        """
        with _locked(folder):
            yield cls._load(folder, files, given)

    @classmethod
    def _load(cls, folder: Path, files: Sequence[str], given: Mapping[str, Any]) -> Run:
        record, arrays = checkpoint.load(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: expected the folder of a run, got a file of it")
        with _reading(folder):
            settings = Settings(**record["settings"])
            seconds, limits = record["seconds"], Limits(**record["limits"])
            if not isinstance(seconds, float) or not 0 <= seconds <= 1e9:
                raise ValueError(f"seconds: expected a number in 0..1e9, got {seconds!r}")
            sha256, vocabulary = record["corpus"]["sha256"], record["vocabulary"]
            files = files or [str(path) for path in record["corpus"]["files"]]
        for name, value in given.items():
            if value != getattr(settings, name):
                raise InputError(
                    f"--{name} {value}: the run in {folder} has {getattr(settings, name)}"
                )
        corpus = read_corpus(files)
        if corpus.sha256 != sha256 or corpus.vocabulary.characters != vocabulary:
            raise InputError(f"corpus: the text is not the one that the run in {folder} began with")
        with _reading(folder):
            _check_arrays(settings, corpus.vocabulary, arrays)
            trainer = Trainer(settings, corpus)
            trainer.load_state_dict(arrays)
        return cls(folder, corpus, trainer, limits, seconds)

    def save(self) -> None:
        """Store the run as it stands, in the place of what the folder holds."""
        trainer, corpus = self.trainer, self.corpus
        recent = trainer.losses[-100:]
        facts = {
            "fusedrnn": __version__,
            "step": trainer.steps,
            "seconds": self.seconds,
            "bits_per_character": sum(recent) / len(recent) / math.log(2) if recent else None,
            "settings": asdict(trainer.settings),
            "limits": asdict(self.limits),
            "corpus": {"files": corpus.files, "sha256": corpus.sha256},
            "vocabulary": corpus.vocabulary.characters,
        }
        checkpoint.save(self.folder, trainer.steps, facts, trainer.state_dict())

    @property
    def characters_per_step(self) -> int:
        """Characters that one step learns from."""
        return self.trainer.streams.batch * self.trainer.streams.chunk

    @property
    def progress(self) -> float:
        """Part of the way to the nearest limit; 1 or more when the run is to stop."""
        done = 0.0
        if self.limits.steps is not None:
            done = self.trainer.steps / self.limits.steps
        if self.limits.minutes is not None:
            done = max(done, self.seconds / (60 * self.limits.minutes))
        return done


def load_model(path: str | Path) -> CharModel:
    """Read the model of a run from its folder, or from either file of the checkpoint.

    Raises
    ------
    InputError
        There is no checkpoint, or it is damaged or not of a character model.
    """
    record, arrays = checkpoint.load(Path(path))
    with _reading(path):
        settings, vocabulary = Settings(**record["settings"]), Vocabulary(record["vocabulary"])
        _check_arrays(settings, vocabulary, arrays)
        model = CharModel(
            vocabulary, settings.cell, settings.hidden, settings.layers, dtype=settings.dtype
        )
        model.load_state_dict(part(arrays, "model"))
    return model


def _check_holds_no_run(folder: Path) -> None:
    if (folder / checkpoint.JSON).exists():
        raise InputError(f"{folder}: holds a run; add --resume, or name another with --out")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, got a file")
    for path in sorted(folder.glob("*")):
        if path.name == PICTURE or checkpoint.is_own(path.name):
            raise InputError(f"{path}: would be lost; move it, or name another folder with --out")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one training at a time work in a folder; however it ends, the system unlocks."""
    if not folder.is_dir():
        yield
        return
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another training is at work in it") from error
        yield


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Say of any value that does not fit that the checkpoint is not of a run."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a checkpoint of a character model: {reason}") from error


def _check_arrays(settings: Settings, vocabulary: Vocabulary, arrays: Mapping[str, Array]) -> None:
    """Compare sizes before any memory is taken for them, and refuse a model that diverged."""
    expected, actual = (len(vocabulary), settings.hidden), arrays["model.head.weight"].shape
    if actual != expected or f"model.rnn.weight_hh_l{settings.layers - 1}" not in arrays:
        raise ValueError(f"settings: they do not fit model.head.weight {actual}")
    for name, array in arrays.items():
        if name.startswith("model.") and not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers")
