# SPDX-License-Identifier: MIT
"""The report for whoever has a GPU, as far as it goes without one."""

import math
import sys

import cuda_bench
import cuda_parity
import cuda_report
import pytest

pytestmark = pytest.mark.usefixtures("emulated")  # and that undoes what the report sets


@pytest.fixture
def report(monkeypatch, tmp_path):
    """report(arguments): what main returns, and the page."""

    def run(*arguments):
        path = tmp_path / "report.md"
        monkeypatch.setattr(sys, "argv", ["cuda_report.py", *arguments, "--out", str(path)])
        return cuda_report.main(), path.read_text()

    return run


def test_report(report):
    failed, page = report("--emulate", "--cells", "lstm", "gru_reset_before")
    assert not failed
    assert "- device: the emulator, compute capability 8.0, 1 multiprocessors" in page
    assert "- kernels: built for the emulator\n" in page
    cases = page.count(" | yes | yes |")
    assert cases == 20  # with both directions one size only has one launch
    assert f"{cases} of {cases} right" in page
    for plan in ("one launch", "a launch a step"):
        for D in (1, 2):
            assert f"| gru_reset_before | bfloat16 | {plan} | {D}, " in page
    assert "FAILS" not in page
    assert page.endswith("No device: these are results of the emulator, which has no times.\n")


@pytest.mark.parametrize("kind", ["y", "grad"])
def test_wrong_results_fail(report, monkeypatch, kind):
    limits = {"y": 1.0, "grad": 1.0} | {kind: 0.0}
    monkeypatch.setattr(cuda_parity, "tolerances", lambda: {"float32": limits})
    failed, page = report("--emulate", "--cells", "rnn_tanh", "--dtypes", "float32")
    assert failed
    assert "0 of 5 right" in page
    assert page.count("**FAILS** |") == 5


def test_parity_is_written_before_times(report, monkeypatch, tmp_path):
    def fails(*_):
        raise RuntimeError("cudaEventRecord: out of order")

    monkeypatch.setattr(cuda_report, "no_times", fails)
    with pytest.raises(RuntimeError, match="out of order"):
        report("--emulate", "--cells", "rnn_tanh", "--dtypes", "float32")
    assert "5 of 5 right" in (tmp_path / "report.md").read_text()


def test_a_page_that_cannot_be_written_is_said_at_once(monkeypatch, tmp_path):
    path = str(tmp_path / "none" / "report.md")
    monkeypatch.setattr(sys, "argv", ["cuda_report.py", "--emulate", "--out", path])
    monkeypatch.setattr(cuda_parity, "parities", lambda *_: pytest.fail("too late"))
    with pytest.raises(FileNotFoundError):
        cuda_report.main()


def test_other_bits_and_nan_fail():
    right = cuda_parity.Parity("lstm", "float32", 15, 1, True, 1e-7, 1e-7, True)
    assert not right.fails()
    for change in ({"same_bits": False}, {"results": math.nan}, {"gradients": math.nan}):
        assert right._replace(**change).fails()


@pytest.mark.parametrize(("H", "directions"), [(255, 2), (511, 1)])
def test_units_at_the_kink_of_relu_are_no_error(emulated, H, directions):
    emulated(multiprocessors=132)
    case = cuda_parity.Parity("rnn_relu", "bfloat16", H, directions, True)
    found = cuda_parity.compared(case)
    assert not found.fails(), found


@pytest.mark.parametrize("name", ["dx", "weight_ih_l0", "weight_hh_l0", "bias_hh_l0", "dstate_00"])
@pytest.mark.parametrize("factor", [0, 0.9, 2])
def test_wrong_gradients_of_relu_fail(monkeypatch, name, factor):
    def wrong(layer, *arguments):
        results = right(layer, *arguments)
        if layer.device == "cuda":
            a = results[name]
            results[name] = cuda_parity.fusedrnn.cuda.Array(factor * a.numpy(), a.dtype)
        return results

    case = cuda_parity.Parity("rnn_relu", "bfloat16", 15, 1, True)
    assert not cuda_parity.compared(case).fails()
    right = cuda_parity.step
    monkeypatch.setattr(cuda_parity, "step", wrong)
    assert cuda_parity.compared(case).fails()


def test_a_kernel_that_fails_is_told(report, monkeypatch):
    monkeypatch.setattr(cuda_parity, "step", lambda *_: _fail("cudaMemcpy: illegal address"))
    failed, page = report("--emulate", "--cells", "gru", "--dtypes", "bfloat16")
    assert failed
    assert page.count("| nan | nan | **no** | **FAILS** cudaMemcpy: illegal address |") == 5


def test_cases_have_both_plans(emulated):
    emulated(multiprocessors=4)
    sizes = cuda_parity.hidden_sizes("gru", "float32", 1)
    small, large = sizes[True]
    assert small == 15 < large < sizes[False][0] <= large + 48


def test_no_device(report, cuda):
    cuda.use(None)
    if cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match=r"^no device: .* \(--emulate runs without one\)$"):
        report()


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 5070", "other"])
def test_timings(report, emulated, monkeypatch, name):
    """Of the emulator, on tiny shapes: only that there are some, where they belong."""
    emulated(**cuda_report.EMULATED)
    shapes = {"small": ((2, 3, 4, 16), cuda_bench.HEADLINE[2:6])}
    monkeypatch.setattr(cuda_bench, "SHAPES", shapes)
    monkeypatch.setattr(cuda_parity, "parities", lambda *_: [])  # see test_report
    monkeypatch.setattr(cuda_report, "smi", lambda field: name)
    monkeypatch.setattr(cuda_report.fusedrnn.cuda, "why_not", lambda: None)
    measured = cuda_bench.measure
    monkeypatch.setattr(
        cuda_bench,
        "measure",
        lambda who, cell, shape, *more: (
            measured(who, cell, shape, *more)
            if shape[0] < 10
            else dict.fromkeys(who, "out of memory")
        ),
    )
    failed, page = report(
        "--cells", "lstm", "rnn_relu", "--dtypes", "float32", "--rounds", "1", "--seconds", "0"
    )
    assert not failed
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| small")]
    assert [line[2] for line in lines] == ["2, 3, 4, 16"] * 2 + ["1024, 16, 768, 768"] * 2
    for line in lines[:2]:
        assert float(line[4]) > 0
        assert (line[6] != "") == (name != "other")
    for line in lines[2:]:
        assert line[4:6] == ["out of memory"] * 2


def test_a_prediction_is_of_that_device_alone():
    assert {*cuda_bench.MODELS.values()} == {*cuda_bench.DEVICES}
    problem = cuda_bench.OURS[0], "lstm", (64, 16, 768, 768), "training"
    for name in cuda_bench.MODELS:
        assert cuda_bench.predicted(name, *problem) > 0
    others = ["NVIDIA GeForce RTX 5070 Ti", "NVIDIA GeForce RTX 5070 Laptop GPU"]
    for name in [*others, "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "unknown without nvidia-smi"]:
        assert math.isnan(cuda_bench.predicted(name, *problem)), name


@pytest.mark.parametrize("task", ["inference", "training"])
@pytest.mark.parametrize("cell", cuda_bench.CELLS)
def test_their_calls(cell, task, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(cuda_bench, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    cuda_bench.set_tf32(cuda_bench.THEIRS[2])
    cuda_bench.their_call("float32", cell, (3, 2, 4, 5), task)()


def test_a_failure_is_told(monkeypatch):
    monkeypatch.setattr(cuda_bench, "our_call", lambda *_: _fail("cudaMalloc: out of memory\nx"))
    found = cuda_bench.measure(cuda_bench.OURS, "lstm", (1, 1, 1, 1), "training", 1, 0)
    assert found == dict.fromkeys(cuda_bench.OURS, "cudaMalloc: out of memory")


def _fail(text):
    raise RuntimeError(text)


def test_shapes_are_those_of_the_tables():
    found = list(cuda_bench.problems(cuda_bench.CELLS))
    assert len(found) == len(set(found))
    shapes = {shape for _, cell, shape, _ in found if cell == "lstm"}
    assert {(1024, 16, 768, 768), (2048, 16, 768, 768), (50, 1, 128, 2048)} <= shapes
    assert {shape for _, cell, shape, _ in found if cell == "gru"} == {(1024, 16, 768, 768)}
