# SPDX-License-Identifier: MIT
"""Named parameters and their gradients: what layers, cells and `Linear` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from . import validate
from .names import Names, Shapes, initial, pick
from .seen import Seen
from .weights import Array, Weights

DEFAULTS = {
    "num_layers": 1,
    "nonlinearity": "tanh",
    "reset_after": True,
    "peephole": False,
    "coupled": False,
    "proj_size": 0,
    "layer_norm": False,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "zoneout_h": 0.0,
    "zoneout_c": 0.0,
    "bidirectional": False,
    "dtype": validate.F32,
    "device": "cpu",
}  # what repr leaves out

PROBABILITIES = "dropout", "recurrent_dropout", "zoneout_h", "zoneout_c"
SHAPED = "cell", "input_size", "hidden_size", "in_features", "out_features"
FIXED = {*SHAPED, *DEFAULTS} - {*PROBABILITIES}
"""The options that shapes, names and tapes depend on."""


def generator(seed: Any) -> np.random.Generator:
    """Return the generator of a seed; what is none is refused by that name."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed: {error}") from error


def as_array(name: str, value: Any) -> Array:
    """Return a value as an array, without a copy where it is one already; bfloat16 as float32."""
    try:
        if is_bfloat16(value):  # a tensor; or an array of a dtype that is not NumPy's
            return np.asarray(value.float() if hasattr(value, "float") else value, np.float32)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        why = f": {error}" if isinstance(error, RuntimeError) else ""  # PyTorch's, which helps
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}{why}") from error


def is_bfloat16(value: Any) -> bool:
    """Whether a value's dtype is the one that NumPy lacks."""
    return str(getattr(value, "dtype", "")) in ("bfloat16", "torch.bfloat16")


class Parameters:
    """Base of everything that trains: `params` and `grads`, dicts of arrays by PyTorch's names.

    The arrays of `params` are the user's: change them in place or replace them between calls.
    """

    _slots: Sequence[Names] = ()
    """The names of each `Weights` in it."""

    def __init__(
        self, shapes: Shapes, sizes: tuple[int, int], bound: float, dtype: Any, seed: Any
    ) -> None:
        self.dtype: np.dtype[Any] = self._float_dtype(dtype)
        self._shapes, self._sizes = shapes, sizes
        self._rng = rng = generator(seed)
        self.params: dict[str, Array] = {
            name: self._placed(initial(name, shape, bound, rng))
            for name, (shape, _) in shapes.items()
        }
        self._seen_params, self._seen_grads = Seen(), Seen()
        self.grads: dict[str, Array] = {
            name: self._zeros(shape) for name, (shape, _) in shapes.items()
        }

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; of the options, once they are made, only probabilities may change."""
        made, own = "grads" in self.__dict__, self.__dict__.get(name, self)
        if made and own is self and (name in FIXED or name in PROBABILITIES):
            raise AttributeError(f"{name}: {type(self).__name__} has no such option")
        if made and name in FIXED and own != value:
            raise AttributeError(f"{name}: expected to stay {own!r}, got {value!r}")
        if name in PROBABILITIES:
            value = validate.probability(name, value)
            if value and name == "zoneout_c" and "c" not in getattr(self, "_letters", "c"):
                raise ValueError(f"zoneout_c: expected 0 for a cell without c, got {value}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        shown = [str(size) for size in self._sizes]
        for name, default in DEFAULTS.items():
            value = getattr(self, name, default)
            if value != default:
                shown.append(f"{name}={value}" if name == "dtype" else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place."""
        for grad in self.grads.values():
            grad.fill(0)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters by name, as `load_state_dict` and PyTorch take them."""
        return {name: a.copy() for name, a in self.params.items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Copy parameters in, in place; floats of another precision are cast.

        Everything is checked before the first one is copied.

        Parameters
        ----------
        mapping : Mapping
            By name, anything `numpy.asarray` understands, such as a PyTorch `state_dict()`.

        Raises
        ------
        TypeError
            Not a mapping; a value that is not an array of real floats.
        ValueError
            A name missing or unknown; a wrong shape.

        Examples
        --------
        >>> import fusedrnn
        >>> a, b = fusedrnn.GRU(2, 3, seed=0), fusedrnn.GRU(2, 3, seed=1)
        >>> b.load_state_dict(a.state_dict())
        >>> bool((a.params["weight_hh_l0"] == b.params["weight_hh_l0"]).all())
        True
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(f"mapping: expected a mapping by name, got {type(mapping).__name__}")
        missing = ", ".join(name for name in self._shapes if name not in mapping) or "none"
        unknown = ", ".join(str(name) for name in mapping if name not in self._shapes) or "none"
        if (missing, unknown) != ("none", "none"):
            raise ValueError(
                f"mapping: expected the names {', '.join(self._shapes)}, "
                f"got missing: {missing}, unknown: {unknown}"
            )
        # Copies: they may be arrays of `params` under other names
        values = {name: self._loadable(name, mapping[name]).copy() for name in self._shapes}
        self._check_params(validate.WRITE)
        for name, value in values.items():
            self._assign(name, value)

    # Where arrays are: what a layer on a device has in its own way

    def _float_dtype(self, dtype: Any) -> Any:
        return validate.float_dtype(dtype)

    def _placed(self, value: Array) -> Array:
        return value.astype(self.dtype)

    def _zeros(self, shape: tuple[int, ...]) -> Array:
        return np.zeros(shape, self.dtype)

    def _assign(self, name: str, value: Array) -> None:
        self.params[name][...] = value

    def _loadable(self, name: str, value: Any) -> Array:
        """Return the value as an array, without a copy where it is one already."""
        a = as_array(name, value)
        shape, rule = self._shapes[name]
        if a.dtype.kind != "f":
            raise TypeError(f"{name}: expected a float dtype, got {a.dtype}")
        if a.shape != shape:
            raise ValueError(f"{name}: expected shape {rule} = {shape}, got {a.shape}")
        return a

    def _check_params(self, need: int = validate.READ) -> None:
        """Check `params`, which the user may have replaced."""
        self._check_named("", self.params, need)

    def _check_tape(self, tape: object, kind: type, owner: str = "layer") -> None:
        """Check that a tape, a `kind` with its maker as attribute `owner`, was made by this."""
        if type(tape) is not kind:
            raise TypeError(f"tape: expected a {kind.__name__}, got {type(tape).__name__}")
        if getattr(tape, owner) is not self:
            raise ValueError(f"tape: expected one made by this {owner}, got one of another {owner}")

    def _check_grads(self) -> None:
        """Check `grads`, which the user may have replaced."""
        self._check_named("grads", self.grads, validate.WRITE)

    def _check_named(self, owner: str, arrays: Mapping[str, Array], need: int) -> None:
        for name, (shape, rule) in self._shapes.items():
            if name not in arrays:
                raise ValueError(f"{owner or 'params'}: expected an array named {name}, got none")
            label = f"{owner}[{name!r}]" if owner else name
            validate.array(label, arrays[name], self.dtype, shape, rule, need)

    _share: Any = staticmethod(np.may_share_memory)

    def _check_apart(self, grads: Mapping[str, Any], read: Mapping[str, Any]) -> None:
        """Check that no array of `grads` has memory of another one or of one in `read`."""
        taken = dict(read)
        for name, grad in grads.items():
            self._check_one_apart(name, grad, taken)
            taken[f"grads[{name!r}]"] = grad

    def _check_one_apart(self, name: str, grad: Any, read: Mapping[str, Any]) -> None:
        for other, array in read.items():
            if array is not None and self._share(grad, array):
                rule = f"expected memory of its own, got that of {other}"
                raise ValueError(f"grads[{name!r}]: {rule}")

    def _weights(self) -> Sequence[Weights]:
        """Return the parameters of every slot, checked."""
        names, seen = self._shapes, self._seen_params
        if not seen.are(map(self.params.get, names), len(names)):
            self._check_params()
            arrays = tuple([self.params[name] for name in names])
            self._seen_params = seen = Seen(arrays, [pick(self.params, s) for s in self._slots])
        return seen.weights

    def _dweights(self, read: Mapping[str, Any] = MappingProxyType({})) -> Sequence[Weights]:
        """Return the gradients of every slot, checked, and apart from the parameters and `read`.

        `read` has what will still be read after the first of them is written; `_core` looks at the
        rest.
        """
        names, seen, both = self._shapes, self._seen_grads, (self.grads, self.params)
        same = seen.are(chain(*[map(a.get, names) for a in both]), 2 * len(names))
        if read or not same:
            self._check_grads()
        for name in names if read else ():
            self._check_one_apart(name, self.grads[name], read)
        if not same:
            self._check_params()
            self._check_apart(*[{name: a[name] for name in names} for a in both])
            arrays = tuple([a[name] for a in both for name in names])
            self._seen_grads = seen = Seen(arrays, [pick(self.grads, s) for s in self._slots])
        return seen.weights
