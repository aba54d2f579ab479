# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time over a corpus: one step after the other, nothing else.

The text is cut into N equal parts that lie side by side as the batch. A step runs the next T
characters of each, starting from the state that the step before ended in; gradients stay within
the step. Whatever is computed depends on the settings, the corpus and the number of the step:
clocks, files and signals are the business of `run` and `train_cmd`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from .charlm import CharModel, LayerState
from .corpus import Corpus
from .errors import InputError
from .head import softmax_cross_entropy
from .optim import Adam, clip_grad_norm
from .weights import CELLS, Array

__all__ = ["Settings", "Streams", "Trainer", "evaluate"]

WARM_UP = 50
"""Steps in which the learning rate rises from 0."""

AVERAGE = 0.998
"""Weight of the past in the mean of the parameters, once there is much of it."""


@dataclass(frozen=True)
class Settings:
    """All that a run depends on, beside its corpus.

    Raises
    ------
    ValueError
        A value out of range or of another type.
    """

    cell: str = "gru"
    hidden: int = 256
    layers: int = 1
    batch: int = 32
    """Streams read side by side; fewer if the text is short."""
    chunk: int = 64
    """Characters of each stream in a step, and the reach of a gradient back in time."""
    lr: float = 6e-3
    clip: float = 1.0
    """Largest norm of the gradient; 0 for none."""
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind:
                raise ValueError(f"{field.name}: expected {kind.__name__}, got {value!r}")
        for name in ("hidden", "layers", "batch", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip", "seed"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ValueError(f"{name}: expected a finite number >= 0, got {value}")
        if self.cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {self.cell!r}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype!r}")


class Streams:
    """A text as N streams side by side, in chunks of T characters.

    Parameters
    ----------
    codes : (characters,) int
        At least 2; less than a chunk's worth at the end is left out.
    batch, chunk : int
        N and T; both are lowered to what the text can fill.

    Examples
    --------
    >>> x, target = Streams(np.arange(9), batch=2, chunk=2).read(1)
    >>> x.tolist(), target.tolist()
    ([[2, 6], [3, 7]], [[3, 7], [4, 8]])
    """

    def __init__(self, codes: Array, batch: int, chunk: int) -> None:
        pairs = codes.size - 1  # of a character and the next
        self.chunk = min(chunk, pairs)
        self.batch = min(batch, pairs // self.chunk)
        self.chunks = pairs // (self.batch * self.chunk)
        shape = (self.batch, self.chunks * self.chunk)
        size = math.prod(shape)
        self._x = codes[:size].reshape(shape).T
        self._target = codes[1 : size + 1].reshape(shape).T

    def read(self, i: int) -> tuple[Array, Array]:
        """Return chunk i: characters (T, N) int64 and the ones that follow them."""
        part = slice(i * self.chunk, (i + 1) * self.chunk)
        x, target = self._x[part], self._target[part]
        return np.ascontiguousarray(x, np.int64), np.ascontiguousarray(target, np.int64)


class Trainer:
    """A model, its optimiser and its place in the text, moved on one step at a time.

    The learning rate is constant, so that no step depends on how many will follow. What a falling
    rate is for, a running mean of the parameters does instead (Polyak and Juditsky 1992).
    """

    def __init__(self, settings: Settings, corpus: Corpus) -> None:
        self.settings = settings
        self.model, self.average = (
            CharModel(
                corpus.vocabulary,
                settings.cell,
                settings.hidden,
                settings.layers,
                dtype=settings.dtype,
                seed=settings.seed,
            )
            for _ in range(2)
        )
        """The model that learns, and the mean of its last few hundred steps: the better one."""
        self.optimizer = Adam(self.model.modules, settings.lr, betas=(0.9, 0.99))
        self.streams = Streams(corpus.train, settings.batch, settings.chunk)
        self.state: LayerState = None
        self.losses: list[float] = []
        """Of every step, in nats per character."""

    @property
    def steps(self) -> int:
        """Steps done; the next one reads chunk `steps` modulo the chunks of an epoch."""
        return len(self.losses)

    def step(self) -> float:
        """Learn from the next chunk and return its loss, in nats per character.

        Raises
        ------
        InputError
            The loss or the gradient is not finite, and the parameters are as before the step; or
            the parameters are not, after it.
        """
        diverged = f"diverged in step {self.steps + 1}: use a lower --lr, or --clip"
        x, target, state = self.next_chunk()
        loss, state = self.model.gradients(x, target, state)
        norm = clip_grad_norm(self.model.modules, self.settings.clip or math.inf)
        if not math.isfinite(loss + norm):
            raise InputError(diverged)
        self.optimizer.lr = self.settings.lr * min(1, (self.steps + 1) / WARM_UP)
        self.optimizer.step()
        self._update_average()
        means = (a for module in self.average.modules.values() for a in module.params.values())
        if not all(np.isfinite(mean).all() for mean in means):
            raise InputError(diverged)
        self.losses.append(loss)
        self.state = state
        return loss

    def _update_average(self) -> None:
        """Move every mean towards its parameter; the gradients, now used, serve as scratch."""
        share = 1 - min(AVERAGE, (self.steps + 1) / (self.steps + 10))
        for key, module in self.model.modules.items():
            for name, mean in self.average.modules[key].params.items():
                change = np.subtract(module.params[name], mean, out=module.grads[name])
                change *= share
                mean += change

    def next_chunk(self) -> tuple[Array, Array, LayerState]:
        """Return what the next step learns from: characters, the ones that follow, the state."""
        i = self.steps % self.streams.chunks
        return *self.streams.read(i), (self.state if i else None)

    def state_dict(self) -> dict[str, Array]:
        """Return all that `load_state_dict` needs to go on bit for bit."""
        state = self.state if isinstance(self.state, tuple) else (self.state,)
        return {
            **{f"model.{name}": a for name, a in self.average.state_dict().items()},
            **{f"learning.{name}": a for name, a in self.model.state_dict().items()},
            **{f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()},
            **{f"state.{i}": a for i, a in enumerate(state) if a is not None},
            "losses": np.array(self.losses, np.float64),
        }

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Go on where the trainer stood that these arrays are of.

        Raises
        ------
        ValueError
            They are of other settings or another vocabulary.
        """
        self.average.load_state_dict(part(arrays, "model"))
        self.model.load_state_dict(part(arrays, "learning"))
        self.optimizer.load_state_dict(part(arrays, "optimizer"))
        losses, steps = arrays["losses"], self.optimizer.steps
        if losses.dtype != np.float64 or losses.shape != (steps,):
            raise ValueError(
                f"losses: expected float64 ({steps},), got {losses.dtype} {losses.shape}"
            )
        self.losses = losses.tolist()
        self.state = self._layer_state(part(arrays, "state"))

    def _layer_state(self, arrays: Mapping[str, Array]) -> LayerState:
        shape = (self.settings.layers, self.streams.batch, self.settings.hidden)
        names = [str(i) for i in range(CELLS[self.settings.cell].states)] if arrays else []
        if sorted(arrays) != names or any(a.shape != shape for a in arrays.values()):
            raise ValueError(f"state: expected {len(names)} arrays {shape}")
        state = [np.array(arrays[name], self.settings.dtype) for name in names]
        return (state[0], state[1]) if len(state) == 2 else state[0] if state else None


def part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays named `"<prefix>.<name>"`, by name."""
    start = prefix + "."
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def evaluate(model: CharModel, codes: Array, batch: int = 64, chunk: int = 64) -> tuple[float, int]:
    """Predict a text, reading it as training does.

    Returns
    -------
    loss : float
        Mean in nats per character.
    characters : int
        Number of characters predicted.
    """
    streams = Streams(codes, batch, chunk)
    state: LayerState = None
    losses = []
    for i in range(streams.chunks):
        x, target = streams.read(i)
        logits, state = model(x, state)
        losses.append(softmax_cross_entropy(logits, target)[0])
    return float(np.mean(losses)), streams.chunks * streams.batch * streams.chunk
