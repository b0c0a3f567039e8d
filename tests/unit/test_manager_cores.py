"""Stories of the pure cores: updates, placement, addresses and ports, the table of states, what is reaped."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.manager import states
from pycompose.manager.allocator import AllocationError, Allocator, Held, Pools, PortBook, fill_ports, task_ports
from pycompose.manager.orchestrator import global_, jobs, replicated, taskreaper
from pycompose.manager.orchestrator.actions import Create, Decision, Remove
from pycompose.manager.scheduler import Demand, NodeInfo, Ranking, summary, verdicts
from pycompose.proto.v1 import network_pb2, node_pb2, service_pb2, task_pb2

NOW = 1_000_000.0


def service(replicas: int = 3, revision: int = 2, **update: object) -> service_pb2.Service:
    made = service_pb2.Service(id="s", revision=revision)
    made.spec.name, made.spec.project = "web", "app"
    made.spec.replicated.replicas = replicas
    for key, value in update.items():
        setattr(made.spec.update, key, value)
    if update:
        made.spec.update.monitor.seconds = 5
        made.update_status.state = service_pb2.UPDATE_STATE_UPDATING
    return made


def task(slot: int, revision: int, state: int = task_pb2.TASK_STATE_RUNNING, **status: object) -> task_pb2.Task:
    made = task_pb2.Task(id=f"t{slot}.{revision}", service_id="s", slot=slot, revision=revision, name=f"app-web-{slot}")
    made.node_id, made.desired_state = "n1", task_pb2.DESIRED_STATE_RUNNING
    made.meta.created_at.seconds = int(NOW) - 100
    made.status.state, made.status.run = state, 1  # type: ignore[assignment]
    made.status.started_at.seconds = made.status.since.seconds = int(NOW) - 100
    for key, value in status.items():
        setattr(made.status, key, value)
    return made


def does(decision: Decision) -> list[str]:
    return [
        f"create {action.slot}" if isinstance(action, Create) else f"remove {action.task_id}"
        for action in decision.actions
    ]


# -- updates ------------------------------------------------------------------------------------------------


def test_without_settings_all_old_tasks_go_at_once() -> None:
    found = replicated.decide(service(), [task(n, 1) for n in (1, 2, 3)], NOW)
    assert does(found) == ["remove t1.1", "remove t2.1", "remove t3.1"]
    assert found.update_state == service_pb2.UPDATE_STATE_UPDATING


def test_one_at_a_time_the_next_waits_until_the_new_one_is_up() -> None:
    made = service(parallelism=1)
    starting = task(1, 2, task_pb2.TASK_STATE_STARTING)
    assert does(replicated.decide(made, [starting, task(2, 1), task(3, 1)], NOW)) == []
    assert does(replicated.decide(made, [task(1, 2), task(2, 1), task(3, 1)], NOW)) == ["remove t2.1"]


def test_a_pause_between_two_slots() -> None:
    made = service(parallelism=1)
    made.spec.update.delay.seconds = 200
    found = replicated.decide(made, [task(1, 2), task(2, 1), task(3, 1)], NOW)
    assert (does(found), found.wake_at) == ([], NOW + 100)


def test_start_first_makes_the_new_one_beside_the_old() -> None:
    made = service(1, order=service_pb2.UPDATE_ORDER_START_FIRST)
    assert does(replicated.decide(made, [task(1, 1)], NOW)) == ["create 1"]
    starting = task(1, 2, task_pb2.TASK_STATE_STARTING)
    assert does(replicated.decide(made, [task(1, 1), starting], NOW)) == []
    assert does(replicated.decide(made, [task(1, 1), task(1, 2)], NOW)) == ["remove t1.1"]


def test_start_first_is_stop_first_where_both_want_one_port() -> None:
    made = service(1, order=service_pb2.UPDATE_ORDER_START_FIRST)
    made.spec.endpoint.ports.add(target_port=80, published_port=80, publish_mode=service_pb2.PUBLISH_MODE_HOST)
    assert does(replicated.decide(made, [task(1, 1)], NOW)) == ["remove t1.1"]


def failed(slot: int) -> task_pb2.Task:
    made = task(slot, 2, task_pb2.TASK_STATE_FAILED, exit_code=3)
    made.status.finished_at.seconds = int(NOW) - 99
    return made


@pytest.mark.parametrize(
    ("action", "state"),
    [
        (service_pb2.UPDATE_FAILURE_ACTION_PAUSE, service_pb2.UPDATE_STATE_PAUSED),
        (service_pb2.UPDATE_FAILURE_ACTION_ROLLBACK, service_pb2.UPDATE_STATE_ROLLING_BACK),
    ],
)
def test_too_many_failures_stop_an_update(action: int, state: int) -> None:
    found = replicated.decide(service(parallelism=1, failure_action=action), [failed(1), task(2, 1), task(3, 1)], NOW)
    assert (does(found), found.update_state) == ([], state)
    assert "app-web-1: exit status 3" in found.update_message
    assert found.rollback == (action == service_pb2.UPDATE_FAILURE_ACTION_ROLLBACK)


def test_failures_below_the_ratio_and_continue_go_on() -> None:
    tasks = [failed(1), task(2, 1), task(3, 1)]
    tolerant = service(parallelism=1, max_failure_ratio=0.5)
    assert does(replicated.decide(tolerant, tasks, NOW)) == ["remove t2.1"]
    going_on = service(parallelism=1, failure_action=service_pb2.UPDATE_FAILURE_ACTION_CONTINUE)
    assert does(replicated.decide(going_on, tasks, NOW)) == ["remove t2.1"]


def test_a_paused_update_stays_where_it_is() -> None:
    made = service(parallelism=1)
    made.update_status.state = service_pb2.UPDATE_STATE_PAUSED
    assert does(replicated.decide(made, [failed(1), task(2, 1), task(3, 1)], NOW)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (service_pb2.UPDATE_STATE_UPDATING, service_pb2.UPDATE_STATE_PAUSED),
        (service_pb2.UPDATE_STATE_ROLLING_BACK, service_pb2.UPDATE_STATE_ROLLBACK_PAUSED),
    ],
)
def test_a_failed_task_beside_the_old_one_is_waited_for_only_while_it_may_come_again(before: int, after: int) -> None:
    made = service(1, order=service_pb2.UPDATE_ORDER_START_FIRST, max_failure_ratio=1.0)
    made.update_status.state = before
    gone = failed(1)
    found = replicated.decide(made, [task(1, 1), gone], NOW)
    assert (does(found), found.update_state) == ([], after)
    gone.status.next_restart_at.seconds = int(NOW) + 5
    assert replicated.decide(made, [task(1, 1), gone], NOW).update_state in (None, before)


def test_an_update_is_complete_when_its_tasks_were_watched() -> None:
    made = service(1, parallelism=1)
    fresh = task(1, 2)
    fresh.status.started_at.seconds = int(NOW) - 2
    found = replicated.decide(made, [fresh], NOW)
    assert (found.update_state, found.wake_at) == (None, NOW + 3)
    assert replicated.decide(made, [fresh], NOW + 3).update_state == service_pb2.UPDATE_STATE_COMPLETED
    made.update_status.state = service_pb2.UPDATE_STATE_ROLLING_BACK
    assert replicated.decide(made, [fresh], NOW + 3).update_state == service_pb2.UPDATE_STATE_ROLLED_BACK


# -- other orchestrators ------------------------------------------------------------------------------------


def test_scaling_and_removing() -> None:
    tasks = [task(n, 2) for n in (1, 2, 3)]
    assert does(replicated.decide(service(5), tasks, NOW)) == ["create 4", "create 5"]
    assert does(replicated.decide(service(1), tasks, NOW)) == ["remove t2.2", "remove t3.2"]
    going = service()
    going.removing = True
    assert len(does(replicated.decide(going, tasks, NOW))) == 3


def test_a_global_service_has_a_task_on_each_eligible_node() -> None:
    made = service()
    getattr(made.spec, "global").SetInParent()
    here = task(0, 2)
    found = global_.decide(made, [here], ["n1", "n2"], NOW)
    assert [(action.slot, action.node_id) for action in found.actions if isinstance(action, Create)] == [(0, "n2")]
    assert [type(action) for action in global_.decide(made, [here], ["n2"], NOW).actions] == [Remove, Create]


def test_a_job_runs_some_at_a_time_and_again_when_it_changed() -> None:
    made = service()
    made.spec.replicated_job.completions, made.spec.replicated_job.max_concurrent = 3, 1
    assert does(jobs.decide(made, [])) == ["create 1"]
    assert does(jobs.decide(made, [task(1, 2)])) == []
    assert does(jobs.decide(made, [task(1, 2, task_pb2.TASK_STATE_COMPLETE)])) == ["create 2"]
    assert does(jobs.decide(made, [task(1, 1, task_pb2.TASK_STATE_COMPLETE)]))[0] == "remove t1.1"


def test_templates_that_nobody_runs_are_forgotten() -> None:
    rows = list(range(1, 31))
    assert taskreaper.revisions_done(rows, service(revision=30), [task(1, 30)]) == list(range(1, 11))
    assert taskreaper.revisions_done(rows, service(revision=4), [task(1, 2)]) == [1, 3, *range(5, 11)]


# -- scheduler ----------------------------------------------------------------------------------------------


def node(name: str, *, tasks: int = 0, own: int = 0, **labels: str) -> NodeInfo:
    made = node_pb2.Node(id=name)
    made.description.hostname, made.description.platform = f"host-{name}", "linux/x86_64"
    made.description.resources.nano_cpus = 4 * 10**9
    made.description.resources.memory_bytes = 8 << 30
    made.status.state = node_pb2.NODE_STATE_READY
    made.spec.labels.update(labels)
    info = NodeInfo(made, tasks=tasks)
    info.by_service["s"] = own
    return info


def test_few_tasks_of_the_service_then_few_tasks() -> None:
    nodes = [node("a", tasks=1, own=1), node("b", tasks=9), node("c", tasks=2)]
    assert [each.node_id for each in verdicts(Demand(service()), nodes)] == ["c", "b", "a"]


def test_tasks_spread_over_zones_before_nodes() -> None:
    made = service()
    made.spec.task.placement.spread.append("node.labels.zone")
    nodes = [node("a1", zone="a"), node("a2", own=2, tasks=2, zone="a"), node("b", own=1, tasks=1, zone="b")]
    best = verdicts(Demand(made), nodes)[0]
    assert best.node_id == "b"
    assert best.merits[0] == "1 of the service's tasks in node.labels.zone=b"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("ab")), max_size=8), st.booleans())
def test_many_tasks_in_one_go_are_placed_as_one_after_another(rows: list[tuple[int, int, str]], spread: bool) -> None:
    made = service()
    made.spec.task.placement.max_replicas_per_node = 4
    if spread:
        made.spec.task.placement.spread.append("node.labels.zone")
    nodes = [node(f"n{n}", tasks=own + other, own=own, zone=zone) for n, (own, other, zone) in enumerate(rows)]
    ranking = Ranking(Demand(made), {info.node.id: info for info in nodes})
    for _ in range(4 * len(nodes) + 1):
        answers = verdicts(Demand(made), nodes)
        best = ranking.best()
        assert (best.node.id if best else None) == (answers[0].node_id if answers and answers[0].suitable else None)
        if best is not None:
            best.add(made)


def test_every_reason_against_a_node_is_given() -> None:
    made = service()
    placement, container = made.spec.task.placement, made.spec.task.container
    placement.constraints.extend(["node.labels.disk == ssd", "node.hostname != HOST-A"])
    placement.platforms.append("linux/arm64")
    placement.max_replicas_per_node = 1
    container.resources.reservations.nano_cpus = 5 * 10**9
    container.resources.reservations.memory_bytes = 9 << 30
    container.resources.reservations.generic["gpu"] = 2
    container.mounts.add(type=2, source="data", target="/data")
    made.spec.endpoint.ports.add(target_port=80, published_port=80, publish_mode=service_pb2.PUBLISH_MODE_HOST)
    book = PortBook()
    book.add([Held("tcp", 80, "", "a", "other", "shop/web")])
    info = node("a", own=1)
    info.node.status.state = node_pb2.NODE_STATE_DOWN
    info.node.spec.availability = node_pb2.NODE_AVAILABILITY_DRAIN
    (answer,) = verdicts(Demand(made, {"data": {"b": "host-b"}}, book), [info])
    assert answer.reasons == (
        "node is down",
        "node is drained",
        "constraint node.labels.disk == ssd does not hold (it has nothing)",
        "constraint node.hostname != HOST-A does not hold (it has host-a)",
        "platform is linux/x86_64, not linux/arm64",
        "1.00 CPU short",
        "1024 MiB memory short",
        "2 gpu short",
        "already runs 1 tasks of the service (max_replicas_per_node)",
        "volume data has its data on host-b",
        "port 80 is held by shop/web",
    )
    assert summary([answer]).startswith("no suitable node: node is down; node is drained")
    assert summary([]) == "no node in the cluster: start the worker"


# -- allocator ----------------------------------------------------------------------------------------------


def allocator(subnet: str = "10.1.0.0/29") -> Allocator:
    made = Allocator(Pools())
    network = network_pb2.Network(id="net", vni=5000, subnets=[network_pb2.IpamSubnet(subnet=subnet)])
    network.spec.name = "app_default"
    made.hear_network("net", network)
    return made


def test_addresses_rest_before_they_are_used_again() -> None:
    made = allocator()
    first = made.address("net", "one", NOW)
    assert first == "10.1.0.2/29"
    place = {("net", "10.1.0.2"): "one"}
    made.hear({}, place, NOW)
    made.begin()
    made.hear(place, {}, NOW)
    assert [made.address("net", f"h{n}", NOW) for n in range(4)] == [f"10.1.0.{n}/29" for n in (3, 4, 5, 6)]
    assert made.address("net", "last", NOW) == "10.1.0.2/29"  # only when there is no other


def test_a_full_network_says_how_to_widen() -> None:
    made = allocator()
    for number in range(5):
        made.address("net", f"h{number}", NOW)
    with pytest.raises(AllocationError, match=r"no free address in 10.1.0.0/29 of network app_default.*larger subnet"):
        made.address("net", "more", NOW)
    made.begin()  # nothing of it was written
    assert made.address("net", "again", NOW)


def test_a_fixed_address_names_its_holder() -> None:
    made = allocator()
    made.hear({}, {("net", "10.1.0.4"): "app-db-1"}, NOW)
    with pytest.raises(AllocationError, match="is held by app-db-1"):
        made.address("net", "app-web-1", NOW, "10.1.0.4")
    with pytest.raises(AllocationError, match="not in network app_default's subnet"):
        made.address("net", "app-web-1", NOW, "10.2.0.4")


def test_pools_give_subnets_that_overlap_none_and_end() -> None:
    pools = Pools(["10.0.0.0/23"], 24)
    first = pools.choose([])
    second = pools.choose([first])
    assert [str(first), str(second)] == ["10.0.0.0/24", "10.0.1.0/24"]
    with pytest.raises(AllocationError, match=r"all subnets of /24 in 10.0.0.0/23 are in use.*ipam.config.subnet"):
        pools.choose([first, second])


def test_ports_are_chosen_kept_and_never_given_twice() -> None:
    made = service()
    made.spec.endpoint.ports.add(target_port=80)
    made.spec.endpoint.ports.add(target_port=80, published_port=49153)
    ports = fill_ports(made, PortBook())
    assert [port.published_port for port in ports] == [49154, 49153]
    made.endpoint.ports.extend(ports)
    assert fill_ports(made, PortBook([made])) == ports
    ranged = service()
    ranged.endpoint.ports.add(target_port=80, published_port=8000, published_port_end=8001)
    first = task(1, 2)
    first.ports.extend(task_ports(ranged, first, PortBook()))
    second = task(2, 2)
    second.ports.extend(task_ports(ranged, second, PortBook([], [first])))
    assert [each.ports[0].published_port for each in (first, second)] == [8000, 8001]
    with pytest.raises(AllocationError, match=r"no free port in 8000-8001 .*app-web-2.*widen the range"):
        task_ports(ranged, task(3, 2), PortBook([], [first, second]))


# -- states -------------------------------------------------------------------------------------------------


def test_within_a_run_states_only_move_forward() -> None:
    for state, following in states.NEXT.items():
        for other in states.NEXT:
            old = task_pb2.TaskStatus(state=state, run=1)  # type: ignore[arg-type]
            new = task_pb2.TaskStatus(state=other, run=1)  # type: ignore[arg-type]
            expected = (
                other not in states.MANAGERS and state != states.REMOVE and (other == state or other in following)
            )
            assert states.may_follow(old, new) == expected, (states.name(state), states.name(other))


def test_a_new_run_goes_back_and_an_old_one_never_returns() -> None:
    ended = task_pb2.TaskStatus(state=states.FAILED, run=2, run_request=1)
    again = task_pb2.TaskStatus(state=states.RUNNING, run=3, run_request=1)
    assert states.may_follow(ended, again)
    assert not states.may_follow(again, ended)
    assert states.may_follow(again, task_pb2.TaskStatus(state=states.STARTING, run=3, run_request=2))


def test_the_documents_table_is_the_codes() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "task-states.md").read_text()
    assert states.table() in text, "run `python -m pycompose.manager.states` and put its table into docs/task-states.md"
