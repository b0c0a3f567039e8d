"""Files that the agent gives a task: hosts, resolv.conf, hostname, secrets (on a tmpfs) and configs; and its mounts."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycompose.proto.v1 import container_pb2, secret_pb2, service_pb2, task_pb2
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.network import etcfiles
from pycompose.worker.network.model import DnsOptions


def bind(source: Path | str, target: str, *options: str) -> dict[str, Any]:
    """Return an OCI bind mount."""
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}


class SecretsHome:
    """``RUN/secrets``: a tmpfs of ours, so that secrets never reach a disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def open(self) -> None:
        """Mount it unless it is there."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.ismount(self.directory):
            command = ("mount", "-t", "tmpfs", "-o", "mode=0700,nosuid,nodev,noexec", "pycompose", str(self.directory))
            child = await asyncio.create_subprocess_exec(*command)
            if await child.wait() != 0:
                raise OSError(f"cannot mount a tmpfs on {self.directory}")

    def unmount(self) -> None:
        """Undo ``open``."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", str(self.directory)], check=False)

    def close(self, task_id: str) -> None:
        """Remove a task's secrets."""
        shutil.rmtree(self.directory / task_id, ignore_errors=True)


def write_file(path: Path, data: bytes, uid: str = "", gid: str = "", mode: int = 0o444) -> None:
    """Write a file with owner and permissions."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    os.chown(path, int(uid or 0), int(gid or 0))
    os.chmod(path, mode)


def secret_mounts(
    home: Path, spec: container_pb2.ContainerSpec, secrets: Mapping[str, secret_pb2.Secret]
) -> list[dict[str, Any]]:
    """Write the task's secrets below `home`; return their mounts. Raises SpecError."""
    mounts = []
    for number, reference in enumerate(spec.secrets):
        secret = secrets.get(reference.name)
        if secret is None:
            raise SpecError(f"secret {reference.name} is not on this node; is it removed?")
        path = home / str(number)
        write_file(path, secret.spec.data, reference.uid, reference.gid, reference.mode or 0o444)
        target = reference.target or reference.name
        mounts.append(bind(path, target if target.startswith("/") else f"/run/secrets/{target}", "ro"))
    return mounts


def config_mounts(
    home: Path, spec: container_pb2.ContainerSpec, configs: Mapping[str, secret_pb2.Config]
) -> list[dict[str, Any]]:
    """Write the task's configs below `home`; return their mounts. Raises SpecError."""
    mounts = []
    for number, reference in enumerate(spec.configs):
        config = configs.get(reference.name)
        if config is None:
            raise SpecError(f"config {reference.name} is not on this node; is it removed?")
        path = home / f"config-{number}"
        write_file(path, config.spec.data, reference.uid, reference.gid, reference.mode or 0o444)
        target = reference.target or reference.name
        mounts.append(bind(path, target if target.startswith("/") else f"/{target}", "ro"))
    return mounts


def etc_mounts(
    home: Path, task: task_pb2.Task, spec: service_pb2.TaskSpec, hostname: str, search: Sequence[str]
) -> list[dict[str, Any]]:
    """Write hosts, resolv.conf and hostname below `home`; return their mounts."""
    container = spec.container
    if spec.network_mode == "host":
        return []
    pairs = []
    for line in container.extra_hosts:
        name, _, address = line.replace("=", ":", 1).partition(":")
        pairs.append((name, address.strip("[]")))
    from ipaddress import IPv4Interface

    addresses = [IPv4Interface(a.address) for a in task.attachments if a.address]
    gateway = str(next(iter(addresses[0].network.hosts()))) if addresses else "127.0.0.1"
    found = etcfiles.etc_files(
        hostname=hostname,
        domainname=container.domainname,
        addresses=[address.ip for address in addresses],
        dns=DnsOptions(tuple(container.dns), tuple(container.dns_search), tuple(container.dns_options)),
        extra_hosts=pairs,
        host_gateway=gateway,
        upstream_search=search,
    )
    mounts = []
    for name, text in (("hosts", found.hosts), ("resolv.conf", found.resolv_conf), ("hostname", found.hostname)):
        path = home / name
        if not path.exists():
            path.write_text(text)
        mounts.append(bind(path, f"/etc/{name}"))
    return mounts


def bind_mount(mount: container_pb2.Mount) -> dict[str, Any]:
    """Return the OCI mount of a bind; its source is made when the spec says so. Raises SpecError."""
    source = Path(mount.source)
    if not source.exists():
        if source.name == "docker.sock":
            raise SpecError(f"{source} does not exist: the Docker API is not there; remove this bind")
        if not mount.create_host_path:
            raise SpecError(f"bind source {source} does not exist; create it, or set create_host_path: true")
        source.mkdir(parents=True)
    options = [mount.propagation or "rprivate"]
    return bind(source, mount.target, *options, *(["ro"] if mount.read_only else []))


def tmpfs_mount(mount: container_pb2.Mount) -> dict[str, Any]:
    """Return the OCI mount of a tmpfs."""
    options = ["nosuid", "nodev", "noexec", f"mode={mount.tmpfs_mode or 0o1777:o}"]
    if mount.tmpfs_size_bytes:
        options.append(f"size={mount.tmpfs_size_bytes}")
    if mount.read_only:
        options.append("ro")
    return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}


def devices(spec: container_pb2.ContainerSpec) -> list[dict[str, Any]]:
    """Return the OCI devices of the spec's. Raises SpecError."""
    found = []
    for device in spec.devices:
        try:
            status = os.stat(device.source)
        except OSError as error:
            raise SpecError(f"device {device.source}: {error.strerror}") from error
        if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise SpecError(f"device {device.source} is no device")
        found.append(
            {
                "path": device.target or device.source,
                "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
                "major": os.major(status.st_rdev),
                "minor": os.minor(status.st_rdev),
                "fileMode": stat.S_IMODE(status.st_mode),
                "uid": status.st_uid,
                "gid": status.st_gid,
                "access": device.permissions or "rwm",
            }
        )
    return found
