# SPDX-License-Identifier: MIT
"""What `torch.compile` must know, which modules it may trace and which calls not; `jit` and `fx`.

Dynamo breaks its graph at every instance of `torch.nn.RNN`, `LSTM` and `GRU`, unless its option
`allow_rnn` is set. Set for a whole process, it would also trace the modules of `torch.nn` itself:
unrolled step by step, and with N = 0 a division by zero ends the process. So it is set while
Dynamo looks at a module of ours, and no longer.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch._dynamo.config
import torch.fx
from torch import Tensor
from torch._dynamo.symbolic_convert import InstructionTranslator
from torch._dynamo.variables.builder import VariableBuilder

from . import fits


class Unscripted:
    """A module that `torch.jit.script` shall refuse in words of its own."""

    def __prepare_scriptable__(self) -> None:
        """Raise TypeError: called by `torch.jit.script`, of every module in a model."""
        kind = f"{type(self).__module__}.{type(self).__name__}"
        raise TypeError(
            f"{kind}: torch.jit.script cannot compile it, fusedrnn.torch.restore(model) first"
        )


def allow(kind: type) -> None:
    """Let Dynamo trace modules of this class."""
    wrap_module = getattr(VariableBuilder, "wrap_module", None)
    if wrap_module is None:  # a release that has it elsewhere
        torch._dynamo.config.allow_rnn = True
        return

    @functools.wraps(wrap_module)
    def wrap(self: Any, value: Any) -> Any:
        if not isinstance(value, kind):
            return wrap_module(self, value)
        with torch._dynamo.config.patch(allow_rnn=True):
            return wrap_module(self, value)

    VariableBuilder.wrap_module = wrap


def keep_whole() -> None:
    """Let `torch.fx` take modules of ours for leaves of its graphs, as those of `torch.nn`."""
    is_leaf_module = torch.fx.Tracer.is_leaf_module

    @functools.wraps(is_leaf_module)
    def is_leaf(self: Any, m: torch.nn.Module, module_qualified_name: str) -> bool:
        ours: bool = m.__module__.startswith(__package__)
        return ours or is_leaf_module(self, m, module_qualified_name)

    torch.fx.Tracer.is_leaf_module = is_leaf


keep_whole()


def hand_over(
    module: torch.nn.Module, run: Any, reason: str | None, x: Any, input: Any, hx: Any
) -> Any:
    """Let `torch.nn` run in a module's place, outside of a compiled graph where it must."""
    if leaves_graph(module, reason, x):
        return outside(module, input, hx)
    return fits.run_theirs(run, reason or "", input, hx)


def leaves_graph(module: torch.nn.Module, reason: str | None, x: Any) -> bool:
    """Whether Dynamo, tracing a call that `torch.nn` shall run, must break its graph there.

    It should: what it would make of `torch.nn`'s forward is slower than that. It does not if it was
    told to make one graph, but for what fails inside of graphs: there oneDNN's LSTM, which PyTorch
    takes for an x without gradient, has none either.
    """
    if not torch.compiler.is_dynamo_compiling() or not isinstance(x, Tensor):
        return False
    trains = torch.is_grad_enabled() and not x.requires_grad
    fails = reason == fits.FUNC or (trains and isinstance(module, torch.nn.LSTM))
    return 0 in x.shape or (bool(reason) and (fails or not makes_one_graph()))


@torch.compiler.disable(reason="torch.nn's own kernels run this call")
def outside(module: torch.nn.Module, input: Any, hx: Any) -> Any:
    """Run a module's forward as if nothing were compiled."""
    return module.forward(input, hx)


@torch._dynamo.assume_constant_result
def makes_one_graph() -> bool:
    """Whether a break is an error now, as with fullgraph=True: asked while Dynamo traces."""
    return bool(InstructionTranslator.current_tx().one_graph)
