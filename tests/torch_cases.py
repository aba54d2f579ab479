# SPDX-License-Identifier: MIT
"""What the tests of `fusedrnn.torch` share: modules beside those of `torch.nn`, and their calls."""

import contextlib
import copy
import os

import fusedrnn.torch
import torch
from torch.nn.utils.rnn import pack_sequence

KINDS = {
    "RNN": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "projected": ("LSTM", {"proj_size": 3}),
    "GRU": ("GRU", {}),
}
T, N, I, H = 7, 5, 4, 6
LENGTHS = (3, 7, 2, 7, 1)


def pair(kind, dtype=torch.float64, seed=0, **options):
    """A module of ours, and PyTorch's own with the same parameters."""
    name, more = KINDS[kind]
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, name)(I, H, dtype=dtype, **more, **options)
    ours = copy.deepcopy(theirs)
    fusedrnn.torch.accelerate(ours)
    assert type(ours) is getattr(fusedrnn.torch, name)
    return ours, theirs


def inputs(module, form, dtype=torch.float64):
    """Leaf tensors of a call: a batch, one sequence, or sequences to be packed."""
    if form == "packed":
        return [torch.randn(length, I, dtype=dtype, requires_grad=True) for length in LENGTHS]
    shape = (T,) if form == "unbatched" else (N, T) if module.batch_first else (T, N)
    return [torch.randn(*shape, I, dtype=dtype, requires_grad=True)]


def state(module, form, dtype=torch.float64):
    """Leaf tensors of a state: h, or h and c."""
    rows = module.num_layers * (1 + module.bidirectional)
    shape = (rows,) if form == "unbatched" else (rows, N)
    widths = (module.proj_size or H, H) if module.mode == "LSTM" else (H,)
    return [torch.randn(*shape, width, dtype=dtype, requires_grad=True) for width in widths]


def call(module, form, xs, parts=()):
    """y and the parts of state_n."""
    x = pack_sequence(xs, enforce_sorted=False) if form == "packed" else xs[0]
    hx = None if not parts else tuple(parts) if module.mode == "LSTM" else parts[0]
    y, state_n = module(x, hx)
    state_n = state_n if isinstance(state_n, tuple) else (state_n,)
    return [y.data if form == "packed" else y, *state_n]


def loss_of(outputs, seed=1):
    """A scalar in which every element of every output has a weight of its own."""
    torch.manual_seed(seed)
    return sum((output * torch.randn_like(output)).sum() for output in outputs)


def agree(ours, theirs, limit=1e-11):
    """The same shapes, strides where they count, and values relative to the largest."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= limit * b.abs().max().clamp_min(1e-30)


class Rows(torch.utils.data.Dataset):
    """Examples that workers compute with a layer of ours."""

    def __init__(self):
        torch.manual_seed(0)
        self.layer = fusedrnn.torch.GRU(I, 64)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        with torch.no_grad():
            return self.layer(torch.full((20, 8, I), float(i)))[1]


def load_in_workers(start):
    """Compute the examples here, then in two workers, and compare."""
    data = Rows()
    wanted = [data[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=60
    )
    agree(list(loader), wanted, 0)


def parameters_of_rank(how, rank, port, queue):
    """What one of two processes has after two steps of DistributedDataParallel or FSDP."""
    from torch.distributed import device_mesh, fsdp

    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model, x = distributed_problem()
    parallel, mesh = model, device_mesh.init_device_mesh("cpu", (2,))
    if how == "ddp":
        parallel = torch.nn.parallel.DistributedDataParallel(model)
    elif how == "fsdp1":
        of = {"device_id": torch.device("cpu"), "use_orig_params": True}
        parallel = fsdp.FullyShardedDataParallel(model, **of)
    else:
        fsdp.fully_shard(model, mesh=mesh)
    train(parallel, x[:, rank * 3 : rank * 3 + 3])
    whole = contextlib.nullcontext()
    if how == "fsdp1":
        whole = fsdp.FullyShardedDataParallel.summon_full_params(parallel)
    with whole:
        parameters = [p.full_tensor() if how == "fsdp2" else p for p in parallel.parameters()]
        queue.put((rank, [p.detach().clone().numpy() for p in parameters]))
    torch.distributed.destroy_process_group()
    queue.close()
    queue.join_thread()
    # Threads of PyTorch's may still be at work; rarely, the interpreter's end is then a SIGABRT.
    os._exit(0)


def train(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x)[0].square().mean().backward()
        optimizer.step()


def distributed_problem():
    torch.manual_seed(0)
    model = fusedrnn.torch.LSTM(I, H, num_layers=2, dtype=torch.float64)
    return model, torch.randn(5, 6, I, dtype=torch.float64)
