# SPDX-License-Identifier: MIT
"""The tolerances of all tests, and the comparison that uses them."""

import numpy as np
import pytest
from fusedrnn import _core

# Relative max-norm by dtype: results, and gradients.
TOLERANCES = {
    "float32": {"y": 1e-5, "grad": 3e-5},
    "float64": {"y": 1e-13, "grad": 1e-11},
}


@pytest.fixture(scope="session")
def tol():
    return TOLERANCES


@pytest.fixture(scope="session")
def assert_close():
    """assert_close(actual, expected, "y" or "grad"): by the tolerance of the dtype of actual."""

    def check(actual, expected, kind):
        expected = np.asarray(expected)
        assert actual.shape == expected.shape
        assert np.isfinite(actual).all()
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= TOLERANCES[actual.dtype.name][kind] * np.abs(expected).max()

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
