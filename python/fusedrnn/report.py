# SPDX-License-Identifier: MIT
"""What is said of a run at its end: held-out loss, a sample, a picture, the speed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from . import functional, get_num_threads, isa, reference
from .plot import loss_curve
from .run import PICTURE, Run
from .training import evaluate

__all__ = ["counted", "describe", "report"]

SAMPLE = 600
"""Characters in the sample."""

TIMING_SECONDS = 5.0
"""After which no further round of timing begins."""


def describe(run: Run, say: Callable[[str], None]) -> None:
    """Say what is trained on what, before the first step."""
    corpus, trainer = run.corpus, run.trainer
    source = "the standard library" if not corpus.files else counted(len(corpus.files), "file")
    say(
        f"corpus     {source}: {corpus.train.size:,} characters and {corpus.held_out.size:,} "
        f"held out, vocabulary of {len(corpus.vocabulary)}"
    )
    parameters = sum(a.size for a in trainer.model.state_dict().values())
    say(
        f"model      {_title(run)}, {parameters:,} parameters; a step reads "
        f"{counted(trainer.streams.batch, 'stream')} of "
        f"{counted(trainer.streams.chunk, 'character')}"
    )
    if trainer.steps:
        say(f"resumed    at step {trainer.steps:,}, after {run.seconds:.0f} s")


def report(run: Run, say: Callable[[str], None]) -> None:
    """Evaluate, write, draw and time; one `say` for each, as it is known."""
    trainer, corpus = run.trainer, run.corpus
    read = trainer.steps * run.characters_per_step
    say(
        f"training   {counted(trainer.steps, 'step')}, {counted(read, 'character')}, "
        f"{run.seconds:.0f} s, {read / (run.seconds or math.inf):,.0f} characters/s"
    )
    loss, characters = evaluate(trainer.average, corpus.held_out)
    bits = f"{loss / math.log(2):.3f} bits per character"
    say(f"held out   {bits}, {counted(characters, 'character')}")

    sample = "".join(
        trainer.average.generate("\n", SAMPLE, temperature=0.7, seed=trainer.settings.seed)
    )
    say(f"sample     temperature 0.7, seed {trainer.settings.seed}\n\n{sample.strip()}\n")

    picture = run.folder / PICTURE
    loss_curve(picture, trainer.losses, run.characters_per_step, loss, _title(run))
    say(f"picture    {picture}")

    kernel, plain, rounds = _step_seconds(run)
    say(
        f"speed      one step forward and back: kernels {1e3 * kernel:.1f} ms, "
        f"NumPy reference {1e3 * plain:.1f} ms, {plain / kernel:.1f} times "
        f"({counted(get_num_threads(), 'thread')}, {isa()}, best of {rounds})"
    )
    say(f"checkpoint {run.folder}")


def counted(number: int, noun: str) -> str:
    """Return a number of things, in words.

    Examples
    --------
    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {noun}" + "s" * (number != 1)


def _title(run: Run) -> str:
    settings = run.trainer.settings
    return f"{settings.cell}, {settings.layers} x {settings.hidden} units, {settings.dtype}"


def _step_seconds(run: Run) -> tuple[float, float, int]:
    """Time the next training step, without its update, on either engine in turns.

    Only the recurrent layers change engines; head and loss are the kernels' in both.

    Returns
    -------
    kernel, plain : float
        The best of each, in seconds: what is left where other programs disturb least.
    rounds : int
        How many there were; few on a machine so busy that the figures say little.
    """
    model, chunk = run.trainer.model, run.trainer.next_chunk()
    engines = (functional, reference)
    best = [math.inf, math.inf]
    began, rounds = time.perf_counter(), 0
    while rounds < 10 and time.perf_counter() - began < TIMING_SECONDS:
        rounds += 1
        for i, engine in enumerate(engines):
            model.rnn.engine = engine
            start = time.perf_counter()
            model.gradients(*chunk)
            best[i] = min(best[i], time.perf_counter() - start)
    model.rnn.engine = functional
    return best[0], best[1], rounds
