# SPDX-License-Identifier: MIT
"""`fusedrnn.torch`'s modules beside those of `torch.nn`: results, gradients, errors, objects."""

import copy
import io
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from fusedrnn.torch import fits  # noqa: E402
from torch_cases import KINDS, H, I, N, T, agree, call, inputs, loss_of, pair, state  # noqa: E402

FORMS = "batch", "unbatched", "packed"
FLAGS = [False, True]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", FLAGS)
@pytest.mark.parametrize("bidirectional", FLAGS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_results_gradients_and_dropout_masks(kind, num_layers, bidirectional, given, form):
    options = {"num_layers": num_layers, "bidirectional": bidirectional}
    options |= {"batch_first": given, "bias": not bidirectional or given}
    if num_layers > 1:
        options["dropout"] = 0.3
    ours, theirs = pair(kind, **options)
    xs, parts = inputs(ours, form), state(ours, form) if given else []
    results = []
    for module in (ours, theirs):
        torch.manual_seed(2)
        outputs = call(module, form, xs, parts)
        grads = torch.autograd.grad(loss_of(outputs), [*xs, *parts, *module.parameters()])
        results.append([*outputs, *grads])
        with torch.no_grad():
            results[-1] += call(module.eval(), form, xs, parts)
    agree(*results)


@pytest.mark.filterwarnings("ignore:LSTM with proj")  # PyTorch's own
@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind):
    ours, theirs = pair(kind, torch.float32, num_layers=2, bidirectional=True)
    xs = inputs(ours, "batch", torch.float32)
    results = []
    for module in (ours, theirs):
        outputs = call(module, "batch", xs)
        results.append([*outputs, *torch.autograd.grad(loss_of(outputs), module.parameters())])
    agree(*results, limit=3e-5)


@pytest.mark.parametrize("given", FLAGS)
@pytest.mark.parametrize("batched", FLAGS)
@pytest.mark.parametrize("bias", FLAGS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "projected"])
def test_cells(kind, bias, batched, given):
    name, options = KINDS[kind]
    theirs = getattr(torch.nn, name + "Cell")(I, H, bias, dtype=torch.float64, **options)
    ours = getattr(fusedrnn.torch, name + "Cell")(I, H, bias, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    rows = (N,) if batched else ()
    x, *parts = (
        torch.randn(*rows, width, dtype=torch.float64, requires_grad=True)
        for width in (I, H, H)[: 3 if name == "LSTM" else 2]
    )
    hx = None if not given else tuple(parts) if name == "LSTM" else parts[0]
    results = []
    for module in (ours, theirs):
        outputs = module(x, hx)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [x, *(parts if given else ()), *module.parameters()]
        results.append([*outputs, *torch.autograd.grad(loss_of(outputs), wanted)])
        with torch.no_grad():
            again = module(x, hx)
            results[-1] += again if isinstance(again, tuple) else (again,)
    agree(*results)


@pytest.mark.parametrize(
    ("kind", "x", "hx"),
    [
        ("GRU", torch.zeros(T, N, I + 1), None),
        ("GRU", torch.zeros(T, N, I, 1), None),
        ("RNN", torch.zeros(0, N, I), None),
        ("LSTM", torch.zeros(T, N, I).double(), None),
        ("GRU", torch.zeros(T, N, I), torch.zeros(1, N + 1, H)),
        ("GRU", torch.zeros(T, N, I), torch.zeros(N, H)),
        ("GRU", torch.zeros(T, I), torch.zeros(1, 1, H)),
        ("LSTM", torch.zeros(T, N, I), (torch.zeros(1, N, H), torch.zeros(2, N, H))),
        ("LSTM", torch.zeros(T, N, I), (torch.zeros(1, N, H), torch.zeros(N, H))),
        ("LSTM", [1.0], None),
        ("LSTM", torch.zeros(T, N, I), ()),
    ],
)
def test_errors_are_those_of_torch(kind, x, hx):
    ours, theirs = pair(kind, torch.float32)
    with pytest.raises(Exception) as wanted:
        theirs(x, hx)
    with pytest.raises(type(wanted.value)) as got:
        ours(x, hx)
    assert str(got.value) == str(wanted.value)


def test_a_cell_wants_both_parts_of_a_state():
    with pytest.raises(RuntimeError, match="two hidden states"):
        fusedrnn.torch.LSTMCell(I, H)(torch.zeros(N, I), ())


def test_an_empty_batch():
    ours, theirs = pair("LSTM")
    x = torch.zeros(T, 0, I, dtype=torch.float64)
    assert ours(x)[0].shape == theirs(x)[0].shape == (T, 0, H)


def test_objects_are_those_of_torch(tmp_path):
    ours, theirs = pair("LSTM", num_layers=2, batch_first=True)
    assert isinstance(ours, torch.nn.LSTM)
    assert repr(ours) == repr(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.manual_seed(5)
    a = fusedrnn.torch.LSTM(I, H)
    torch.manual_seed(5)
    agree(list(a.parameters()), list(torch.nn.LSTM(I, H).parameters()), 0)
    x = torch.randn(N, T, I, dtype=torch.float64)
    saved = io.BytesIO()
    torch.save(ours, saved)
    saved.seek(0)
    copies = [copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    for twin in (*copies, torch.load(saved, weights_only=False)):
        assert type(twin) is fusedrnn.torch.LSTM
        assert torch.equal(twin(x)[0], ours(x)[0])


def test_memory_is_shared_with_the_kernels():
    """No copy on the way in or out: a change in place is seen, and y is not copied for it."""
    ours, theirs = pair("GRU")
    x = torch.randn(T, N, I, dtype=torch.float64)
    ours(x)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.mul_(2), b.mul_(2)
    agree([ours(x)[0]], [theirs(x)[0]])


def misaligned(tensor):
    """The same values one byte further than their type wants."""
    raw = torch.zeros(tensor.nbytes + 1, dtype=torch.uint8)[1:].numpy()
    apart = torch.from_numpy(raw.view(tensor.numpy().dtype).reshape(tensor.shape))
    return apart.copy_(tensor)


@pytest.mark.parametrize("name", ["LSTM", "GRUCell"])
def test_misaligned_tensors_are_taken(name):
    torch.manual_seed(0)
    module, x = getattr(fusedrnn.torch, name)(I, H), torch.randn(N, I)
    run = module if name == "GRUCell" else lambda x: module(x)[0]
    wanted = run(x)
    for key, value in list(module.named_parameters()):
        setattr(module, key, torch.nn.Parameter(misaligned(value.detach())))
    got = run(misaligned(x))
    agree([got], [wanted], 0)
    got.sum().backward()


def test_tied_frozen_and_parametrized_weights():
    results = []
    for module in pair("GRU", num_layers=2):
        module.weight_hh_l1 = module.weight_hh_l0  # tied
        module.bias_ih_l0.requires_grad_(False)
        torch.nn.utils.parametrizations.weight_norm(module, "weight_ih_l0")
        torch.manual_seed(3)
        outputs = call(module, "batch", inputs(module, "batch"))
        loss_of(outputs).backward()
        results.append([*outputs, *(p.grad for p in module.parameters() if p.requires_grad)])
        assert module.bias_ih_l0.grad is None
    agree(*results)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("named", [True, False])
def test_weights_that_a_subclass_puts_in_place_of_its_own(named, compiled):
    """As for dropout of the recurrent weights: `torch.nn` takes those in `_flat_weights`."""
    results = []
    for module in pair("LSTM"):

        class Scaled(type(module)):
            def forward(self, x, hx=None):
                own = self._flat_weights
                self._flat_weights = [2 * weight for weight in own]
                result = super().forward(x, hx)
                self._flat_weights = own
                return result

        module.__class__ = Scaled
        torch.manual_seed(3)
        xs, parameters = inputs(module, "batch"), list(module.parameters())
        if not named:
            module._parameters.clear()
        if compiled and isinstance(module, fusedrnn.torch.LSTM):
            torch.compiler.reset()
            module.compile(fullgraph=True, backend="aot_eager")
        outputs = call(module, "batch", xs)
        grads = torch.autograd.grad(loss_of(outputs), [*xs, *parameters])
        results.append([*outputs, *grads])
    agree(*results)


@pytest.mark.parametrize("case", ["bfloat16", "autocast", "meta", "func", "trace"])
def test_what_the_kernels_cannot_take_runs_on_torch(case, monkeypatch):
    monkeypatch.setattr(fits, "said", set())
    ours, theirs = pair("GRU", torch.float32)
    x = torch.randn(T, N, I)

    def run(module):
        if case == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                return module(x)[0]
        if case == "func":
            return torch.func.grad(lambda x: module(x)[0].sum())(x)
        if case == "trace":
            return torch.jit.trace(module, (x,), check_trace=False)(x)[0]
        to = torch.bfloat16 if case == "bfloat16" else "meta"
        return module.to(to)(x.to(to))[0]

    with warnings.catch_warnings():
        for of_trace in (DeprecationWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", of_trace)
        with pytest.warns(UserWarning, match=r"torch\.nn's own kernels run .*"):
            a = run(ours)
        assert run(ours).dtype == a.dtype  # and says so once: a warning is an error here
        b = run(theirs)
    assert a.dtype == b.dtype
    assert a.device == b.device
    if case != "meta":
        assert torch.equal(a, b)


def test_a_weight_of_another_shape_is_refused():
    ours, _ = pair("GRU")
    ours.weight_hh_l0 = torch.nn.Parameter(torch.zeros(3 * H, H + 1, dtype=torch.float64))
    with pytest.raises(
        RuntimeError, match=r"^weight_hh_l0: expected shape \(18, 6\), got \(18, 7\)"
    ):
        ours(torch.zeros(T, N, I, dtype=torch.float64))
