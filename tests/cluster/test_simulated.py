"""Simulated workers against three managers: `make simulate` has 5,000 and 10,000 tasks, here is a twentieth of both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_no_session_breaks_and_every_task_runs_once() -> None:
    words = [sys.executable, "-m", "bench.simulate", "--workers", "250", "--tasks", "500", "--hold", "5"]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sessions broken: 0, nodes lost: 0" in done.stdout
