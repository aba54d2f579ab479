# SPDX-License-Identifier: MIT
"""Whether there is a device, and why not."""

import subprocess
import sys
import types

import fusedrnn
import host_build
import pytest
from fusedrnn import _core
from fusedrnn.cuda import library


def test_importing_the_package_does_not_import_the_module():
    code = "import sys, fusedrnn; print([name for name in sys.modules if 'cuda' in name])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == ["[]"]


def test_why_not(cuda):
    class Fake:
        count, capability, pools = 1, (9, 0), True

        def device_count(self):
            if self.count is None:
                raise RuntimeError("cudaGetDeviceCount: no driver (cudaErrorInsufficientDriver)")
            return self.count

        def device(self, index):
            return {"capability": self.capability, "memory_pools": self.pools}

    cuda.use(fake := Fake())
    assert cuda.why_not() is None
    assert cuda.is_available()
    assert fusedrnn.info()["cuda"] == "a module given to cuda.use; a device is available"
    for count, capability, pools, reason in [
        (None, (9, 0), True, "cudaGetDeviceCount: no driver (cudaErrorInsufficientDriver)"),
        (0, (9, 0), True, "there is no CUDA device"),
        (1, (7, 5), True, "the device has compute capability 7.5, 8.0 or newer is needed"),
        (1, (9, 0), False, "the device has no memory pools"),
    ]:
        fake.count, fake.capability, fake.pools = count, capability, pools
        assert cuda.why_not() == reason
        assert not cuda.is_available()
        assert reason in fusedrnn.info()["cuda"]
        with pytest.raises(RuntimeError) as caught:
            fusedrnn.GRU(2, 3, device="cuda")
        assert str(caught.value) == f"CUDA is not available: {reason}"


@pytest.mark.parametrize(
    ("architectures", "runs", "not_on"),
    [
        ("80-real 90-real 100 120", "8.0 8.6 8.9 9.0 10.0 10.3 11.0 12.0 12.1 13.0", ""),
        ("90", "9.0 10.0 12.0", "8.0 8.9"),
        ("86-real", "8.6 8.9", "8.0 8.7 9.0"),
        ("80-real 90-real 100 120", "8.9", "8.7"),
        ("80", "8.7", ""),
        ("87-real", "8.7 8.9", "8.6"),
        ("90-virtual", "9.0 12.1", "8.9"),
        ("90a", "9.0", "8.0 9.1 10.0"),
        ("100f-real", "10.0 10.3", "9.0 11.0"),
        ("native", "8.0 9.0", ""),
    ],
)
def test_architectures(architectures, runs, not_on, monkeypatch):
    module = types.SimpleNamespace(device_count=lambda: 1)
    monkeypatch.setattr(library, "_imported", lambda: module)
    monkeypatch.setattr(_core, "cuda_build", f"nvcc 13.0.88, architectures {architectures}")
    for numbers in (runs, not_on):
        for number in numbers.split():
            facts = {"capability": tuple(map(int, number.split("."))), "memory_pools": True}
            module.device = lambda index, facts=facts: facts
            reason = (
                f"the device has compute capability {number}, the kernels are for {architectures}"
            )
            assert fusedrnn.cuda.why_not() == (None if numbers is runs else reason), number


def test_what_was_not_built(monkeypatch):
    library._imported.cache_clear()
    monkeypatch.setattr(_core, "cuda_build", "not built: no nvcc")
    try:
        assert fusedrnn.cuda.why_not() == fusedrnn.info()["cuda"] == "not built: no nvcc"
        monkeypatch.setattr(_core, "cuda_build", "nvcc 13.0")
        library._imported.cache_clear()
        monkeypatch.setitem(sys.modules, "fusedrnn._cuda", None)
        assert fusedrnn.cuda.why_not().startswith("_cuda cannot be imported: ")
        assert fusedrnn.info()["cuda"].startswith("built by nvcc 13.0; _cuda cannot be imported")
    finally:
        library._imported.cache_clear()


ENDS = """
import threading, time, fusedrnn, host_build, numpy as np
fusedrnn.cuda.use(host_build.load())
layer = fusedrnn.GRU(4, 7, device="cuda")
x = fusedrnn.cuda.Array(np.ones((60, 3, 4), np.float32))
def compute():
    while True:
        layer(x)[0].__dlpack__(stream=-1)
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
time.sleep(0.2)
"""


def test_a_process_ends_while_daemon_threads_compute(emulated):
    emulated()
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=host_build.TESTS, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
