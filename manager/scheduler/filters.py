"""Why a node may not run a task: one function a subject, each giving reasons in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pycompose.manager.scheduler.constraints import attribute, parse_constraint
from pycompose.manager.scheduler.nodeset import NodeInfo
from pycompose.proto.v1 import container_pb2, node_pb2, service_pb2

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def why_not(
    info: NodeInfo,
    service: service_pb2.Service,
    spec: service_pb2.TaskSpec,
    volume_nodes: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return all reasons against the node, in plain words. `volume_nodes`: where volumes' data is, by name."""
    node = info.node
    reasons = []
    if node.status.state != node_pb2.NODE_STATE_READY:
        reasons.append("node is down")
    if node.spec.availability == node_pb2.NODE_AVAILABILITY_PAUSE:
        reasons.append("node is paused: it takes no new tasks")
    if node.spec.availability == node_pb2.NODE_AVAILABILITY_DRAIN:
        reasons.append("node is drained")
    for text in spec.placement.constraints:
        key, operator, value = parse_constraint(text)
        actual = attribute(node, key)
        if (actual == value) != (operator == "=="):
            reasons.append(f"constraint {text} does not hold ({key} is {actual or 'not set'})")
    platforms = [p for p in spec.placement.platforms if p]
    if platforms and not any(_platform(node.description.platform, p) for p in platforms):
        reasons.append(f"platform is {node.description.platform}, not {' or '.join(platforms)}")
    reasons += _short(info, spec.container.resources.reservations)
    most = spec.placement.max_replicas_per_node
    if most and info.by_service[service.id] >= most:
        reasons.append(f"already runs {most} tasks of the service (max_replicas_per_node)")
    for mount in spec.container.mounts:
        homes = volume_nodes.get(mount.source, ()) if mount.type == container_pb2.MOUNT_TYPE_VOLUME else ()
        if homes and node.id not in homes:
            reasons.append(f"volume {mount.source} has its data on {', '.join(homes)}")
    return reasons


def _platform(have: str, want: str) -> bool:
    want_os, _, want_machine = want.partition("/")
    have_os, _, have_machine = have.partition("/")
    machine = MACHINES.get(want_machine.split("/")[0], want_machine.split("/")[0])
    return have_os == want_os and (not machine or MACHINES.get(have_machine, have_machine).split("/")[0] == machine)


def _short(info: NodeInfo, wanted: container_pb2.ResourceAmounts) -> list[str]:
    total = info.node.description.resources
    reasons = []
    cpus = wanted.nano_cpus - (total.nano_cpus - info.nano_cpus)
    if wanted.nano_cpus and cpus > 0:
        reasons.append(f"{cpus / 1e9:.2f} CPU short")
    memory = wanted.memory_bytes - (total.memory_bytes - info.memory_bytes)
    if wanted.memory_bytes and memory > 0:
        reasons.append(f"{memory / 2**20:.0f} MiB memory short")
    for kind, count in wanted.generic.items():
        if count > total.generic.get(kind, 0):
            reasons.append(f"{count - total.generic.get(kind, 0)} {kind} short")
    return reasons
