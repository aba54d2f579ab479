# SPDX-License-Identifier: MIT
"""The emulator: shared memory, copies to it, matrices and bfloat16."""

import math

import numpy as np
import pytest
from host_build import COMPILER
from simt_cases import SEEDS, ints, nothing

pytestmark = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class TestMemory:
    def test_shared_memory_is_nan(self, emulator):
        out = emulator.run("uninitialised", ints(64), nothing(64, np.float32), 1, 64, 256)
        assert np.isnan(out).all()

    def test_carve(self, emulator):
        out = emulator.run("carve", np.array([5, 6, 7], np.int8), nothing(5, np.int8), 1, 32, 64)
        assert np.array_equal(out, [5, 6, 7, 4, 9])

    def copied(self, emulator, name):
        x = np.arange(256, dtype=np.float32)
        out = emulator.run(name, x, nothing(384, np.float32), 1, 32, 1536)
        return out, np.concatenate([x[:128], np.zeros(128), x[128:]])[::-1]

    @pytest.mark.parametrize("seed", SEEDS)
    def test_copies(self, emulator, seed):
        emulator.configure(seed)
        out, expected = self.copied(emulator, "copies")
        assert np.array_equal(out, expected)

    def test_copies_come_late(self, emulator):
        out, _ = self.copied(emulator, "copies_no_wait")
        assert np.isnan(out).all()
        out, expected = self.copied(emulator, "copies_wait_for_less")
        assert np.isnan(out[:128]).all()
        assert np.array_equal(out[128:], expected[128:])

    def test_copies_need_a_barrier(self, emulator):
        out, _ = self.copied(emulator, "copies_no_barrier")
        assert np.isnan(out).any()

    def test_constant_loads(self, emulator):
        x = np.arange(32, dtype=np.float32)
        for checked in (False, True):
            emulator.configure(check_ldg=checked)
            out = emulator.run("constant_load", x, nothing(32, np.float32))
            assert np.array_equal(out, 2 * x + 1)
        with pytest.raises(
            RuntimeError,
            match=r"^__ldg at memory.cu:\d+ in thread .* reads what this launch has written$",
        ):
            emulator.run("constant_load_of_written", x, nothing(32, np.float32))


class TestMatrices:
    @pytest.mark.parametrize("n", [2, 4])
    def test_ldmatrix(self, emulator, rng, n):
        x = rng.integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
        out = emulator.run(f"ldmatrix_{n}", x, nothing(32 * n, np.uint32), shared_bytes=512)
        pairs = x[:n].view(np.uint32).reshape(n, 32)  # lane by lane
        assert np.array_equal(out.reshape(32, n), pairs.T)

    def test_mma(self, emulator, rng):
        """The layout as the PTX ISA has it for m16n8k16, element by element of a lane."""
        a, b, c = (rng.integers(-8, 9, shape) for shape in ((16, 16), (16, 8), (16, 8)))
        words = np.zeros((32, 10), np.uint32)
        where = []
        for lane in range(32):
            group, within = lane >> 2, lane % 4
            rows = [group if i < 2 or 4 <= i < 6 else group + 8 for i in range(8)]
            columns = [within * 2 + (i & 1) + (8 if i >= 4 else 0) for i in range(8)]
            words[lane, :4] = bf16_pairs(a[rows, columns])
            rows = [within * 2 + (i & 1) + (8 if i >= 2 else 0) for i in range(4)]
            words[lane, 4:6] = bf16_pairs(b[rows, group])
            rows = [group if i < 2 else group + 8 for i in range(4)]
            columns = [within * 2 + (i & 1) for i in range(4)]
            words[lane, 6:] = c[rows, columns].astype(np.float32).view(np.uint32)
            where.append((rows, columns))
        out = emulator.run("mma", words, nothing(128, np.float32)).reshape(32, 4)
        for lane, (rows, columns) in enumerate(where):
            assert np.array_equal(out[lane], (a @ b + c)[rows, columns])


def bf16_pairs(values):
    """Exact small integers as bfloat16, two in a word."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint32)


class TestBfloat16:
    ALL = np.arange(1 << 16, dtype=np.uint16)

    def floats(self):
        return (self.ALL.astype(np.uint32) << 16).view(np.float32)

    def to_bf16(self, emulator, x):
        out = [
            emulator.run("to_bf16", part, nothing(1 << 16, np.uint16), 64, 1024)
            for part in x.reshape(-1, 1 << 16)
        ]
        return np.concatenate(out)

    def test_all_there_and_back(self, emulator):
        out = emulator.run("from_bf16", self.ALL, nothing(1 << 16, np.float32), 64, 1024)
        assert np.array_equal(out.view(np.uint32), self.floats().view(np.uint32))
        nan = np.isnan(self.floats())
        assert np.array_equal(self.to_bf16(emulator, out)[~nan], self.ALL[~nan])
        assert (self.to_bf16(emulator, out)[nan] == 0x7FFF).all()

    @pytest.mark.parametrize("low", [0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    def test_nearest(self, emulator, low):
        """The nearer neighbour, and in the middle the even one; beyond the largest, infinity."""
        x = ((self.ALL.astype(np.uint32) << 16) | low).view(np.float32)
        x, below = x[np.isfinite(x)], self.ALL[np.isfinite(x)]
        padded = np.zeros(1 << 16, np.float32)
        padded[: x.size] = x
        out = self.to_bf16(emulator, padded)[: x.size]
        with np.errstate(invalid="ignore"):  # of signalling NaN
            value = self.floats().astype(np.float64)
        value[0x7F80], value[0xFF80] = math.ldexp(1, 128), -math.ldexp(1, 128)
        to_below = np.abs(x - value[below])
        to_above = np.abs(x - value[below + 1])
        even = below + (below & 1)
        expected = np.where(
            to_below < to_above, below, np.where(to_above < to_below, below + 1, even)
        )
        assert np.array_equal(out, expected)
