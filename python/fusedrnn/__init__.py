# SPDX-License-Identifier: MIT
"""Recurrent networks on NumPy arrays, with fused C++ kernels forward and through time.

Layers: `RNN`, `LSTM`, `GRU`, `Linear`; one step at a time: `RNNCell`, `LSTMCell`, `GRUCell`; loss:
`softmax_cross_entropy`; `optim`: `SGD`, `RMSprop`, `Adam`, `AdamW`, `clip_grad_norm`; truncated
backpropagation: `chunks`. Underneath:
`functional` (the kernels) and `reference` (the same in plain NumPy). On a GPU: `cuda`. Weights of
PyTorch, Keras and ONNX: `from_state_dict`, `load_safetensors`, `keras.from_keras`,
`onnx.from_onnx`, and back.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _core, functional, validate
from ._core import __version__
from .cells import GRUCell, LSTMCell, RNNCell
from .chunks import chunks
from .convert import from_state_dict, to_state_dict
from .files import load_safetensors, save_safetensors
from .frozen import Frozen
from .head import Linear, softmax_cross_entropy
from .layers import GRU, LSTM, RNN
from .noise import Noise
from .weights import CELLS, Weights

if TYPE_CHECKING:
    from . import cuda, gradflow, keras, onnx, optim, reference

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "RNN",
    "Frozen",
    "GRUCell",
    "LSTMCell",
    "Linear",
    "Noise",
    "RNNCell",
    "Weights",
    "__version__",
    "chunks",
    "cuda",
    "from_state_dict",
    "functional",
    "get_num_threads",
    "gradflow",
    "info",
    "isa",
    "isas",
    "keras",
    "load_safetensors",
    "onnx",
    "optim",
    "reference",
    "save_safetensors",
    "set_isa",
    "set_num_threads",
    "softmax_cross_entropy",
    "to_state_dict",
]


def __getattr__(name: str) -> Any:
    """Import a module when it is first asked for, to keep `import fusedrnn` short."""
    if name in ("cuda", "gradflow", "keras", "onnx", "optim", "reference"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def isas() -> list[str]:
    """Return the instruction sets this machine can run, the plainest first."""
    return _core.isas()


def isa() -> str:
    """Return the instruction set in use."""
    return _core.isa()


def set_isa(name: str) -> None:
    """Use another instruction set from now on, in the whole process.

    The environment variable `FUSEDRNN_ISA` chooses the first one.

    Raises
    ------
    ValueError
        One that `isas()` does not name.
    """
    _core.set_isa(validate.choice("isa", name, isas()))


def get_num_threads() -> int:
    """Return how many threads a call may use."""
    return _core.num_threads()


def set_num_threads(number: int) -> None:
    """Let a call use so many threads from now on, in the whole process; results do not change."""
    _core.set_num_threads(validate.size("number", number))


def info() -> dict[str, Any]:
    """Return the version and how the kernels run here.

    Examples
    --------
    >>> sorted(info())
    ['compiler', 'cuda', 'isa', 'isas', 'threads', 'version']
    """
    return {
        "version": __version__,
        "isa": isa(),
        "isas": isas(),
        "threads": get_num_threads(),
        "compiler": _core.compiler,
        "cuda": importlib.import_module(f"{__name__}.cuda").state(),
    }
