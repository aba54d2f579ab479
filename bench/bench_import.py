# SPDX-License-Identifier: MIT
"""What `import fusedrnn` takes beyond NumPy's own import: 30 ms are promised."""

import subprocess
import sys

import pytest

CODE = """
import time, numpy
start = time.perf_counter()
import fusedrnn
print(time.perf_counter() - start)
"""


def seconds():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.benchmark(group="import")
def test_import(benchmark):
    """The benchmark times the whole process; the import alone is in extra_info."""
    least = min(seconds() for _ in range(5))
    benchmark.extra_info["import_ms"] = 1e3 * least
    benchmark.pedantic(seconds, rounds=5)
