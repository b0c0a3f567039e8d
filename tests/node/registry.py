"""Debian's docker-registry for tests, on loopback, with a configuration and a port of its own; and a token server.

`own_network` gives the test a network namespace: the registry and the test's own requests happen in it, whatever else
the machine does on the same ports.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
NAME, PASSWORD = "alice", "wonder land"


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Move this thread, and what it starts, into a new network namespace where loopback is up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert _libc.unshare(CLONE_NEWNET) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert _libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture
def network() -> Iterator[None]:
    """A network namespace of the test's own."""
    with own_network():
        yield


@dataclass
class DockerRegistry:
    """A running docker-registry. `address`: "127.0.0.1:PORT"."""

    folder: Path
    address: str
    process: subprocess.Popen[bytes] | None = None
    command: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def storage(self) -> Path:
        """Where it keeps what was pushed."""
        return self.folder / "storage"

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text()

    def requests(self, method: str, part: str) -> int:
        """How many requests of a method were for a path with `part` in it."""
        lines = self.log().splitlines()
        return sum(f'"{method} ' in line and part in line for line in lines)


@contextlib.contextmanager
def docker_registry(
    folder: Path, port: int = 5000, *, prefix: tuple[str, ...] = (), host: str = "127.0.0.1", **more: Any
) -> Iterator[DockerRegistry]:
    """Run a registry.

    Args:
        prefix: words before the command, such as nsenter's.
        more: further parts of its configuration: auth, http.
    """
    folder.mkdir(parents=True, exist_ok=True)
    http = {"addr": f"{host}:{port}", "secret": "test", **more.pop("http", {})}
    document = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": http,
        **more,
    }
    (folder / "config.yml").write_text(json.dumps(document))
    with (folder / "log").open("wb") as log:
        command = [*prefix, "docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(process, folder, host, port, prefix)
        yield DockerRegistry(folder, f"{host}:{port}", process)
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path, host: str, port: int, prefix: tuple[str, ...]) -> None:
    deadline = time.monotonic() + 30
    probe = f"import socket; socket.create_connection(({host!r}, {port})).close()"
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        if prefix:
            if subprocess.run([*prefix, "python3", "-c", probe], capture_output=True).returncode == 0:
                return
        else:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port)).close()
                return
        time.sleep(0.05)


def with_password(folder: Path) -> dict[str, Any]:
    """Configuration: name and password (htpasswd)."""
    folder.mkdir(parents=True, exist_ok=True)
    line = subprocess.run(["htpasswd", "-Bbn", NAME, PASSWORD], check=True, capture_output=True, text=True).stdout
    (folder / "htpasswd").write_text(line)
    return {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}}


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's, and what it signed for 127.0.0.1."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The authority's own."""
        return self.folder / "ca.crt"

    def server(self, name: str = "server", address: str = "IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """Make a server's certificate; returns it and its key."""
        key, request, made = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={address}\n")
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)
        )
        signing = ["-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial"]
        _openssl(
            "x509",
            "-req",
            "-in",
            str(request),
            *signing,
            "-days",
            str(days),
            "-extfile",
            str(extensions),
            "-out",
            str(made),
        )
        return made, key


def authority(folder: Path) -> Authority:
    """Make an authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder)
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority of a test",
        "-keyout", str(folder / "ca.key"), "-out", str(made.certificate),
    )  # fmt: skip
    return made


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def basic(name: str = NAME, password: str = PASSWORD) -> str:
    """The header of name and password."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
