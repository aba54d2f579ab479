# SPDX-License-Identifier: MIT
"""`fusedrnn.torch` on a device: who is let in, and how, with tensors of the host for CUDA's."""

import types

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn import _core  # noqa: E402
from fusedrnn.torch import device, fits  # noqa: E402
from torch_cases import agree, call, inputs, loss_of, pair, state  # noqa: E402


class Core:
    """The emulator, called with tensors of the host: copies there, and what was written back."""

    def __init__(self, core):
        self.core, self.Buffer = core, types.SimpleNamespace(view=self.view)

    def view(self, tensor, name, on):
        tensor.__dlpack__()  # PyTorch refuses those that need a gradient
        return tensor

    def _sized(self, function, *arguments):
        return function(*(0 if a is None else a for a in arguments))  # a tensor of the host: None

    def tape_bytes(self, *sizes):
        return self._sized(self.core.tape_bytes, *sizes)

    def workspace_bytes(self, *sizes):
        return self._sized(self.core.workspace_bytes, *sizes)

    def _run(self, function, cell, *arguments):
        pairs, on = [], self.core.Stream(0, None)

        def there(value):
            if isinstance(value, tuple):
                return tuple(map(there, value))
            if not isinstance(value, torch.Tensor):
                return value
            buffer = self.core.Buffer(tuple(value.shape), str(value.dtype)[6:])
            buffer.upload(value.numpy())
            pairs.append((value, buffer))
            return buffer

        function(cell, *map(there, arguments[:-1]), on)
        for tensor, buffer in pairs:
            tensor.data.copy_(torch.from_numpy(buffer.download()))

    def forward(self, *arguments):
        self._run(self.core.forward, *arguments)

    def backward(self, *arguments):
        self._run(self.core.backward, *arguments)


@pytest.fixture
def as_cuda(cuda, monkeypatch):
    """Modules take their tensors, of the host, for CUDA's."""
    core = Core(cuda.library.core())
    monkeypatch.setattr(device, "core", lambda: core)
    monkeypatch.setattr(device, "stream_of", lambda stream, x: None)
    monkeypatch.setattr(device, "has", lambda tensor: True)
    monkeypatch.setattr(_core, "plain_shapes", lambda tensors: None)


@pytest.mark.usefixtures("as_cuda")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "relu", "LSTM", "GRU"])
def test_results_and_gradients(kind, given, bidirectional):
    options = {"num_layers": 2, "bidirectional": bidirectional, "bias": given}
    ours, theirs = pair(kind, torch.float32, batch_first=given, **options)
    xs = inputs(ours, "batch", torch.float32)
    parts = state(ours, "batch", torch.float32) if given else []
    results = []
    for module in (ours, theirs):
        outputs = call(module, "batch", xs, parts)
        grads = torch.autograd.grad(loss_of(outputs), [*xs, *parts, *module.parameters()])
        results.append([*outputs, *grads])
        results[-1] += torch.autograd.grad(outputs_of(module, xs, parts)[-1].sum(), xs)
        with torch.no_grad():
            results[-1] += call(module, "batch", xs, parts)
    agree(*results, limit=3e-5)


def outputs_of(module, xs, parts):
    """Without a gradient of y, and with frozen weights."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return call(module, "batch", xs, parts)


def test_asking_for_them(cuda):
    try:
        fusedrnn.torch.use_cuda_kernels(True)
        assert fits.cuda_kernels
    finally:
        fusedrnn.torch.use_cuda_kernels(False)
    assert not fits.cuda_kernels
    with pytest.raises(TypeError, match=r"^on: expected True or False, got int"):
        fusedrnn.torch.use_cuda_kernels(1)
    cuda.use(types.SimpleNamespace(device_count=lambda: 0))
    with pytest.raises(RuntimeError, match=r"^CUDA is not available: there is no CUDA device"):
        fusedrnn.torch.use_cuda_kernels(True)


def test_who_is_let_in(monkeypatch):
    class Far(torch.Tensor):
        """Says that it is on a CUDA device."""

        is_cpu, is_cuda = False, True
        device = torch.device("cuda", 0)

    monkeypatch.setattr(fits, "PLAIN", (Far,))

    def why_not(*dtypes, devices=True, compiling=False):
        tensors = [torch.ones(1, dtype=dtype).as_subclass(Far) for dtype in dtypes]
        return fits.why_not(tensors, devices, compiling)

    single, half, double = torch.float32, torch.bfloat16, torch.float64
    assert why_not(single, single) == "on cuda"
    monkeypatch.setattr(fits, "cuda_kernels", True)
    assert why_not(single, single) is None
    assert why_not(half, half, half) is None
    assert why_not(double) == "on cuda with torch.float64"
    assert why_not(single, half) == ""
    assert why_not(single, devices=False) == "on cuda with packed sequences, a projection or a cell"
    assert why_not(single, compiling=True) == "on cuda under torch.compile"


def test_autocast_for_cuda(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch._C, "_is_any_autocast_enabled", lambda: True)
    assert fits.mode(False) is None
    monkeypatch.setattr(fits, "cuda_kernels", True)
    assert fits.mode(False) == "under autocast"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
@pytest.mark.parametrize("dtype", fits.CUDA_DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["RNN", "relu", "LSTM", "GRU"])
def test_on_a_device(kind, dtype, monkeypatch):
    ours, theirs = pair(kind, dtype, num_layers=2, bidirectional=True)
    xs, parts = inputs(ours, "batch", dtype), state(ours, "batch", dtype)
    monkeypatch.setattr(fits, "cuda_kernels", fusedrnn.cuda.is_available())
    monkeypatch.setattr(fits, "hand_over", None)  # all is run by ours
    results = []
    for module in (ours.cuda(), theirs.float().cuda()):
        its = next(module.parameters()).dtype
        leaves = [a.detach().to("cuda", its).requires_grad_() for a in (*xs, *parts)]
        outputs = call(module, "batch", leaves[:1], leaves[1:])
        grads = torch.autograd.grad(
            loss_of([a.float() for a in outputs]), [*leaves, *module.parameters()]
        )
        results.append([a.float().cpu() for a in (*outputs, *grads)])
    agree(*results, limit=3e-5 if dtype == torch.float32 else 3e-2)
