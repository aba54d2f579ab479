# SPDX-License-Identifier: MIT
"""A character model: characters in, scores for the next character out.

    characters x_t → layers → y_t → o_t = V y_t + c → loss = mean of -log softmax(o_t)[x_{t+1}]

Trained by backpropagation through one chunk at a time, with the state carried from chunk to chunk
and no gradient across them. The loop around that is in `training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from . import validate
from .corpus import Vocabulary
from .errors import InputError
from .head import Linear, softmax_cross_entropy
from .layers import KINDS
from .weights import Array

__all__ = ["CharModel"]

LayerState: TypeAlias = Array | tuple[Array, Array] | None
"""h (L, N, H), or (h, c) for LSTM, or None for zeros."""


class CharModel:
    """Token input, recurrent layers, a linear head over the vocabulary.

    Parameters
    ----------
    vocabulary : Vocabulary
        V characters, `UNKNOWN` among them.
    cell : str
        One of `fusedrnn.weights.CELLS`.
    hidden_size, num_layers : int
        H and L.
    dtype : float32 or float64
    seed : int
        Of the initial parameters.

    Examples
    --------
    >>> model = CharModel(Vocabulary("helo"), "rnn_tanh", hidden_size=8)
    >>> logits, state = model(model.vocabulary.encode("hell").reshape(4, 1))
    >>> logits.shape
    (4, 1, 5)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cell: str = "gru",
        hidden_size: int = 256,
        num_layers: int = 1,
        *,
        dtype: Any = np.float32,
        seed: int = 0,
    ) -> None:
        self.vocabulary = vocabulary
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.rnn = _recurrent(cell, len(vocabulary), hidden_size, num_layers, dtype, seeds[0])
        self.head = Linear(hidden_size, len(vocabulary), dtype=dtype, seed=seeds[1])

    @property
    def modules(self) -> dict[str, Any]:
        """The parts with parameters, by name."""
        return {"rnn": self.rnn, "head": self.head}

    def __call__(self, x: Array, state: LayerState = None) -> tuple[Array, LayerState]:
        """Score every character as the next one.

        Parameters
        ----------
        x : (T, N) int
            Indices of characters.
        state : LayerState
            As returned for the characters before.

        Returns
        -------
        logits : (T, N, V)
        state : LayerState
        """
        y, state = self.rnn(x, state)
        return self.head(y), state

    def gradients(
        self, x: Array, target: Array, state: LayerState = None
    ) -> tuple[float, LayerState]:
        """Run a chunk forward and back; the gradients are written, not added.

        Parameters
        ----------
        x, target : (T, N) int
            Characters, and for each the one that follows.
        state : LayerState
            Taken as given: no gradient goes back into it.

        Returns
        -------
        loss : float
            Mean over the T*N characters, in nats.
        state : LayerState
            To carry into the next chunk.
        """
        y, state, tape = self.rnn.forward(x, state)
        logits, head_tape = self.head.forward(y)
        loss, dlogits = softmax_cross_entropy(logits, target)
        dy = self.head.backward(head_tape, dlogits, accumulate=False)
        self.rnn.backward(tape, dy, accumulate=False)
        return loss, state

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters as `"rnn.<name>"` and `"head.<name>"`."""
        return {
            f"{key}.{name}": array
            for key, module in self.modules.items()
            for name, array in module.state_dict().items()
        }

    def load_state_dict(self, mapping: Mapping[str, Array]) -> None:
        """Copy in parameters from `state_dict`.

        Raises
        ------
        ValueError
            A name or a shape differs.
        """
        parts: dict[str, dict[str, Array]] = {key: {} for key in self.modules}
        for name, array in mapping.items():
            key, _, rest = name.partition(".")
            if key not in parts:
                raise ValueError(f"state_dict: unexpected {name}")
            parts[key][rest] = array
        for key, module in self.modules.items():
            module.load_state_dict(parts[key])

    def generate(
        self, prompt: str, length: int, *, temperature: float = 1.0, seed: int = 0
    ) -> Iterator[str]:
        """Write on from a prompt, one character at a time, each fed back as the next input.

        Parameters
        ----------
        prompt : str
            Not part of the result; a new line if empty.
        length : int
            Characters to write.
        temperature : float
            Divides the scores: below 1 is more careful, 0 takes the most probable character.
        seed : int
            The same seed writes the same text.

        Yields
        ------
        str
            One character, never `UNKNOWN`.

        Raises
        ------
        InputError
            A score is not finite.
        """
        rng = np.random.default_rng(seed)
        x = self.vocabulary.encode(prompt or "\n").reshape(-1, 1)
        state: LayerState = None
        for _ in range(length):
            logits, state = self(x, state)
            x = np.array([[_draw(logits[-1, 0], temperature, rng)]])
            yield self.vocabulary.characters[x[0, 0]]


def _draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """Draw an index other than 0 from softmax(logits / temperature)."""
    scores = logits[1:].astype(np.float64)
    if not np.isfinite(scores).all():
        got = scores[~np.isfinite(scores)][0]
        raise InputError(f"scores: expected finite numbers, got {got}: the model has diverged")
    scores -= scores.max()
    if temperature == 0:
        return 1 + int(scores.argmax())
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, which is meant
        total = np.exp(scores / temperature).cumsum()
    return 1 + int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _recurrent(cell: str, inputs: int, hidden: int, layers: int, dtype: Any, seed: int) -> Any:
    layer, options = KINDS[validate.choice("cell", cell, tuple(KINDS))]
    return layer(inputs, hidden, num_layers=layers, dtype=dtype, seed=seed, **options)
