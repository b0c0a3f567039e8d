"""What is stored where: the kinds of objects, their keys and their encoding.

An object lies at `/object/<kind>/<id>`; `/name/<kind>/<name>` holds the id of the object with that unique name, so that
two clients cannot make the same name. Secrets, accounts and the cluster's keys are encrypted (`sealing`).
`meta.version` is not stored: it is the key's revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pycompose.manager.sealing import Sealer
from pycompose.manager.store import KeyValue, Put
from pycompose.proto.v1 import (
    cluster_pb2,
    control_pb2,
    meta_pb2,
    network_pb2,
    node_pb2,
    project_pb2,
    secret_pb2,
    service_pb2,
    task_pb2,
    volume_pb2,
)

OBJECTS = "/object/"
NAMES = "/name/"
#: What lasts; all else lives as long as the processes that write it.
KEPT = (OBJECTS, NAMES)
Object = Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. `unique`: the name that only one object may have; `sealed`: it is encrypted in the store."""

    name: str
    message: Callable[[], Object]
    number: int
    unique: Callable[[Object], str] | None = None
    sealed: bool = False


SERVICE = Kind(
    "service", service_pb2.Service, control_pb2.OBJECT_KIND_SERVICE, lambda o: f"{o.spec.project}/{o.spec.name}"
)
TASK = Kind("task", task_pb2.Task, control_pb2.OBJECT_KIND_TASK)
NETWORK = Kind("network", network_pb2.Network, control_pb2.OBJECT_KIND_NETWORK, lambda o: str(o.spec.name))
VOLUME = Kind("volume", volume_pb2.Volume, control_pb2.OBJECT_KIND_VOLUME)
SECRET = Kind("secret", secret_pb2.Secret, control_pb2.OBJECT_KIND_SECRET, lambda o: str(o.spec.name), sealed=True)
CONFIG = Kind("config", secret_pb2.Config, control_pb2.OBJECT_KIND_CONFIG, lambda o: str(o.spec.name))
NODE = Kind("node", node_pb2.Node, control_pb2.OBJECT_KIND_NODE)
PROJECT = Kind("project", project_pb2.Project, control_pb2.OBJECT_KIND_PROJECT)
REVISION = Kind("revision", control_pb2.ServiceRevision, 0)
#: By the id of the service.
ACCOUNT = Kind("account", secret_pb2.RegistryAccount, 0, sealed=True)
#: One object, `CLUSTER_ID`; none on a single node.
CLUSTER = Kind("cluster", cluster_pb2.Cluster, 0, sealed=True)
CLUSTER_ID = "cluster"
KINDS = {k.name: k for k in (SERVICE, TASK, NETWORK, VOLUME, SECRET, CONFIG, NODE, PROJECT, REVISION, ACCOUNT, CLUSTER)}


def object_key(kind: Kind, identity: str) -> str:
    """Return the key of an object."""
    return f"{OBJECTS}{kind.name}/{identity}"


def name_key(kind: Kind, name: str) -> str:
    """Return the key that reserves a unique name."""
    return f"{NAMES}{kind.name}/{name}"


def revision_id(service_id: str, revision: int) -> str:
    """Return the id of a service's revision; ids sort by revision."""
    return f"{service_id}.{revision:010d}"


def parse_key(key: str) -> tuple[Kind, str]:
    """Return kind and id of an object's key."""
    kind, identity = key[len(OBJECTS) :].split("/", 1)
    return KINDS[kind], identity


def version_of(kind: Kind, message: Object) -> meta_pb2.Version:
    """Return where an object keeps its version; it may be written to."""
    found: meta_pb2.Version = message.version if kind is REVISION else message.meta.version
    return found


class Codec:
    """Turns objects into stored bytes and back; `sealer` encrypts secrets."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    @property
    def data_key(self) -> bytes:
        """What secrets and the cluster's keys are encrypted with."""
        return self._sealer.key

    def put(self, kind: Kind, identity: str, message: Object) -> Put:
        """Return the operation that stores the object."""
        key = object_key(kind, identity)
        data = message.SerializeToString()
        return Put(key, self._sealer.seal(data, key) if kind.sealed else data)

    def seal(self, key: str, data: bytes) -> Put:
        """Return the operation that stores something secret that is no object."""
        return Put(key, self._sealer.seal(data, key))

    def opened(self, item: KeyValue) -> bytes:
        """Return what `seal` stored. Raises SealError."""
        return self._sealer.open(item.value, item.key)

    def decode(self, kind: Kind, epoch: str, item: KeyValue) -> Object:
        """Return the stored object with its version filled in."""
        message = kind.message()
        data = self._sealer.open(item.value, item.key) if kind.sealed else item.value
        message.ParseFromString(data)
        version = version_of(kind, message)
        version.epoch = epoch
        version.number = item.mod_revision
        return message
