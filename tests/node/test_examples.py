"""One of `make examples`' applications, as a user runs it: real images, a node of its own, and nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# the images are built from Debian packages where they are not cached yet
@pytest.mark.timeout(900)
def test_jobs_are_done_once_whatever_happens() -> None:
    command = [sys.executable, "-m", "checks", "jobs"]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, cwd=EXAMPLES, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = child.communicate(timeout=850)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
    assert child.returncode == 0, said
    assert said.count(" ok ") == 6, said
