# SPDX-License-Identifier: MIT
"""Existing models: their recurrent modules become ours, in place, and what they were again."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from . import cells, fits, modules

OURS: dict[type, type] = {
    torch.nn.RNN: modules.RNN,
    torch.nn.LSTM: modules.LSTM,
    torch.nn.GRU: modules.GRU,
    torch.nn.RNNCell: cells.RNNCell,
    torch.nn.LSTMCell: cells.LSTMCell,
    torch.nn.GRUCell: cells.GRUCell,
}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}


@dataclass
class Report:
    """What `accelerate` did, by the names of the model's modules; "" is the model itself."""

    replaced: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    """Those that ran on the kernels before."""
    left: dict[str, str] = field(default_factory=dict)
    """Recurrent modules as they were, and why."""

    def __str__(self) -> str:
        """Return a line for each module."""
        said = dict.fromkeys(self.replaced, "replaced")
        said |= {name: f"left, {why}" for name, why in self.left.items()}
        said |= dict.fromkeys(self.ours, "fusedrnn's already")
        lines = [f"{name or 'the model'}: {what}" for name, what in said.items()]
        return "\n".join(lines) or "no recurrent module"


def accelerate(model: torch.nn.Module) -> Report:
    """Let every recurrent module of a model run on the kernels, in place.

    The modules stay the same objects, with the same parameters, hooks and buffers: an optimiser
    made before goes on. `RNN`, `LSTM`, `GRU` and their cells on CPU in float32 or float64 are
    replaced, parametrized or not; subclasses, whose own forward might be lost, and all others are
    left. `torch.save(model)` names the class of each module: call `restore` before, if the file
    shall be read where there is no fusedrnn; a `state_dict` is the same either way.

    Parameters
    ----------
    model : torch.nn.Module
        May itself be a recurrent module.

    Returns
    -------
    Report
        `replaced`, `ours` already, and `left` with the reasons; `print` it.

    Raises
    ------
    TypeError
        Not a module.

    Examples
    --------
    >>> import torch, fusedrnn.torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.GRU(4, 8))
    >>> print(fusedrnn.torch.accelerate(model))
    1: replaced
    """
    report = Report()
    for name, module in checked(model).named_modules():
        kind = type_before_parametrizations(module)
        if reason := why_left(module, kind):
            report.left[name] = reason
        elif kind in OURS:
            change_class(module, OURS[kind])
            report.replaced.append(name)
        elif kind in THEIRS:
            report.ours.append(name)
    return report


def why_left(module: torch.nn.Module, kind: type) -> str | None:
    """Return why a recurrent module of a class cannot become ours; None of all others."""
    if isinstance(module, torch.jit.ScriptModule):  # traced ones are, too
        name = getattr(module, "original_name", "")
        return "it is compiled by torch.jit" if name in NAMES else None
    if kind.__module__.startswith("torch.ao.nn.quantized.") and kind.__name__ in NAMES:
        return "it is quantized"
    if kind in THEIRS or not isinstance(module, (RNNBase, RNNCellBase)):
        return None
    if kind not in OURS:
        return f"{kind.__name__} is a subclass of {kind.__mro__[1].__name__}"
    if reason := fits.why_not([*module.parameters()], not getattr(module, "proj_size", 0)):
        return f"it runs {reason}"
    return "its forward is not its class's" if "forward" in vars(module) else None


def restore(model: torch.nn.Module) -> list[str]:
    """Undo `accelerate`: let the modules run on PyTorch's own kernels again.

    Returns
    -------
    list of str
        The names of the modules that were ours.

    Raises
    ------
    TypeError
        Not a module.

    Examples
    --------
    >>> import torch, fusedrnn.torch
    >>> model = fusedrnn.torch.GRU(4, 8)
    >>> fusedrnn.torch.restore(model), type(model) is torch.nn.GRU
    ([''], True)
    """
    names = []
    for name, module in checked(model).named_modules():
        kind = type_before_parametrizations(module)
        if kind in THEIRS:
            change_class(module, THEIRS[kind])
            names.append(name)
    return names


NAMES = {kind.__name__ for kind in OURS}


def change_class(module: torch.nn.Module, kind: type) -> None:
    """Make a module one of this class; a parametrized one has a class of its own, which follows."""
    own = type(module)
    if is_parametrized(module):
        lacks = "__dict__", "__weakref__"
        names = {name: value for name, value in vars(own).items() if name not in lacks}
        kind = type(own.__name__, (kind,), names)
    module.__class__ = kind


def checked(model: object) -> torch.nn.Module:
    """Return the model, if it is one."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    return model
