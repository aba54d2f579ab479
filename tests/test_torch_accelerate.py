# SPDX-License-Identifier: MIT
"""`accelerate` and `restore`, and models in the settings in which PyTorch users run them."""

import copy
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import fusedrnn  # noqa: E402
import fusedrnn.torch  # noqa: E402
import torch_cases  # noqa: E402
from fusedrnn import _core  # noqa: E402
from torch_cases import (  # noqa: E402
    H,
    I,
    agree,
    distributed_problem,
    loss_of,
    parameters_of_rank,
)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, I)
        self.rnn = torch.nn.LSTM(I, H, num_layers=2, dropout=0.1)
        self.cell = torch.nn.GRUCell(H, H)
        self.head = torch.nn.Linear(H, 11)

    def forward(self, tokens):
        y, _ = self.rnn(self.embed(tokens))
        return self.head(self.cell(y[-1], y[0]))


def train(model, optimizer, steps=5):
    torch.manual_seed(1)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(11, (6, 4))
        loss = torch.nn.functional.cross_entropy(model(tokens), tokens[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def test_an_optimizer_made_before_goes_on_and_the_loss_curve_is_the_same():
    torch.manual_seed(0)
    theirs = Model()
    ours = copy.deepcopy(theirs)
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (ours, theirs)]
    before = list(ours.parameters())
    assert fusedrnn.torch.accelerate(ours).replaced == ["rnn", "cell"]
    assert all(a is b for a, b in zip(before, ours.parameters(), strict=True))
    agree(train(ours, optimizers[0]), train(theirs, optimizers[1]), 1e-5)
    assert fusedrnn.torch.restore(ours) == ["rnn", "cell"]
    assert type(ours.rnn) is torch.nn.LSTM
    agree(train(ours, optimizers[0]), train(theirs, optimizers[1]), 1e-5)


def test_what_is_left_and_why():
    class Own(torch.nn.GRU):
        pass

    model = torch.nn.ModuleDict(
        {"own": Own(2, 3), "short": torch.nn.GRU(2, 3).half(), "mine": fusedrnn.torch.RNN(2, 3)}
    )
    report = fusedrnn.torch.accelerate(model)
    assert report.replaced == []
    assert report.left == {
        "own": "Own is a subclass of GRU",
        "short": "it runs with torch.float16",
    }
    assert str(report).splitlines()[0] == "own: left, Own is a subclass of GRU"
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        fusedrnn.torch.accelerate(3)


def test_accelerated_before():
    model = torch.nn.Sequential(torch.nn.GRU(2, 3), fusedrnn.torch.LSTM(3, 3))
    assert str(fusedrnn.torch.accelerate(model)) == "0: replaced\n1: fusedrnn's already"
    assert fusedrnn.torch.accelerate(model).ours == ["0", "1"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_compiled_and_quantized_modules_are_left():
    x, nn = torch.zeros(2, 1, I), torch.nn
    kinds = ["LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"]
    floats = nn.ModuleDict({kind: getattr(nn, kind)(I, H) for kind in [*kinds, "Linear"]})
    classes = {type(module) for module in floats.values()}
    dynamic = torch.ao.quantization.quantize_dynamic(floats, classes, torch.float16)
    compiled = "it is compiled by torch.jit"
    for model, left in [
        (torch.jit.script(nn.Sequential(nn.GRU(I, H))), {"0": compiled}),
        (torch.jit.trace(nn.GRU(I, H), x), {"": compiled}),
        (torch.jit.trace(nn.Sequential(nn.Linear(I, I), nn.LSTM(I, H)), x), {"1": compiled}),
        (nn.Sequential(torch.jit.trace(nn.GRUCell(I, H), x[0])), {"0": compiled}),
        (dynamic, dict.fromkeys(kinds, "it is quantized")),
    ]:
        report = fusedrnn.torch.accelerate(model)
        assert (report.replaced, report.left) == ([], left)


def test_a_layer_whose_weights_are_elsewhere_is_replaced():
    module, x = torch.nn.GRU(2, 3), torch.randn(4, 1, 2)
    y = module(x)[0]
    weights = list(module.parameters())
    module._parameters.clear()  # what generates the weights puts them into this list
    module._flat_weights = weights
    assert fusedrnn.torch.accelerate(module).replaced == [""]
    agree([module(x)[0]], [y], 1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRUCell"])
def test_parametrized_before_and_after(kind):
    """PyTorch gives such a module a class of its own, which copies share."""
    x = torch.randn(5, 3, I) if kind == "LSTM" else torch.randn(3, I)
    orthogonal = torch.nn.utils.parametrizations.orthogonal
    name = "weight_hh_l0" if kind == "LSTM" else "weight_hh"
    theirs = getattr(torch.nn, kind)(I, 4, dtype=torch.float64)
    orthogonal(theirs, name)
    ours = copy.deepcopy(theirs)
    assert fusedrnn.torch.accelerate(ours).replaced == [""]
    assert isinstance(ours, getattr(fusedrnn.torch, kind))
    assert not isinstance(theirs, getattr(fusedrnn.torch, kind))
    leaves = torch.utils._pytree.tree_leaves
    results = []
    for module in (ours, theirs):
        outputs = leaves(module(x.double()))
        results.append([*outputs, *torch.autograd.grad(loss_of(outputs), module.parameters())])
    agree(*results)
    assert fusedrnn.torch.accelerate(ours).replaced == []
    assert fusedrnn.torch.restore(ours) == [""]
    assert not isinstance(ours, getattr(fusedrnn.torch, kind))
    outputs = leaves(ours(x.double()))
    agree(outputs, results[1][: len(outputs)])
    fusedrnn.torch.accelerate(ours)
    torch.nn.utils.parametrize.remove_parametrizations(ours, name)
    assert type(ours) is getattr(fusedrnn.torch, kind)


def test_a_forward_of_the_module_itself_is_left():
    model = torch.nn.Sequential(torch.nn.GRU(I, H))
    model[0].forward = torch.nn.GRU(I, H).forward
    report = fusedrnn.torch.accelerate(model)
    assert (report.replaced, report.left) == ([], {"0": "its forward is not its class's"})
    assert type(model[0]) is torch.nn.GRU


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "GRUCell"])
def test_parametrizations_are_computed_as_often(kind):
    """So that one with a state of its own, as spectral_norm, goes the same way."""
    results = []
    for of in (torch.nn, fusedrnn.torch):
        torch.manual_seed(0)
        module = getattr(of, kind)(4, 6)
        name = "weight_hh" if "Cell" in kind else "weight_hh_l0"
        torch.nn.utils.parametrizations.spectral_norm(module, name)
        x = torch.randn(3, 4) if "Cell" in kind else torch.randn(5, 3, 4)
        results.append([torch.utils._pytree.tree_leaves(module(x))[0] for _ in range(3)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weights_only", [False, True])
def test_whole_models_in_files(weights_only, tmp_path):
    """As pytorch/examples does it, naming PyTorch's classes alone."""
    model = torch.nn.Sequential(torch.nn.GRU(I, H), torch.nn.LSTMCell(I, H))
    fusedrnn.torch.accelerate(model)
    torch.save(model, tmp_path / "model.pt")
    theirs = [torch.nn.Sequential, torch.nn.GRU, torch.nn.LSTMCell]
    with torch.serialization.safe_globals(theirs):
        again = torch.load(tmp_path / "model.pt", weights_only=weights_only)
    assert [type(m) for m in again] == [fusedrnn.torch.GRU, fusedrnn.torch.LSTMCell]
    x = torch.randn(5, 3, I)
    agree(again[0](x), model[0](x), 0)
    copied = copy.deepcopy(model)
    assert fusedrnn.torch.restore(copied) == ["0", "1"]
    torch.save(copied, tmp_path / "theirs.pt")
    assert b"fusedrnn" not in (tmp_path / "theirs.pt").read_bytes()
    assert b"fusedrnn.torch\nGRU" in (tmp_path / "model.pt").read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["RNN", "LSTMCell"])
def test_scripting_wants_restore(kind):
    model = torch.nn.Sequential(getattr(fusedrnn.torch, kind)(I, H))
    with pytest.raises(TypeError, match=rf"{kind}: torch.jit.script .* fusedrnn.torch.restore"):
        torch.jit.script(model)
    fusedrnn.torch.restore(model)
    torch.jit.script(model)


def test_threads_are_those_of_torch(threads, monkeypatch):
    threads(4)
    seen, run = [], _core.forward

    def forward(*arguments):
        seen.append(arguments[-1])
        return run(*arguments)

    monkeypatch.setattr(_core, "forward", forward)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fusedrnn.torch.LSTM(I, H)(torch.zeros(2, 2, I))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader_workers(start):
    """In a process of its own: a fork would also take the threads of whatever tests ran before."""
    code = f"import torch_cases; torch_cases.load_in_workers({start!r})"
    folder = os.path.dirname(torch_cases.__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((folder, *sys.path))}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("how", ["ddp", "fsdp1", "fsdp2"])
def test_two_processes_train_as_one_with_the_whole_batch(how):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=parameters_of_rank, args=(how, rank, port, queue)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    got = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    model, x = distributed_problem()
    torch_cases.train(model, x)
    for parameters in got.values():
        agree(list(map(torch.from_numpy, parameters)), list(model.parameters()), 1e-10)
