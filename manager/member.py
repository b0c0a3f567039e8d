"""``python -m pycompose.manager.member``: becomes the etcd of this manager, as ``STATE/manager/member.json`` has it.

The supervisor runs it while the file is there; the manager writes and removes the file. Standing by itself, etcd
outlives the manager's process, and so a manager that starts anew takes no member from the others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pycompose.manager.store import StoreError
from pycompose.manager.store.etcd.client import check_version
from pycompose.manager.store.etcd.member import QUOTA, Member, Tls, command
from pycompose.proto.files import replace
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE, KEY

FILE, PROGRAM = "member.json", "etcd"
#: Below STATE/manager: the member's data, and its identity.
DATA, IDENTITY = Path("etcd") / "data", Path("etcd") / "tls"


@dataclass(frozen=True)
class Addresses:
    """Of a member, host:port each.

    Attributes:
        peer: where other managers' members reach it.
        client: on loopback, for this manager.
        listen: IP address and port where it listens for the others; "": at `peer`.
    """

    peer: str
    client: str
    listen: str = ""


@dataclass(frozen=True)
class Settings:
    """What the file says.

    Attributes:
        name: unique among the members: the node's id.
        client, peer: host:port for this manager, and for the other members.
        members: peer address by name of every member, itself among them.
        joins: the members are there already, and have been told of this one.
        token: the cluster's, no other has it.
        listen: IP address and port where it listens for the other members; "": at `peer`.
        quota: bytes that its data may have.
        alone: it forgets the other members when it starts.
    """

    name: str
    client: str
    peer: str
    members: Mapping[str, str] = field(default_factory=dict)
    joins: bool = False
    token: str = "pycompose"
    listen: str = ""
    quota: int = QUOTA
    alone: bool = False

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the file of a manager's folder. Raises StoreError."""
        path = folder / FILE
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from None

    def save(self, folder: Path) -> None:
        """Write the file; the supervisor starts the member. Raises OSError."""
        replace(folder / FILE, json.dumps(vars(self), indent=1).encode())

    def words(self, folder: Path, program: str = PROGRAM) -> list[str]:
        """Return the command line of the member."""
        tls = folder / IDENTITY
        files = Tls(tls / AUTHORITIES, tls / CERTIFICATE, tls / KEY)
        member = Member(
            self.name,
            folder / DATA,
            client=self.client,
            peer=self.peer,
            members=self.members,
            joins=self.joins,
            token=self.token,
            listen=self.listen,
            quota=self.quota,
            alone=self.alone,
            tls=files,
        )
        return command(member, program)


def check_program(program: str = PROGRAM) -> str:
    """Return where etcd is. Raises StoreError: it is missing, or of a version that loses data."""
    path = shutil.which(program)
    if path is None:
        raise StoreError("several managers need etcd, which is not installed: apt-get install etcd-server")
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    check_version(told.partition("etcd Version:")[2].split("\n")[0].strip())
    return path


def main() -> int:
    """Become etcd; returns only when that cannot be."""
    folder = Path(os.environ.get("PYCOMPOSE_STATE_DIR") or "/var/lib/pycompose") / "manager"
    try:
        settings = Settings.load(folder)
        program = check_program()
        (folder / DATA).mkdir(parents=True, exist_ok=True, mode=0o700)
        os.execv(program, settings.words(folder, program))
    except (StoreError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"the manager's etcd cannot start: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
