"""Makes hosts of a bed managers of one cluster, from files alone: certificates, and what the processes read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from node.whole import IMAGE, busybox

from cluster.bed import Bed, Host
from pycompose.manager.backend import Backend
from pycompose.manager.ca.authority import Authority, Subject
from pycompose.manager.member import IDENTITY, Settings
from pycompose.proto.peer import Role
from pycompose.proto.tls import Identity, new_request

LOOPBACK, PEER, CLIENT = "127.0.0.1", 7423, 7424


def identity(authority: Authority, subject: Subject) -> Identity:
    """Return a new key and its certificate."""
    key, request = new_request()
    return Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem)


def managers(bed: Bed, hosts: Sequence[Host]) -> None:
    """Provision the hosts before their nodes start; each has a member of one etcd, which its supervisor runs."""
    cluster, data_key = "c" * 25, secrets.token_bytes(32)
    authority = Authority.create(cluster, datetime.now(UTC))
    members = Authority.create("etcd of the bed", datetime.now(UTC))
    names = {host.name: f"{host.name}{number}".ljust(25, "x") for number, host in enumerate(hosts)}
    peers = {names[host.name]: f"{host.address}:{PEER}" for host in hosts}
    for host in hosts:
        node_id = names[host.name]
        state = host.folder / "state"
        manager = state / "manager"
        (state / "agent").mkdir(parents=True)
        manager.mkdir()
        (state / "agent" / "node-id").write_text(node_id)
        for role, folder in ((Role.WORKER, state / "node"), (Role.MANAGER, manager / "tls")):
            identity(authority, Subject(role, node_id, cluster, [ip_address(host.address)])).store(folder)
        of_members = Subject(Role.MANAGER, node_id, "etcd of the bed", [ip_address(host.address), ip_address(LOOPBACK)])
        identity(members, of_members).store(manager / IDENTITY)
        row = {
            "cluster_id": cluster,
            "node_id": node_id,
            "role": "manager",
            "advertise": host.address,
            "managers": [f"{each.address}:7420" for each in hosts],
            "ports": {},
        }
        (state / "node" / "node.json").write_text(json.dumps(row))
        (manager / "key").write_bytes(data_key)
        client = f"{LOOPBACK}:{CLIENT}"
        Settings(node_id, client, peers[node_id], peers, token=cluster).save(manager)
        Backend("etcd", (client,), name=node_id).save(manager)


def spread(hosts: Sequence[Host], folder: Path) -> None:
    """Give all hosts one image of BusyBox, the same to the last bit."""
    image, saved = busybox(folder), str(folder / "saved.tar")
    hosts[0].compose("image", "import", str(image), IMAGE)
    hosts[0].compose("image", "save", "-o", saved, IMAGE)
    for host in hosts[1:]:
        host.compose("image", "load", "-i", saved)
