"""What a manager runs and serves because of its cluster, put together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.manager.ca.joining import Roll
from pycompose.manager.cluster.admission import Admission
from pycompose.manager.cluster.autolock import Autolock
from pycompose.manager.cluster.calls import ClusterCalls, Recover, ToEtcd, token_of
from pycompose.manager.cluster.door import JoinDoor, TlsDoor
from pycompose.manager.cluster.identity import Keeper, Trusted
from pycompose.manager.cluster.own import OwnNode
from pycompose.manager.cluster.rotation import Rotation
from pycompose.manager.control import Api
from pycompose.manager.leadership import Leadership
from pycompose.manager.members.managing import Managing
from pycompose.proto.peer import Role

if TYPE_CHECKING:
    from pycompose.manager.backup.calls import Backups


@dataclass(frozen=True)
class ClusterParts:
    """The doors, in the order of their opening; the calls of ClusterService; what runs for ever."""

    doors: Sequence[TlsDoor]
    calls: ClusterCalls
    loops: Sequence[Coroutine[Any, Any, Any]]


def cluster_parts(
    api: Api,
    folder: Path,
    worker: str,
    place: Callable[[], Mapping[str, Any]],
    node_id: Callable[[], str],
    managers: Callable[[], Sequence[str]],
    backups: Backups,
    leadership: Leadership,
    renewed: Callable[[], None],
    to_etcd: ToEtcd,
    volatile: Path,
    managing: Managing | None,
    recover: Recover,
) -> ClusterParts:
    """Make the parts.

    Args:
        api: store, cache and codec.
        folder: the manager's, below the state directory.
        worker: gRPC target of this machine's worker.
        place: what this node is in a cluster (its node.json); {} for a single node.
        node_id: gives this node's id.
        managers: where all managers are, "HOST:PORT" each; empty when only this one is known.
        backups: of the store.
        leadership: of this manager.
        renewed: hears that this manager's certificate is new.
        to_etcd: moves the store to an etcd of this manager's own.
        volatile: where its certificate lies while autolock is on: a folder in memory.
        managing: the managers, where they can be several.
        recover: gives other managers up.
    """
    keeper = Keeper(folder, api.cache, node_id, renewed=renewed)
    own = OwnNode(worker, place, folder, api.cache, node_id, lambda cluster: token_of(cluster, Role.MANAGER))

    def known() -> Sequence[str]:
        return managers() or ([door.listening.reached] if door.listening else [])

    admission = Admission(api.cache, Roll(api.store, api.cache, api.codec, own.unbound), known, managing)
    door = TlsDoor(folder, keeper, api.cache, admission.add_renewal)
    joining = JoinDoor(folder, keeper, api.cache, admission.add_joining)
    trusted = Trusted(api.cache)
    rotation = Rotation(api, trusted, leadership)
    autolock = Autolock(api, folder, volatile, keeper)
    autolock.follow()
    changes = (backups, rotation, to_etcd, autolock, recover)
    calls = ClusterCalls(api, folder, node_id, door, joining, keeper, own, *changes)
    return ClusterParts((door, joining), calls, (keeper.run(), own.run(), rotation.run(), autolock.run()))
