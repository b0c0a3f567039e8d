"""A machine of its own for a daemon: network and mount namespaces, a cgroup, and nothing left afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """Context manager. `cgroup`: name of the cgroup below which the daemon puts its containers."""

    def __init__(self, cgroup: str) -> None:
        self.cgroup = cgroup

    def __enter__(self) -> Machine:
        self._remove_cgroups()
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up; exec sleep 86400"]
        )
        comm = Path(f"/proc/{self._holder.pid}/comm")
        while comm.read_text().strip() != "sleep":
            time.sleep(0.01)
        self._mounts = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        return self

    def __exit__(self, *_: object) -> None:
        """End every process that is in the cgroup or in the mount namespace; then nothing keeps the rest."""
        for _attempt in range(100):
            pids = {*self._in_cgroup(), *self._in_namespace()} - {self._holder.pid}
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        self._holder.kill()
        self._holder.wait()
        self._remove_cgroups()

    @property
    def root(self) -> str:
        """The machine's / as seen from outside."""
        return f"/proc/{self._holder.pid}/root"

    def command(self, *words: str, cwd: Path | None = None) -> list[str]:
        """The words of a command that runs on this machine, in `cwd` (entering a mount namespace leads to /)."""
        own = f"/proc/{self._holder.pid}/ns"
        return ["nsenter", f"--net={own}/net", f"--mount={own}/mnt", f"--wdns={cwd or '/'}", "--", *words]

    def run(self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run to the end and return the output; a failure shows what it said."""
        command = self.command(*words, cwd=cwd)
        variables = {**os.environ, **(env or {})}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start of ours compiles its sources
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _in_cgroup(self) -> Iterator[int]:
        for path in CGROUPS.glob(f"*/{self.cgroup}/**/cgroup.procs"):
            try:
                yield from map(int, path.read_text().split())
            except OSError:
                continue

    def _in_namespace(self) -> Iterator[int]:
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/mnt") == self._mounts:
                    yield int(entry)
            except OSError:
                continue

    def _remove_cgroups(self) -> None:
        for top in CGROUPS.glob(f"*/{self.cgroup}"):
            for path, _, _ in os.walk(top, topdown=False):
                os.rmdir(path)
