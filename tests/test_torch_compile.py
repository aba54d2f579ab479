# SPDX-License-Identifier: MIT
"""What `torch.compile` does where the kernels do not run, and to models of `torch.nn`."""

import re
import warnings

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn.torch import fits  # noqa: E402
from torch_cases import H, I, N, T, agree  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CELLS = ("RNNCell", "LSTMCell", "GRUCell")
LAYERS = ("RNN", "LSTM", "GRU")


def compiled(module, **options):
    torch.compiler.reset()
    return torch.compile(module, backend="aot_eager", **options)


def norm(outputs):
    flat = torch.utils._pytree.tree_leaves(outputs)
    return sum(output.float().square().sum() for output in flat)


@pytest.fixture(autouse=True)
def _said():
    """As if no hand-over had been said yet, and none were a failure."""
    fits.said.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fusedrnn.torch: torch.nn's own kernels")
        yield


@pytest.mark.parametrize("kind", LAYERS)
def test_what_torch_nn_does_stays_as_it_was(kind):
    module = getattr(torch.nn, kind)(I, H)
    assert not torch._dynamo.config.allow_rnn
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        compiled(module, fullgraph=True)(torch.randn(T, N, I))
    ours = getattr(fusedrnn.torch, kind)(I, H)
    both = torch.nn.ModuleList([ours, module])
    graph = compiled(lambda x: (both[0](x)[0], both[1](x)[0]))
    agree(graph(torch.ones(T, 2, I)), [m(torch.ones(T, 2, I))[0] for m in both], 1e-6)
    assert not torch._dynamo.config.allow_rnn


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_no_rows(kind):
    """In a graph an LSTM of PyTorch's would divide by zero, and the process would die."""
    module = getattr(fusedrnn.torch, kind)(I, H)
    shape = (0, I) if kind in CELLS else (T, 0, I)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            outputs, wanted = (call(torch.zeros(shape)) for call in (compiled(module), module))
        for a, b in zip(*map(torch.utils._pytree.tree_leaves, (outputs, wanted)), strict=True):
            assert a.shape == b.shape
    graph = compiled(module, dynamic=True)
    for rows in (3, 0, 2):
        x = torch.zeros(*shape[:-2], rows, I)
        assert torch.utils._pytree.tree_leaves(graph(x))[0].shape == (*shape[:-2], rows, H)


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_gradients_of_func_inside(kind):
    module = getattr(fusedrnn.torch, kind)(I, H)
    x = torch.randn(N, I) if kind in CELLS else torch.randn(T, N, I)
    values = dict(module.named_parameters())

    def grad(values):
        return torch.func.grad(lambda v: norm(torch.func.functional_call(module, v, (x,))))(values)

    ours = compiled(grad)(values)
    wanted = torch.autograd.grad(norm(module(x)), list(values.values()))
    agree([ours[name] for name in values], wanted, 1e-5)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell"])
def test_vmap_inside(kind):
    module, x = getattr(fusedrnn.torch, kind)(I, H), torch.randn(N, I)
    ours = compiled(lambda x: torch.func.vmap(module)(x))(x)
    leaves = torch.utils._pytree.tree_leaves
    agree(leaves(ours), leaves(module(x)), 1e-5)


def skip_what_torch_nn_cannot(kind, x):
    """OneDNN has an LSTM in bfloat16 from AVX-512 on, and torch.nn has no other under autocast."""
    try:
        getattr(torch.nn, kind)(I, H)(x)
    except RuntimeError as error:
        fits.said.clear()
        same = pytest.raises(RuntimeError, match=re.escape(str(error)))
        with same, pytest.warns(UserWarning, match="under autocast"):
            getattr(fusedrnn.torch, kind)(I, H)(x)
        pytest.skip(f"torch.nn.{kind} itself: {error}")


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_autocast_and_bfloat16_inside(kind, fullgraph):
    """With fullgraph=True in the graph, else beside it: once said, and as without compilation."""
    module = getattr(fusedrnn.torch, kind)(I, H)
    x = torch.randn(N, I) if kind in CELLS else torch.randn(T, N, I)
    x.requires_grad_((kind, fullgraph) == ("LSTM", True))
    with torch.autocast("cpu", torch.bfloat16):
        skip_what_torch_nn_cannot(kind, x)
        wanted = norm(module(x))
        fits.said.clear()
        with pytest.warns(UserWarning, match=r"torch.nn's own kernels .* under autocast"):
            got = norm(compiled(module, fullgraph=fullgraph)(x))
    agree([got], [wanted], 0.05)
    got.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    module, x = module.bfloat16(), x.detach().bfloat16()
    with torch.no_grad():
        agree([norm(compiled(module, fullgraph=fullgraph)(x))], [norm(module(x))], 0.05)


def test_an_lstm_that_torch_nn_trains_cannot_be_in_one_graph_at_the_bottom():
    """PyTorch takes oneDNN's for x without gradient, and fails to differentiate it in a graph."""
    module = fusedrnn.torch.LSTM(I, H).bfloat16()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"own kernels run this call"):
        compiled(module, fullgraph=True)(torch.randn(T, N, I, dtype=torch.bfloat16))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_exported_without_gradients_and_trained(kind, given):
    module, x = getattr(fusedrnn.torch, kind)(I, H, num_layers=2), torch.randn(T, N, I)
    h = torch.randn(2, N, H)
    arguments = (x, (h, h) if kind == "LSTM" else h) if given else (x,)
    with torch.no_grad():
        program = torch.export.export(module, arguments).module()
    norm(program(*arguments)).backward()
    wanted = torch.autograd.grad(norm(module(*arguments)), list(module.parameters()))
    agree([p.grad for p in program.parameters()], wanted, 0)


def test_second_derivatives_of_a_compiled_module_are_refused():
    module, x = fusedrnn.torch.GRU(I, H), torch.randn(T, N, I, requires_grad=True)
    torch.compiler.reset()
    y, _ = torch.compile(module, fullgraph=True, backend="eager")(x)
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^create_graph=True: expected a module that is not co"):
        dx.sum().backward()


@pytest.mark.parametrize("kind", ["RNN", "GRU"])  # of an LSTM torch.nn's own may not be
def test_outputs_changed_in_place_outside(kind):
    module, x = getattr(fusedrnn.torch, kind)(I, H), torch.randn(T, N, I)
    torch.compiler.reset()
    grads = []
    for run in (torch.compile(module), module):  # by Inductor, which leaves out copies
        y = run(x)[0]
        y.mul_(2.0)
        grads.append(torch.autograd.grad(norm(y), list(module.parameters())))
    agree(*grads, 1e-6)


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_outputs_changed_in_place_inside(kind):
    module = getattr(fusedrnn.torch, kind)(I, H)
    x = torch.randn(N, I) if kind in CELLS else torch.randn(T, N, I)
    leaves = torch.utils._pytree.tree_leaves

    def run(x):
        y = leaves(module(x))[0]
        y.mul_(2.0)
        return y

    weights = list(module.parameters())
    ours = torch.autograd.grad(norm(compiled(run, fullgraph=True)(x)), weights)
    wanted = torch.autograd.grad(norm(leaves(module(x))[0] * 2.0), weights)
    agree(ours, wanted, 1e-6)
