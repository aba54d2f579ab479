# SPDX-License-Identifier: MIT
"""The model on paper: its plan is the code's, and the page that stands in bench/results."""

import cuda_model
import cuda_plan
import pytest
from cuda_plan import CELLS, PASSES, SIZES, Limits, Problem
from cuda_times import DEVICES, TASKS, Changes, pipeline, product_blocks, seconds

# Many multiprocessors and one, much shared memory and little; 8 blocks of 256 threads each.
EMULATED = (Limits(132, 227 << 10, 228 << 10, 8), Limits(1, 99 << 10, 100 << 10, 8))
SHAPES = ((1, 7, 1), (16, 64, 1), (40, 64, 2), (17, 200, 1), (100, 768, 1), (33, 1024, 2))


@pytest.mark.parametrize("limits", EMULATED)
def test_plan_is_the_code_s(limits, cuda, emulated):
    names = ("multiprocessors", "shared_optin", "shared_per_sm")
    emulated(**{name: getattr(limits, name) for name in names})
    plans = set()
    for cell in CELLS:
        for dtype in SIZES:
            for N, H, D in SHAPES:
                for task in PASSES:
                    found = cuda.plan(cell, N, H, directions=D, dtype=dtype, stage=task)
                    expected = cuda_plan.plan(limits, Problem(cell, dtype, 1, N, 1, H, D), task)
                    assert found == expected, (cell, dtype, N, H, D, task)
                    plans.add(found.persistent)
    assert plans == {True, False}


def test_page_is_what_the_model_says():
    path = cuda_model.TEMPLATE.parent / "results" / "cuda_model.md"
    assert path.read_text() == cuda_model.text(), "python bench/cuda_model.py --write " + str(path)


@pytest.mark.parametrize(
    ("device", "part", "bfloat16", "float32"),
    [
        *[("H100", "input part", 4, 3), ("H100", "dx", 3, 3), ("H100", "dW", 4, 4)],
        *[("RTX 5070", "input part", 3, 3), ("RTX 5070", "dx", 3, 3), ("RTX 5070", "dW", 2, 2)],
    ],
)
def test_blocks_of_products(device, part, bfloat16, float32):
    for gpu in DEVICES[device]:
        assert product_blocks(gpu, part, "bfloat16") == bfloat16
        assert product_blocks(gpu, part, "float32") == float32


def test_pipeline():
    assert pipeline(1, 100, 10, 0, 1) == pytest.approx(110, abs=60)
    waits = [pipeline(12, 300, 100, 50, ahead) for ahead in (1, 2, 3, 11)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > waits[-1] >= 300 + 12 * 100  # the link is never faster


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cell", CELLS)
def test_more_work_takes_longer(cell, device, task):
    fast, gpu, slow = DEVICES[device]
    problem = Problem(cell, "bfloat16", 100, 16, 128, 256)
    base = seconds(gpu, problem, task)
    assert 0 < seconds(fast, problem, task) < base < seconds(slow, problem, task)
    for name in ("T", "N", "I", "H"):
        more = problem._replace(**{name: 4 * getattr(problem, name)})
        assert seconds(gpu, more, task) > base
    assert seconds(gpu, problem._replace(D=2), task) >= base
    assert seconds(gpu, problem, task, Changes(3, True, True, True)) < base
