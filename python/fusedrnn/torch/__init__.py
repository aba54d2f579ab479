# SPDX-License-Identifier: MIT
"""Drop-in modules for PyTorch: `torch.nn`'s recurrent modules, on fusedrnn's kernels.

`RNN`, `LSTM`, `GRU` and the three cells are subclasses of those in `torch.nn`, with the same
parameters, results (to rounding) and errors; `accelerate(model)` turns those of a model into them,
`restore(model)` turns them back. Tensors are not copied on the way to the kernels and back, but
where they are not contiguous (batch_first: x once; PyTorch does too), and y once in training (but
of a plain float32 LSTM), as you may change yours in place. A module whose attributes no longer are
those of its weights, and a batch packed by hand wrongly, are errors in our words. All that
backward reads is kept by PyTorch's autograd: offloading and checkpointing see it, and a weight that
was changed in place since is an error, whether or not `torch.nn` looks; other memory in its place
(`weight.data = ...`) is not noticed, and read. What kernels cannot take (other devices and dtypes,
autocast, torch.func) runs on `torch.nn`'s own, and a warning says so once. Second derivatives and
batched gradients are right, and take PyTorch's own operators. What goes by the type of a module
(`quantize_dynamic`, `torch.jit.script`) wants `restore` first. Masks of dropout are those PyTorch
draws. Threads are `torch.get_num_threads()`, and no more than
`fusedrnn.get_num_threads()`.

`torch.compile` has these modules in its graph, where it breaks that at `torch.nn`'s own; so it does
at ours, for calls that `torch.nn` runs (but with fullgraph=True it traces those of bfloat16 and
autocast). A compiled module has no second derivatives. A program of `torch.export` needs this
import before `torch.export.load`; `torch.onnx.export` of a module writes what it writes for
`torch.nn`'s.
"""

import torch

from .accelerate import OURS, Report, accelerate, restore
from .cells import GRUCell, LSTMCell, RNNCell
from .fits import use_cuda_kernels
from .modules import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Report",
    "accelerate",
    "restore",
    "use_cuda_kernels",
]

for _kind in OURS.values():  # what files of whole models name, and may be loaded
    _kind.__module__ = __name__
torch.serialization.add_safe_globals(list(OURS.values()))
