"""What `up` would do, as values: no node, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycompose.compose.cli import planprint
from pycompose.compose.convert import Desired, convert
from pycompose.compose.loader import MemoryFiles, load
from pycompose.compose.plan import fingerprint, progress
from pycompose.compose.plan.current import Current
from pycompose.compose.plan.steps import PlanError, Step
from pycompose.compose.plan.up import UpOptions, UpPlan, plan_up
from pycompose.proto.v1 import (
    network_pb2,
    project_pb2,
    secret_pb2,
    service_pb2,
    task_pb2,
    volume_pb2,
)

BASE = """
services:
  web: {image: nginx, depends_on: [db], environment: {A: "1"}}
  db: {image: pg, volumes: ["data:/d"]}
  side: {image: x, network_mode: "service:db"}
volumes: {data: }
"""


def desired(text: str = BASE) -> Desired:
    project = load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}), environment={"V": "secret"})
    return convert(project)


def plan(text: str = BASE, current: Current | None = None, **options: object) -> UpPlan:
    return plan_up(desired(text), current or Current(), UpOptions(**options), lambda: "salt")  # type: ignore[arg-type]


def carried_out(steps: list[Step], current: Current | None = None) -> Current:
    """Return what there is when a plan's steps were done."""
    now = current or Current()
    kinds = {
        "network": (network_pb2.Network, now.networks),
        "volume": (volume_pb2.Volume, now.volumes),
        "secret": (secret_pb2.Secret, now.secrets),
        "config": (secret_pb2.Config, now.configs),
        "service": (service_pb2.Service, now.services),
    }
    for step in steps:
        if step.kind == "project":
            now.project = project_pb2.Project(spec=step.spec)
        elif step.action == "remove":
            kinds[step.kind][1].pop(step.name)
        elif step.action in ("create", "update", "recreate"):
            made, into = kinds[step.kind]
            into[step.name] = made(id=f"id-{step.name}", spec=step.spec)  # type: ignore[index, assignment]
    for service in now.services.values():
        if not now.tasks_of(service.id):
            name = f"{service.spec.project}-{service.spec.name}-1"
            task = task_pb2.Task(id=f"t-{service.id}", service_id=service.id, name=name)
            task.desired_state = task_pb2.DESIRED_STATE_RUNNING
            task.status.state = task_pb2.TASK_STATE_RUNNING
            now.tasks.append(task)
    return now


def words(found: UpPlan) -> list[str]:
    return [f"{step.action} {step.kind} {step.name}" for step in found.steps if step.changes]


def test_the_first_up_creates_everything_in_order() -> None:
    assert words(plan()) == [
        "create network p_default",
        "create volume p_data",
        "create service db",
        "create service side",
        "create service web",
    ]


def test_the_second_up_does_nothing() -> None:
    now = carried_out(plan().steps)
    assert not plan(current=now).changes


def test_another_directory_is_said_and_recreates_nothing() -> None:
    now = carried_out(plan().steps)
    project = load(
        ["/other/compose.yaml"],
        files=MemoryFiles({"/other/compose.yaml": BASE}),
        environment={},
        project_name="p",
    )
    found = plan_up(convert(project), now, UpOptions(), lambda: "salt")
    assert not found.changes
    assert "/other" in found.notices[0]
    assert "/p" in found.notices[0]


def test_a_change_recreates_one_service_and_what_shares_its_namespace() -> None:
    now = carried_out(plan().steps)
    assert words(plan(BASE.replace('A: "1"', 'A: "2"'), now)) == ["recreate service web"]
    found = plan(BASE.replace("image: pg", "image: pg16"), now)
    assert words(found) == ["recreate service db", "recreate service side"]
    reasons = {step.name: step.reason for step in found.steps}
    assert "image changed" in reasons["db"]
    assert reasons["side"] == "shares a namespace with db, which is new"


def test_scale_is_an_update() -> None:
    now = carried_out(plan().steps)
    found = plan(current=now, scale={"web": 3})
    assert [str(step) for step in found.steps if step.changes] == ["update service web: scale from 1 to 3"]
    with pytest.raises(PlanError, match="--scale nothing: no such service"):
        plan(scale={"nothing": 1})


def test_force_and_no_recreate() -> None:
    now = carried_out(plan().steps)
    assert words(plan(current=now, force_recreate=True, targets=frozenset({"web"}))) == ["recreate service web"]
    assert not plan(BASE.replace('A: "1"', 'A: "2"'), now, no_recreate=True).changes


def test_stopped_containers_are_started() -> None:
    now = carried_out(plan().steps)
    now.tasks[0].desired_state = task_pb2.DESIRED_STATE_STOPPED
    now.tasks[0].status.state = task_pb2.TASK_STATE_SHUTDOWN
    found = [step for step in plan(current=now).steps if step.changes]
    assert [(step.action, step.task_ids) for step in found] == [("start", (now.tasks[0].id,))]
    assert not plan(current=now, no_start=True).changes


def test_orphans() -> None:
    now = carried_out(plan().steps)
    less = BASE.replace('  side: {image: x, network_mode: "service:db"}\n', "")
    assert plan(less, now).orphans == ["side"]
    assert words(plan(less, now, remove_orphans=True)) == ["remove service side"]


def test_services_of_other_profiles_are_no_orphans() -> None:
    now = carried_out(plan().steps)
    hidden = BASE.replace("side: {image: x,", "side: {image: x, profiles: [debug],")
    assert plan(hidden, now, remove_orphans=True).orphans == []


def test_external_objects_must_exist() -> None:
    text = "services: {a: {image: x, networks: [n]}}\nnetworks: {n: {external: true, name: out}}"
    with pytest.raises(PlanError, match=r"compose.yaml:2:\d+: networks.n: network out is external and does not exist"):
        plan(text)
    there = Current(networks={"out": network_pb2.Network(id="n")})
    assert words(plan(text, there)) == ["create service a"]


def test_networks_are_not_changed_nor_taken() -> None:
    now = carried_out(plan().steps)
    with pytest.raises(PlanError, match=r"p_default exists with other settings \(internal\)"):
        plan(BASE + "networks: {default: {internal: true}}", now)
    now.networks["p_default"].spec.project = "q"
    with pytest.raises(PlanError, match="belongs to project q"):
        plan(current=now)


def test_secrets_are_compared_without_being_read() -> None:
    text = "services: {a: {image: x, secrets: [s]}, b: {image: x}}\nsecrets: {s: {environment: V}}"
    now = carried_out(plan(text).steps)
    now.secrets["p_s"].spec.data = b""
    assert not plan(text, now).changes
    changed = desired(text)
    changed.secrets["p_s"].data = b"other"
    found = plan_up(changed, now, UpOptions(), lambda: "pepper")
    assert words(found) == ["update secret p_s", "recreate service a"]


@given(st.binary(max_size=20), st.binary(max_size=20))
@settings(max_examples=20, deadline=None)
def test_fingerprints(first: bytes, second: bytes) -> None:
    print_ = fingerprint.make(first, "abc")
    assert fingerprint.same(second, print_) == (first == second)
    assert first == b"" or first.hex() not in print_ or len(first) < 3


KEYS = """
name: p
services:
  a:
    image: i
    command: [sh, -c, one]
    environment: {A: "1", B: "2"}
    labels: {tier: front}
    volumes: ["data:/data"]
    depends_on: [b]
  b: {image: i}
volumes: {data: {}}
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("one]", "two]", ["command: sh -c one → sh -c two"]),
        ('A: "1"', 'A: "3", C: x', ["environment.A", "environment.C"]),
        ("tier: front", "tier: back", ["labels.tier: front → back"]),
        ('["data:/data"]', '["data:/data:ro", "data:/more"]', ["volumes./data", "volumes./more"]),
        ("image: i\n    c", "image: j\n    c", ["image: i → j"]),
        ("depends_on: [b]", "mem_limit: 8m", ["deploy.resources.limits.memory: (none) → 8m"]),
        ("depends_on: [b]", "group_add: [x]", ["group_add: (none) → x"]),
        ("depends_on: [b]", "healthcheck: {test: x, interval: 5s}", ["healthcheck"]),
        ("depends_on: [b]", "stop_grace_period: 5s", ["stop_grace_period: (none) → 5s"]),
        ("depends_on: [b]", "restart: always", ["restart"]),
        ("depends_on: [b]", "network_mode: host", ["networks.p_default", "network_mode: (none) → host"]),
    ],
)
def test_a_recreated_service_tells_the_keys_of_the_file(old: str, new: str, told: list[str]) -> None:
    now = carried_out(plan(KEYS).steps)
    assert old in KEYS
    found = plan(KEYS.replace(old, new), now)
    (step,) = (one for one in found.steps if one.kind == "service" and one.action == "recreate")
    assert [str(one) for one in step.keys] == told
    assert step.reason.endswith(" changed")


def test_what_does_not_change_a_container_recreates_none() -> None:
    now = carried_out(plan(KEYS).steps)
    for old, new in (
        ("depends_on: [b]", "depends_on: []"),
        ("image: i\n    c", "image: i\n    pull_policy: never\n    c"),
    ):
        assert old in KEYS
        actions = {step.action for step in plan(KEYS.replace(old, new), now).steps if step.kind == "service"}
        assert "recreate" not in actions
    # another version of pycompose may reckon the hash otherwise
    now.services["a"].spec.task.container.labels["com.docker.compose.config-hash"] = "another"
    assert not plan(KEYS, now).changes


def test_a_plan_on_paper() -> None:
    text = KEYS.replace("one]", "two]").replace("  b: {image: i}", "  b: {image: i, scale: 3}\n  c: {image: i}")
    found = plan(text, carried_out(plan(KEYS).steps))
    assert planprint.lines(found.steps) == [
        "update    service b: p-b-2, p-b-3 – scale from 1 to 3",
        "create    service c: p-c-1",
        "recreate  service a: p-a-1 (stop first)",
        "            command: sh -c one → sh -c two",
    ]
    assert planprint.summary(found.steps) == "1 to update, 1 to create, 1 to recreate"
    data = planprint.as_data("p", found.steps)
    assert [one["action"] for one in data["changes"]].count("recreate") == 1


def _task(state: task_pb2.TaskState.ValueType, **status: object) -> task_pb2.Task:
    task = task_pb2.Task(name="a-1", desired_state=task_pb2.DESIRED_STATE_RUNNING)
    task.status.CopyFrom(task_pb2.TaskStatus(state=state, **status))  # type: ignore[arg-type]
    return task


def test_progress_of_a_container() -> None:
    running = task_pb2.TASK_STATE_RUNNING
    assert progress.start(_task(running), wait=True).done
    starting = _task(running, health=task_pb2.HEALTH_STATE_STARTING)
    assert progress.start(starting, wait=False).done
    assert not progress.start(starting, wait=True).done
    unhealthy = progress.start(_task(running, health=task_pb2.HEALTH_STATE_UNHEALTHY), wait=True)
    assert unhealthy.failed
    assert progress.start(_task(task_pb2.TASK_STATE_COMPLETE, run=1, exit_code=0), wait=True).done
    broken = _task(task_pb2.TASK_STATE_FAILED, run=1, exit_code=127, error="not found")
    assert progress.start(broken, wait=False).failed
    crashed = _task(task_pb2.TASK_STATE_FAILED, run=1, exit_code=3)
    assert progress.start(crashed, wait=False).done
    assert progress.start(crashed, wait=True).failed
    crashed.status.next_restart_at.GetCurrentTime()
    assert not progress.start(crashed, wait=True).failed


def test_a_requested_start_is_not_done_before_it_is_seen() -> None:
    task = _task(task_pb2.TASK_STATE_RUNNING, run_request=1)
    task.run_request = 2
    assert not progress.start(task, wait=False).done


def test_gates() -> None:
    service = service_pb2.Service(id="s", revision=1)
    service.spec.name = "db"
    service.spec.replicated.replicas = 1
    task = _task(task_pb2.TASK_STATE_RUNNING, run=1, health=task_pb2.HEALTH_STATE_STARTING)
    task.service_id, task.revision = "s", 1
    need = service_pb2.ServiceDependency(service="db", required=True)
    need.condition = service_pb2.DEPENDENCY_CONDITION_HEALTHY
    assert progress.gate(need, {"db": service}, [task]) == (False, "")
    task.status.health = task_pb2.HEALTH_STATE_HEALTHY
    assert progress.gate(need, {"db": service}, [task]) == (True, "")
    task.status.health = task_pb2.HEALTH_STATE_UNHEALTHY
    assert progress.gate(need, {"db": service}, [task]) == (False, "a-1 is unhealthy")
    assert progress.gate(need, {}, []) == (False, "")
    need.required = False
    assert progress.gate(need, {}, []) == (True, "")
