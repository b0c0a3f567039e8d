"""Makes hosts of a bed managers of one cluster, from files alone: certificates, node.json, backend.json, one etcd."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

from node.whole import until

from cluster.bed import SUBNET, Bed, Host, Keeper
from pycompose.manager.backend import Backend
from pycompose.manager.ca.authority import Authority, Subject
from pycompose.manager.store.etcd.member import Member, Tls, command
from pycompose.proto.peer import Role
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE, KEY, Identity, new_request

GATEWAY = f"{SUBNET}.254"
PROBE = ("/bin/busybox", "nc", "-w", "1", GATEWAY, "7424")


def identity(authority: Authority, subject: Subject) -> Identity:
    """Return a new key and its certificate."""
    key, request = new_request()
    return Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem)


def managers(bed: Bed, hosts: Sequence[Host]) -> None:
    """Provision the hosts before their nodes start. The etcd is in the bridge's namespace and ends with the bed."""
    cluster, data_key = "c" * 25, secrets.token_bytes(32)
    authority = Authority.create(cluster, datetime.now(UTC))
    client, peer = f"{GATEWAY}:7424", f"{GATEWAY}:7423"
    words = ["nsenter", f"--net=/proc/{bed.bridge.pid}/ns/net"]
    members = Authority.create("etcd of the bed", datetime.now(UTC))
    own = bed.folder / "etcd-tls"
    identity(members, Subject(Role.MANAGER, "etcd", "etcd of the bed", [GATEWAY])).store(own)
    tls = Tls(own / AUTHORITIES, own / CERTIFICATE, own / KEY)
    words += command(Member("one", bed.folder / "etcd", client=client, peer=peer, tls=tls))
    with open(bed.folder / "etcd.log", "ab") as log:
        bed.others.append(Keeper(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid))
    until(lambda: subprocess.run([*words[:2], *PROBE], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0)
    for number, host in enumerate(hosts):
        node_id = f"{host.name}{number}".ljust(25, "x")
        state = host.folder / "state"
        (state / "agent").mkdir(parents=True)
        (state / "manager").mkdir()
        (state / "agent" / "node-id").write_text(node_id)
        for role, folder in ((Role.WORKER, state / "node"), (Role.MANAGER, state / "manager" / "tls")):
            identity(authority, Subject(role, node_id, cluster, [host.address])).store(folder)
        shutil.copytree(own, state / "manager" / "etcd" / "tls")
        row = {
            "cluster_id": cluster,
            "node_id": node_id,
            "role": "manager",
            "advertise": host.address,
            "managers": [f"{each.address}:7420" for each in hosts],
            "ports": {},
        }
        (state / "node" / "node.json").write_text(json.dumps(row))
        (state / "manager" / "key").write_bytes(data_key)
        Backend("etcd", (client,), name=node_id).save(state / "manager")
