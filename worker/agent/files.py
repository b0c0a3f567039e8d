"""Files that the agent gives a task: hosts, resolv.conf, hostname, secrets and configs, all in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.proto.v1 import container_pb2, secret_pb2, service_pb2
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.network import etcfiles
from pycompose.worker.network.model import DnsOptions
from pycompose.worker.runtime import syscalls

if TYPE_CHECKING:
    from pycompose.worker.agent.ids import Range

#: Flags of mount(2).
NOSUID_NODEV_NOEXEC = 2 | 4 | 8


def bind(source: Path | str, target: str, *options: str) -> dict[str, Any]:
    """Return an OCI bind mount."""
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}


class SecretsHome:
    """``RUN/secrets``: a tmpfs of ours, so that secrets and configs never reach a disk.

    Also for what each start may write anew.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def open(self) -> None:
        """Mount it unless it is there; it is never swapped (tmpfs(5), noswap, since Linux 6.4; ramfs before)."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.ismount(self.directory):
            place = os.fsencode(self.directory)
            try:
                syscalls.mount(b"pycompose", place, b"tmpfs", NOSUID_NODEV_NOEXEC, b"mode=0700,noswap")
            except OSError:
                syscalls.mount(b"pycompose", place, b"ramfs", NOSUID_NODEV_NOEXEC, b"mode=0700")

    def unmount(self) -> None:
        """Undo ``open``."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", str(self.directory)], check=False)

    def close(self, task_id: str) -> None:
        """Remove a task's secrets."""
        shutil.rmtree(self.directory / task_id, ignore_errors=True)


def write_file(path: Path, data: bytes, owner: tuple[int, int], mode: int = 0o444) -> None:
    """Write a file with owner and permissions."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    os.chown(path, *owner)
    os.chmod(path, mode)


def secret_mounts(
    home: Path, spec: container_pb2.ContainerSpec, secrets: Mapping[str, secret_pb2.Secret], owners: Range | None = None
) -> list[dict[str, Any]]:
    """Write the task's secrets below `home`; return their mounts. Raises SpecError."""
    mounts = []
    for number, reference in enumerate(spec.secrets):
        secret = secrets.get(reference.name)
        if secret is None:
            raise SpecError(f"secret {reference.name} is not on this node; is it removed?")
        path = home / str(number)
        write_file(path, secret.spec.data, _owner(reference, owners), reference.mode or 0o444)
        target = reference.target or reference.name
        mounts.append(bind(path, target if target.startswith("/") else f"/run/secrets/{target}", "ro"))
    return mounts


def config_mounts(
    home: Path, spec: container_pb2.ContainerSpec, configs: Mapping[str, secret_pb2.Config], owners: Range | None = None
) -> list[dict[str, Any]]:
    """Write the task's configs below `home`; return their mounts. Raises SpecError."""
    mounts = []
    for number, reference in enumerate(spec.configs):
        config = configs.get(reference.name)
        if config is None:
            raise SpecError(f"config {reference.name} is not on this node; is it removed?")
        path = home / f"config-{number}"
        write_file(path, config.spec.data, _owner(reference, owners), reference.mode or 0o444)
        target = reference.target or reference.name
        mounts.append(bind(path, target if target.startswith("/") else f"/{target}", "ro"))
    return mounts


def _owner(
    reference: container_pb2.SecretReference | container_pb2.ConfigReference, owners: Range | None
) -> tuple[int, int]:
    """Return the machine's ids. Raises SpecError."""
    uid, gid = int(reference.uid or 0), int(reference.gid or 0)
    return owners.outside(uid, gid) if owners else (uid, gid)


ETC_NAMES = ("hosts", "resolv.conf", "hostname")


@dataclass(frozen=True)
class Etc:
    """What the machine says for a container's files in /etc.

    Attributes:
        addresses: the container's own, first network first.
        host_gateway: where the container reaches the machine.
        hosts: the machine's /etc/hosts, for a container on its network.
        servers: the machine's name servers, for a container without the embedded one.
        search: the machine's search domains.
    """

    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    host_gateway: str = ""
    hosts: str = ""
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def etc_mounts(
    home: Path, spec: service_pb2.TaskSpec, hostname: str, around: Etc, owners: Range | None = None
) -> list[dict[str, Any]]:
    """Write hosts, resolv.conf and hostname below `home`, unless they are there; return their mounts."""
    container = spec.container
    if all(os.path.exists(home / name) for name in ETC_NAMES):
        return etc_binds(home, read_only=container.read_only)
    home.mkdir(exist_ok=True, mode=0o700)
    pairs = []
    for line in container.extra_hosts:
        name, _, address = line.replace("=", ":", 1).partition(":")
        pairs.append((name, address.strip("[]")))
    embedded = spec.network_mode not in ("host", "none")
    found = etcfiles.etc_files(
        hostname=hostname,
        domainname=container.domainname,
        addresses=around.addresses,
        dns=DnsOptions(tuple(container.dns), tuple(container.dns_search), tuple(container.dns_options)),
        extra_hosts=pairs,
        host_gateway=around.host_gateway,
        upstream_search=around.search,
        base_hosts=around.hosts if spec.network_mode == "host" and around.hosts else etcfiles.LOCAL_HOSTS,
        servers=(etcfiles.EMBEDDED,) if embedded else around.servers,
    )
    for name, text in zip(ETC_NAMES, (found.hosts, found.resolv_conf, found.hostname), strict=True):
        path = home / name
        if not path.exists():
            path.write_text(text)
            if owners:
                os.chown(path, *owners.outside(0, 0))
    return etc_binds(home, read_only=container.read_only)


def etc_binds(home: Path, *, read_only: bool) -> list[dict[str, Any]]:
    """Return the mounts of files that are written: a container's own, or those of one whose network it shares."""
    options = ("rprivate", "ro") if read_only else ("rprivate",)
    return [bind(home / name, f"/etc/{name}", *options) for name in ETC_NAMES]
