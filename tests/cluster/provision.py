"""Makes hosts of a bed managers of one cluster, from files alone: certificates, node.json, backend.json, one etcd."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

from node.whole import until

from cluster.bed import Bed, Host, Keeper
from pycompose.manager.backend import Backend
from pycompose.manager.ca.authority import Authority, Subject, new_request
from pycompose.manager.store.etcd.member import Member, command
from pycompose.proto.peer import Role
from pycompose.proto.tls import Identity

PROBE = ("/bin/busybox", "nc", "-w", "1", "10.77.0.254", "7424")


def managers(bed: Bed, hosts: Sequence[Host]) -> None:
    """Provision the hosts before their nodes start. The etcd is in the bridge's namespace and ends with the bed."""
    cluster, data_key = "c" * 25, secrets.token_bytes(32)
    authority = Authority.create(cluster, datetime.now(UTC))
    client, peer = "10.77.0.254:7424", "10.77.0.254:7423"
    words = ["nsenter", f"--net=/proc/{bed.bridge.pid}/ns/net"]
    words += command(Member("one", bed.folder / "etcd", client=client, peer=peer))
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
            key, request = new_request()
            subject = Subject(role, node_id, cluster, [host.address])
            Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem).store(folder)
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
