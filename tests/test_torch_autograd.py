# SPDX-License-Identifier: MIT
"""Derivatives of `fusedrnn.torch`'s modules: first and second, twice from one tape, and misuse."""

import pytest

torch = pytest.importorskip("torch")

from fusedrnn.torch import fits  # noqa: E402
from torch_cases import KINDS, agree, call, inputs, loss_of, pair, state  # noqa: E402


def test_second_derivatives_of_an_lstm_in_float32():
    """`torch.nn` runs it by oneDNN."""
    results, (module, _) = [], pair("LSTM", torch.float32, bidirectional=True)
    tensors = [*inputs(module, "batch", torch.float32), *state(module, "batch", torch.float32)]
    for dtype in (torch.float32, torch.float64):
        x, *parts = (tensor.detach().to(dtype).requires_grad_() for tensor in tensors)
        wanted = [x, *parts, *module.to(dtype).parameters()]
        loss = sum(output.square().sum() for output in call(module, "batch", [x], parts))
        first = torch.autograd.grad(loss, wanted, create_graph=True)
        second = torch.autograd.grad(sum(grad.square().sum() for grad in first), wanted)
        results.append([tensor.double() for tensor in (*first, *second)])
    agree(*results, limit=1e-5)


@pytest.mark.parametrize("form", ["batch", "packed"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_second_and_third_derivatives(kind, given, form):
    ours, theirs = pair(kind, bidirectional=True)
    xs, parts = inputs(ours, form), state(ours, form) if given else []
    results = []
    for module in (ours, theirs):
        wanted = [*xs, *parts, *module.parameters()]
        loss = loss_of(call(module, form, xs, parts))
        first = torch.autograd.grad(loss, wanted, create_graph=True)
        second = torch.autograd.grad(loss_of(first), wanted, create_graph=True)
        third = torch.autograd.grad(loss_of(second), wanted)
        results.append([*first, *second, *third])
    agree(*results, limit=1e-9)


def test_second_derivatives_with_unused_outputs_and_a_state_made_from_x():
    results = []
    ours, theirs = pair("LSTM")
    x = inputs(ours, "batch")[0]
    for module in (ours, theirs):
        h = x.mean(0)[None, :, :1].expand(1, -1, module.hidden_size)
        _, (_, c) = module(x, (h, torch.tanh(h)))
        grad, *_ = torch.autograd.grad(c.square().sum(), [x], create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), [x, *module.parameters()]))
    agree(*results, limit=1e-9)


def test_backward_twice_through_one_graph():
    ours, _ = pair("LSTM", num_layers=2)
    loss = loss_of(call(ours, "batch", inputs(ours, "batch")))
    first = torch.autograd.grad(loss, ours.parameters(), retain_graph=True)
    agree(torch.autograd.grad(loss, ours.parameters()), first, 0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, ours.parameters())


@pytest.mark.parametrize("what", ["weight", "x", "y"])
def test_a_change_before_backward_is_found(what):
    ours, _ = pair("LSTM", torch.float32)  # y of others may be changed: test_torch_memory
    x = inputs(ours, "batch", torch.float32)[0] * 1
    y, _ = ours(x)
    loss = y.sum()
    with torch.no_grad():
        {"weight": ours.weight_hh_l0, "x": x, "y": y}[what].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_gradient_of_zeros_without_memory():
    ours, _ = pair("GRU")
    y, _ = ours(inputs(ours, "batch")[0])
    zeros = torch._efficientzerotensor(y.shape, dtype=y.dtype)
    for grad in torch.autograd.grad(y, ours.parameters(), zeros):
        assert not grad.any()


def test_only_what_is_wanted_has_a_gradient():
    ours, theirs = pair("LSTM")
    x = inputs(ours, "batch")[0]
    results = []
    for module in (ours, theirs):
        module.requires_grad_(False)
        results.append(torch.autograd.grad(module(x)[0].sum(), [x]))
        assert not module(x.detach())[0].requires_grad
    agree(*results)


def test_gradients_do_not_depend_on_train_or_eval():
    ours, _ = pair("GRU")
    x = inputs(ours, "batch")[0]
    grads = [
        torch.autograd.grad(loss_of(call(mode, "batch", [x])), ours.parameters())
        for mode in (ours.train(), ours.eval())
    ]
    agree(*grads, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, of torch.jit
def test_forward_mode_is_that_of_torch(monkeypatch):
    monkeypatch.setattr(fits, "said", set())
    ours, theirs = pair("GRU")
    x = inputs(ours, "batch")[0].detach()
    with pytest.warns(UserWarning, match=r"torch\.nn's own"):
        _, ours_jvp = torch.func.jvp(lambda x: ours(x)[0], (x,), (torch.ones_like(x),))
    _, theirs_jvp = torch.func.jvp(lambda x: theirs(x)[0], (x,), (torch.ones_like(x),))
    agree([ours_jvp], [theirs_jvp])
