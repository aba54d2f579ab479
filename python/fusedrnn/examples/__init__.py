# SPDX-License-Identifier: MIT
"""Small programs to read; each runs as `python -m fusedrnn.examples.<name>`."""
