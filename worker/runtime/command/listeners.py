"""SCMP_ACT_NOTIFY: the filter's listener goes to the program that decides about calls.

Source: runtime-spec config-linux.md, "The Container Process State"; seccomp_unotify(2).
"""

from __future__ import annotations

import json
import os
import socket

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def serve(
    channel: socket.socket, message: dict[str, Any], pid: int, profile: dict[str, Any], state: dict[str, Any]
) -> None:
    """Take the listener from the process that installed its filter, hand it over, and let the process go on.

    Args:
        channel: to the process.
        message: what it said: {"listener": its descriptor's number}.
        pid: the process, in this process's numbers.
        profile: ``linux.seccomp``.
        state: the container's OCI state.

    Raises:
        StartError: nobody listens at ``listenerPath``.
    """
    pidfd = os.pidfd_open(pid)
    try:
        listener = syscalls.pidfd_getfd(pidfd, message["listener"])
    finally:
        os.close(pidfd)
    try:
        hand_over(listener, pid, profile, state)
    finally:
        os.close(listener)
    channel.send(b"{}")


def hand_over(listener: int, pid: int, profile: dict[str, Any], state: dict[str, Any]) -> None:
    """Send a listener with the container process state to ``listenerPath``.

    Raises:
        StartError: nobody listens there.
    """
    path = profile["listenerPath"]
    text = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid, "state": state}
    if profile.get("listenerMetadata"):
        text["metadata"] = profile["listenerMetadata"]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            socket.send_fds(connection, [json.dumps(text).encode()], [listener])
    except OSError as error:
        raise StartError(f"linux.seccomp.listenerPath {path}: {(error.strerror or '').lower()}") from None
