"""What a node should have: an answer that builds on an earlier one says the same as one made from nothing."""

import random
from typing import Any

from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher import assignments
from pycompose.manager.model import NETWORK, SERVICE, TASK, Codec, Kind, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import Batch, Event, Revision
from pycompose.proto.v1 import network_pb2, service_pb2, task_pb2

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
