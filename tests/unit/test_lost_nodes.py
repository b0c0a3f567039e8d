"""Tasks of nodes that are lost, drained or back: the cores, fed by hand."""

from __future__ import annotations

from pycompose.manager.orchestrator import drain, restart
from pycompose.manager.orchestrator.actions import Orphan, Remove
from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2

T = task_pb2
RUNNING, REMOVED = T.DESIRED_STATE_RUNNING, T.DESIRED_STATE_REMOVED


def task(name: str, node: str, slot: int = 1, state: int = T.TASK_STATE_RUNNING, desired: int = RUNNING) -> T.Task:
    found = T.Task(id=name, node_id=node, slot=slot, desired_state=desired)  # type: ignore[arg-type]
    found.status.state = state  # type: ignore[assignment]
    return found


def lost(*tasks: T.Task, usable: tuple[str, ...] = ("b",), at_once: bool = False, now: float = 10.0) -> list[object]:
    return list(restart.decide(tasks, {"a", "b"}, {"a": 0.0}, usable, at_once, now))


def test_a_running_task_of_a_lost_node_leaves_when_another_node_can_take_it() -> None:
    assert lost(task("t", "a")) == [Remove("t", "its node is down")]
    assert lost(task("t", "a"), usable=()) == []
    assert lost(task("t", "b")) == []


def test_what_ended_or_was_stopped_does_not_run_again_elsewhere() -> None:
    assert lost(task("t", "a", state=T.TASK_STATE_COMPLETE)) == []
    assert lost(task("t", "a", desired=T.DESIRED_STATE_STOPPED)) == []


def test_a_row_waits_a_day_for_its_worker() -> None:
    leaver = task("t", "a", desired=REMOVED)
    assert lost(leaver) == []
    assert lost(leaver, now=restart.ORPHANED_SECONDS) == [Orphan("t", "its node is down")]
    assert lost(leaver, at_once=True) == [Orphan("t", "its node is down")]
    assert restart.orphaned_at([leaver, task("u", "b")], {"a": 5.0}) == 5.0 + restart.ORPHANED_SECONDS
    assert restart.orphaned_at([task("u", "b", desired=REMOVED)], {"a": 5.0}) is None


def test_a_task_of_a_node_that_was_removed_is_given_up() -> None:
    assert lost(task("t", "elsewhere")) == [Orphan("t", "its node was removed from the cluster")]


def service(*, health: bool = False, volume: str = "", order: int = 0) -> service_pb2.Service:
    found = service_pb2.Service(id="s")
    found.spec.replicated.replicas = 3
    found.spec.update.order = order  # type: ignore[assignment]
    if health:
        found.spec.task.container.healthcheck.SetInParent()
    if volume:
        found.spec.task.container.mounts.add(type=container_pb2.MOUNT_TYPE_VOLUME, source=volume)
    return found


def test_stop_first_drains_one_slot_after_the_other() -> None:
    tasks = [task(f"t{n}", "a", n) for n in (1, 2, 3)]
    found = drain.decide(service(), tasks, {"a"}, 3)
    assert found.actions == [Remove("t1", "its node is drained")]
    assert not found.hidden
    tasks[0].desired_state = REMOVED
    assert drain.decide(service(), tasks, {"a"}, 3).actions == []
    coming = task("u1", "b", 1, T.TASK_STATE_STARTING)
    assert drain.decide(service(), [coming, *tasks[1:]], {"a"}, 3).actions == []
    coming.status.state = T.TASK_STATE_RUNNING
    assert drain.decide(service(), [coming, *tasks[1:]], {"a"}, 3).actions == [Remove("t2", "its node is drained")]


def test_start_first_waits_for_the_new_task() -> None:
    tasks = [task("t1", "a", 1), task("t2", "a", 2)]
    found = drain.decide(service(health=True), tasks, {"a"}, 3)
    assert found.actions == []
    assert found.hidden == {"t1"}
    coming = task("u1", "", 1, T.TASK_STATE_PENDING)
    found = drain.decide(service(health=True), [*tasks, coming], {"a"}, 3)
    assert found.actions == []
    assert found.hidden == {"t1"}
    coming.node_id, coming.status.state = "b", T.TASK_STATE_RUNNING
    found = drain.decide(service(health=True), [*tasks, coming], {"a"}, 3)
    assert found.actions == [Remove("t1", "drained; its replacement is up")]
    assert "t1" not in found.hidden


def test_order_of_a_drain_follows_what_the_service_is() -> None:
    first = service_pb2.UPDATE_ORDER_START_FIRST
    assert drain.starts_first(service(health=True).spec)
    assert not drain.starts_first(service().spec)
    assert drain.starts_first(service(order=first).spec)
    assert not drain.starts_first(service(order=first, volume="data").spec)
    assert not drain.starts_first(service(health=True, order=service_pb2.UPDATE_ORDER_STOP_FIRST).spec)
