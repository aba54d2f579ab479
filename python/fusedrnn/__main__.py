# SPDX-License-Identifier: MIT
"""`python -m fusedrnn` is the command `fusedrnn`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
