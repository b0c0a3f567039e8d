"""What each node is told of others: entries from a view, and their differences."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from pycompose.worker.network import overlay
from pycompose.worker.network.model import Endpoint, NetworkSpec, NetworkView, Peer, Underlay
from pycompose.worker.network.overlay import Neighbour, Station

HERE = Underlay(IPv4Address("192.0.2.1"), 4789, 1500)
PEER = Peer("n2", IPv4Address("192.0.2.2"), 4789)
NET = NetworkSpec("net", "net", IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1"), vni=4096)
ENDPOINTS = (
    Endpoint("own", "net", IPv4Address("10.9.0.2"), node_id="n1"),
    Endpoint("far", "net", IPv4Address("10.9.0.3"), node_id="n2"),
    Endpoint("lost", "net", IPv4Address("10.9.0.4"), node_id="n3"),
    Endpoint("elsewhere", "other", IPv4Address("10.8.0.4"), node_id="n2"),
)
VIEW = NetworkView((NET,), ENDPOINTS, peers=(PEER,), underlay=HERE)


def test_entries_of_what_lives_on_peers() -> None:
    node = "02:43:c0:00:02:02"
    assert overlay.entries(VIEW) == {
        "net": {
            Station(node, PEER.address),
            Neighbour("br0", PEER.address, node),
            Station("02:42:0a:09:00:03", PEER.address),
            Neighbour("vx0", IPv4Address("10.9.0.3"), "02:42:0a:09:00:03"),
            Neighbour("br0", IPv4Address("10.9.0.3"), node),
        }
    }


def test_a_node_that_is_alone_has_none() -> None:
    assert overlay.entries(NetworkView((NET,), ENDPOINTS)) == {}
    assert overlay.entries(NetworkView((NET,), ENDPOINTS, underlay=HERE)) == {}
    assert overlay.fitted(NET, None) is NET


def test_another_port_is_told() -> None:
    view = NetworkView((NET,), (), peers=(Peer("n2", PEER.address, 4790),), underlay=HERE)
    assert Station("02:43:c0:00:02:02", PEER.address, 4790) in overlay.entries(view)["net"]


def test_frames_fit_into_the_underlay() -> None:
    assert overlay.fitted(NET, HERE).mtu == 1450
    assert overlay.fitted(NET, Underlay(HERE.address, 4789, 9000)).mtu == 1500
    assert overlay.fitted(NET, Underlay(HERE.address, 4789, 1400)).mtu == 1350


stations = st.builds(Station, st.sampled_from(["a", "b", "c"]), st.sampled_from([HERE.address, PEER.address]))
neighbours = st.builds(
    Neighbour, st.sampled_from(["vx0", "br0"]), st.sampled_from([HERE.address, PEER.address]), st.sampled_from("xy")
)


def keyed(entries: list[overlay.Entry]) -> dict[object, overlay.Entry]:
    return {e.mac if isinstance(e, Station) else (e.device, e.address): e for e in entries}


@given(st.lists(stations | neighbours), st.lists(stations | neighbours))
def test_a_difference_leads_from_one_to_the_other(before: list[overlay.Entry], after: list[overlay.Entry]) -> None:
    """The kernel has one entry a key, and an entry that comes replaces the one with its key."""
    there, wanted = keyed(before), keyed(after)
    gone, new = overlay.difference(wanted.values(), there.values())
    for entry in gone:
        there = {key: each for key, each in there.items() if each != entry}
    there |= keyed(new)
    assert there == wanted
