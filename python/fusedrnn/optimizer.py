# SPDX-License-Identifier: MIT
"""What every optimiser needs and no update rule should see: names, blocks, scratch, state.

The rules are in `optim`. State is a flat set of named arrays, so that a run stored and continued
takes bit for bit the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from .settings import CHECKS
from .validate import FLOATS, READ, WRITE, WRITEABLE, kind, layout
from .weights import Array

BLOCK = 16384
"""Elements that `_update` sees at a time, so that all its arrays stay in the L2 cache."""


class Module(Protocol):
    """Anything with parameters, and their gradients under the same names."""

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters."""

    @property
    def grads(self) -> Mapping[str, Array]:
        """Their gradients, each of its parameter's shape and dtype."""


Trainable: TypeAlias = Module | tuple[Mapping[str, Array], Mapping[str, Array]]
Trainables: TypeAlias = Trainable | Sequence[Trainable] | Mapping[str, Trainable]


class Optimizer:
    """What the optimisers share: names, checks, blocks, state; a rule is `_update`, or a `_step`.

    Parameters
    ----------
    modules : module, (params, grads), or a sequence or mapping of these
        A module is an object with dicts `params` and `grads`. They are looked up anew in every
        step, so the arrays updated are the ones that are there.
    lr : float
        Learning rate; it may be changed between steps, as every setting.
    weight_decay : float
        L2 penalty: `weight_decay * param` joins the gradient, which itself is left as it was.
    slots : tuple of str
        Names of the state arrays kept beside each parameter.

    Raises
    ------
    TypeError
        A setting that is not a number; not a module; an array that is not of float32 or float64, or
        a gradient not of its parameter's dtype.
    ValueError
        A setting out of range; no module; a module, a parameter or a name twice; a parameter
        without gradient of its shape, or that is not C-contiguous and writable. If `step` raises,
        nothing has changed.

    Notes
    -----
    One thread at a time may take a step. What is not finite is no error: `clip_grad_norm` tells.
    """

    def __init__(
        self, modules: Trainables, lr: float, weight_decay: float, slots: tuple[str, ...]
    ) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        self.steps = 0
        self._modules = _named(modules)
        self._state: dict[str, Array] = {}
        self._scratch: dict[np.dtype[np.generic], Array] = {}
        self._keep(slots)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a setting is checked whenever it is."""
        if name in CHECKS:
            value = CHECKS[name](name, value)
        super().__setattr__(name, value)

    def step(self) -> None:
        """Update every parameter in place from its gradient, which is only read."""
        parameters = [
            (p, g if g.flags.num & READ == READ else g.copy(), *self._slots_of(name, p))
            for name, p, g in self._parameters()
        ]
        with np.errstate(all="ignore"):  # else a step might end in the middle
            self._step([tuple([array.reshape(-1) for array in arrays]) for arrays in parameters])
        self.steps += 1

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place."""
        grads = [(name, grad) for name, _, grad in self._parameters()]
        for name, grad in grads:
            layout(f"gradient of {name}", grad, WRITEABLE)
        for _, grad in grads:
            grad.fill(0)

    def _step(self, updates: list[tuple[Array, ...]]) -> None:
        """Update every flat (param, grad, *state) in place: by `_update`, block by block."""
        for arrays in updates:
            dtype, size = arrays[0].dtype, arrays[0].size
            if dtype not in self._scratch:
                self._scratch[dtype] = np.empty((2, BLOCK), dtype)
            for start in range(0, size, BLOCK):
                p, g, *state = (array[start : start + BLOCK] for array in arrays)
                decayed, scratch = self._scratch[dtype][:, : p.size]
                if self.weight_decay:
                    np.multiply(p, self.weight_decay, out=decayed)
                    g = np.add(g, decayed, out=decayed)
                self._update(p, g, state, scratch)

    def _update(self, p: Array, g: Array, state: list[Array], scratch: Array) -> None:
        """Update a block of one parameter and of its slots; `g` is read only."""
        raise NotImplementedError

    def _keep(self, slots: tuple[str, ...]) -> None:
        """Begin the state: an array of zeros beside each parameter in every slot."""
        parameters = [(name, param) for name, param, _ in self._parameters()]
        self._slots = slots
        self._state = {
            f"{slot}.{name}": np.zeros_like(param) for name, param in parameters for slot in slots
        }

    def _slots_of(self, name: str, param: Array) -> list[Array]:
        """Return the state of a parameter, which may have come after the optimiser."""
        state = []
        for key in (f"{slot}.{name}" for slot in self._slots):
            if key not in self._state:
                raise ValueError(f"{name}: has no state, it came after the optimiser was made")
            _check_like(name, param, self._state[key])
            state.append(self._state[key])
        return state

    def _parameters(self) -> Iterator[tuple[str, Array, Array]]:
        """Yield name, parameter and gradient of all; whoever writes goes through all before."""
        seen: dict[int, str] = {}
        names = set[str]()
        for key, module in self._modules.items():
            params, grads = module if isinstance(module, tuple) else (module.params, module.grads)
            for own_name, param in params.items():
                name = f"{key}.{own_name}"
                layout(name, kind(name, param, FLOATS), WRITE)
                if own_name not in grads:
                    raise ValueError(f"{name}: has no gradient")
                grad = kind(f"gradient of {name}", grads[own_name], (param.dtype,))
                _check_like(f"gradient of {name}", grad, param)
                if name in names:
                    raise ValueError(f"{name}: expected a name of its own, got two parameters")
                if (other := seen.setdefault(id(param), name)) != name:
                    raise ValueError(f"{name}: expected each array once, got that of {other}")
                names.add(name)
                yield name, param, grad

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `"step"` () int64 and of every `"<slot>.<module>.<parameter>"`.

        A module's name is its key, or its place (`"0"`, `"1"`, …) in a sequence. Settings such as
        `lr` are not among them: they are arguments, the caller's to keep.
        """
        return {
            "step": np.array(self.steps, np.int64),
            **{name: array.copy() for name, array in self._state.items()},
        }

    def load_state_dict(self, mapping: Mapping[str, Array]) -> None:
        """Copy in a state from `state_dict`; if it does not fit, nothing changes.

        Raises
        ------
        ValueError
            Names, a shape or a dtype differ from this optimiser's.
        """
        expected = {"step": np.array(self.steps, np.int64), **self._state}
        if mapping.keys() != expected.keys():
            differing = ", ".join(sorted(mapping.keys() ^ expected.keys()))
            raise ValueError(f"state: missing or unexpected: {differing}")
        for name, array in expected.items():
            _check_like(name, mapping[name], array)
        if mapping["step"] < 0:
            raise ValueError(f"step: expected at least 0, got {mapping['step']}")
        self.steps = int(mapping["step"])
        for name, array in self._state.items():
            np.copyto(array, mapping[name])


def _named(modules: Trainables) -> dict[str, Trainable]:
    """Give every module a name: its key, or its place."""
    if isinstance(modules, Mapping):
        named = {str(key): module for key, module in modules.items()}
    elif isinstance(modules, Sequence) and not _is_trainable(modules):
        named = {str(i): module for i, module in enumerate(cast(Sequence[Trainable], modules))}
    else:
        named = {"0": cast(Trainable, modules)}
    for module in named.values():
        if not _is_trainable(module):
            raise TypeError(
                "modules: expected params and grads, two dicts, in a module or a tuple, "
                f"got {type(module).__name__}"
            )
    if not named:
        raise ValueError("modules: expected at least one, got none")
    if isinstance(modules, Mapping) and len(named) < len(modules):
        raise ValueError(
            f"modules: expected names of their own, got {', '.join(map(repr, modules))}"
        )
    if len({id(module) for module in named.values()}) < len(named):
        raise ValueError("modules: expected each once, got one twice")
    return named


def _is_trainable(module: object) -> bool:
    if not isinstance(module, tuple):
        module = (getattr(module, "params", None), getattr(module, "grads", None))
    return len(module) == 2 and all(isinstance(part, Mapping) for part in module)


def _check_like(name: str, array: Array, expected: Array) -> None:
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"{name}: expected an array, got {type(array).__name__}")
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise ValueError(
            f"{name}: expected {expected.dtype} {expected.shape}, got {array.dtype} {array.shape}"
        )
