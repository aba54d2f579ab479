# SPDX-License-Identifier: MIT
"""The operators that `torch.compile` and `torch.export` see."""

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn.torch import ops  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402
from torch_cases import KINDS, H, I, N, agree, call, loss_of, pair, state  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


leaves = torch.utils._pytree.tree_leaves


def compiled(module, **options):
    torch.compiler.reset()
    return torch.compile(module, fullgraph=True, backend="aot_eager", **options)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_whole_with_any_number_of_steps_and_rows(kind, given):
    ours, theirs = pair(kind, num_layers=2, bidirectional=True, batch_first=True)
    graph = compiled(ours, dynamic=True)
    for rows, steps in ((N, 7), (3, 9), (6, 5)):
        x = torch.randn(rows, steps, I, dtype=torch.float64, requires_grad=True)
        parts = [
            torch.randn(4, rows, part.shape[-1], dtype=torch.float64, requires_grad=True)
            for part in (state(ours, "batch") if given else [])
        ]
        results = []
        for module in (graph, theirs):
            outputs = call(module, "batch", [x], parts)
            wanted = [x, *parts, *module.parameters()]
            results.append([*outputs, *torch.autograd.grad(loss_of(outputs), wanted)])
            with torch.no_grad():
                results[-1] += call(module, "batch", [x], parts)
        agree(*results)


def test_compiled_cell():
    ours = fusedrnn.torch.LSTMCell(I, H)
    x = torch.randn(N, I)
    agree(compiled(ours)(x), ours(x), 0)


def test_exported():
    ours, _ = pair("GRU", num_layers=2)
    x = torch.randn(7, N, I, dtype=torch.float64)
    sizes = {0: torch.export.Dim("T"), 1: torch.export.Dim("N")}
    program = torch.export.export(ours, (x,), dynamic_shapes=(sizes,))
    for shape in ((7, N), (3, 2)):
        x = torch.randn(*shape, I, dtype=torch.float64)
        agree(program.module()(x), ours(x), 0)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("module", ["RNN", "GRU", "LSTMCell"])
def test_exported_without_an_empty_list(module, strict):
    """Of the state that is not given: AOTInductor's programs would pass None for it."""
    ours, x = getattr(fusedrnn.torch, module)(I, H), torch.randn(3, I)
    program = torch.export.export(ours, (x,), strict=strict)
    calls = [node for node in program.graph.nodes if "fusedrnn" in str(node.target)]
    assert calls
    assert [] not in [a for node in calls for a in node.args]
    agree(program.module()(x), ours(x), 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("to_onnx", [False, True])
@pytest.mark.parametrize("module", ["LSTM", "LSTMCell"])
def test_exported_to_onnx_by_operators_that_it_knows(module, to_onnx, monkeypatch):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: to_onnx)
    x = torch.randn(7, I)
    program = torch.export.export(getattr(fusedrnn.torch, module)(I, H), (x,))
    assert ("fusedrnn" in program.graph_module.code) != to_onnx


@pytest.mark.parametrize("keep", [False, True])
def test_opcheck(keep):
    x = torch.randn(3, 2, I, requires_grad=keep)
    module = fusedrnn.torch.LSTM(I, H).requires_grad_(keep)
    state = [torch.randn(1, 2, H) for _ in range(2)]
    weights = list(module.parameters())
    how = ("lstm", 1, True, False, "time_first")
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not keep:  # a tape has bytes that nothing has written
        tests.append("test_aot_dispatch_dynamic")
    arguments = *how, x, None, state, weights, keep, ""
    torch.library.opcheck(ops.run_layer, arguments, test_utils=tests)


def test_weights_of_any_size():
    """Sizes that a graph leaves open: those of weights it is given, as in `functional_call`."""
    module = fusedrnn.torch.GRU(I, H)

    def loss(weights, x):
        return torch.func.functional_call(module, weights, (x,))[0].sum()

    graph, x = compiled(loss, dynamic=True), torch.randn(5, N, I)
    for scale in (1.0, 0.5):
        weights = {
            name: (scale * p).detach().requires_grad_() for name, p in module.named_parameters()
        }
        values = list(weights.values())
        wanted = torch.autograd.grad(loss(weights, x), values)
        agree(torch.autograd.grad(graph(weights, x), values), wanted, 1e-6)


@pytest.mark.parametrize("T", [1, 50])
def test_an_rnn_has_no_copy_of_y_on_its_tape(T):
    """But of one step."""
    module = fusedrnn.torch.RNN(I, 64)
    weights = [weight.detach() for weight in module.parameters()]
    how = "rnn_tanh", 1, True, False, "time_first"
    *_, tape, y = ops.run_layer(*how, torch.randn(T, 4, I), None, [], weights, True, "")
    one_step = y[0].nbytes
    assert tape.nbytes <= 2 * one_step + 8192


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("module", "P"), [("RNN", 0), ("LSTM", 0), ("LSTM", 5), ("GRU", 0)])
def test_a_graph_on_disk_meets_another_instruction_set(module, P, dtype, set_isa):
    """PyTorch keeps compiled graphs, with the sizes of tapes in them: FUSEDRNN_ISA may differ."""
    projected = {"proj_size": P} if P else {}
    ours, sizes = getattr(fusedrnn.torch, module)(I, 33, **projected).to(dtype), set()
    for isa in fusedrnn.isas():
        set_isa(isa)
        graph = compiled(ours)
        x = torch.randn(7, 3, I, dtype=dtype, requires_grad=True)
        y = graph(x)[0]
        tapes = [t for t in y.grad_fn.saved_tensors if t is not None and t.dtype == torch.uint8]
        sizes |= {tape.nbytes for tape in tapes}
        y.sum().backward()
    assert len(sizes) == 1


def test_a_graph_on_disk_is_not_taken_for_that_of_another_version():
    seen = []
    torch.compiler.reset()
    torch.compile(fusedrnn.torch.GRU(I, H), backend=lambda graph, _: seen.append(graph) or graph)(
        torch.randn(7, 3, I)
    )
    calls = [node for node in seen[0].graph.nodes if "fusedrnn" in str(node.target)]
    assert [fusedrnn.__version__ in node.args for node in calls] == [True]


def test_a_tape_is_a_tensor_that_may_be_copied():
    module = fusedrnn.torch.GRU(I, H)
    weights = [weight.detach() for weight in module.parameters()]
    x, how = torch.randn(3, 2, I), ("gru", 1, True, False, "time_first")
    _, _, *tapes, y = ops.run_layer(*how, x, None, [], weights, True, "")

    def back(tapes):
        wants = [True, False, True]
        return ops.run_layer_backward(
            *how, tapes, x, y, weights, [torch.ones_like(y), None], 2, wants
        )

    agree(back([tape.clone() for tape in tapes]), back(tapes), 0)
    for tape in (torch.zeros_like(tapes[0]), tapes[0][:300], tapes[0][1:], x):
        with pytest.raises((TypeError, ValueError), match="tape: expected"):
            back([tape])


@pytest.mark.parametrize("name", ["LSTM", "GRUCell"])
def test_inductor_with_its_wrapper_in_cpp(name):
    """It takes no operators that return more than one list."""
    module, x = (
        getattr(fusedrnn.torch, name)(I, H),
        torch.randn(*([] if "Cell" in name else [3]), N, I),
    )
    with torch._inductor.config.patch(cpp_wrapper=True):
        torch.compiler.reset()
        graph = torch.compile(module, fullgraph=True)
        found = [graph(x), torch.autograd.grad(loss_of(leaves(graph(x))), module.parameters())]
    wanted = [module(x), torch.autograd.grad(loss_of(leaves(module(x))), module.parameters())]
    agree(leaves(found), leaves(wanted), 1e-6)


def test_compiled_packed():
    ours, theirs = pair("LSTM", num_layers=2)
    packed = pack_sequence([torch.randn(n, I, dtype=torch.float64) for n in (3, 7, 2)], False)

    def run(data, batch_sizes, order, back):
        y, state_n = ours(PackedSequence(data, batch_sizes, order, back))
        return y.data, *state_n

    y, state_n = theirs(packed)
    agree(compiled(run)(*packed), [y.data, *state_n])
