"""The command line of an etcd member that a manager runs as its child.

Source: https://etcd.io/docs/v3.4/op-guide/configuration/. Elections take at most a second with these intervals, where
etcd's own take two and a half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HEARTBEAT_MS, ELECTION_MS = 50, 500
#: Operations of one transaction; etcd's own limit is 128.
MAX_OPERATIONS = 1024
#: Revisions that are kept for watches; older ones go by themselves, looked after every five minutes.
HISTORY = 10_000
#: Bytes of a member's file; the most that etcd's makers advise.
QUOTA = 8 * 1024**3


@dataclass(frozen=True)
class Tls:
    """Files of a member's certificate; each side of every connection shows one of the same authority."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Member:
    """One member.

    Attributes:
        name: unique among the members.
        directory: its data.
        client: host:port for clients, here the manager.
        peer: host:port for the other members.
        listen: IP address and port where it listens for them; "": at `peer`.
        members: peer address (host:port) of each member by name, itself among them.
        joins: the members are there already, and have been told of this one.
        token: the same for all members of a cluster, and no others'.
        quota: bytes that its file may have; past that it takes no writes.
        alone: forget the other members at this start.
        tls: None: plain text, for loopback alone.
    """

    name: str
    directory: Path
    client: str
    peer: str
    members: Mapping[str, str] = field(default_factory=dict)
    joins: bool = False
    token: str = "pycompose"
    listen: str = ""
    quota: int = QUOTA
    alone: bool = False
    tls: Tls | None = None


def command(member: Member, program: str = "etcd") -> list[str]:
    """Arguments that run the member."""
    scheme = "https" if member.tls else "http"
    members = dict(member.members) or {member.name: member.peer}
    flags = {
        "name": member.name,
        "data-dir": str(member.directory),
        "listen-client-urls": f"{scheme}://{member.client}",
        "advertise-client-urls": f"{scheme}://{member.client}",
        "listen-peer-urls": f"{scheme}://{member.listen or member.peer}",
        "initial-advertise-peer-urls": f"{scheme}://{member.peer}",
        "initial-cluster": ",".join(f"{name}={scheme}://{peer}" for name, peer in sorted(members.items())),
        "initial-cluster-state": "existing" if member.joins else "new",
        "initial-cluster-token": member.token,
        "heartbeat-interval": str(HEARTBEAT_MS),
        "election-timeout": str(ELECTION_MS),
        "max-txn-ops": str(MAX_OPERATIONS),
        "quota-backend-bytes": str(member.quota),
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": str(HISTORY),
        # whether a change leaves a majority is decided in manager/members, where it can be forced
        "strict-reconfig-check": "false",
        "logger": "zap",
        "log-level": "warn",
    }
    if member.alone:
        flags["force-new-cluster"] = "true"
    if member.tls:
        flags |= _tls(member.tls, "") | _tls(member.tls, "peer-")
        # the authority is the members' alone; a machine with several addresses may come from any of them
        flags["experimental-peer-skip-client-san-verification"] = "true"
    return [program, *(f"--{name}={value}" for name, value in flags.items())]


def _tls(files: Tls, prefix: str) -> dict[str, str]:
    return {
        f"{prefix}trusted-ca-file": str(files.authority),
        f"{prefix}cert-file": str(files.certificate),
        f"{prefix}key-file": str(files.key),
        f"{prefix}client-cert-auth": "true",
    }
