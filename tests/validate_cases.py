# SPDX-License-Identifier: MIT
"""What the tests of arguments share: small arrays, and what may be wrong with one."""

import numpy as np
from fusedrnn.weights import Weights

T, N, I, H = 3, 2, 4, 5
F4 = np.float32


def zeros(*shape, dtype=F4):
    return np.zeros(shape, dtype)


def strided(a):
    """The same values, no longer C-contiguous."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


def read_only(a):
    a.flags.writeable = False
    return a


def lstm_weights(**changes):
    weights = Weights(zeros(4 * H, I), zeros(4 * H, H), zeros(4 * H), zeros(4 * H))
    return weights._replace(**changes)


def changed(value):
    """Short test names: of all parameters, what is changed."""
    return next(iter(value)) if isinstance(value, dict) else ""


STATE = (zeros(N, H), zeros(N, H))
