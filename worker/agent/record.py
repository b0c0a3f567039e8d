"""What the agent knows of one task. Kept in ``STATE/agent/tasks/ID``: ``spec`` once, and ``record`` with the task.

``record`` is JSON lines, of which the last whole one counts: appending is cheap, where replacing a file makes the file
system write out its data at once (ext4(5), auto_da_alloc). There is no fsync: after a power failure the manager's
snapshot tells everything anew.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from pycompose.proto.v1 import service_pb2, task_pb2

#: A longer file is begun anew.
MOST_BYTES = 64 * 1024


@dataclass
class Record:
    """Times in ns since the epoch; `restarts` since the last start by request."""

    state: int = task_pb2.TASK_STATE_ACCEPTED
    since_ns: int = 0
    message: str = ""
    error: str = ""
    created: bool = False
    run: int = 0
    run_request: int = 0
    restarts: int = 0
    next_restart_ns: int = 0
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    #: The last start failed before the program ran: no policy repeats it.
    start_failed: bool = False
    health: int = 0
    health_failures: int = 0
    health_output: str = ""
    health_checks: int = 0
    paused: bool = False
    image_id: str = ""
    #: Anonymous volumes, own and those taken from others; gone with the last container that uses them.
    volumes: list[str] = field(default_factory=list)
    named_volumes: list[str] = field(default_factory=list)
    #: Ids of images that are mounted.
    image_mounts: list[str] = field(default_factory=list)
    #: OCI mounts of binds and volumes, for those who say volumes_from.
    data_mounts: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    #: The range of ids (`ids.Range`); empty: the machine's own.
    userns: dict[str, Any] = field(default_factory=dict)

    def status(self) -> task_pb2.TaskStatus:
        """Return it as the manager reads it."""
        status = task_pb2.TaskStatus(
            state=self.state,  # type: ignore[arg-type]
            message=self.message,
            error=self.error,
            run=self.run,
            run_request=self.run_request,
            restarts=self.restarts,
            pid=self.pid,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            health=self.health,  # type: ignore[arg-type]
            health_failures=self.health_failures,
            health_output=self.health_output,
            health_checks=self.health_checks,
            paused=self.paused,
            image_digest=self.image_id,
            warnings=self.warnings,
        )
        for stamp, value in (
            (status.since, self.since_ns),
            (status.next_restart_at, self.next_restart_ns),
            (status.started_at, self.started_ns),
            (status.finished_at, self.finished_ns),
        ):
            if value:
                stamp.FromNanoseconds(value)
        return status


class Records:
    """The directory ``tasks``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def home(self, task_id: str) -> Path:
        """Return the task's directory."""
        return self.directory / task_id

    def save(self, task: task_pb2.Task, spec: service_pb2.TaskSpec, record: Record) -> None:
        """Write down a task. Raises OSError: it is not written, or not whole."""
        home = self.home(task.id)
        # A line begins with its newline: after one that a full disk cut off comes a whole one all the same.
        line = b"\n" + json.dumps(vars(record) | {"task": task.SerializeToString().hex()}).encode()
        try:
            fd = os.open(home / "record", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = self._begin(home, spec)
        try:
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home / "record"))
            long = os.lseek(fd, 0, os.SEEK_CUR) > MOST_BYTES
        finally:
            os.close(fd)
        if long:
            temporary = home / ".record"
            temporary.write_bytes(line)
            os.rename(temporary, home / "record")

    def _begin(self, home: Path, spec: service_pb2.TaskSpec) -> int:
        """Make a task's directory; whole or not at all. Returns the record's descriptor."""
        home.mkdir(exist_ok=True, mode=0o700)
        try:
            (home / "spec").write_bytes(spec.SerializeToString())
            return os.open(home / "record", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            (home / "spec").unlink(missing_ok=True)
            raise

    def load(self) -> list[tuple[task_pb2.Task, service_pb2.TaskSpec, Record]]:
        """Read all; a damaged record is left out, and its directory removed."""
        found = []
        for home in self.directory.iterdir():
            try:
                document = _last(home / "record")
                task = task_pb2.Task.FromString(bytes.fromhex(document.pop("task")))
                spec = service_pb2.TaskSpec.FromString((home / "spec").read_bytes())
                found.append((task, spec, Record(**document)))
            except (OSError, ValueError, TypeError, KeyError, DecodeError):
                shutil.rmtree(home, ignore_errors=True)
        return found

    def remove(self, task_id: str) -> None:
        """Forget a task."""
        shutil.rmtree(self.home(task_id), ignore_errors=True)


def _last(path: Path) -> dict[str, Any]:
    """The last whole line. Raises ValueError when there is none."""
    for line in reversed(path.read_bytes().split(b"\n")):
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict):
                return document
    raise ValueError(f"{path} has no whole line")
