# SPDX-License-Identifier: MIT
"""Fixtures of many tests: tolerances and the comparison by them, machines, and a trained run."""

import os
import random
import shutil

import fusedrnn.cuda
import numpy as np
import pytest
from fusedrnn import _core

# Relative max-norm by dtype: results, and gradients.
TOLERANCES = {
    "float32": {"y": 1e-5, "grad": 3e-5},
    "float64": {"y": 1e-13, "grad": 1e-11},
    "bfloat16": {"y": 1e-2, "grad": 2e-2},  # 8 bits: 2e-3 in each rounding
}


@pytest.fixture(scope="session")
def tol():
    return TOLERANCES


@pytest.fixture(scope="session")
def assert_close():
    """assert_close(actual, expected, "y" or "grad"): by the tolerance of the dtype of actual.

    dtype: another one, of bfloat16's values for instance, which NumPy has as float32.
    """

    def check(actual, expected, kind, dtype=None):
        expected = np.asarray(expected)
        assert actual.shape == expected.shape
        assert np.isfinite(actual).all()
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= TOLERANCES[dtype or actual.dtype.name][kind] * np.abs(expected).max()

    return check


@pytest.fixture
def set_isa():
    """_core.set_isa, undone after the test."""
    before = _core.isa()
    yield _core.set_isa
    _core.set_isa(before)


@pytest.fixture(params=_core.isas())
def isa(request, set_isa):
    """The test runs once on every instruction set of this machine."""
    set_isa(request.param)
    return request.param


@pytest.fixture
def threads():
    """_core.set_num_threads, whatever the machine has, undone after the test."""
    before = _core.num_threads()
    yield lambda n: _core.set_num_threads(n, beyond_processors=True)
    _core.set_num_threads(before)


@pytest.fixture
def cuda():
    """fusedrnn.cuda, on the emulator; on a device if the variable FUSEDRNN_TEST_DEVICE is set."""
    if "FUSEDRNN_TEST_DEVICE" in os.environ:
        yield fusedrnn.cuda
        return
    import host_build

    fusedrnn.cuda.use(host_build.load())
    yield fusedrnn.cuda
    fusedrnn.cuda.use(None)


@pytest.fixture
def emulated(cuda):
    """emulated(multiprocessors=3, ...): the device becomes such a one until the test is over."""
    if "FUSEDRNN_TEST_DEVICE" in os.environ:
        pytest.skip("needs the emulator")
    import host_build

    module = host_build.load()

    def configure(**options):
        config = module.Config()
        for name, value in options.items():
            setattr(config, name, value)
        module.configure(config)

    yield configure
    configure()


@pytest.fixture
def emulator():
    """The emulator with the kernels of tests/simt; its device is new before the test and after."""
    from host_build import selftest
    from simt_cases import Emulator

    emulator = Emulator(selftest("selftest.so"))
    emulator.configure()
    yield emulator
    emulator.configure()


@pytest.fixture(scope="session")
def build_replay():
    """host_build.replay, where there is a compiler."""
    import host_build

    if not host_build.COMPILER:
        pytest.skip("no C++ compiler")
    return host_build.replay


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """The path of a text for a short training."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(rng.choice(["foo(bar)\n", "hello\n"]) for _ in range(135))[:990])
    return str(path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, text_file):
    """The folder of a run that nothing disturbed."""
    from cli_cases import SMALL, STEPS
    from fusedrnn import cli

    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert cli.main(["train", text_file, *SMALL, "--steps", str(STEPS), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of that folder, to go on with or to damage."""
    return shutil.copytree(finished, tmp_path / "copy")
