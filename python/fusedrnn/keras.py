# SPDX-License-Identifier: MIT
"""Layers from and to Keras 3: `SimpleRNN`, `LSTM`, `GRU` in both forms, and `Bidirectional`.

Keras keeps kernels transposed, the gates of a GRU as z r n, and one bias, or the GRU with
reset_after=True both. Of what acts only in training recurrent_dropout alone is carried over (Keras
draws a mask for each gate of a sequence, ours one for all of them), not
Keras' `dropout`, which is of the layer's input (a warning says so), regularisers, constraints.
Which backend Keras uses is yours to say: `KERAS_BACKEND`, before Keras is imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .convert import Layer, layer_of, on_host, reorder
from .errors import load_extra
from .layers import KINDS
from .probe import check_parity, probe_input
from .weights import CELLS, Array

__all__ = ["from_keras", "to_keras"]

CELL_OF_KERAS: dict[str, tuple[str, dict[str, Any], str]] = {
    "rnn_tanh": ("SimpleRNN", {"activation": "tanh"}, "h"),
    "rnn_relu": ("SimpleRNN", {"activation": "relu"}, "h"),
    "lstm": ("LSTM", {}, "ifgo"),
    "gru": ("GRU", {"reset_after": True}, "zrn"),
    "gru_reset_before": ("GRU", {"reset_after": False}, "zrn"),
}
"""By our cell: Keras' layer, the options that make it, its gates in order."""


def from_keras(layer: Any) -> Layer:
    """Return the layer that a built Keras layer is, with batch_first=True, as Keras' arrays are.

    Ours returns every step and the state, whatever return_sequences and return_state.

    Parameters
    ----------
    layer : keras.layers.SimpleRNN, LSTM or GRU, or Bidirectional of one
        With Keras' default activations; SimpleRNN may have relu.

    Raises
    ------
    TypeError
        Another layer.
    ValueError
        Not built; an option that our layers do not have, by name.
    RuntimeError
        The two compute something else on a small random input.
    InputError
        Keras is not installed.

    Examples
    --------
    >>> import keras
    >>> theirs = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))
    >>> theirs.build((None, None, 2))
    >>> from_keras(theirs)
    GRU(2, 3, batch_first=True, bidirectional=True)
    """
    keras = load_extra("keras", "keras")
    directions = [layer]
    if isinstance(layer, keras.layers.Bidirectional):
        _expect("merge_mode", layer.merge_mode, "concat")
        directions = [layer.forward_layer, layer.backward_layer]
    cells = [_cell(one, backward=k == 1) for k, one in enumerate(directions)]
    _expect("backward_layer", cells[-1], cells[0])
    recurrent_dropout, *other = (one.recurrent_dropout for one in directions)
    for rate in other:
        _expect("backward_layer.recurrent_dropout", rate, recurrent_dropout)
    if rates := sorted({one.dropout for one in directions} - {0}):
        got = " and ".join(map(str, rates))
        message = f"dropout: expected 0, as ours is between layers: {got} of x is not carried over"
        warnings.warn(message, stacklevel=2)
    arrays = {
        f"{name}_l0{suffix}": a
        for one, suffix in zip(directions, ("", "_reverse"), strict=False)
        for name, a in _weights_of(one, cells[0], keras)
    }
    for suffix in ("", "_reverse")[: len(directions)]:  # one of the two may have no bias
        for name in ("bias_ih_l0", "bias_hh_l0"):
            if name in arrays or f"{name}_reverse" in arrays:
                zeros = np.zeros_like(arrays["weight_hh_l0"][:, 0])
                arrays.setdefault(name + suffix, zeros)
    options = KINDS[cells[0]][1] | {"recurrent_dropout": recurrent_dropout}
    ours = layer_of(arrays, batch_first=True, dtype=layer.variable_dtype, **options)
    _check(ours, layer, keras)
    return ours


def to_keras(layer: Layer, **options: Any) -> Any:
    """Return the Keras layer that a layer is, built, with its weights.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of one layer
    **options
        More for Keras' layer: return_state, unroll, name, ...; return_sequences is True.

    Raises
    ------
    ValueError
        What Keras does not have, by name: more layers, peepholes, projection, ...
    RuntimeError
        The two compute something else on a small random input.
    InputError
        Keras is not installed.

    Examples
    --------
    >>> import fusedrnn
    >>> theirs = to_keras(fusedrnn.GRU(2, 3, seed=0), return_state=True)
    >>> theirs.units, theirs.reset_after
    (3, True)
    """
    layer = on_host(layer)
    for name, wanted in (("num_layers", 1), ("proj_size", 0), ("zoneout_h", 0), ("zoneout_c", 0)):
        _expect(name, getattr(layer, name), wanted)
    if layer.cell not in CELL_OF_KERAS:
        raise ValueError(f"layer: expected {', '.join(CELL_OF_KERAS)}, got {layer.cell}")
    keras = load_extra("keras", "keras")
    kind, form, gates = CELL_OF_KERAS[layer.cell]
    own: dict[str, Any] = {"use_bias": layer.bias, "recurrent_dropout": layer.recurrent_dropout}
    own |= {"return_sequences": True, "dtype": layer.dtype.name}
    theirs = getattr(keras.layers, kind)(layer.hidden_size, **(form | own | options))
    directions = [theirs]
    if layer.bidirectional:
        theirs = keras.layers.Bidirectional(theirs, dtype=layer.dtype.name)
        directions = [theirs.forward_layer, theirs.backward_layer]
    theirs.build((None, None, layer.input_size))
    for one, names in zip(directions, layer._slots, strict=True):
        ih, hh, *biases = (
            reorder(layer.params[name], CELLS[layer.cell].gate_letters, gates)
            for name in names
            if name is not None
        )
        if layer.cell == "gru":
            bias = [np.stack(biases)] if biases else []
        else:
            bias = [np.add(*biases)] if biases else []
        one.set_weights([ih.T, hh.T, *bias])
    _check(layer, theirs, keras)
    return theirs


def _cell(layer: Any, backward: bool) -> str:
    """Return the name of our cell; refuse what it does not do."""
    kind = type(layer).__name__
    if kind not in ("SimpleRNN", "LSTM", "GRU") or not hasattr(layer, "cell"):
        wanted = "a Keras SimpleRNN, LSTM or GRU, or Bidirectional of one"
        raise TypeError(f"layer: expected {wanted}, got {kind}")
    if (policy := layer.dtype_policy.name) not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64, got {policy}")
    _expect("stateful", layer.stateful, False)
    _expect("go_backwards", layer.go_backwards, backward)
    activation = _name(layer.activation)
    if kind == "SimpleRNN":
        if activation not in ("tanh", "relu"):
            raise ValueError(f"activation: expected tanh or relu, got {activation}")
        return f"rnn_{activation}"
    _expect("activation", activation, "tanh")
    _expect("recurrent_activation", _name(layer.recurrent_activation), "sigmoid")
    return "lstm" if kind == "LSTM" else "gru" if layer.reset_after else "gru_reset_before"


def _weights_of(layer: Any, cell: str, keras: Any) -> Iterator[tuple[str, Array]]:
    """Yield our arrays of one direction, by name."""
    if not layer.built:
        raise ValueError("layer: expected a built layer, got one without weights")
    kernel, recurrent_kernel, *bias = (
        keras.ops.convert_to_numpy(variable.value) for variable in layer.weights
    )
    have, want = CELL_OF_KERAS[cell][2], CELLS[cell].gate_letters
    yield "weight_ih", reorder(kernel.T, have, want)
    yield "weight_hh", reorder(recurrent_kernel.T, have, want)
    for both in bias:  # (G*H,), or (2, G*H) of the GRU with reset_after
        bias_ih, bias_hh = both if both.ndim == 2 else (both, np.zeros_like(both))
        yield "bias_ih", reorder(bias_ih, have, want)
        yield "bias_hh", reorder(bias_hh, have, want)


def _check(ours: Layer, theirs: Any, keras: Any) -> None:
    """Run both layers on the probe."""
    x = probe_input(ours)
    y, state = ours(x)
    if not ours.batch_first:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
    one = getattr(theirs, "forward_layer", theirs)
    out = theirs(x, training=False)
    out = keras.ops.convert_to_numpy(out[0] if one.return_state else out)
    out = out.astype(np.float32)  # its precision: Keras rounds to that inside, float64 as well
    h = state[0] if isinstance(state, tuple) else state
    check_parity("Keras", [y if one.return_sequences else np.concatenate(list(h), -1)], [out])


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


def _expect(name: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise ValueError(f"{name}: expected {wanted}, got {got}")
