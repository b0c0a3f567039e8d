"""The runtime's containers on disk: ``ROOT/ID/`` with ``state.json``, ``config.json`` and, until it is started,
``start.sock``.

``state.json`` holds what the OCI state has (ociVersion, id, pid, bundle, annotations) and what others need to
find the container: rootfs, cgroup (path below each hierarchy), slice and unit (systemd's, "" without it), pid_start
(field 22 of proc_pid_stat(5)), created (RFC 3339), owner (uid), started. It is replaced atomically, so it may be read
at any time. The status is never stored: it is what the kernel says about the process. Source: runtime-spec
runtime.md, "State".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil

from pycompose.worker.runtime import cgroups
from pycompose.worker.runtime import state as disk
from pycompose.worker.runtime.errors import ConfigError, NoSuchContainer, RuntimeFault, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_ID = re.compile(r"[A-Za-z0-9_+.-]{1,1024}")
SOCKET = "start.sock"


class Container:
    """One container's directory and what it says."""

    def __init__(self, directory: str, known: dict[str, Any]) -> None:
        self.directory, self.known = directory, known

    @property
    def id(self) -> str:
        """The container's id."""
        return os.path.basename(self.directory)

    @property
    def pid(self) -> int:
        """Its first process; 0 when that is gone."""
        return int(self.known["pid"]) if _alive(self.known) else 0

    @property
    def cgroup(self) -> cgroups.Cgroup:
        """Its place in the machine's cgroups."""
        path: str = self.known["cgroup"]
        return cgroups.at(path) if path else cgroups.NoCgroup(self.pid)

    def limit(self, resources: dict[str, Any]) -> None:
        """Change limits, systemd's where the cgroup is a scope of it, then the kernel's."""
        if self.known.get("unit"):
            from pycompose.worker.runtime.command import scope

            scope.update(self.known["unit"], resources)
        self.cgroup.update(resources)

    def config(self) -> dict[str, Any]:
        """The configuration as it was when the container was created."""
        with open(f"{self.directory}/config.json") as file:
            found: dict[str, Any] = json.load(file)
        return found

    def status(self) -> str:
        """creating, created, running, paused or stopped."""
        if not self.known["pid"]:
            return "creating"
        if not _alive(self.known):
            return "stopped"
        if not self.known["started"]:
            return "created"
        return "paused" if self.cgroup.frozen() else "running"

    def oci_state(self, status: str = "", pid: int = 0) -> dict[str, Any]:
        """The state as hooks and ``state`` see it."""
        status = status or self.status()
        found = {key: self.known[key] for key in ("ociVersion", "id")}
        found["status"] = status
        if status != "stopped":
            found["pid"] = pid or self.known["pid"]
        found["bundle"] = self.known["bundle"]
        if self.known["annotations"]:
            found["annotations"] = self.known["annotations"]
        return found

    def save(self, **changes: Any) -> None:
        """Change the state file."""
        self.known |= changes
        disk.save(self.directory, self.known)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from changing the container; what it says is read anew.

        Raises:
            NoSuchContainer: it was deleted meanwhile.
        """
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _unknown(self.id) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self.known = _load(self.directory)
            yield
        finally:
            os.close(fd)


class Containers:
    """All containers of one root directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def reserve(self, container_id: str) -> str:
        """Make the directory of a new container.

        Raises:
            ConfigError: the id is not allowed.
            WrongState: it is taken.
        """
        if not _ID.fullmatch(container_id) or container_id in (".", ".."):
            raise ConfigError(f"container id {container_id!r}: use 1 to 1024 of A-Z a-z 0-9 _ + - .")
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        directory = f"{self.root}/{container_id}"
        try:
            os.mkdir(directory, 0o711)
        except FileExistsError:
            raise WrongState(f"container {container_id} exists already in {self.root}; delete it first") from None
        except OSError as error:
            raise ConfigError(f"container id {container_id!r}: {(error.strerror or '').lower()}") from None
        return directory

    def get(self, container_id: str) -> Container:
        """A container that exists.

        Raises:
            NoSuchContainer: there is none.
        """
        if not _ID.fullmatch(container_id) or container_id in (".", ".."):
            raise _unknown(container_id)
        directory = f"{self.root}/{container_id}"
        return Container(directory, _load(directory))

    def all(self) -> list[Container]:
        """Every container, by id."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            with contextlib.suppress(RuntimeFault):
                found.append(self.get(name))
        return found


def remove(directory: str) -> None:
    """Remove a container's directory."""
    shutil.rmtree(directory, ignore_errors=True)


def _unknown(container_id: str) -> NoSuchContainer:
    return NoSuchContainer(f"container {container_id!r} does not exist")


def _load(directory: str) -> dict[str, Any]:
    try:
        return disk.load(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise _unknown(os.path.basename(directory)) from None


def _alive(known: dict[str, Any]) -> bool:
    """Whether the process runs still; a zombie does not, and a reused pid is another process."""
    try:
        with open(f"/proc/{known['pid']}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == known["pid_start"]
