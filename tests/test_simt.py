# SPDX-License-Identifier: MIT
"""The emulator: barriers, the order of threads, warps."""

import numpy as np
import pytest
from host_build import COMPILER
from simt_cases import SEEDS, ints, nothing

pytestmark = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class TestBarriers:
    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("name", ["reverse_block", "two_rounds"])
    def test_block(self, emulator, seed, name):
        emulator.configure(seed)
        x = ints(6 * 100)
        out = emulator.run(name, x, nothing(x.size), grid=6, block=100)
        expected = x.reshape(6, 100)[:, ::-1].ravel() + (name == "two_rounds")
        assert np.array_equal(out, expected)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_grid(self, emulator, seed):
        emulator.configure(seed)
        x = ints(8 * 64)
        out = emulator.run("reverse_grid", x, nothing(x.size), 8, 64, cooperative=True)
        assert np.array_equal(out, x[::-1])

    @pytest.mark.parametrize("seed", SEEDS)
    def test_warp(self, emulator, seed):
        emulator.configure(seed)
        x = ints(128)
        out = emulator.run("reverse_warp", x, nothing(128), 2, 64)
        assert np.array_equal(out, x.reshape(4, 32)[:, ::-1].ravel())
        out = emulator.run("half_warps", x, nothing(32))
        assert np.array_equal(out, x[np.arange(32) ^ 15] + np.repeat([0, 2], 16))

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize(
        "name", ["reverse_block_without_barrier", "reverse_warp_without_barrier"]
    )
    def test_missing_barrier_shows(self, emulator, seed, name):
        emulator.configure(seed)
        x = ints(32)
        assert (emulator.run(name, x, nothing(32)) == -1).any()  # 0xff in every byte

    @pytest.mark.parametrize("seed", SEEDS[1:])
    def test_block_barrier_is_none_for_the_grid(self, emulator, seed):
        emulator.configure(seed)
        x = ints(8 * 64)
        out = emulator.run(
            "reverse_grid_by_block_barrier", x, nothing(x.size), 8, 64, cooperative=True
        )
        assert not np.array_equal(out, x[::-1])

    def test_many_threads(self, emulator):
        emulator.configure(multiprocessors=132)
        x = ints(132 * 256)
        out = emulator.run("reverse_grid", x, nothing(x.size), 132, 256, cooperative=True)
        assert np.array_equal(out, x[::-1])

    def test_indices(self, emulator):
        grid, block = (3, 2, 2), (4, 3, 2)
        out = emulator.run("indices", ints(1), nothing(12 * 24 * 6), grid, block)
        b, t = (
            np.stack(np.meshgrid(*map(np.arange, s[::-1]), indexing="ij"), -1)
            for s in (grid, block)
        )
        b, t = b.reshape(12, 1, 3)[..., ::-1], t.reshape(1, 24, 3)[..., ::-1]
        expected = np.concatenate(np.broadcast_arrays(b, t), -1)
        assert np.array_equal(out.reshape(12, 24, 6), expected)


class TestOrder:
    def order(self, emulator, seed, n=256):
        emulator.configure(seed)
        return emulator.run("order", ints(1), nothing(n + 1), n // 32)[1:]

    def test_seed_0_takes_turns(self, emulator):
        assert np.array_equal(self.order(emulator, 0, 32), range(32))

    def test_a_seed_gives_one_order(self, emulator):
        orders = [self.order(emulator, seed) for seed in (1, 2, 1)]
        assert np.array_equal(np.sort(orders[0]), range(256))
        assert np.array_equal(orders[0], orders[2])
        assert not np.array_equal(orders[0], orders[1])

    def test_the_next_launch_has_another(self, emulator):
        first = self.order(emulator, 1)
        second = emulator.run("order", ints(1), nothing(257), 8)[1:]
        assert not np.array_equal(first, second)

    def test_switches(self, emulator):
        self.order(emulator, 0, 32)
        before = emulator.switches()
        emulator.run("order", ints(1), nothing(33), 1)
        assert emulator.switches() - before == 64  # a turn before the barrier, and one after it


class TestWarps:
    @pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64])
    def test_shuffles(self, emulator, rng, dtype):
        x = (rng.standard_normal(32) * 1000).astype(dtype)
        name = {"f4": "float", "i4": "int", "f8": "double"}[np.dtype(dtype).str[1:]]
        out = emulator.run(f"shuffles_{name}", x, nothing(8 * 32, dtype)).reshape(8, 32)
        i = np.arange(32)
        first = i // 8 * 8
        sources = [
            np.full(32, 5),
            first + (i + 3) % 8,
            np.where(i < 3, i, i - 3),
            np.where(i - 3 < first, i, i - 3),
            np.where(i + 5 > 31, i, i + 5),
            np.where(i + 5 >= i // 16 * 16 + 16, i, i + 5),
            i ^ 9,
            np.where((i ^ 9) >= first + 8, i, i ^ 9),  # an earlier segment may be read
        ]
        assert np.array_equal(out, x[np.array(sources)])

    @pytest.mark.parametrize("seed", SEEDS)
    def test_votes(self, emulator, rng, seed):
        emulator.configure(seed)
        x = rng.integers(0, 2, 32).astype(np.int32)
        out = emulator.run("votes", x, nothing(4 * 32, np.uint32)).reshape(32, 4)
        assert (out[:, 0] == (x.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum()).all()
        assert (out[:, 1:3] == [0, 1]).all()
        assert (out[:24, 3] == 0xFFFFFF).all()
        x[7], x[9] = 101, -1
        out = emulator.run("votes", x, nothing(4 * 32, np.uint32)).reshape(32, 4)
        assert (out[:, 1:3] == [1, 0]).all()

    def test_sum(self, emulator, rng):
        x = rng.integers(-1000, 1000, 32).astype(np.float32)
        assert (emulator.run("warp_sum", x, nothing(32, np.float32)) == x.sum()).all()

    def test_lanes_that_are_not_there(self, emulator):
        out = emulator.run(
            "read_missing_lane", np.ones(40, np.float32), nothing(40, np.float32), 1, 40
        )
        assert (out[:32] == 1).all()
        assert np.isnan(out[32:]).all()
        out = emulator.run("exited_lanes", np.ones(32, np.int32), nothing(32))
        assert np.array_equal(out, np.where(np.arange(32) < 24, 0xFFFFFF, 0))

    @pytest.mark.parametrize("dtype", [np.float32, np.int32])
    def test_atomic_add(self, emulator, dtype):
        x = np.arange(6 * 100, dtype=dtype)
        name = "add_all_float" if dtype == np.float32 else "add_all_int"
        assert emulator.run(name, x, nothing(1, dtype), 6, 100) == x.sum()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_last_block(self, emulator, seed):
        emulator.configure(seed)
        assert emulator.run("last_block_sums", ints(9), nothing(11), 9)[1] == ints(9).sum()

    def test_arithmetic(self, emulator, rng):
        x = rng.standard_normal(32).astype(np.float32) * 2
        out = emulator.run("arithmetic", x, nothing(128, np.float32)).reshape(32, 4)
        expected = np.stack([np.exp(x), np.tanh(x), x * x + 1, x.clip(-1, 1)], -1)
        np.testing.assert_allclose(out, expected, rtol=1e-6)
