"""What is remembered about a container between processes: ``state.json``, replaced atomically.

One writer at a time: the agent before a start and after a shim was lost, the shim in between.
Keys: id, status (created, running, stopped), run (how often it was started), pid, pid_start
(field 22 of /proc/PID/stat, so that a reused pid is not mistaken for it), exit.
"""

from __future__ import annotations

import fcntl
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "state.json"
LOCK = "shim.lock"


def write_atomically(path: str, text: str, mode: int = 0o600) -> None:
    """Replace the file by one with this text: a reader sees the old or the new whole (rename(2))."""
    temporary = path + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        left = memoryview(text.encode())
        while left:  # a disk that is nearly full takes a part
            left = left[os.write(fd, left) :]
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def save(directory: str, state: dict[str, Any]) -> None:
    """Write the container's state."""
    write_atomically(f"{directory}/{NAME}", json.dumps(state))


def load(directory: str) -> dict[str, Any]:
    """Read it.

    Raises:
        FileNotFoundError: the container is not known.
    """
    result: dict[str, Any] = json.loads(read(f"{directory}/{NAME}"))
    return result


def read(path: str) -> bytes:
    """The whole of a file, with as few system calls as it takes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
    finally:
        os.close(fd)
    return b"".join(pieces)


def claim(directory: str) -> int | None:
    """Become the container's one shim (flock(2)); None when another one has it running.

    The descriptor that is returned keeps it so until `release`, or the end of this process.
    """
    fd = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def release(claim: int) -> None:
    """Let another shim start the container again, while this one still serves those who have not read all."""
    fcntl.flock(claim, fcntl.LOCK_UN)


def claimed(directory: str) -> bool:
    """Whether a shim has the container running."""
    try:
        fd = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot (proc_pid_stat(5)); 0 when it is gone."""
    try:
        return int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    except OSError:
        return 0
