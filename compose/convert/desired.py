"""What converting gives, and the little that it needs of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pycompose.proto.v1 import network_pb2, project_pb2, secret_pb2, service_pb2, volume_pb2


class Machine(Protocol):
    """What converting may ask of the machine that the files are on."""

    def read(self, path: str) -> bytes:
        """Return a file's content; raises OSError."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether a path exists."""
        ...

    def caller(self) -> tuple[int, int]:
        """Return uid and gid of the person who runs the command."""
        ...


class MachineFiles:
    """This machine."""

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def caller(self) -> tuple[int, int]:
        sudo = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
        if os.geteuid() == 0 and all(text.isdigit() for text in sudo):
            return int(sudo[0]), int(sudo[1])
        return os.getuid(), os.getgid()


@dataclass
class Desired:
    """Everything that a project asks for.

    Objects are in maps by their name in the cluster, services by their name in the project and in the order of their
    dependencies (what others depend on comes first). `external_*` are names that must exist already. `providers` are
    names of services that a program of somebody else's runs, each after those it depends on. `builds` are services that
    say how their image is built, `always_built` those that want it built each time. `kept` are services of the files
    that are not part of this run (other profiles, not named): they are no orphans. `places` says where in the files a
    service's image was written, for messages.
    """

    project: project_pb2.ProjectSpec
    services: dict[str, service_pb2.ServiceSpec] = field(default_factory=dict)
    networks: dict[str, network_pb2.NetworkSpec] = field(default_factory=dict)
    volumes: dict[str, volume_pb2.VolumeSpec] = field(default_factory=dict)
    secrets: dict[str, secret_pb2.SecretSpec] = field(default_factory=dict)
    configs: dict[str, secret_pb2.ConfigSpec] = field(default_factory=dict)
    external_networks: dict[str, str] = field(default_factory=dict)
    external_volumes: dict[str, str] = field(default_factory=dict)
    external_secrets: dict[str, str] = field(default_factory=dict)
    external_configs: dict[str, str] = field(default_factory=dict)
    providers: list[str] = field(default_factory=list)
    builds: dict[str, str] = field(default_factory=dict)
    always_built: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    places: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def order(dependencies: Mapping[str, frozenset[str]]) -> list[str]:
    """Return names so that each comes after what it depends on; ties in the order given. Cycles are broken."""
    done: dict[str, None] = {}
    left = list(dependencies)
    while left:
        ready = [name for name in left if all(one in done or one not in dependencies for one in dependencies[name])]
        for name in ready or left[:1]:
            done[name] = None
        left = [name for name in left if name not in done]
    return list(done)
