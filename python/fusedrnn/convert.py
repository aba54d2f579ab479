# SPDX-License-Identifier: MIT
"""Weights from and to a `state_dict` of PyTorch.

And what `files`, `keras` and `onnx` share with it: a layer made from its weights alone.
"""

from __future__ import annotations

import contextlib
import copy
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from . import validate
from .errors import load_extra
from .layers import GRU, KINDS, LSTM, RNN
from .parameters import as_array, is_bfloat16
from .probe import check_parity, flat, probe_input
from .structure import Structure
from .weights import Array

__all__ = ["from_state_dict", "to_state_dict"]

Layer: TypeAlias = RNN | LSTM | GRU

NAME = re.compile(r"\w+_l(\d+)(_reverse)?")
FIRST = "weight_ih_l0"
BY_GATES: dict[int, Any] = {1: RNN, 3: GRU, 4: LSTM}
"""PyTorch's layers by their number of gates."""

OF_LSTM = ("weight_ch_l0", "weight_hr_l0", "weight_ln_ch_l0")
"""What no GRU has, whose gates may be as many."""


def from_state_dict(mapping: Mapping[str, Any], prefix: str = "", **options: Any) -> Layer:
    """Return the layer whose parameters a PyTorch `state_dict` holds.

    The cell, its sizes, layers, directions, biases and projection (our peepholes and layer
    normalisation, too) are read from names and shapes.

    Parameters
    ----------
    mapping : Mapping
        By name, anything `numpy.asarray` understands: CPU tensors, arrays.
    prefix : str
        Where the layer is in a whole model, as "encoder.lstm.".
    **options
        What names and shapes do not tell, as the layer's constructor takes it:
        nonlinearity="relu", reset_after=False, coupled=True, batch_first=True, dropout=0.1, ...;
        or cell="gru_reset_before", a name of `fusedrnn.layers.KINDS`, for the first three.
        dtype is by default that of weight_hh_l0, with device="cuda" float32. A warning says if an
        RNN without `nonlinearity` is taken for one with tanh.

    Raises
    ------
    TypeError
        Not a mapping; a value that is not an array of real floats; float16 or bfloat16 without
        `dtype`; an option that this layer does not have.
    ValueError
        No layer at this prefix; a name missing or unknown; a wrong shape.
    RuntimeError
        The layer computes something else than PyTorch's, or, without PyTorch or where that has no
        such cell, than `fusedrnn.reference`.

    Examples
    --------
    >>> import fusedrnn
    >>> gru = fusedrnn.GRU(2, 3, num_layers=2, bidirectional=True)
    >>> fusedrnn.from_state_dict(gru.state_dict())
    GRU(2, 3, num_layers=2, bidirectional=True)
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: expected a mapping by name, got {type(mapping).__name__}")
    if (device := options.pop("device", "cpu")) != "cpu":  # after the probe, which is on the host
        dtype = options.pop("dtype", None) or "float32"
        made = from_state_dict(mapping, prefix, dtype="float32", **options)
        return made.to(device, dtype)  # type: ignore[no-any-return]
    given = {name: mapping[prefix + name] for name in own_names(mapping, prefix)}
    if any(map(is_bfloat16, given.values())):
        expect_dtype(options)
    arrays = {name: as_array(name, value) for name, value in given.items()}
    layer = layer_of(arrays, **options)
    if isinstance(layer, RNN) and not options.keys() & {"nonlinearity", "cell"}:
        message = (
            "nonlinearity: expected 'tanh' or 'relu', which weights do not tell: taken as tanh"
        )
        warnings.warn(message, stacklevel=2)
    x = probe_input(layer)
    if sys.modules.get("torch") and _torch_lacks(layer) is None:
        expected, by = _run_torch(layer, arrays, x), "PyTorch"
    else:
        twin = copy.copy(layer)
        twin.engine = load_extra("fusedrnn.reference")
        twin.params = {name: np.array(a, layer.dtype, order="C") for name, a in arrays.items()}
        expected, by = flat(*twin(x)), "fusedrnn.reference"
    check_parity(by, flat(*layer(x)), expected)
    return layer


def to_state_dict(layer: Layer, prefix: str = "") -> dict[str, Any]:
    """Return the parameters as tensors, for `load_state_dict` of PyTorch's own layer.

    Without PyTorch use `save_safetensors`.

    Raises
    ------
    ValueError
        A form that PyTorch does not have.
    RuntimeError
        PyTorch's layer computes something else.
    InputError
        PyTorch is not installed.
    """
    layer = on_host(layer)
    if (lacks := _torch_lacks(layer)) is not None:
        raise ValueError(f"{lacks}, which PyTorch does not have")
    torch, x = load_extra("torch", "torch"), probe_input(layer)
    check_parity("PyTorch", _run_torch(layer, layer.params, x), flat(*layer(x)))
    return {prefix + name: torch.tensor(a) for name, a in layer.params.items()}


def on_host(layer: Layer) -> Layer:
    """Return the layer, or a copy of it from a device."""
    if not isinstance(layer, Structure):
        got = f"{type(layer).__module__}.{validate.describe(layer)}"
        raise TypeError(f"layer: expected RNN, LSTM or GRU, got {got}")
    return layer if layer.device == "cpu" else layer.to("cpu")


def layer_of(arrays: Mapping[str, Array], cell: str | None = None, **options: Any) -> Layer:
    """Return the layer with these parameters, by our names."""
    numbered = [match for match in map(NAME.fullmatch, arrays) if match]
    layers = 1 + max((int(match[1]) for match in numbered), default=0)
    bidirectional = any(match[2] for match in numbered)
    slots = sum(name.startswith("weight_ih_l") for name in arrays)
    if FIRST not in arrays or "weight_hh_l0" not in arrays or slots != layers << bidirectional:
        raise ValueError(f"mapping: expected the names of a layer, got {', '.join(arrays)}")
    (*_, I), (rows, H) = (_matrix(name, arrays[name]) for name in (FIRST, "weight_hh_l0"))
    told: dict[str, Any] = {"dtype": arrays["weight_hh_l0"].dtype}
    told |= {"num_layers": layers, "bidirectional": bidirectional, "bias": "bias_ih_l0" in arrays}
    if "weight_hr_l0" in arrays:
        P, H = _matrix("weight_hr_l0", arrays["weight_hr_l0"])
        told["proj_size"] = P
    for option, name in (("peephole", "weight_ch_l0"), ("layer_norm", "weight_ln_ih_l0")):
        if name in arrays:
            told[option] = True
    if cell is None:
        kind, form = _kind_of(arrays, rows, H, options.get("coupled", False))
    else:
        kind, form = KINDS[validate.choice("cell", cell, tuple(KINDS))]
    for name, a in arrays.items():  # before a layer of such sizes is made
        if name.startswith(("weight_ih_l", "weight_hh_l")) and _matrix(name, a)[0] != rows:
            raise ValueError(f"{name}: expected {rows} rows, as weight_hh_l0 has, got {len(a)}")
    layer: Layer = kind(I, H, **(told | form | options))
    layer.load_state_dict(arrays)
    return layer


def _kind_of(
    arrays: Mapping[str, Array], rows: int, H: int, coupled: bool
) -> tuple[Any, dict[str, Any]]:
    """Return the class of a layer by the number of its gates, and the options that tell it."""
    G, rest = divmod(rows, H)
    if rest or G not in BY_GATES:
        wanted = f"G*H rows with G in {list(BY_GATES)} and H = {H}"
        raise ValueError(f"weight_hh_l0: expected {wanted}, got {rows}")
    coupled = coupled or not arrays.keys().isdisjoint(OF_LSTM)
    if G == 3 and coupled:
        return LSTM, {"coupled": True}
    return BY_GATES[G], {}


def reorder(a: Array, have: Sequence[str], want: Sequence[str]) -> Array:
    """Return the blocks of rows of `a`, one per letter of `have`, in the order `want`."""
    blocks = dict(zip(have, np.split(a, len(have)), strict=True))
    return np.concatenate([blocks[letter] for letter in want])


def own_names(names: Iterable[str], prefix: str) -> list[str]:
    """Return the names of the layer at a prefix, without it."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected str, got {type(prefix).__name__}")
    names = list(map(str, names))
    if prefix + FIRST in names:
        own = [name[len(prefix) :] for name in names if name.startswith(prefix)]
        return [name for name in own if "." not in name]  # else it is of a module inside
    found = [repr(name.removesuffix(FIRST)) for name in names if name.endswith(FIRST)]
    got = f"{prefix!r}, and layers at {', '.join(found) or 'no prefix'}"
    raise ValueError(f"prefix: expected one before {FIRST}, got {got}")


def expect_dtype(options: Mapping[str, Any]) -> None:
    """Refuse bfloat16 without a dtype to read it as."""
    if options.get("dtype") is None:
        raise TypeError("dtype: expected float32 or float64, got none for weights in bfloat16")


def _matrix(name: str, a: Array) -> tuple[int, int]:
    if a.ndim != 2 or a.size == 0:
        raise ValueError(f"{name}: expected 2 sizes >= 1, got shape {a.shape}")
    return a.shape


def _torch_lacks(layer: Layer) -> str | None:
    """Return what is set in this layer that PyTorch has not, if anything; dropout trains only."""
    names = ("peephole", "coupled", "layer_norm", "zoneout_h", "zoneout_c")
    for name in names:
        if value := getattr(layer, name, False):
            return f"{name}: expected {False if value is True else 0}, got {value}"
    if not getattr(layer, "reset_after", True):
        return "reset_after: expected True, got False"
    if type(layer) not in (RNN, LSTM, GRU):
        return f"layer: expected RNN, LSTM or GRU, got {type(layer).__name__}"
    return None


def _run_torch(layer: Layer, arrays: Mapping[str, Array], x: Array) -> list[Array]:
    """Return y, h and c of PyTorch's layer with these weights."""
    torch = load_extra("torch", "torch")
    names = ("num_layers", "bias", "batch_first", "bidirectional")
    options = {name: getattr(layer, name) for name in names}
    if isinstance(layer, RNN):
        options["nonlinearity"] = layer.nonlinearity
    if isinstance(layer, LSTM):
        options["proj_size"] = layer.proj_size
    options["dtype"] = getattr(torch, layer.dtype.name)
    kind = getattr(torch.nn, type(layer).__name__)
    plain = torch.device("cpu"), torch.autocast("cpu", enabled=False), torch.no_grad()
    with contextlib.ExitStack() as stack:
        for one in (*plain, torch.random.fork_rng(devices=[]), warnings.catch_warnings()):
            stack.enter_context(one)
        warnings.simplefilter("ignore")  # proj_size: "not supported with oneDNN"
        module = kind(layer.input_size, layer.hidden_size, **options)
        own = {name: torch.tensor(np.array(a, layer.dtype)) for name, a in arrays.items()}
        module.load_state_dict(own)
        outputs: list[Any] = flat(*module(torch.tensor(x)))
    return [tensor.numpy() for tensor in outputs]
