# SPDX-License-Identifier: MIT
"""What the build decides about CUDA, and the words it has for it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")


def configured(folder, *options, cmake="cmake", **environment):
    """What CMake says of a build, and its exit status."""
    pybind11 = pytest.importorskip("pybind11")
    command = [
        "cmake", "-S", ROOT, "-B", folder, "-DSKBUILD_PROJECT_VERSION=0",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}",
        *options,
    ]  # fmt: skip
    command[0] = shutil.which(cmake)
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    return re.sub(r"\s+", " ", run.stdout + run.stderr), run.returncode


@needs_cmake
@pytest.mark.slow
@pytest.mark.parametrize("asked", ["AUTO", "ON"])
def test_nvcc_that_is_not_there(asked, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDACXX", raising=False)
    # OFF stands for a search that found nothing
    said, status = configured(tmp_path, f"-DFUSEDRNN_CUDA={asked}", "-DFUSEDRNN_NVCC=OFF")
    places = "CUDACXX, CUDA_HOME, CUDA_PATH, PATH, CMake's search paths and /usr/local/cuda/bin"
    reason = f"no nvcc in {places}"
    if asked == "ON":
        assert (f"FUSEDRNN_CUDA=ON: {reason}" in said, status) == (True, 1)
    else:
        assert (f"CUDA kernels: not built: {reason}" in said, status) == (True, 0)
        assert f'FUSEDRNN_CUDA_BUILD="not built: {reason}"' in _commands(tmp_path)


def _commands(folder):
    """How the files are compiled."""
    files = [*folder.rglob("flags.make"), *folder.rglob("build.ninja")]
    return "".join(file.read_text() for file in files).replace("\\", "")


@needs_cmake
@pytest.mark.slow
def test_nvcc_that_does_not_work(tmp_path):
    said, status = configured(tmp_path, "-DFUSEDRNN_CUDA=ON", CUDACXX="/none/nvcc")
    assert status == 1
    assert "FUSEDRNN_CUDA=ON: /none/nvcc does not compile with" in said


@pytest.mark.slow
@pytest.mark.parametrize("cmake", sorted({shutil.which("cmake") or "", "/usr/bin/cmake"} - {""}))
def test_the_standard_of_the_kernels(cmake, tmp_path):
    if not pathlib.Path(cmake).exists():
        pytest.skip("needs Debian's cmake")
    said, status = configured(tmp_path, "-DFUSEDRNN_CUDA_ARCHITECTURES=80", cmake=cmake)
    if "CUDA kernels: not built: no nvcc" in said:
        pytest.skip("needs nvcc")
    flags = (tmp_path / "csrc/cuda/CMakeFiles/cuda_kernels.dir/flags.make").read_text()
    assert (re.findall(r"-std=\S+", flags), status) == (["-std=c++20"], 0)


@needs_cmake
@pytest.mark.slow
def test_other_values(tmp_path):
    said, status = configured(tmp_path / "off", "-DFUSEDRNN_CUDA=OFF")
    assert ("CUDA kernels: not built: FUSEDRNN_CUDA=OFF" in said, status) == (True, 0)
    said, status = configured(tmp_path / "maybe", "-DFUSEDRNN_CUDA=maybe")
    assert ("FUSEDRNN_CUDA: expected AUTO, ON or OFF, got maybe" in said, status) == (True, 1)
    for given, old in (("90;75-real", "75-real"), ("OFF", "OFF")):
        said, status = configured(tmp_path / old, f"-DFUSEDRNN_CUDA_ARCHITECTURES={given}")
        reason = f"FUSEDRNN_CUDA_ARCHITECTURES: expected 80 or newer, got {old}"
        assert (reason in said, status) == (True, 1)


@needs_cmake
@pytest.mark.slow
@pytest.mark.skipif(pathlib.Path("/dev/nvidiactl").exists(), reason="needs a machine without GPU")
def test_native_without_a_device(tmp_path):
    said, status = configured(tmp_path, "-DFUSEDRNN_CUDA_ARCHITECTURES=native")
    if "CUDA kernels: not built: no nvcc" in said:
        pytest.skip("needs nvcc")
    assert "FUSEDRNN_CUDA_ARCHITECTURES: expected 80 or newer, got native, which is here" in said
    assert status == 1


@needs_cmake
@pytest.mark.slow
@pytest.mark.parametrize("none", ["", ";"])
def test_no_architectures(none, tmp_path):
    said, status = configured(tmp_path, f"-DFUSEDRNN_CUDA_ARCHITECTURES={none}")
    reason = f'FUSEDRNN_CUDA_ARCHITECTURES: expected 80 or newer, got "{none}"'
    assert (reason in said, status) == (True, 1)
