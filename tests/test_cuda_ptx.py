# SPDX-License-Identifier: MIT
"""What the compiler makes of csrc/simt/device.h, which no emulated kernel has seen."""

import re
import shutil

import host_build
import pytest

NVCC = shutil.which("nvcc")
SOURCES = ("kernels_float32.cu", "kernels_bfloat16.cu")
FLAGS = ("-std=c++20", "--expt-relaxed-constexpr", "-ptx", "-arch=compute_80")

ENTRY = re.compile(r"\.entry (\w+)\(")
# All threads of the block, then one of them with those of other blocks, then all again.
GRID_SYNC = re.compile(
    r"\sbarrier\.sync\s.*?\satom\.add\.release\.gpu\..*?\sld\.acquire\.gpu\..*?\sbarrier\.sync\s",
    re.DOTALL,
)
COPY = re.compile(r"cp\.async\.cg\.shared\.global \[%r\d+\], \[%rd\d+\], 16, (%r\d+);")
MATRICES = re.compile(r"ldmatrix\.sync\.aligned\.m8n8\.x(\d)\.shared\.b16 \{(\S+?)\},\[%r\d+\];")
MMA = re.compile(
    r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32"
    r" \{(\S+?)\},\{(\S+?)\},\{(\S+?)\},\{(\S+?)\};"
)


def kernels(*sources):
    """The text of each kernel, by its name."""
    if NVCC is None:
        pytest.skip("no nvcc")
    command = NVCC, *FLAGS, f"-I{host_build.CSRC}"
    texts = {}
    for path in host_build.compiled([(each, command) for each in sources], host_build.folder()):
        parts = ENTRY.split(path.read_text())[1:]
        texts |= dict(zip(parts[::2], parts[1::2], strict=True))
    return texts


@pytest.fixture(scope="module")
def loops():
    """The time loops."""
    texts = kernels(*(host_build.CSRC / "cuda" / source for source in SOURCES))
    return {name: text for name, text in texts.items() if re.search("(for|back)ward_kernel", name)}


@pytest.fixture(scope="module")
def probes():
    """Functions that stand in the loops in so many words that nothing can be read there."""
    return kernels(host_build.TESTS / "cuda_probe.cu")


def test_barrier_of_the_grid(loops):
    for name, text in loops.items():
        assert GRID_SYNC.search(text), name


def test_copies(loops):
    for name, text in loops.items():
        sizes = set()
        for register in COPY.findall(text):
            defined = rf"\s(selp\.b32\s+{register}, (?:16, 0|0, 16)|mov\.\w32\s+{register}, 16)[,;]"
            sizes.add(re.search(defined, text)[1][:4])
        assert "selp" in sizes, name  # not of rows that there are not
        assert text.count("cp.async.") - text.count("group") == len(COPY.findall(text)), name
        assert set(re.findall(r"cp\.async\.wait_group (\d+);", text)) == {"1"}, name
        assert "cp.async.commit_group;" in text, name


def test_what_other_blocks_write_is_read_anew(loops):
    for name, text in loops.items():
        assert "ld.global.nc" not in text, name
        assert ".volatile" not in text, name


def test_matrices(loops):
    """a and b of a product are what ldmatrix has loaded, in its order; c has the order of d."""
    halves = {name: text for name, text in loops.items() if "nv_bfloat16" in name}
    assert 2 * len(halves) == len(loops) > 0
    for name, text in halves.items():
        loaded = {kind: set() for kind in "24"}
        for count, registers in MATRICES.findall(text):
            loaded[count].add(registers)
        assert text.count("mma.") == len(MMA.findall(text)) > 0, name
        for d, a, b, c in MMA.findall(text):
            assert a in loaded["4"], name
            assert b in loaded["2"], name
            assert len(d.split(",")) == len(c.split(",")) == 4, name
            assert d == c or not set(d.split(",")) & set(c.split(",")), name


def test_a_copy_that_is_not_wanted_reads_nothing(probes):
    (copied,) = COPY.findall(probes["copies"])
    wanted = rf"setp\.(\w\w)\.s16\s+%p1, %rs1, 0;\s+selp\.b32\s+{copied}, (\d+, \d+), %p1;"
    assert re.search(wanted, probes["copies"]).groups() in {("ne", "16, 0"), ("eq", "0, 16")}


def test_order_in_a_product(probes):
    """Of what is given and what comes out; in the loops sums of another order are no other text."""
    d, a, b, c = (names.split(",") for names in MMA.search(probes["multiplies"]).groups())
    access = r"global\.\w32\s+"
    loads = re.findall(rf"\sld\.{access}(%\w+), \[%rd\d+\+?(\d*)\];", probes["multiplies"])
    stores = re.findall(rf"\sst\.{access}\[%rd\d+\+?(\d*)\], (%\w+);", probes["multiplies"])
    places = {name: int(at or 0) for name, at in [*loads, *((name, at) for at, name in stores)]}
    for names in (a, b, c, d):
        assert [places[name] for name in names] == [0, 4, 8, 12][: len(names)]


def test_shared_arrays_follow_one_another(probes):
    assert re.findall(r"\smov\.\w64\s+%rd\d+, (\d+);", probes["takes"]) == ["32", "64"]


def test_bfloat16_is_rounded_to_nearest_even(probes):
    for name, instruction in (
        ("narrows", r"cvt\.rn\.bf16\.f32 (?P<to>%\w+), (?P=read);"),
        ("widens", r"mov\.b32 (?P<to>%\w+), \{0,(?P=read)\};"),
    ):
        read, stored = r"\sld\.global\.\w+\s+(?P<read>%\w+), ", r"\sst\.global\.\w+\s+.*?, (?P=to);"
        assert re.search(f"{read}.*?{instruction}.*?{stored}", probes[name], re.DOTALL), name
