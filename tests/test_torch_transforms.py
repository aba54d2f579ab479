# SPDX-License-Identifier: MIT
"""What PyTorch makes of functions: batched gradients, torch.func, torch.fx; oneDNN's switch."""

import warnings

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn.torch.fits import without_onednn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_cases import KINDS, H, I, N, agree, call, inputs, loss_of, pair, state  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.nn's own kernels", "ignore::DeprecationWarning", "ignore:.*performance drop"
)


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batched_gradients(kind, further):
    ours, theirs = pair(kind)
    xs, parts = inputs(ours, "batch"), state(ours, "batch")
    results = []
    for module in (ours, theirs):
        wanted = [*xs, *parts, *module.parameters()]
        outputs = call(module, "batch", xs, parts)
        torch.manual_seed(6)
        douts = [torch.randn(3, *output.shape, dtype=output.dtype) for output in outputs]
        grads = torch.autograd.grad(
            outputs, wanted, douts, is_grads_batched=True, create_graph=further
        )
        results.append(list(grads))
        if further:
            results[-1] += torch.autograd.grad(loss_of(grads), wanted, allow_unused=True)
    agree(*results)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_vectorized_jacobian_of_a_cell(name):
    cell = getattr(fusedrnn.torch, name)(I, H, dtype=torch.float64)
    x = torch.randn(N, I, dtype=torch.float64)

    def h(x):
        outputs = cell(x)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    of = torch.autograd.functional.jacobian
    agree([of(h, x, vectorize=True)], [of(h, x)])


def test_gradients_of_each_sequence_of_an_lstm():
    """Of the three kinds the one with which `torch.nn` can."""
    ours, _ = pair("LSTM", torch.float32)
    x, parameters = torch.randn(7, N, I), dict(ours.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(ours, parameters, (x,))[0].sum()

    grads = torch.func.vmap(torch.func.grad(loss), (None, 1))(parameters, x)
    for n in range(N):
        wanted = torch.autograd.grad(loss(parameters, x[:, n]), parameters.values())
        agree([grad[n] for grad in grads.values()], wanted, 1e-5)


@pytest.mark.parametrize("name", ["jacobian", "hessian"])
def test_forward_mode_by_torch_func(name):
    ours, theirs = pair("LSTM", torch.float32)
    x, of = torch.randn(3, N, I), {"jacobian": torch.func.jacfwd, "hessian": torch.func.hessian}
    backward = getattr(torch.autograd.functional, name)
    a = of[name](lambda x: ours(x)[0].sum())(x)
    agree([a], [backward(lambda x: theirs(x)[0].sum(), x)], 1e-5)


def test_onednn_is_on_again_whoever_leaves_last():
    one, other = without_onednn(), without_onednn()
    before = torch._C._get_mkldnn_enabled()
    with one:
        other.__enter__()
        assert not torch._C._get_mkldnn_enabled()
    assert not torch._C._get_mkldnn_enabled()
    other.__exit__(None, None, None)
    assert torch._C._get_mkldnn_enabled() == before


def leaves_of(outputs):
    return torch.utils._pytree.tree_leaves(outputs)


def test_traced_by_fx_as_a_leaf():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell = fusedrnn.torch.GRU(I, H), fusedrnn.torch.LSTMCell(H, H)

        def forward(self, x):
            y, _ = self.rnn(x)
            return self.cell(y[-1])[0]

    model, x = Model(), torch.randn(3, N, I)
    graph = torch.fx.symbolic_trace(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agree([graph(x)], [model(x)], 0)
    assert type(graph.rnn) is fusedrnn.torch.GRU


@pytest.mark.parametrize("cell", [False, True])
def test_traced_by_fx_with_hooks(cell):
    """They are the module's, and run when the graph does: not in the graph as well."""
    module = fusedrnn.torch.GRUCell(I, H) if cell else fusedrnn.torch.GRU(I, H)
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 3, *inputs[1:]))
    module.register_forward_hook(lambda _, inputs, out: out * 2 if cell else (out[0] * 2, out[1]))
    model, x = torch.nn.Sequential(module), torch.randn(*([N, I] if cell else [3, N, I]))
    graph = torch.fx.symbolic_trace(model)
    agree(leaves_of(graph(x)), leaves_of(model(x)), 0)
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]


@pytest.mark.parametrize("name", ["GRU", "GRUCell"])
def test_traced_by_fx_where_only_the_state_varies(name):
    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(fusedrnn.torch, name)(I, H)
            self.register_buffer("begin", torch.randn(*([N, I] if "Cell" in name else [3, N, I])))

        def forward(self, hx):
            return self.rnn(self.begin, hx)

    model, hx = Decoder(), torch.randn(*([N, H] if "Cell" in name else [1, N, H]))
    agree(leaves_of(torch.fx.symbolic_trace(model)(hx)), leaves_of(model(hx)), 0)


def test_a_subclass_is_no_leaf_of_fx():
    """As one of `torch.nn.GRU`, whose forward cannot be traced."""

    class Scaled(fusedrnn.torch.GRU):
        def forward(self, x):
            return super().forward(x * 2)

    with pytest.raises((TypeError, RuntimeError, torch.fx.proxy.TraceError)):
        torch.fx.symbolic_trace(torch.nn.Sequential(Scaled(I, H)))


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRUCell"])
def test_a_tensor_that_outlives_a_transform(name):
    kept, shape = [], [N, I] if "Cell" in name else [3, N, I]
    torch.func.grad(lambda x: (kept.append(x * 2), x.sum())[1])(torch.randn(*shape))
    ours = getattr(fusedrnn.torch, name)(I, H)
    found = leaves_of(ours(kept[0]))
    theirs = getattr(torch.nn, name)(I, H)
    theirs.load_state_dict(ours.state_dict())
    agree(found, leaves_of(theirs(kept[0])), 1e-6)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_modes_that_watch_operators(name):
    """They do not see what the kernels write: `torch.nn`'s operators run, which they know."""
    module = getattr(fusedrnn.torch, name)(I, H)
    x = torch.randn(N, I) if "Cell" in name else torch.randn(3, N, I)
    leaves = torch.utils._pytree.tree_leaves
    graph = make_fx(lambda x: leaves(module(x))[0])(x)
    agree([graph(2 * x)], [leaves(module(2 * x))[0]], 1e-5)
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() > 0 or name == "LSTM"  # which is oneDNN's: not counted
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(leaves(module(x))[0], FakeTensor)


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
def test_tensors_of_other_layouts():
    """As with `torch.nn`: what runs there runs here, and what does not has its words."""
    ours, theirs = pair("GRU", torch.float32)
    zeros = torch._efficientzerotensor((5, 3, I))
    agree([ours(zeros)[0]], [theirs(zeros)[0]], 1e-6)
    nested = torch.nested.nested_tensor([torch.randn(5, I), torch.randn(5, I)])
    agree([ours(nested)[0]], [theirs(nested)[0]], 1e-6)
    errors = []
    for module in (ours, theirs):
        with pytest.raises(RuntimeError) as caught:
            module(torch.randn(5, 3, I).to_sparse())
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
