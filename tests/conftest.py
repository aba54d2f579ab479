# SPDX-License-Identifier: MIT
"""The tolerances of all tests, and the comparison that uses them."""

import os

import fusedrnn.cuda
import numpy as np
import pytest
import simt_build
from fusedrnn import _core
from replay_build import build, have_compiler

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
    import emulator

    fusedrnn.cuda.use(emulator.load())
    yield fusedrnn.cuda
    fusedrnn.cuda.use(None)


@pytest.fixture
def emulated(cuda):
    """emulated(multiprocessors=3, ...): the device becomes such a one until the test is over."""
    if "FUSEDRNN_TEST_DEVICE" in os.environ:
        pytest.skip("needs the emulator")
    import emulator

    module = emulator.load()

    def configure(**options):
        config = module.Config()
        for name, value in options.items():
            setattr(config, name, value)
        module.configure(config)

    yield configure
    configure()


@pytest.fixture(scope="session")
def simt_library(tmp_path_factory):
    """The emulator of CUDA with the kernels of tests/simt, as a library."""
    return simt_build.build(tmp_path_factory.mktemp("emulator"), "selftest.so")


@pytest.fixture
def emulator(simt_library):
    """The emulator, with its device as new before the test and after it."""
    emulator = simt_build.Emulator(simt_library)
    emulator.configure()
    yield emulator
    emulator.configure()


@pytest.fixture(scope="session")
def build_replay(pytestconfig):
    """build_replay(*flags, few=False): replay_build.build, kept from run to run."""
    if not have_compiler():
        pytest.skip("no C++ compiler")
    folder = pytestconfig.cache.mkdir("cuda_replay")
    return lambda *flags, **options: build(folder, *flags, **options)
