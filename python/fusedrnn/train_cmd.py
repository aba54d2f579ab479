# SPDX-License-Identifier: MIT
"""`fusedrnn train`: the loop around a run, with its bar, its checkpoints and its interruption."""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from . import set_num_threads
from .errors import load_extra
from .plot import load_matplotlib
from .report import describe, report
from .run import Limits, Run
from .training import Settings

__all__ = ["train"]

SETTINGS = tuple(Settings.__dataclass_fields__)

RECENT = 50
"""Steps that the loss in the bar is the mean of."""


def train(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    for module in ("tqdm", "safetensors"):
        load_extra(module)
    load_matplotlib()
    if args.threads is not None:
        set_num_threads(args.threads)
    with _run(args) as run:
        return _train(run, args.save_every)


def _train(run: Run, save_every: float) -> int:
    describe(run, _say)
    with Interruption() as interruption:
        _loop(run, save_every, interruption)
    if interruption.signal:
        again = f"fusedrnn train --resume --out {shlex.quote(str(run.folder))}"
        print(
            f"fusedrnn: stopped at step {run.trainer.steps:,}; to go on: {again}", file=sys.stderr
        )
        return 128 + interruption.signal
    report(run, _say)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _run(args: argparse.Namespace) -> Iterator[Run]:
    """Start or resume a run as the options say."""
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.resume:
        opened = Run.resume(Path(args.out), args.files, given)
    else:
        opened = Run.start(Path(args.out), args.files, Settings(**given))
    with opened as run:
        steps = args.steps
        if args.epochs is not None:
            steps = max(1, round(args.epochs * run.trainer.streams.chunks))
        if steps is not None or args.minutes is not None:
            run.limits = Limits(steps, args.minutes)
        yield run


def _loop(run: Run, save_every: float, interruption: Interruption) -> None:
    """Take steps until a limit or a signal, and leave a checkpoint of the last one."""
    trainer, first = run.trainer, run.trainer.steps
    bar = load_extra("tqdm").tqdm(
        total=1.0,
        initial=min(run.progress, 1.0),
        bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        miniters=0,
    )
    with bar:
        run.save()
        before = saved = run.seconds
        origin = time.perf_counter() - before
        while run.progress < 1 and not interruption.signal:
            trainer.step()
            run.seconds = time.perf_counter() - origin
            if run.seconds - saved >= save_every:
                run.save()
                saved = run.seconds
            speed = (trainer.steps - first) * run.characters_per_step / (run.seconds - before)
            loss = sum(trainer.losses[-RECENT:]) / len(trainer.losses[-RECENT:])
            bar.set_postfix_str(
                f"step {trainer.steps:,}, loss {loss:.3f}, {loss / math.log(2):.3f} bits/char, "
                f"{speed:,.0f} chars/s",
                refresh=False,
            )
            bar.update(min(run.progress, 1.0) - bar.n)
        run.save()


class Interruption:
    """Turns the first SIGINT or SIGTERM into a wish that the loop grants between two steps.

    A second one ends the program at once; the checkpoint is then the last one stored.
    """

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal that came, or 0."""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def __enter__(self) -> Interruption:
        """Begin to listen."""
        signals = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._on_signal) for number in signals}
        return self

    def __exit__(self, *exception: object) -> None:
        """Put back the handlers that were there."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
