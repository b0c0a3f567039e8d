"""Who of the managers may go, and what the leader does with each member: decisions over values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pycompose.proto.v1 import node_pb2


@dataclass(frozen=True)
class Voter:
    """A member with a vote: its node's id, its host name, and whether its etcd answers."""

    name: str
    label: str
    answers: bool


def why_not(name: str, voters: Sequence[Voter], force: bool) -> str:
    """Return why a manager cannot be removed; "" when it can, or when it has no vote.

    Args:
        name: of the one that goes.
        voters: all, itself among them.
        force: take it although no majority is left.
    """
    going = next((each for each in voters if each.name == name), None)
    if going is None:
        return ""
    left = [each for each in voters if each.name != name]
    if not left:
        return (
            f"{going.label} is the only manager: without it there is no cluster; promote another node first "
            "(pycompose node promote NODE)"
        )
    missing = sorted(each.label for each in left if not each.answers)
    there = len(left) - len(missing)
    if there * 2 > len(left) or force:
        return ""
    return (
        f"without {going.label} the cluster would have {len(left)} managers, of which {there} answer (not "
        f"{', '.join(missing)}): no majority, so that nothing could be changed any more; start {missing[0]} first, or "
        "remove that one, or use --force"
    )


class Step(Enum):
    """What the leader does with a member."""

    NOTHING = "nothing"
    PROMOTE = "promote"
    REMOVE = "remove"
    ADOPT = "adopt"


def step(role: node_pb2.NodeRole.ValueType, learner: bool, started: bool) -> Step:
    """Return what is to be done with a member.

    Args:
        role: that its node is to have.
        learner: it has no vote yet.
        started: its etcd has come, at least once.
    """
    if role == node_pb2.NODE_ROLE_WORKER:
        return Step.REMOVE
    if learner:
        return Step.PROMOTE if started else Step.NOTHING
    return Step.ADOPT if role == node_pb2.NODE_ROLE_UNSPECIFIED else Step.NOTHING
