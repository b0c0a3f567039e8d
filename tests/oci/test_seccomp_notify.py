"""SCMP_ACT_NOTIFY on both runtimes: a program outside decides about a container's calls."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci.bundles import Bench, Change, setting

#: linux/seccomp.h: SECCOMP_IOCTL_NOTIF_RECV and _SEND, and the structures that they take.
RECEIVE, ANSWER = 0xC0502100, 0xC0182101
NOTIFICATION, RESPONSE = "=QIIiIQ6Q", "=QqiI"


class Decider:
    """Answers each call that it is asked about with one errno, until it is closed."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self.states: list[dict[str, Any]] = []
        self.calls = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._end, self._ending = os.pipe()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        listeners: list[int] = []
        while True:
            ready, _, _ = select.select([self._end, self._socket, *listeners], [], [])
            if self._end in ready:
                break
            if self._socket in ready:
                listeners.append(self._accept())
            for fd in set(listeners) & set(ready):
                if not self._answer(fd):
                    listeners.remove(fd)
                    os.close(fd)
        for fd in listeners:
            os.close(fd)

    def _accept(self) -> int:
        connection, _ = self._socket.accept()
        with connection:
            text, fds, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        self.states.append(json.loads(text))
        assert len(fds) == 1
        return fds[0]

    def _answer(self, fd: int) -> bool:
        data = array.array("B", bytes(struct.calcsize(NOTIFICATION)))
        try:
            fcntl.ioctl(fd, RECEIVE, data)
        except OSError:  # all who have the filter are gone
            return False
        identity = struct.unpack(NOTIFICATION, data)[0]
        self.calls += 1
        fcntl.ioctl(fd, ANSWER, struct.pack(RESPONSE, identity, 0, -self.number, 0))
        return True

    def close(self) -> None:
        """End the thread."""
        os.write(self._ending, b"x")
        self._thread.join()
        self._socket.close()
        os.close(self._end)
        os.close(self._ending)


@pytest.fixture
def decider(tmp_path: Path) -> Iterator[Decider]:
    found = Decider(tmp_path / "listener", errno.EDQUOT)
    yield found
    found.close()


def notified(path: Path | str, *names: str, **more: object) -> Change:
    rule = {"names": list(names), "action": "SCMP_ACT_NOTIFY"}
    return setting(
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path), "syscalls": [rule], **more},
    )


def test_a_listener_decides_about_calls(bench: Bench, decider: Decider) -> None:
    change = notified(decider.path, "mkdir", "mkdirat", listenerMetadata="about it")
    found = bench.run(change, "mkdir /tmp/x 2>&1; touch /tmp/y && echo touched")
    assert "quota exceeded" in found.out.lower()
    assert found.out.endswith("touched\n")
    (state,) = decider.states
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "about it"
    assert state["state"]["status"] in ("created", "creating")
    assert state["pid"] == state["state"]["pid"] > 0
    assert decider.calls == 1


def test_exec_has_a_listener_of_its_own(bench: Bench, decider: Decider) -> None:
    bench.configure(notified(decider.path, "mkdir", "mkdirat"), "sleep 1000")
    container = bench.id()
    assert bench.call("run", "--detach", container).code == 0
    found = bench.call("exec", container, "mkdir", "/tmp/x")
    assert "quota exceeded" in found.err.lower()
    first, second = decider.states
    assert first["pid"] != second["pid"]
    assert second["state"]["status"] == "running"
    assert second["state"]["pid"] == first["pid"]


def test_calls_between_the_filter_and_the_program_are_decided_too(bench: Bench, decider: Decider) -> None:
    """The runtime's own: without no_new_privs it changes the user after the filter is there."""
    found = bench.run(notified(decider.path, "setgroups"), "echo ran")
    assert found.code != 0
    assert "ran" not in found.out
    assert decider.calls == 1


WRONG = {
    "no listenerPath": (notified("", "mkdir"), "listenerPath"),
    "nobody listens": (notified("/nowhere/at/all", "mkdir"), "/nowhere/at/all"),
    "write": (notified("/nowhere", "write"), "write"),
    "as the default": (setting("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
    "an unknown flag": (
        setting("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SING"]}),
        "SECCOMP_FILTER_FLAG_SING",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be(bench: Bench, case: str) -> None:
    change, named = WRONG[case]
    found = bench.run(change, "echo ran")
    assert found.code != 0
    assert found.out == ""
    if bench.name != "runc":
        assert named in found.err
        assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize(
    "flag", ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
)
@pytest.mark.parametrize("listening", [False, True])
def test_flags(bench: Bench, decider: Decider, flag: str, listening: bool) -> None:
    if bench.name == "runc":
        pytest.skip("flags came with runc 1.2")
    names = ["mkdir"] if listening else []
    change = notified(decider.path, *names, flags=[flag])
    if not listening:
        change = setting("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]})
    found = bench.run(change, "echo ran")
    assert (found.out, found.code) == ("ran\n", 0)
