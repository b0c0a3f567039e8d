"""The scheduler: a pipeline of filters, each with a reason why not, then a score.

Pure: nodes and tasks in, node or reasons out. Tasks of one service and revision share the answers of the filters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pycompose.proto.v1 import container_pb2, node_pb2, service_pb2, task_pb2

CONSTRAINT = re.compile(r"^\s*([\w.\-/]+)\s*(==|!=)\s*(.+?)\s*$")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(slots=True)
class NodeInfo:
    """A node and what its tasks take from it."""

    node: node_pb2.Node
    tasks: int = 0
    by_service: Counter[str] = field(default_factory=Counter)
    nano_cpus: int = 0
    memory_bytes: int = 0
    host_ports: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, service: service_pb2.Service, task_spec: service_pb2.TaskSpec) -> None:
        """Count one more task."""
        reserved = task_spec.container.resources.reservations
        self.tasks += 1
        self.by_service[service.id] += 1
        self.nano_cpus += reserved.nano_cpus
        self.memory_bytes += reserved.memory_bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pipeline says of one node."""

    node_id: str
    hostname: str
    reasons: tuple[str, ...]
    score: float

    @property
    def suitable(self) -> bool:
        """Whether the task may run there."""
        return not self.reasons


def parse_constraint(text: str) -> tuple[str, str, str]:
    """Return (key, operator, value). Raises ValueError that says what would be right."""
    match = CONSTRAINT.match(text)
    if match is None:
        raise ValueError(f"constraint {text!r} is not of the form 'node.labels.disk == ssd' or with '!='")
    key = match[1]
    known = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch")
    if key not in known and not key.startswith(("node.labels.", "engine.labels.")):
        raise ValueError(f"constraint {text!r}: unknown key {key!r}; use {', '.join(known)}, node.labels.NAME")
    return key, match[2], match[3]


def attribute(node: node_pb2.Node, key: str) -> str:
    """Return what a constraint's key stands for on a node."""
    os_name, _, machine = node.description.platform.partition("/")
    if key.startswith("node.labels."):
        return str(node.spec.labels.get(key.removeprefix("node.labels."), ""))
    if key.startswith("engine.labels."):
        return str(node.description.engine_labels.get(key.removeprefix("engine.labels."), ""))
    values = {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": "manager",
        "node.platform.os": os_name,
        "node.platform.arch": machine,
    }
    return str(values.get(key, ""))


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


def score(info: NodeInfo, service: service_pb2.Service, spec: service_pb2.TaskSpec) -> float:
    """Return how good the node is; higher is better: few tasks of the service, then few tasks."""
    return -(info.by_service[service.id] * 1_000_000.0 + info.tasks)


def verdicts(
    nodes: Iterable[NodeInfo],
    service: service_pb2.Service,
    spec: service_pb2.TaskSpec,
    volume_nodes: Mapping[str, Sequence[str]],
) -> list[Verdict]:
    """Return the pipeline's word on each node, best first."""
    answers = [
        Verdict(
            info.node.id,
            info.node.description.hostname,
            tuple(why_not(info, service, spec, volume_nodes)),
            score(info, service, spec),
        )
        for info in nodes
    ]
    return sorted(answers, key=lambda v: (not v.suitable, -v.score, v.node_id))


def summary(answers: Sequence[Verdict]) -> str:
    """Return in one sentence why no node was found."""
    if not answers:
        return "no node in the cluster: start the worker"
    counts = Counter(reason for verdict in answers for reason in verdict.reasons)
    return "no suitable node: " + "; ".join(
        reason if len(answers) == 1 else f"{reason} ({count} of {len(answers)} nodes)"
        for reason, count in counts.most_common(4)
    )


def pinned(task: task_pb2.Task) -> bool:
    """Return whether the task's node was chosen already (global services)."""
    return bool(task.node_id)
