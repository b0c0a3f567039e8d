"""Mutated files: whatever a file has become, loading it ends with a project or with messages, and soon.

`make test` tries 5,000 of them, `make soak` 100,000, in a process of their own (`loader_mutants.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("PYCOMPOSE_SOAK") == "full"
INPUTS = 100_000 if FULL else 5_000
SEED = 20251125
SECONDS = 2.0 if FULL else 10.0
"""Most processor time for one input. `make soak` has the machine to itself; beside others even that time grows."""
MEGABYTES = 200
"""Largest memory of the whole process that reads them, Python and the loader included."""


@pytest.mark.timeout(7200)
def test_soak_mutated_files_load_or_are_load_errors() -> None:
    program = Path(__file__).with_name("loader_mutants.py")
    done = subprocess.run([sys.executable, program, str(SEED), str(INPUTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    most = json.loads(done.stdout)
    assert most["seconds"] <= SECONDS, most["slowest"]
    assert most["megabytes"] <= MEGABYTES
