# SPDX-License-Identifier: MIT
"""Whose memory is whose: what autograd keeps, for how long, and what a user may do with tensors."""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn import _core  # noqa: E402
from fusedrnn.torch import fits  # noqa: E402
from torch.autograd.graph import allow_mutation_on_saved_tensors, saved_tensors_hooks  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_cases import KINDS, H, I, N, agree, call, inputs, loss_of, pair, state  # noqa: E402

CELLS = "RNNCell", "LSTMCell", "GRUCell"


@pytest.fixture
def tapes(monkeypatch):
    """tapes(): how many of the tapes recorded from here on are alive."""
    made, forward = [], _core.forward

    def recorded(*arguments):
        array = forward(*arguments)
        if array is not None:
            made.append(weakref.ref(array))
        return array

    def alive():
        gc.collect()
        return sum(ref() is not None for ref in made)

    monkeypatch.setattr(_core, "forward", recorded)
    return alive


@pytest.mark.parametrize("kind", KINDS)
def test_storages_can_be_resized_as_sharding_does(kind):
    ours, _ = pair(kind, num_layers=2)
    xs, parts = inputs(ours, "batch"), state(ours, "batch")
    outputs = call(ours, "batch", xs, parts)
    grads = torch.autograd.grad(loss_of(outputs), [*xs, *parts, *ours.parameters()])
    for tensor in [*xs, *parts, *ours.parameters(), *outputs, *grads]:
        assert tensor.untyped_storage().resizable()


@pytest.mark.parametrize("kind", KINDS)
def test_backward_lets_go_of_the_tape(kind, tapes):
    ours, _ = pair(kind, num_layers=2, bidirectional=True)
    loss = loss_of(call(ours, "batch", inputs(ours, "batch")))
    assert tapes() == 4
    loss.backward()
    assert tapes() == 0


@pytest.mark.parametrize("form", ["batch", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_autograd_keeps_can_be_kept_elsewhere(kind, form, tapes):
    ours, _ = pair(kind, bidirectional=True)
    xs, parts, elsewhere = inputs(ours, form), state(ours, form), []
    wanted = [*xs, *parts, *ours.parameters()]
    grads = torch.autograd.grad(loss_of(call(ours, form, xs, parts)), wanted)

    def pack(tensor):
        elsewhere.append(tensor.detach().numpy().copy())
        return len(elsewhere) - 1

    with saved_tensors_hooks(pack, lambda i: torch.from_numpy(elsewhere[i].copy())):
        loss = loss_of(call(ours, form, xs, parts))
    assert tapes() == 0
    agree(torch.autograd.grad(loss, wanted), grads, 0)


@pytest.mark.parametrize("name", CELLS)
def test_what_a_cell_keeps_can_be_kept_elsewhere(name, tapes):
    cell = getattr(fusedrnn.torch, name)(I, H)
    x = torch.randn(N, I)
    with saved_tensors_hooks(torch.clone, lambda tensor: tensor):
        outputs = cell(x)
    assert tapes() == 0
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss_of(outputs).backward()


def test_checkpointing_keeps_nothing(tapes):
    ours, _ = pair("LSTM")
    x = inputs(ours, "batch")[0]
    wanted = torch.autograd.grad(ours(x)[0].sum(), [x, *ours.parameters()])
    loss = checkpoint(lambda x: ours(x)[0], x, use_reentrant=False).sum()
    assert tapes() == 0
    agree(torch.autograd.grad(loss, [x, *ours.parameters()]), wanted, 0)


@pytest.mark.filterwarnings("ignore:.*torch.nn's own kernels")  # in a mode that sees operators
@pytest.mark.parametrize("what", ["weight", "x", "y"])
def test_a_change_where_it_is_allowed_does_not_reach_the_gradients(what):
    results = []
    for module in pair("LSTM"):
        torch.manual_seed(4)
        x = inputs(module, "batch")[0]
        with allow_mutation_on_saved_tensors():
            copy = x * 1
            y, _ = module(copy)
            loss = y.square().sum()
            with torch.no_grad():
                {"weight": module.weight_hh_l0, "x": copy, "y": y}[what].mul_(3)
            results.append(torch.autograd.grad(loss, [x, module.bias_ih_l0]))
    agree(*results)


@pytest.mark.filterwarnings("ignore:LSTM with proj")  # PyTorch's own
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {"batch_first": first}) for kind in KINDS for first in (False, True)),
        ("LSTM", {"bidirectional": True, "dtype": torch.float32}),
        ("projected", {"dtype": torch.float32}),
    ],
)
def test_y_may_be_changed_in_place_where_torch_lets_it(kind, options):
    results = []
    for module in pair(kind, num_layers=2, **options):
        torch.manual_seed(4)
        x = inputs(module, "batch", options.get("dtype", torch.float64))[0]
        y, h = module(x)
        torch.nn.functional.relu(y, inplace=True)
        h = h if isinstance(h, tuple) else (h,)
        results.append(torch.autograd.grad(loss_of([y, *h]), [x, *module.parameters()]))
    agree(*results, limit=3e-5 if "dtype" in options else 1e-11)


def test_y_of_an_lstm_may_be_changed_in_place_without_onednn():
    with fits.without_onednn():
        test_y_may_be_changed_in_place_where_torch_lets_it("LSTM", {"dtype": torch.float32})


def test_y_of_a_packed_batch_may_be_changed_in_place():
    results = []
    for module in pair("LSTM", torch.float32):
        torch.manual_seed(4)
        xs = inputs(module, "packed", torch.float32)
        y = call(module, "packed", xs)[0]
        results.append(torch.autograd.grad(y.relu_().square().sum(), [*xs, *module.parameters()]))
    agree(*results, limit=3e-5)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_outputs_of_cells_may_be_changed_in_place(name):
    theirs = getattr(torch.nn, name)(I, H, dtype=torch.float64)
    ours = getattr(fusedrnn.torch, name)(I, H, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(N, I, dtype=torch.float64)
    results = []
    for cell in (ours, theirs):
        outputs = cell(x)
        h = outputs[0] if isinstance(outputs, tuple) else outputs
        results.append(torch.autograd.grad(h.mul_(2).square().sum(), list(cell.parameters())))
    agree(*results)


@pytest.mark.parametrize("form", ["time", "batch_first", "packed", *CELLS])
def test_outputs_are_no_views(form):
    if form in CELLS:
        outputs = getattr(fusedrnn.torch, form)(I, H)(torch.randn(N, I))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    else:
        ours, _ = pair("GRU", batch_first=form == "batch_first")
        form = "packed" if form == "packed" else "batch"
        outputs = call(ours, form, inputs(ours, form))[form == "packed" :]
    for output in outputs:
        assert not output._is_view()
        assert not output.detach_().requires_grad


def test_a_tensor_with_the_negative_bit():
    ours, theirs = pair("GRU")
    x = torch._neg_view(torch.randn(7, N, I, dtype=torch.float64))
    h = torch._neg_view(torch.randn(1, N, H, dtype=torch.float64))
    results = []
    for module in (ours, theirs):
        outputs = module(x, h)
        dout = torch._neg_view(torch.ones_like(outputs[0]))
        grads = torch.autograd.grad(outputs[0], list(module.parameters()), dout)
        results.append([*outputs, *grads])
    agree(*results)


@pytest.mark.parametrize("kind", ["GRU", "LSTMCell"])
def test_a_weight_with_the_negative_bit(kind):
    results = []
    for owner in (fusedrnn.torch, torch.nn):
        torch.manual_seed(0)
        module = getattr(owner, kind)(I, H)
        name = next(name for name, _ in module.named_parameters() if "weight_hh" in name)
        setattr(module, name, torch.nn.Parameter(torch._neg_view(-getattr(module, name).detach())))
        outputs = module(torch.ones(N, I) if "Cell" in kind else torch.ones(7, N, I))
        grads = torch.autograd.grad(outputs[0].sum(), list(module.parameters()))
        results.append([outputs[0], *grads])
    agree(*results, limit=3e-5)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "GRUCell"])
def test_what_hooks_hand_back_may_be_strided_or_negated(kind):
    results = []
    for changed in (False, True):
        torch.manual_seed(0)
        module, x = getattr(fusedrnn.torch, kind)(I, H), torch.randn(7, N, I)

        def back(tensor, changed=changed):
            if not changed:
                return tensor
            if tensor.is_floating_point():
                return torch._neg_view(-tensor)
            return torch.stack([tensor, tensor], -1)[..., 0]

        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, back):
            out = module(x[0] if "Cell" in kind else x)
            loss = (out[0] if isinstance(out, tuple) else out).sum()
            results.append(torch.autograd.grad(loss, list(module.parameters())))
    agree(*results, limit=0)


def test_a_tensor_whose_memory_was_freed_is_refused():
    ours, _ = pair("GRU")
    x = torch.randn(7, N, I, dtype=torch.float64)
    x.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="x: expected memory"):
        ours(x)
