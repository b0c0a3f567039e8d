"""Talking to systemd: D-Bus values as bytes, names and properties of a container's scope, what is refused."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pycompose.worker.runtime import dbus
from pycompose.worker.runtime.command import scope
from pycompose.worker.runtime.errors import ConfigError, StepError


def there_and_back(kind: str, value: object) -> object:
    out = bytearray()
    dbus.put(out, kind, value)
    found, end = dbus.take(bytes(out), 0, kind)
    assert end == len(out)
    return found


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        ("u", 7, "07000000"),
        ("b", True, "01000000"),
        ("s", "abc", "0300000061626300"),
        ("g", "a(sv)", "05612873762900"),
        ("as", ["a", "b"], "0e00000001000000610000000100000062 00"),
        ("at", [], "0000000000000000"),
        ("v", ("u", 5), "0175000005000000"),
        ("(yt)", (1, 2), "01000000000000000200000000000000"),
    ],
)
def test_values_as_bytes(kind: str, value: object, data: str) -> None:
    out = bytearray()
    dbus.put(out, kind, value)
    assert bytes(out) == bytes.fromhex(data)


@given(
    some.lists(
        some.tuples(
            some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"])), some.integers(0, 2**64 - 1)
        )
    )
)
def test_values_there_and_back(value: list[tuple[str, int]]) -> None:
    assert there_and_back("a(st)", value) == value
    variants = [(name, ("t", number)) for name, number in value]
    assert there_and_back("a(sv)", variants) == value


def test_types() -> None:
    assert dbus.types("ssa(sv)a(sa(sv))uao") == ["s", "s", "a(sv)", "a(sa(sv))", "u", "ao"]


class Pretended(threading.Thread):
    """A systemd that answers each call by what `answers` says, after a signal of something else's end."""

    def __init__(self, path: Path, answers: dict[str, tuple[int, str, list[Any]]]) -> None:
        super().__init__(daemon=True)
        self.answers, self.asked = answers, list[tuple[str, list[Any]]]()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            greeting = connection.recv(100)
            assert greeting.startswith(b"\0AUTH EXTERNAL ")
            assert greeting.endswith(b"\r\nBEGIN\r\n")
            connection.sendall(b"OK 1234\r\n")
            reader = object.__new__(dbus.Systemd)
            reader._socket = connection
            number = 0
            while True:
                try:
                    message = reader._receive()
                except OSError:
                    return
                number += 1
                self.asked.append((message.member, message.body))
                kind, signature, values = self.answers[message.member]
                for job in ("/job/other", "/job/1"):
                    connection.sendall(self.message(dbus.SIGNAL, "uoss", [1, job, "u", "done"], 0, "JobRemoved"))
                connection.sendall(self.message(kind, signature, values, number, ""))

    @staticmethod
    def message(kind: int, signature: str, values: list[Any], reply_to: int, member: str) -> bytes:
        data = bytearray(dbus.call(9, member or "x", signature, values))
        fields: list[tuple[int, tuple[str, object]]] = [(8, ("g", signature))]
        if member:
            fields.append((3, ("s", member)))
        if kind == dbus.ERROR:
            fields.append((4, ("s", "org.freedesktop.systemd1.UnitExists")))
        if reply_to:
            fields.append((5, ("u", reply_to)))
        body = bytearray()
        for each, value in zip(dbus.types(signature), values, strict=True):
            dbus.put(body, each, value)
        out = bytearray(bytes([data[0], kind, 0, 1]) + len(body).to_bytes(4, "little") + bytes(data[8:12]))
        dbus.put(out, "a(yv)", fields)
        out += bytes(-len(out) % 8)
        return bytes(out + body)


def test_a_call_and_its_jobs_end(tmp_path: Path) -> None:
    pretended = Pretended(
        tmp_path / "s", {"StopUnit": (dbus.REPLY, "o", ["/job/1"]), "GetUnit": (dbus.ERROR, "s", ["it exists"])}
    )
    pretended.start()
    with dbus.Systemd(str(tmp_path / "s")) as systemd:
        (job,) = systemd.ask("StopUnit", "ss", "a.scope", "replace")
        assert systemd.wait(job) == "done"
        with pytest.raises(dbus.DbusError, match="it exists") as caught:
            systemd.ask("GetUnit", "s", "b")
        assert caught.value.name == "org.freedesktop.systemd1.UnitExists"
    pretended.join()
    assert pretended.asked == [("StopUnit", ["a.scope", "replace"]), ("GetUnit", ["b"])]


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"cannot connect to .*: No such file"):
        dbus.Systemd(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("path", "cgroup"),
    [
        ("", "/system.slice/pycompose-box.scope"),
        ("machine.slice:libpod:abc", "/machine.slice/libpod-abc.scope"),
        (":p:n", "/system.slice/p-n.scope"),
        ("-.slice::n", "/n.scope"),
        ("a-b-c.slice:p:n", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
    ],
)
def test_names(path: str, cgroup: str) -> None:
    assert scope.named(path, "box").cgroup == cgroup


@pytest.mark.parametrize(
    "path",
    ["/a/b", "a:b", "a:b:c:d", "a:p:n", "a--b.slice:p:n", "-a.slice:p:n", "a/b.slice:p:n", "a.slice:p:", "::n.slice"],
)
def test_names_that_are_none(path: str) -> None:
    with pytest.raises(ConfigError, match=r"linux\.cgroupsPath"):
        scope.named(path, "box")


RESOURCES = {
    "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 5},
    "cpu": {"shares": 512, "quota": 33_333, "period": 100_000, "cpus": "0-1,9"},
    "pids": {"limit": -1},
    "blockIO": {"weight": 1000},
}


def test_properties() -> None:
    assert scope.properties(RESOURCES, unified=True) == [
        ("MemoryMax", ("t", 1 << 20)),
        ("MemoryLow", ("t", 5)),
        ("MemorySwapMax", ("t", 2 << 20)),
        ("CPUWeight", ("t", 20)),
        ("CPUQuotaPerSecUSec", ("t", 340_000)),
        ("CPUQuotaPeriodUSec", ("t", 100_000)),
        ("AllowedCPUs", ("ay", b"\x03\x02")),
        ("TasksMax", ("t", (1 << 64) - 1)),
        ("IOWeight", ("t", 10_000)),
    ]
    assert scope.properties(RESOURCES, unified=False) == [
        ("MemoryLimit", ("t", 1 << 20)),
        ("CPUShares", ("t", 512)),
        ("CPUQuotaPerSecUSec", ("t", 340_000)),
        ("CPUQuotaPeriodUSec", ("t", 100_000)),
        ("TasksMax", ("t", (1 << 64) - 1)),
        ("BlockIOWeight", ("t", 1000)),
    ]
    unified = {"memory.high": "max", "pids.max": "5", "memory.oom.group": "1"}
    assert scope.properties({"unified": unified}, unified=True) == [
        ("MemoryHigh", ("t", (1 << 64) - 1)),
        ("TasksMax", ("t", 5)),
    ]


def test_device_rules() -> None:
    rules = [
        {"allow": True, "type": "b", "major": 8, "access": "r"},
        {"allow": False},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 1, "minor": 3},
        {"allow": True, "type": "c", "major": 136, "minor": -1, "access": "rw"},
    ]
    policy, allowed = scope.devices(rules)
    assert policy == ("DevicePolicy", ("s", "strict"))
    names = allowed[1][1]
    assert names[:2] == [("char-*", "m"), ("/dev/char/1:3", "rwm")]
    assert ("char-pts", "rw") in names
    assert scope.devices([{"allow": True, "type": "a"}])[0] == ("DevicePolicy", ("s", "auto"))


def test_annotations() -> None:
    text = {"Description": "'a b'", "TimeoutStopSec": "5", "CollectMode": '"inactive"', "Delegate": "true"}
    text |= {"TasksMax": "uint64 9", "After": "['a.service', 'b.service']"}
    found = scope.from_annotations({f"org.systemd.property.{key}": value for key, value in text.items()} | {"x": "y"})
    assert dict(found) == {
        "Description": ("s", "a b"),
        "TimeoutStopUSec": ("t", 5_000_000),
        "CollectMode": ("s", "inactive"),
        "Delegate": ("b", True),
        "TasksMax": ("t", 9),
        "After": ("as", ["a.service", "b.service"]),
    }
    for wrong in ("word", "'a", "[1]", ""):
        with pytest.raises(ConfigError, match=r"org\.systemd\.property\.X"):
            scope.from_annotations({"org.systemd.property.X": wrong})


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scope, "BOOTED", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="systemd is not this machine's init system"):
        scope.check()
    monkeypatch.setattr(scope, "BOOTED", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="takes root"):
        scope.check()
