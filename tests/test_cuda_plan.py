# SPDX-License-Identifier: MIT
"""When the time loop on the device is one persistent launch, its blocks, and all its memory."""

import subprocess

import pytest
from fusedrnn.weights import CELLS
from replay_cases import DEVICE_CELLS, ONE_BLOCK, SMALL, TWO_BLOCKS, Case, Device
from replay_runs import plans

# Float32: tiles of 2 (16, 132) values, sums of (8, gates, 16, 8); resident weights of gates 8 rows,
# or backward of 8 rows of all gates, 4 longer than their columns; others of 2 (gates 8, 132).
TILES, SUMS, RESIDENT = 16896, 4096, 4 * 8 * (16 + 4) * 4
FITS = TILES + 4 * SUMS + RESIDENT
BY_STEPS = TILES + 4 * SUMS + 2 * 4 * 8 * 132 * 4
MOST = 65535


def lstm(N, H, D=1, type="float32"):
    return Case("lstm_peephole", type, T=9, N=N, I=1, H=H, D=D)


def with_shared(bytes):
    return Device(shared_optin=bytes)


EXPECTED = {
    "blocks for all rows": (lstm(35, 20, 2), Device(), "training", (1, 4, 3, 37888)),
    "backward": (lstm(35, 20, 2), Device(), "backward", (1, 4, 3, 25216)),
    "bfloat16": (lstm(35, 20, 2, "bfloat16"), Device(), "inference", (1, 4, 3, 35840)),
    "more than 48 KB": (lstm(35, 200), Device(), "training", (1, 26, 3, 60416)),
    "late gates": (
        Case("gru_reset_before", "float32", T=9, N=35, I=1, H=20, D=2),
        Device(),
        "training",
        (1, 4, 3, 28544),
    ),
    # 6 on each multiprocessor, and 8 have all units of both directions
    "a block for two tiles": (lstm(35, 20, 2), Device(0, 2), "training", (1, 4, 1, 37888)),
    "99 tiles": (lstm(99 * 16, 20, 2), Device(), "training", (1, 4, 99, 37888)),
    "100 tiles": (lstm(100 * 16, 20, 2), Device(), "training", (1, 4, 99, 37888)),
    "98 tiles": (lstm(98 * 16 - 1, 20, 2), Device(), "training", (1, 4, 98, 37888)),
    "just enough blocks": (lstm(35, 12), TWO_BLOCKS, "training", (1, 2, 1, FITS)),
    "one too few": (lstm(35, 12), ONE_BLOCK, "training", (0, 2, 3, BY_STEPS)),
    "just enough shared": (lstm(35, 12), with_shared(FITS), "training", (1, 2, 3, FITS)),
    "too little": (lstm(35, 12), with_shared(FITS - 1), "training", (0, 2, 3, BY_STEPS)),
    "most blocks": (lstm(MOST * 16, 64), SMALL, "training", (0, 8, MOST, BY_STEPS)),
    "one less": (lstm(MOST * 16 - 16, 64), SMALL, "training", (0, 8, MOST - 1, BY_STEPS)),
    "more rows": (lstm(MOST * 16 + 1, 64), SMALL, "training", (0, 8, MOST, BY_STEPS)),
}


@pytest.fixture(scope="module")
def found(build_replay, tmp_path_factory):
    problems = [(case, device) for case, device, _, _ in EXPECTED.values()]
    return dict(
        zip(
            EXPECTED, plans(build_replay(), problems, tmp_path_factory.mktemp("plans")), strict=True
        )
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_plan(name, found):
    _, _, which, expected = EXPECTED[name]
    assert getattr(found[name], which)[:4] == expected


ROWS, COLUMNS = 2**30 - 1, MOST * 64
LARGEST = [(ROWS, 1, 1, 1), (1, ROWS, 1, 1), (3, ROWS // 3, COLUMNS, COLUMNS // 3 - 15)]


def test_sizes(build_replay, tmp_path):
    assert_sizes(build_replay(), tmp_path)


def assert_sizes(replay, folder):
    """Those are the largest that the kernels count with an int."""

    def case(*sizes):
        return [(Case("gru", "bfloat16", *sizes), Device())]

    for sizes in LARGEST:
        plans(replay, case(*sizes), folder)
        for i in [i for i, size in enumerate(sizes) if size > 3]:
            with pytest.raises(RuntimeError, match=rf"expected T\*N of at most {ROWS}, I and G"):
                plans(replay, case(*sizes[:i], sizes[i] + 1, *sizes[i + 1 :]), folder)


def rounded(*sizes):
    """Bytes of buffers of so many float32, each of which begins at a multiple of 256."""
    return sum(-(-4 * size // 256) * 256 for size in sizes)


# With H = 12, which is 16 in all buffers but xg and saved; T = 9, N = 35.
MEMORY = {
    "lstm_peephole": {
        "inference": [4 * 16 * 16, 9 * 35 * 4 * 12, 2 * 35 * 16, 2 * 35 * 16],
        "training": [4 * 16 * 16, 9 * 35 * 4 * 12],
        "backward": [4 * 16 * 16, 9 * 35 * 4 * 16, 35 * 16, 35 * 16],
        "tape": [10 * 35 * 16, 10 * 35 * 16, 9 * 35 * 5 * 12],
    },
    "gru_reset_before": {
        "inference": [3 * 16 * 16, 9 * 35 * 3 * 12, 2 * 35 * 16, 35 * 16, 35 * 3 * 12],
        "training": [3 * 16 * 16, 9 * 35 * 3 * 12],
        "backward": [3 * 16 * 16, 9 * 35 * 3 * 16, 35 * 16],
        "tape": [10 * 35 * 16, 9 * 35 * 16, 9 * 35 * 3 * 12],
    },
}


@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("cell", MEMORY)
def test_memory(cell, D, build_replay, tmp_path):
    assert_memory(build_replay(), cell, D, tmp_path)


def assert_memory(replay, cell, D, folder):
    problem = Case(cell, "float32", T=9, N=35, I=1, H=12, D=D), Device()
    (found,) = plans(replay, [problem], folder)
    for which in ("inference", "training", "backward"):
        assert getattr(found, which).workspace_bytes == D * rounded(*MEMORY[cell][which])
    assert found.tape_bytes == D * rounded(*MEMORY[cell]["tape"])


def test_cells(build_replay):
    done = subprocess.run([build_replay()], capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    sizes = {name: [int(n) for n in numbers] for name, *numbers in found}
    cells = {name: CELLS[name] for name in DEVICE_CELLS}
    assert sizes == {k: [cell.gates, cell.states, cell.peepholes] for k, cell in cells.items()}
