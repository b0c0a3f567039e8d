"""When a service gives its published ports back, and who may have them then."""

from __future__ import annotations

import pytest

from pycompose.manager.allocator import PortBook, at_rest, fill_ports, start_conflict
from pycompose.proto.v1 import service_pb2 as s
from pycompose.proto.v1 import task_pb2 as t

RUNNING, STOPPED, CREATED, REMOVED = (
    t.DESIRED_STATE_RUNNING,
    t.DESIRED_STATE_STOPPED,
    t.DESIRED_STATE_CREATED,
    t.DESIRED_STATE_REMOVED,
)
NO, ANY = s.RESTART_CONDITION_NONE, s.RESTART_CONDITION_ANY


def service(name: str = "web", port: int = 80, condition: s.RestartCondition = NO) -> s.Service:
    made = s.Service(id=name, revision=1)
    made.spec.name = name
    made.spec.task.restart.condition = condition
    made.spec.endpoint.ports.add(target_port=80, published_port=port)
    made.endpoint.ports.add(target_port=80, published_port=port)
    return made


def task(desired: t.DesiredState, state: t.TaskState, *, asked: bool = False, revision: int = 1) -> t.Task:
    made = t.Task(id="t", service_id="web", desired_state=desired, revision=revision, run_request=int(asked))
    made.status.state = state
    return made


@pytest.mark.parametrize(
    ("desired", "state", "condition", "rests"),
    [
        (RUNNING, t.TASK_STATE_RUNNING, NO, False),
        (RUNNING, t.TASK_STATE_PENDING, NO, False),
        (RUNNING, t.TASK_STATE_COMPLETE, NO, True),
        (RUNNING, t.TASK_STATE_FAILED, NO, True),
        (RUNNING, t.TASK_STATE_FAILED, ANY, False),
        (RUNNING, t.TASK_STATE_ORPHANED, NO, False),
        (STOPPED, t.TASK_STATE_RUNNING, ANY, False),
        (STOPPED, t.TASK_STATE_SHUTDOWN, ANY, True),
        (CREATED, t.TASK_STATE_READY, ANY, True),
        (REMOVED, t.TASK_STATE_RUNNING, NO, False),
        (REMOVED, t.TASK_STATE_SHUTDOWN, NO, False),
    ],
)
def test_a_service_rests_when_its_containers_are_down_for_good(
    desired: t.DesiredState, state: t.TaskState, condition: s.RestartCondition, rests: bool
) -> None:
    web = service(condition=condition)
    assert at_rest(web, [task(desired, state)]) is rests
    assert at_rest(web, [task(desired, state), task(RUNNING, t.TASK_STATE_RUNNING)]) is False


def test_a_run_that_was_asked_for_and_containers_that_will_come_are_no_rest() -> None:
    web = service()
    assert not at_rest(web, [])
    assert not at_rest(web, [task(RUNNING, t.TASK_STATE_COMPLETE, asked=True)])
    assert not at_rest(web, [task(STOPPED, t.TASK_STATE_SHUTDOWN, revision=2)])


def test_others_may_have_what_was_given_back() -> None:
    web, other = service(), service("other")
    down = {"web": [task(STOPPED, t.TASK_STATE_SHUTDOWN)]}
    assert start_conflict(other, PortBook([web], tasks_of=lambda one: down.get(one, []))) is None
    taken = start_conflict(web, PortBook([web, other], tasks_of=lambda one: down.get(one, [])))
    assert taken is not None
    assert (taken.port, taken.holder) == (80, "other")


def test_a_chosen_port_that_another_has_now_is_chosen_anew() -> None:
    web, other = service(port=0), service("other", 49153)
    web.endpoint.ports[0].published_port = 49153
    assert [port.published_port for port in fill_ports(web, PortBook())] == [49153]
    assert [port.published_port for port in fill_ports(web, PortBook([other]))] == [49154]


def test_a_chosen_port_is_not_chosen_twice() -> None:
    web, other = service(port=0), service("other", 49153)
    web.spec.endpoint.ports.add(target_port=81)
    del web.endpoint.ports[:]
    web.endpoint.ports.add(target_port=80, published_port=49153)
    web.endpoint.ports.add(target_port=81, published_port=49154)
    assert [port.published_port for port in fill_ports(web, PortBook([other]))] == [49155, 49154]
