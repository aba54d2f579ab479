# SPDX-License-Identifier: MIT
"""The package as a whole: its version, stub, documentation and what importing it costs."""

import ast
import doctest
import importlib
import inspect
import os
import pathlib
import pkgutil
import platform
import re
import subprocess
import sys

import fusedrnn
import pytest
from fusedrnn import _core
from fusedrnn.layers import KINDS

PACKAGE = pathlib.Path(fusedrnn.__file__).parent
ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], "fusedrnn.")
    if info.name != "fusedrnn._core"
)


def python(code):
    """What a new interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_versions_agree():
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    assert fusedrnn.__version__ == _core.__version__ == version


def test_typing_information_is_installed():
    assert (PACKAGE / "py.typed").exists()


def test_stub_names_what_core_has():
    """The same names, and of functions the same parameters in the same order."""
    stub = {}
    for node in ast.parse((PACKAGE / "_core.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            stub[node.name] = [argument.arg for argument in node.args.args]
        elif isinstance(node, ast.ClassDef):
            stub[node.name] = None
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "TypeAlias":
            stub[node.target.id] = None
    names = {name for name in dir(_core) if not name.startswith("__")} | {"__version__"}
    assert stub.keys() == names
    for name, parameters in stub.items():
        if parameters is not None:
            signature = getattr(_core, name).__doc__.partition(" -> ")[0]
            assert re.findall(r"(\w+):", signature) == parameters, name


def test_import_brings_nothing_but_numpy():
    loaded = set(python("import sys, fusedrnn; print(*sys.modules)").split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "keras", "onnx", "tqdm", "matplotlib", "safetensors"}


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        ("keras", "keras", lambda: fusedrnn.keras.to_keras(fusedrnn.GRU(1, 1))),
        ("onnx", "onnx", lambda: fusedrnn.onnx.to_onnx(fusedrnn.GRU(1, 1))),
        ("torch", "torch", lambda: fusedrnn.to_state_dict(fusedrnn.GRU(1, 1))),
        ("safetensors", "train", lambda: fusedrnn.load_safetensors("none")),
    ],
)
def test_what_is_not_installed_is_asked_for(module, extra, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    said = re.escape(f"{module} is missing: pip install 'fusedrnn[{extra}]'")
    with pytest.raises(ValueError, match=f"^{said}"):
        call()


@pytest.mark.parametrize("name", ["fusedrnn", *MODULES])
def test_documentation(name, monkeypatch, tmp_path):
    """Public names exist and say what they are; every example does what it shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "numpy"))
    if (needs := name.split(".")[1:2]) and needs[0] in ("keras", "onnx", "torch"):
        pytest.importorskip(needs[0])
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        assert inspect.getdoc(value), public
        for member, method in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and inspect.isroutine(method):
                assert inspect.getdoc(getattr(value, member)), f"{public}.{member}"
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


TEXTS = "\n".join(path.read_text() for path in (*ROOT.glob("*.md"), *sorted(PACKAGE.rglob("*.py"))))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(fusedrnn(?:\.\w+)+)", TEXTS))))
def test_documentation_names_what_there_is(name):
    if name.startswith("fusedrnn.torch"):
        pytest.importorskip("torch")
    pkgutil.resolve_name(name)


def test_readme_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    names = {}  # a block goes on from those before it
    for block in blocks:
        if "torch" in block:
            pytest.importorskip("torch")
        exec(block, names)


def test_the_table_of_cells_in_the_readme_has_every_form():
    readme = (ROOT / "README.md").read_text()
    (table,) = re.findall(r"\| cell \| equations \|\n(.*?)\n\n", readme, re.DOTALL)
    for kind, options in KINDS.values():
        name = kind.__name__
        assert f"| `{name}` |" in table
        for option, value in options.items():
            form = value if isinstance(value, str) else f"`{name}({option}={value})`"
            assert form in table


def test_main_objects_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    for name in ("RNN", "LSTM", "GRU", "RNNCell", "Linear", "softmax_cross_entropy", "info"):
        value = getattr(fusedrnn, name)
        assert any(test.examples for test in finder.find(value, name)), name


@pytest.mark.skipif("FUSEDRNN_BUILD_DIR" not in os.environ, reason="needs FUSEDRNN_BUILD_DIR")
def test_no_kernel_symbol_is_shared_between_instruction_sets():
    """The linker keeps one copy of a weak symbol, which could be the one for a newer processor."""
    build = pathlib.Path(os.environ["FUSEDRNN_BUILD_DIR"])
    folders = sorted(build.glob("CMakeFiles/kernels_*.dir"))
    assert folders
    for folder in folders:
        isa = folder.name.removeprefix("kernels_").removesuffix(".dir")
        objects = sorted(folder.rglob("*.o"))
        assert objects
        command = ["nm", "-C", "--defined-only", *map(str, objects)]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        weak = re.findall(r"^[0-9a-f]+ [VWu] (.*)$", table, re.MULTILINE)
        assert weak
        assert [name for name in weak if f"fusedrnn::{isa}::" not in name] == []


@pytest.mark.skipif("FUSEDRNN_BUILD_DIR" not in os.environ, reason="needs FUSEDRNN_BUILD_DIR")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86-64")
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_flags_of_the_user_leave_a_set_what_it_is(isa):
    """As if these were in CXXFLAGS, which stand before the flags of the build."""
    build = pathlib.Path(os.environ["FUSEDRNN_BUILD_DIR"])
    made = build / f"CMakeFiles/kernels_{isa}.dir/flags.make"
    text = (made if made.exists() else build / "build.ninja").read_text()
    begins = "" if made.exists() else rf"kernels_{isa}\.dir/csrc/cpu/kernels\.cpp\.o: .*?"
    flags = re.search(rf"{begins}^ *(?:CXX_)?FLAGS = (.*?)$", text, re.MULTILINE | re.DOTALL)[1]
    command = [os.environ.get("CXX", "c++"), "-ffast-math", "-march=skylake-avx512", *flags.split()]
    command += ["-dM", "-E", "-x", "c++", os.devnull]
    defined = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "__AVX512F__" not in defined
    assert "__FAST_MATH__" not in defined
    assert ("__AVX2__" in defined) == (isa == "avx2")
