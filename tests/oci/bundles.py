"""Bundles and the two runtimes that the same cases run on: ours, and Debian's runc as the peer."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycompose.worker.runtime import cgroups, oci

Config = dict[str, Any]
Change = Callable[[Config], None]
OURS = [sys.executable, "-m", "pycompose.worker.runtime.command"]
CGROUPS = f"/pycompose-oci-{os.getpid()}"
SLICE = f"pycomposeoci{os.getpid()}.slice"
RUNTIMES = {"pycompose-runtime": OURS, "runc": ["runc"]}


@dataclass
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


@dataclass
class Bench:
    """One runtime with a root directory of its own and a bundle; `close` leaves nothing behind.

    `before` are words before the runtime's in each call: who runs it, and where. `systemd`: it is to make the cgroups.
    """

    name: str
    folder: Path
    bundle: Path
    used: set[str] = field(default_factory=set)
    before: tuple[str, ...] = ()
    systemd: bool = False
    cgroup: str = ""

    def call(
        self,
        *words: str,
        stdin: str = "",
        timeout: float = 60,
        flags: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
    ) -> Result:
        """Run the runtime's command; ``before``: a command that prepares something and executes it."""
        if self.systemd:
            flags = ("--systemd-cgroup", *flags)
        command = [*self.before, *before, *RUNTIMES[self.name], "--root", str(self.folder / "root"), *flags, *words]
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            # Files, not pipes: a created container keeps its standard streams open.
            done = subprocess.run(
                command, input=stdin, stdout=out, stderr=err, text=True, timeout=timeout, cwd=self.bundle
            )
            out.seek(0)
            err.seek(0)
            return Result(done.returncode, out.read(), err.read())

    def configure(self, change: Change | None = None, command: str = "true") -> None:
        """Write config.json: Docker's defaults, a shell command, and the change."""
        config = oci.default_config(["sh", "-c", command])
        config["ociVersion"] = "1.0.2"  # the peer's version
        name = uuid.uuid4().hex[:12]
        config["linux"]["cgroupsPath"] = f"{SLICE}:oci:{name}" if self.systemd else f"{CGROUPS}/{name}"
        self.cgroup = f"/{SLICE}/oci-{name}.scope" if self.systemd else f"{CGROUPS}/{name}"
        if change is not None:
            change(config)
        (self.bundle / "config.json").write_text(json.dumps(config))

    def id(self) -> str:
        """A new container id."""
        found = f"oci-{uuid.uuid4().hex[:12]}"
        self.used.add(found)
        return found

    def run(self, change: Change | None = None, command: str = "true", stdin: str = "") -> Result:
        """`run` in the foreground."""
        self.configure(change, command)
        return self.call("run", self.id(), stdin=stdin)

    def clear(self) -> None:
        """Delete the containers that a case left."""
        for container in self.used:
            if (self.folder / "root" / container).exists():
                self.call("delete", "--force", container)
        self.used.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        self.clear()
        # runc makes its cgroup in every hierarchy, also in those that ours does not use (name=systemd, unified)
        everywhere = map(str, Path("/sys/fs/cgroup").glob(f"*{CGROUPS}"))
        cgroups.remove_directories({*cgroups.directories(CGROUPS), *everywhere})


@contextmanager
def open_bench(name: str, folder: Path) -> Iterator[Bench]:
    """A runtime's bench with BusyBox as root file system."""
    bundle = folder / "bundle"
    binaries = bundle / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    for place in ("tmp", "dev", "proc", "sys", "etc"):
        (bundle / "rootfs" / place).mkdir()
    shutil.copy("/bin/busybox", binaries / "busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    found = Bench(name, folder, bundle)
    try:
        yield found
    finally:
        found.close()


def setting(path: str, value: object) -> Change:
    """A change that sets one key, such as "process.cwd"."""

    def change(config: Config) -> None:
        *parents, last = path.split(".")
        place = config
        for key in parents:
            place = place.setdefault(key, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)

    return change


def all_of(*changes: Change) -> Change:
    """Several changes."""

    def change(config: Config) -> None:
        for each in changes:
            each(config)

    return change


def adding(path: str, *items: object) -> Change:
    """A change that appends to a list."""

    def change(config: Config) -> None:
        *parents, last = path.split(".")
        place = config
        for key in parents:
            place = place.setdefault(key, {})
        place.setdefault(last, []).extend(copy.deepcopy(items))

    return change
