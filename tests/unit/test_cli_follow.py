"""What a wait says: each reason in one way, and once."""

from __future__ import annotations

from pycompose.compose.cli.follow import said_once
from pycompose.compose.plan import progress
from pycompose.proto.v1 import task_pb2


def test_what_a_check_said_is_said_once() -> None:
    unhealthy = "service {} cannot start: it depends on db, and p-db-1 is unhealthy (its check said: refused (61))"
    assert said_once([unhealthy.format("web"), unhealthy.format("job")]) == [
        unhealthy.format("web"),
        "service job cannot start: it depends on db, and p-db-1 is unhealthy",
    ]
    assert said_once(["container p-db-1: unhealthy: refused (61)", unhealthy.format("web")]) == [
        "container p-db-1: unhealthy: refused (61)",
        "service web cannot start: it depends on db, and p-db-1 is unhealthy",
    ]
    assert said_once(["one", "two"]) == ["one", "two"]


def test_a_gate_has_one_wording() -> None:
    task = task_pb2.Task()
    task.status.state = task_pb2.TASK_STATE_PENDING
    task.status.message = "waiting for db: healthy"
    assert progress.start(task, wait=False, waits="for db to be healthy").detail == "for db to be healthy"
    assert progress.start(task, wait=False).word == "Creating"
    task.status.message = "no suitable node: busy"
    assert progress.start(task, wait=False).detail == "for a node: no suitable node: busy"
