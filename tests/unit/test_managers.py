"""Which manager may go, what the leader does with each member, and what an operator hears of them."""

from __future__ import annotations

import pytest

from pycompose.compose.cli.cluster import managers, trouble_of_managers
from pycompose.manager.members.deciding import Step, Voter, step, why_not
from pycompose.proto.v1 import node_pb2

WORKER, MANAGER, OPEN = node_pb2.NODE_ROLE_WORKER, node_pb2.NODE_ROLE_MANAGER, node_pb2.NODE_ROLE_UNSPECIFIED


def voters(states: str) -> list[Voter]:
    """Of a word such as "ab-c": those after the dash do not answer."""
    there, _, missing = states.partition("-")
    return [Voter(name, f"host-{name}", name in there) for name in there + missing]


@pytest.mark.parametrize(
    ("states", "going", "words"),
    [
        ("abc", "a", ""),
        ("ab", "a", ""),
        ("ab-c", "c", ""),
        ("abc", "z", ""),
        ("a", "a", "host-a is the only manager"),
        ("ab-c", "a", "would have 2 managers, of which 1 answer (not host-c)"),
        ("abc-de", "a", "would have 4 managers, of which 2 answer (not host-d, host-e)"),
        ("abcd-e", "a", ""),
    ],
)
def test_a_majority_is_left(states: str, going: str, words: str) -> None:
    told = why_not(going, voters(states), force=False)
    assert bool(told) == bool(words)
    assert words in told
    assert bool(why_not(going, voters(states), force=True)) == ("only manager" in words)


@pytest.mark.parametrize(
    ("role", "learner", "started", "wanted"),
    [
        (MANAGER, True, True, Step.PROMOTE),
        (MANAGER, True, False, Step.NOTHING),
        (MANAGER, False, True, Step.NOTHING),
        (OPEN, False, True, Step.ADOPT),
        (WORKER, False, True, Step.REMOVE),
        (WORKER, True, True, Step.REMOVE),
    ],
)
def test_steps(role: node_pb2.NodeRole.ValueType, learner: bool, started: bool, wanted: Step) -> None:
    assert step(role, learner, started) is wanted


def node(name: str, leader: bool = False, reachable: bool = True, learner: bool = False) -> node_pb2.Node:
    made = node_pb2.Node(id=name)
    made.description.hostname = name
    made.spec.role = MANAGER
    made.status.state = node_pb2.NODE_STATE_READY
    made.status.manager.CopyFrom(
        node_pb2.ManagerStatus(address=f"{name}:7420", leader=leader, reachable=reachable, learner=learner)
    )
    return made


def test_an_operator_sees_who_is_missing_and_what_may_still_happen() -> None:
    three = [node("m1", leader=True), node("m2"), node("m3", reachable=False)]
    assert managers(three) == [
        "m1  leader       m1:7420",
        "m2  reachable    m2:7420",
        "m3  unreachable  m3:7420",
    ]
    assert trouble_of_managers(three) == [
        "managers that do not answer: m3; no other may be lost: start them again, or demote them"
    ]
    assert trouble_of_managers([node("m1", leader=True), node("m2"), node("m3")]) == []
    assert "promote a third" in trouble_of_managers([node("m1", leader=True), node("m2")])[0]
    assert trouble_of_managers([node("m1", leader=True), node("m2", learner=True)]) == [
        "m2: to be a manager, and has no complete copy of the state yet"
    ]
