"""What should be on this node: assignments folded into one value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pycompose.proto.v1 import dispatcher_pb2, network_pb2, secret_pb2, service_pb2, task_pb2, volume_pb2


@dataclass
class Desired:
    """By id; templates by (service id, revision); secrets and configs by name; accounts by service id."""

    tasks: dict[str, task_pb2.Task] = field(default_factory=dict)
    templates: dict[tuple[str, int], service_pb2.TaskSpec] = field(default_factory=dict)
    networks: dict[str, network_pb2.Network] = field(default_factory=dict)
    endpoints: dict[tuple[str, str], network_pb2.Endpoint] = field(default_factory=dict)
    service_names: dict[tuple[str, str], network_pb2.ServiceName] = field(default_factory=dict)
    ports: dict[tuple[str, str, str, int, int], network_pb2.PublishedPort] = field(default_factory=dict)
    peers: dict[str, network_pb2.Peer] = field(default_factory=dict)
    secrets: dict[str, secret_pb2.Secret] = field(default_factory=dict)
    configs: dict[str, secret_pb2.Config] = field(default_factory=dict)
    volumes: dict[str, volume_pb2.Volume] = field(default_factory=dict)
    accounts: dict[str, secret_pb2.RegistryAccount] = field(default_factory=dict)

    def template(self, task: task_pb2.Task) -> service_pb2.TaskSpec | None:
        """Return what the task runs."""
        return self.templates.get((task.service_id, task.revision))


@dataclass(frozen=True)
class Folded:
    """What batches changed: tasks by id, and whether the network's view did; `complete`: one replaced everything."""

    tasks: frozenset[str]
    network: bool
    volumes: frozenset[str]
    complete: bool


def fold(desired: Desired, *batches: dispatcher_pb2.AssignmentBatch) -> Folded:
    """Take over batches in their order; a complete one replaces everything. Changes `desired`."""
    changed: set[str] = set()
    volumes: set[str] = set()
    complete = any(batch.complete for batch in batches)
    network = complete
    for batch in batches:
        if batch.complete:
            changed |= set(desired.tasks)
            desired.__dict__.update(Desired().__dict__)
        network |= _fold(desired, batch, changed, volumes)
    return Folded(frozenset(changed), network, frozenset(volumes), complete)


def _fold(desired: Desired, batch: dispatcher_pb2.AssignmentBatch, changed: set[str], volumes: set[str]) -> bool:
    """Returns whether the network's view is concerned."""
    network = False
    for change in batch.changes:
        kind = change.WhichOneof("object")
        item: Any = getattr(change, kind or "task")
        table, key = _place(desired, kind or "task", item)
        if change.remove:
            table.pop(key, None)
        else:
            table[key] = item.spec if kind == "template" else item
        if kind == "task":
            changed.add(item.id)
        elif kind == "volume":
            volumes.add(item.id)
        elif kind in ("network", "endpoint", "service_name", "published_port", "peer"):
            network = True
    return network


def network_part(desired: Desired) -> dispatcher_pb2.AssignmentBatch:
    """Return what concerns networks, without secrets, as a complete batch: a restarted agent begins with it."""
    batch = dispatcher_pb2.AssignmentBatch(complete=True)
    for kind, table in (
        ("network", desired.networks),
        ("endpoint", desired.endpoints),
        ("service_name", desired.service_names),
        ("published_port", desired.ports),
        ("peer", desired.peers),
        ("task", desired.tasks),
    ):
        items: Any = table.values()
        batch.changes.extend(dispatcher_pb2.Assignment(**{kind: item}) for item in items)
    return batch


def _place(desired: Desired, kind: str, item: Any) -> tuple[dict[Any, Any], Any]:
    match kind:
        case "task":
            return desired.tasks, item.id
        case "template":
            return desired.templates, (item.service_id, item.revision)
        case "network":
            return desired.networks, item.id
        case "endpoint":
            return desired.endpoints, (item.task_id, item.network_id)
        case "service_name":
            return desired.service_names, (item.service_id, item.network_id)
        case "published_port":
            key = (item.service_id, item.protocol, item.host_ip, item.published_port, item.target_port)
            return desired.ports, key
        case "peer":
            return desired.peers, item.node_id
        case "secret":
            return desired.secrets, item.spec.name
        case "account":
            return desired.accounts, item.service_id
        case "config":
            return desired.configs, item.spec.name
        case _:
            return desired.volumes, item.id
