"""What a node's networks are to be, of what it was told."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv4Address

from pycompose.proto.v1 import network_pb2
from pycompose.worker.agent.desired import Desired
from pycompose.worker.agent.network_view import view_of, without_peers
from pycompose.worker.network.model import Underlay


def told(number: int) -> Desired:
    """One endpoint, with the address that the `number`-th container gets."""
    found = Desired()
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    endpoint = network_pb2.Endpoint(task_id="t", network_id="n", address=address)
    found.endpoints[endpoint.task_id, endpoint.network_id] = endpoint
    return found


def test_addresses_are_parsed_anew_where_they_change() -> None:
    assert [view_of(told(n)).endpoints[0].address for n in (1, 2, 1)] == [
        IPv4Address("10.0.0.2"),
        IPv4Address("10.0.0.3"),
        IPv4Address("10.0.0.2"),
    ]


def test_addresses_of_containers_that_are_gone_take_no_memory() -> None:
    """An agent grew by 0.25 KiB a container for want of this, over months."""
    for number in range(100):
        view_of(told(number))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100, 3100):
            view_of(told(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100 << 10


def test_a_node_whose_networks_end_at_it_says_so() -> None:
    (words,) = without_peers("lab-1.example", None, member=True)
    assert "this one is known as lab-1.example" in words
    assert without_peers("", None, member=False) == []
    assert without_peers("192.0.2.1", Underlay(IPv4Address("192.0.2.1"), 4789, 1500), member=True) == []
