"""Ports that a plan cannot have, found before anything is done."""

from __future__ import annotations

import pytest

from pycompose.compose.cli.portcheck import open_ports
from pycompose.compose.plan.ports import conflicts, ports_of, wanted
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import service_pb2 as pb


def spec(*ports: str, name: str = "web", project: str = "p") -> pb.ServiceSpec:
    """A service that publishes "[IP:]PORT[-END][/udp]"."""
    made = pb.ServiceSpec(name=name, project=project)
    for text in ports:
        rest, _, protocol = text.partition("/")
        address, _, numbers = rest.rpartition(":")
        first, _, last = numbers.partition("-")
        made.endpoint.ports.add(
            target_port=80,
            published_port=int(first),
            published_port_end=int(last or 0),
            host_ip=address,
            protocol=pb.PROTOCOL_UDP if protocol == "udp" else pb.PROTOCOL_TCP,
        )
    return made


def service(*ports: str, name: str = "web", project: str = "p") -> pb.Service:
    return pb.Service(id=name, spec=spec(*ports, name=name, project=project))


def create(*ports: str, name: str = "web") -> Step:
    return Step("create", "service", name, spec=spec(*ports, name=name))


def test_ranges_and_chosen_ports_are_not_asked_for() -> None:
    assert [one.published for one in ports_of("web", spec("80", "0", "8000-8010", "9-9"))] == [80, 9]


def test_what_a_service_publishes_already_is_not_asked_for() -> None:
    step = Step("update", "service", "web", spec=spec("80", "81"), current=service("80"))
    assert [one.published for one in wanted([step])] == [81]
    assert wanted([Step("keep", "service", "web", current=service("80"))]) == []


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("80", "80", True),
        ("80", "80/udp", False),
        ("80", "81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "80", True),
    ],
)
def test_two_services_of_a_file(first: str, second: str, clash: bool) -> None:
    found = conflicts([create(first, name="a"), create(second, name="b")], "p", [])
    assert [(one.service, holder) for one, holder in found] == ([("b", "service a")] if clash else [])


def test_who_can_reach_a_port() -> None:
    one = service("80", "8000-8010", "127.0.0.1:81", "10.0.0.1:82", "0")
    one.endpoint.ports.extend(one.spec.endpoint.ports)
    assert open_ports(one) == [
        "web listens on 80, 8000-8010 (all addresses)",
        "web listens on 81 (this machine only)",
        "web listens on 82 (address 10.0.0.1)",
    ]


def test_services_of_others_hold_ports_and_removed_ones_do_not() -> None:
    other = service("80", name="web", project="q")
    assert [holder for _, holder in conflicts([create("80")], "p", [other])] == ["service web of project q"]
    kept = service("80", name="old")
    assert [holder for _, holder in conflicts([create("80")], "p", [kept])] == ["service old of project p"]
    removed = Step("remove", "service", "old", current=kept)
    assert conflicts([removed, create("80")], "p", [kept]) == []
    moved = Step("recreate", "service", "old", spec=spec("81", name="old"), current=kept)
    assert conflicts([moved, create("80")], "p", [kept]) == []
