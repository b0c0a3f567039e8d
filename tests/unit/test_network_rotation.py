"""Which tasks a service's names, VIPs and ports lead to."""

from __future__ import annotations

from pycompose.proto.v1 import network_pb2
from pycompose.worker.agent.network_view import rotation


def endpoint(task: str, *, healthy: bool, running: bool = True, service: str = "s", network: str = "n") -> object:
    return network_pb2.Endpoint(
        task_id=task, network_id=network, service_id=service, in_rotation=healthy, running=running
    )


def reached(*endpoints: object) -> set[str]:
    return {task for task, _ in rotation(endpoints)}  # type: ignore[arg-type]


def test_healthy_tasks_alone_answer_where_there_are_any() -> None:
    assert reached(endpoint("a", healthy=True), endpoint("b", healthy=False)) == {"a"}


def test_without_a_healthy_one_all_that_run_do() -> None:
    assert reached(
        endpoint("a", healthy=False), endpoint("b", healthy=False), endpoint("c", healthy=False, running=False)
    ) == {"a", "b"}


def test_each_service_and_network_for_itself() -> None:
    assert reached(
        endpoint("a", healthy=True, service="s"),
        endpoint("b", healthy=False, service="t"),
        endpoint("c", healthy=False, service="s", network="m"),
        endpoint("d", healthy=False, service="s"),
    ) == {"a", "b", "c"}
