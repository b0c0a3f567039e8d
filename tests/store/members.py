"""A real etcd of one member, for the tests of the store: it ends with the process that started it."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pycompose.manager.store.etcd.member import Member, command


def free_address() -> str:
    """A loopback address with a port that is free now, and none that an outgoing connection is given (ip(7))."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


#: Whoever is run by it ends with the thread that started it (setpriv(1)); no code of ours runs between fork and exec.
TIED = ("setpriv", "--pdeathsig", "KILL")


class RunningMember:
    """A member's process."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.log = member.directory.with_suffix(".log")
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, also again."""
        with self.log.open("ab") as log:
            words = [*TIED, *command(self.member)]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        host, _, port = self.member.client.rpartition(":")
        for _ in range(600):
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(self.log.read_text()[-2000:])

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


def alone(folder: Path, **settings: Any) -> RunningMember:
    """A member of its own cluster, its data in `folder`."""
    for _ in range(3):
        member = Member("one", folder / "etcd", client=free_address(), peer=free_address(), **settings)
        with suppress(RuntimeError):  # somebody took the port meanwhile
            return RunningMember(member)
    return RunningMember(member)


def several(folder: Path, count: int) -> list[RunningMember]:
    """Members of one cluster."""
    peers = {f"m{number}": free_address() for number in range(count)}
    return [
        RunningMember(Member(name, folder / name, client=free_address(), peer=peer, members=peers))
        for name, peer in peers.items()
    ]
