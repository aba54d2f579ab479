# SPDX-License-Identifier: MIT
"""The machine and the software that a figure was measured with."""

import importlib.metadata
import importlib.util
import pathlib
import platform
import re
import subprocess

import fusedrnn
import numpy as np


def machine():
    """What a recorded figure must name."""
    info = fusedrnn.info()
    return {
        "cpu": _cpu(),
        "threads": info["threads"],
        "isa": info["isa"],
        "fusedrnn": f"{info['version']} ({info['compiler']}, commit {_commit()})",
        "numpy": f"{np.__version__} ({_blas()})",
        **{name: _version(name) for name in ("torch", "onnxruntime", "openvino", "jax")},
        "python": platform.python_version(),
    }


def line():
    """`machine()` in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def width():
    """Floats in a vector of the instruction set in use."""
    return {"avx512": 16, "avx2": 8}.get(fusedrnn.isa(), 4)


def _cpu():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def _blas():
    if importlib.util.find_spec("threadpoolctl") is None:
        return "BLAS unknown without threadpoolctl"
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return "BLAS unknown"
    pool = pools[0]
    kind = f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
    return f"{kind}, {pool['num_threads']} threads"


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit():
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
