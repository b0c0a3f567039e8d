"""What the attacks on the runtime share: changes of a configuration, a program that can call anything, a victim."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks.conftest import FULL, RACES
from oci.bundles import Bench, Change, Config, adding, all_of, setting

from pycompose.worker.runtime import oci

#: Starts in a race: by `pycompose-runtime` (a Python each), and by the worker's zygote.
STARTS, WORKER_STARTS = (RACES, RACES) if FULL else (15, 285)
#: pytest's record_property: how many starts a race had is told in the table.
Record = Callable[[str, object], None]
ALL = ("bounding", "effective", "permitted")


def mount(destination: str, kind: str, source: str, *options: str) -> Change:
    return adding("mounts", {"destination": destination, "type": kind, "source": source, "options": list(options)})


def capability(*names: str) -> Change:
    """The default capabilities and more."""
    return setting("process.capabilities", {kind: [*oci.DEFAULT_CAPABILITIES, *names] for kind in ALL})


def machine_python(config: Config) -> None:
    """The machine's Python in the container, read-only: a program that can call any system call."""
    places = {Path(place) for place in ("/usr", "/lib", "/lib64", sys.base_prefix)}
    for place in sorted(places):
        if place.is_dir():
            made = {"destination": str(place), "type": "bind", "source": str(place), "options": ["rbind", "ro"]}
            config["mounts"].append(made)


def python(script: str) -> Change:
    """Run a Python script in the container."""
    return all_of(machine_python, setting("process.args", [os.path.realpath(sys.executable), "-I", "-c", script]))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the machine that must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("VICTIM\n")
    before = {name: Path(name).read_bytes() for name in ("/etc/passwd", "/proc/sys/kernel/core_pattern")}
    null = os.stat("/dev/null")
    yield path
    assert {name: Path(name).read_bytes() for name in before} == before
    assert (os.stat("/dev/null").st_mode, os.stat("/dev/null").st_uid) == (null.st_mode, null.st_uid)


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Swap two names as fast as can be (renameat2(2), RENAME_EXCHANGE)."""
    script = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\na, b = (p.encode() for p in sys.argv[1:])\n"
        "while True: libc.renameat2(-100, a, -100, b, 2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(one), str(other)]) as running:
        try:
            yield
        finally:
            running.kill()


def begun(bench: Bench, change: Change | None = None, command: str = "sleep 1000") -> str:
    """A container that runs; returns its id."""
    bench.configure(change, command)
    container = bench.id()
    for verb in ("create", "start"):
        done = bench.call(verb, container)
        assert done.code == 0, done.err
    return container
