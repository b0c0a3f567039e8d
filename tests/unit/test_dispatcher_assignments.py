"""What a node should have: an answer that builds on an earlier one says the same as one made from nothing."""

import random
from typing import Any

from pycompose.manager.cache import Cache, Change, Changes
from pycompose.manager.dispatcher import assignments
from pycompose.manager.model import NETWORK, NODE, SERVICE, TASK, Codec, Kind, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import Batch, Event, Revision
from pycompose.proto.v1 import network_pb2, node_pb2, service_pb2, task_pb2

CODEC = Codec(Sealer(bytes(32)))


class World:
    """A cache that is fed by hand."""

    class _Store:
        epoch = "e"

    def __init__(self) -> None:
        self.cache = Cache(self._Store(), CODEC)  # type: ignore[arg-type]
        self._number = 0

    def put(self, kind: Kind, identity: str, message: Any) -> None:
        self._apply(object_key(kind, identity), None if message is None else CODEC.put(kind, identity, message).value)

    def _apply(self, key: str, value: bytes | None) -> None:
        self._number += 1
        self.cache.apply(Batch(Revision("e", self._number), (Event(key, value, self._number),)))


def task(number: int, chance: random.Random) -> task_pb2.Task:
    found = task_pb2.Task(id=f"t{number}", service_id=f"s{number % 2}", revision=1, node_id="n1", name=f"name{number}")
    found.status.state = chance.choice([task_pb2.TASK_STATE_ASSIGNED, task_pb2.TASK_STATE_RUNNING])
    found.desired_state = chance.choice([task_pb2.DESIRED_STATE_RUNNING, task_pb2.DESIRED_STATE_REMOVED])
    found.attachments.add(network_id="net", address=f"10.0.0.{number + 2}/24")
    if number % 3 == 0:
        found.ports.add(target_port=80, published_port=8000 + number, protocol="tcp")
    return found


def test_an_answer_from_an_earlier_one_is_the_answer() -> None:
    chance = random.Random(1)
    world = World()
    spec = network_pb2.NetworkSpec(name="net")
    world.put(NETWORK, "net", network_pb2.Network(id="net", spec=spec))
    before: assignments.Wanted = {}
    told: dict[assignments.Key, bytes] = {}
    for _ in range(300):
        number = chance.randrange(8)
        match chance.randrange(4):
            case 0:
                service = service_pb2.Service(id=f"s{number % 2}", revision=1, removing=chance.random() < 0.2)
                service.spec.name = f"web{number % 2}"
                service.spec.task.container.image = f"image{chance.randrange(3)}"
                service.spec.task.networks.add(network="net", aliases=["alias"] * chance.randrange(2))
                world.put(SERVICE, service.id, service)
            case 1 if chance.random() < 0.3:
                world.put(TASK, f"t{number}", None)
            case _:
                world.put(TASK, f"t{number}", task(number, chance))
        after = assignments.wanted(world.cache, "n1", before)
        anew = assignments.wanted(world.cache, "n1")
        assert {key: item.data for key, item in after.items()} == {key: item.data for key, item in anew.items()}
        assert list(after) == list(anew)
        for change in assignments.difference(before, after):
            key = next(key for key in after.keys() | before.keys() if _is(change, (after.get(key) or before[key]).data))
            if change.remove:
                del told[key]
            else:
                told[key] = change.SerializeToString(deterministic=True)
        assert told == {key: item.data for key, item in anew.items()}
        before = after


def test_whoever_hears_something_new_is_woken() -> None:
    """Random changes on two networks: a node whose answer changes is always among those that are touched."""
    chance = random.Random(2)
    world = World()
    for name in ("net", "other"):
        world.put(NETWORK, name, network_pb2.Network(id=name, spec=network_pb2.NetworkSpec(name=name)))
    nodes = [f"n{number}" for number in range(4)]
    woken: list[set[str] | None] = []
    world.cache.listen(lambda changes: woken.append(assignments.touched(world.cache, changes)))
    spared = 0
    before = {node: assignments.wanted(world.cache, node) for node in nodes}
    for _ in range(600):
        number = chance.randrange(12)
        match chance.randrange(8):
            case 0:
                service = service_pb2.Service(id=f"s{number % 3}", revision=1)
                service.spec.name = f"web{number % 3}"
                if number % 3:
                    service.spec.task.networks.add(network=chance.choice(["net", "other"]))
                if chance.random() < 0.2:
                    service.endpoint.ports.add(target_port=80, published_port=80)
                    service.spec.endpoint.ports.add(target_port=80, published_port=80)
                world.put(SERVICE, service.id, service)
            case 1:
                world.put(TASK, f"t{number}", None)
            case _:
                made = task(number, chance)
                made.service_id, made.node_id = f"s{number % 3}", nodes[number % 4]
                made.attachments[0].network_id = ["net", "other"][number % 2]
                if number % 3 == 0:
                    del made.attachments[:], made.ports[:]
                world.put(TASK, made.id, made)
        after = {node: assignments.wanted(world.cache, node) for node in nodes}
        news = {node for node in nodes if assignments.difference(before[node], after[node])}
        touched = woken[-1] if woken else None
        assert touched is None or news <= touched
        spared += touched is not None and not touched >= set(nodes)
        before = after
    assert spared > 50


def _is(change: assignments.Assignment, data: bytes) -> bool:
    """Whether the change is about the encoded object, whatever it says of it."""
    other = assignments.Assignment.FromString(data)
    kind = change.WhichOneof("object")
    if kind != other.WhichOneof("object"):
        return False
    one, two = getattr(change, str(kind)), getattr(other, str(kind))
    names = {"service_name": ("service_id", "network_id"), "endpoint": ("task_id", "network_id")}
    names |= {"template": ("service_id", "revision"), "published_port": ("service_id", "published_port")}
    return all(getattr(one, name) == getattr(two, name) for name in names.get(str(kind), ("id",)))


def told(world: World, node_id: str) -> dict[str, set[str]]:
    """What a node is told of networks: networks' ids, peers' ids, endpoints' tasks."""
    found: dict[str, set[str]] = {"network": set(), "peer": set(), "endpoint": set()}
    for encoded in assignments.wanted(world.cache, node_id).values():
        assignment = assignments.Assignment.FromString(encoded.data)
        match assignment.WhichOneof("object"):
            case "network":
                found["network"].add(assignment.network.id)
            case "peer":
                found["peer"].add(assignment.peer.node_id)
            case "endpoint":
                found["endpoint"].add(assignment.endpoint.task_id)
    return found


def node(name: str, address: str) -> node_pb2.Node:
    return node_pb2.Node(id=name, description=node_pb2.NodeDescription(data_address=address, data_port=4789))


def test_a_node_hears_of_those_with_which_it_shares_networks() -> None:
    world = World()
    for name in ("front", "back"):
        world.put(NETWORK, name, network_pb2.Network(id=name, spec=network_pb2.NetworkSpec(name=name)))
    for number in range(1, 5):
        world.put(NODE, f"n{number}", node(f"n{number}", f"192.0.2.{number}"))
    world.put(NODE, "alone", node_pb2.Node(id="alone"))
    for number, network in ((1, "front"), (2, "front"), (3, "back")):
        one = task_pb2.Task(id=f"t{number}", service_id=network, revision=1, node_id=f"n{number}")
        one.status.state = task_pb2.TASK_STATE_RUNNING
        one.attachments.add(network_id=network, address=f"10.0.0.{number}/24")
        world.put(TASK, one.id, one)
    assert told(world, "n1") == {"network": {"front"}, "peer": {"n2"}, "endpoint": {"t1", "t2"}}
    assert told(world, "n3") == {"network": {"back"}, "peer": set(), "endpoint": {"t3"}}
    assert told(world, "n4") == {"network": set(), "peer": set(), "endpoint": set()}

    # connections for a port on all nodes come in on all of the cluster's, and so does its network
    service = service_pb2.Service(id="front", revision=1)
    service.spec.task.networks.add(network="front")
    service.endpoint.ports.add(target_port=80, published_port=8080)
    world.put(SERVICE, service.id, service)
    assert told(world, "n1")["peer"] == {"n2", "n3", "n4"}
    assert told(world, "n4") == {"network": {"front"}, "peer": {"n1", "n2", "n3"}, "endpoint": {"t1", "t2"}}
    assert told(world, "alone") == {"network": set(), "peer": set(), "endpoint": set()}

    left = node("n4", "192.0.2.4")
    left.status.left = True
    world.put(NODE, "n4", left)
    assert told(world, "n1")["peer"] == {"n2", "n3"}


def test_an_address_of_a_node_is_news_to_all() -> None:
    world = World()
    before, moved, busy = node("n1", "192.0.2.1"), node("n1", "192.0.2.9"), node("n1", "192.0.2.1")
    busy.status.message = "connected"
    for after, news in ((moved, None), (None, None), (busy, set())):
        changes = Changes(1, (Change(NODE, "n1", before, after),))
        assert assignments.touched(world.cache, changes) == news
