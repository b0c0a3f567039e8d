"""What one node should have, from the cache; pure.

The answer maps a key to an encoded `Assignment`, in an order in which what others refer to comes first. Two answers are
compared as bytes, so a session sends just what changed. A node hears only of what its tasks need.

The cache replaces an object, it never changes one: an answer remembers which objects each encoding was made from, and
the next one takes over what would be made from the same. So one task's news costs one task's encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from pycompose.manager import states
from pycompose.manager.allocator import PROTOCOLS, at_rest, down
from pycompose.manager.cache import Cache, Changes
from pycompose.manager.control.services import volumes_of
from pycompose.manager.model import (
    ACCOUNT,
    CONFIG,
    NETWORK,
    NODE,
    PROJECT,
    REVISION,
    SECRET,
    SERVICE,
    TASK,
    VOLUME,
    Object,
    revision_id,
)
from pycompose.manager.orchestrator.actions import leaving
from pycompose.proto.v1 import (
    container_pb2,
    dispatcher_pb2,
    network_pb2,
    node_pb2,
    secret_pb2,
    service_pb2,
    task_pb2,
)

#: Nothing of these is told to a node; of nodes only where their networks' frames go.
UNHEARD = (NODE, PROJECT)
Key = tuple[int, str]
Assignment = dispatcher_pb2.Assignment
#: Drivers whose networks reach over nodes.
SPANNING = ("", "bridge", "overlay")
#: A network's option: where ports are published that name no address (Docker's bridge driver).
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
(_NETWORK, _VOLUME, _SECRET, _CONFIG, _ACCOUNT, _TEMPLATE, _NAME, _PEER, _ENDPOINT, _PORT, _TASK) = range(11)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded `Assignment`; `sources`: the cache's objects that it was made from, () when it depends on more."""

    data: bytes
    sources: tuple[Object, ...] = ()


Wanted = Mapping[Key, Encoded]


class _Answer:
    """An answer being made; `before`: an earlier one."""

    def __init__(self, before: Wanted) -> None:
        self._before = before
        self.found: dict[Key, Encoded] = {}

    def add(self, key: Key, make: Callable[..., Assignment], *sources: Object) -> None:
        """Put `make(*sources)`, which depends on nothing else."""
        known = self._before.get(key)
        if known is None or not _same(known.sources, sources):
            known = Encoded(_encode(make(*sources)), sources)
        self.found[key] = known

    def add_anew(self, key: Key, assignment: Assignment) -> None:
        """Put an assignment that may depend on anything."""
        self.found[key] = Encoded(_encode(assignment))


def _same(before: tuple[Object, ...], now: tuple[Object, ...]) -> bool:
    return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))


def _encode(assignment: Assignment) -> bytes:
    return assignment.SerializeToString(deterministic=True)


def wanted(cache: Cache, node_id: str, before: Wanted | None = None) -> Wanted:
    """Return everything that the node should have, in the order of sending. `before`: an earlier answer for it."""
    tasks = [task for task in cache.tasks_of_node(node_id) if task.status.state >= task_pb2.TASK_STATE_ASSIGNED]
    answer = _Answer(before or {})
    templates: dict[tuple[str, int], service_pb2.TaskSpec] = {}
    networks: set[str] = set()
    for task in tasks:
        answer.add((_TASK, task.id), _task, task)
        networks.update(attachment.network_id for attachment in task.attachments)
        pair = (task.service_id, task.revision)
        if pair not in templates:
            template = _template(cache, *pair)
            if template is not None:
                templates[pair] = template
    for (service_id, revision), spec in templates.items():
        template_message = dispatcher_pb2.TaskTemplate(service_id=service_id, revision=revision, spec=spec)
        answer.add_anew((_TEMPLATE, f"{service_id}.{revision}"), Assignment(template=template_message))
        _files(cache, spec.container, answer)
        account = cache.get(ACCOUNT, service_id)
        if account is not None:
            answer.add((_ACCOUNT, service_id), _account, account)
    _volumes(cache, node_id, templates, answer)
    open_networks = _open_networks(cache, node_id)
    networks |= open_networks
    for network_id in networks:
        network = cache.get(NETWORK, network_id)
        if network is not None:
            answer.add((_NETWORK, network_id), _network, network)
    _endpoints(cache, networks, answer)
    _peers(cache, node_id, networks, networks & open_networks, answer)
    with_ports = [task for task in tasks if task.ports and not leaving(task)]
    for service in cache.all(SERVICE):
        _names(cache, service, networks, answer)
        _ports(cache, service, [task for task in with_ports if task.service_id == service.id], answer)
    return {key: answer.found[key] for key in sorted(answer.found)}


def touched(cache: Cache, changes: Changes) -> set[str] | None:
    """Return the nodes that may hear something new after a change; None: any of them."""
    nodes: set[str] = set()
    networks: set[str] = set()
    for change in changes.items:
        if change.kind is NODE and _frames_of(change.old) != _frames_of(change.new):
            return None
        if change.kind in UNHEARD:
            continue
        if change.kind is not TASK:
            return None
        for task in (change.old, change.new):
            if task is None:
                continue
            service: service_pb2.Service | None = cache.get(SERVICE, task.service_id)
            if service is None or task.ports or service.spec.endpoint.ports:
                return None  # published ports are every node's
            nodes.add(task.node_id)
            networks.update(attachment.network_id for attachment in task.attachments)
    for network_id in networks:
        nodes.update(task.node_id for task in cache.tasks_of_network(network_id))
    return nodes


def difference(before: Wanted, after: Wanted) -> list[Assignment]:
    """Return what to send: new and changed objects in order, then what goes, in reverse order."""
    changes = []
    for key, encoded in after.items():
        known = before.get(key)
        if known is not encoded and (known is None or known.data != encoded.data):
            changes.append(Assignment.FromString(encoded.data))
    for key in sorted(before.keys() - after.keys(), reverse=True):
        gone = Assignment.FromString(before[key].data)
        gone.remove = True
        changes.append(gone)
    return changes


def _task(task: task_pb2.Task) -> Assignment:
    """Without its status: the worker owns that, and its changes are no news to it."""
    copy = task_pb2.Task()
    copy.CopyFrom(task)
    copy.ClearField("status")
    copy.ClearField("meta")
    return Assignment(task=copy)


def _account(account: secret_pb2.RegistryAccount) -> Assignment:
    return Assignment(account=account)


def _network(network: network_pb2.Network) -> Assignment:
    return Assignment(network=network)


def _template(cache: Cache, service_id: str, revision: int) -> service_pb2.TaskSpec | None:
    service: service_pb2.Service | None = cache.get(SERVICE, service_id)
    if service is not None and service.revision == revision:
        return service.spec.task
    row = cache.get(REVISION, revision_id(service_id, revision))
    return None if row is None else row.task


def _files(cache: Cache, container: container_pb2.ContainerSpec, answer: _Answer) -> None:
    for reference in container.secrets:
        secret = cache.by_name(SECRET, reference.name)
        if secret is not None:
            answer.add_anew((_SECRET, secret.id), Assignment(secret=secret))
    for config_reference in container.configs:
        config = cache.by_name(CONFIG, config_reference.name)
        if config is not None:
            answer.add_anew((_CONFIG, config.id), Assignment(config=config))


def _volumes(
    cache: Cache, node_id: str, templates: Mapping[tuple[str, int], service_pb2.TaskSpec], answer: _Answer
) -> None:
    names: set[str] = set()
    for spec in templates.values():
        names |= volumes_of(service_pb2.ServiceSpec(task=spec))
    for volume in cache.all(VOLUME):
        here = any(place.node_id == node_id for place in volume.locations)
        if volume.id in names or (volume.removing and here):
            answer.add_anew((_VOLUME, volume.id), Assignment(volume=volume))


def _endpoints(cache: Cache, networks: set[str], answer: _Answer) -> None:
    for network_id in networks:
        for task in cache.tasks_of_network(network_id):
            if any(attachment.network_id == network_id and attachment.address for attachment in task.attachments):
                answer.add((_ENDPOINT, f"{task.id}.{network_id}"), partial(_endpoint, network_id), task)


def _endpoint(network_id: str, task: task_pb2.Task) -> Assignment:
    attachment = next(each for each in task.attachments if each.network_id == network_id)
    stays = task.desired_state == task_pb2.DESIRED_STATE_RUNNING
    endpoint = network_pb2.Endpoint(
        task_id=task.id,
        network_id=network_id,
        service_id=task.service_id,
        node_id=task.node_id,
        address=attachment.address.split("/")[0],
        ipv6_address=attachment.ipv6_address.split("/")[0],
        mac_address=attachment.mac_address,
        names=[task.name, task.id[:12]],
        in_rotation=stays and states.up(task.status),
        running=stays and task.status.state == task_pb2.TASK_STATE_RUNNING,
    )
    return Assignment(endpoint=endpoint)


def _has_overlays(node: node_pb2.Node | None) -> bool:
    return node is not None and bool(node.description.data_address) and not node.status.left


def _frames_of(node: node_pb2.Node | None) -> tuple[str, int]:
    """Return where a node gets networks' frames; ("", 0): nowhere."""
    return (node.description.data_address, node.description.data_port) if node and _has_overlays(node) else ("", 0)


def _open_networks(cache: Cache, node_id: str) -> set[str]:
    """Return the networks that connections come in on at every node of a cluster: a port on all leads to them."""
    if not _has_overlays(cache.get(NODE, node_id)):
        return set()
    found = set()
    for service in cache.all(SERVICE):
        if not service.removing and any(_on_all_nodes(port) for port in service.endpoint.ports):
            network = _way_in(cache, service)
            if network is not None and network.spec.driver in SPANNING and not network.spec.internal:
                found.add(network.id)
    return found


def _on_all_nodes(port: service_pb2.PortSpec) -> bool:
    span = port.published_port_end > port.published_port
    return port.publish_mode != service_pb2.PUBLISH_MODE_HOST and not span and bool(port.published_port)


def _peers(cache: Cache, node_id: str, networks: set[str], open_networks: set[str], answer: _Answer) -> None:
    """Put the nodes with which frames are exchanged: those with tasks on `networks`; all, where one is open."""
    if not networks or not _has_overlays(cache.get(NODE, node_id)):
        return
    sharing = {task.node_id for network_id in networks for task in cache.tasks_of_network(network_id)}
    for node in cache.all(NODE):
        if node.id != node_id and _has_overlays(node) and (open_networks or node.id in sharing):
            answer.add((_PEER, node.id), _peer, node)


def _peer(node: node_pb2.Node) -> Assignment:
    told = node.description
    return Assignment(peer=network_pb2.Peer(node_id=node.id, address=told.data_address, port=told.data_port))


def _names(cache: Cache, service: service_pb2.Service, networks: set[str], answer: _Answer) -> None:
    virtual = {address.network_id: address.address for address in service.endpoint.virtual_addresses}
    for attachment in service.spec.task.networks:
        network = cache.by_name(NETWORK, attachment.network)
        if network is None or network.id not in networks:
            continue
        names = dict.fromkeys([service.spec.name, *attachment.aliases])
        name = network_pb2.ServiceName(
            service_id=service.id,
            network_id=network.id,
            names=list(names),
            virtual_address=virtual.get(network.id, ""),
        )
        answer.add_anew((_NAME, f"{service.id}.{network.id}"), Assignment(service_name=name))


def _way_in(cache: Cache, service: service_pb2.Service) -> network_pb2.Network | None:
    """Return the network over which published ports reach the service, None when there is none."""
    ranked = sorted(service.spec.task.networks, key=lambda a: (-a.gateway_priority, -a.priority, a.network))
    known = [network for a in ranked if (network := cache.by_name(NETWORK, a.network)) is not None]
    outward = [network for network in known if not network.spec.internal and network.spec.driver != "macvlan"]
    return next(iter(outward or known), None)


def _ports(cache: Cache, service: service_pb2.Service, tasks: Iterable[task_pb2.Task], answer: _Answer) -> None:
    """Put the service's published ports; `tasks`: those of its tasks that have ports of their own."""
    network = _way_in(cache, service)
    if network is None or service.removing:
        return
    endpoint = service.spec.endpoint
    binding = network.spec.driver_options.get(HOST_BINDING, "")
    common = network_pb2.PublishedPort(
        service_id=service.id,
        holder=f"{service.spec.project}/{service.spec.name}".lstrip("/"),
        network_id=network.id,
        masquerade=endpoint.source == service_pb2.PUBLISH_SOURCE_MASQUERADE,
        sticky=endpoint.sticky == service_pb2.PUBLISH_STICKY_SOURCE,
    )

    def add(protocol: str, host_ip: str, published: int, target: int, task_id: str) -> None:
        host_ip = host_ip or binding
        port = network_pb2.PublishedPort(
            protocol=protocol, host_ip=host_ip, published_port=published, target_port=target, task_id=task_id
        )
        port.MergeFrom(common)
        key = f"{service.id}.{protocol}.{host_ip}.{published}.{target}"
        answer.add_anew((_PORT, key), Assignment(published_port=port))

    for port in () if at_rest(service, cache.tasks_of_service(service.id)) else service.endpoint.ports:
        if _on_all_nodes(port):
            add(PROTOCOLS[port.protocol], port.host_ip, port.published_port, port.target_port, "")
    for task in tasks:
        for own in () if down(task, service.spec.task.restart) else task.ports:
            add(own.protocol, own.host_ip, own.published_port, own.target_port, task.id)
