# SPDX-License-Identifier: MIT
"""What the tests of checkpoints share: one to save and check, and what a damaged one says."""

import json

import numpy as np
import pytest
from fusedrnn import checkpoint
from fusedrnn.errors import InputError


def save(folder, step):
    arrays = {"a": np.full((2, 3), step, np.float32), "b": np.arange(step + 1.0)}
    checkpoint.save(folder, step, {"step": step, "note": "é\n"}, arrays)


def check(folder, steps):
    """Load, and find a record and arrays that belong together, of one of these steps."""
    record, arrays = checkpoint.load(folder)
    step = record["step"]
    assert step in steps
    assert record["note"] == "é\n"
    assert set(arrays) == {"a", "b"}
    np.testing.assert_array_equal(arrays["a"], np.full((2, 3), step, np.float32))
    np.testing.assert_array_equal(arrays["b"], np.arange(step + 1.0))
    return step


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(path):
    """Return the message with which a path is refused, one line that names a file."""
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent if path.is_file() else path) in message
    return message


def forge(folder, change, content=None):
    """Rewrite the JSON as someone would who knows its checksum, and the arrays' file with it."""
    path = folder / checkpoint.JSON
    record = json.loads(path.read_text("utf-8"))
    del record["sha256"]
    if content is not None:
        (folder / record["arrays"]["file"]).write_bytes(content)
        record["arrays"] |= {"bytes": len(content), "sha256": checkpoint._sha256(content)}
    change(record)
    record["sha256"] = checkpoint._sha256(checkpoint._canonical(record))
    path.write_text(json.dumps(record), "utf-8")
