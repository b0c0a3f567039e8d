"""Carry one service on: what the orchestrators say, into the overlay."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pycompose.manager import scheduler
from pycompose.manager.engine.endpoint import with_endpoint
from pycompose.manager.engine.overlay import Pass, timestamp
from pycompose.manager.engine.placement import place, volume_homes
from pycompose.manager.model import ACCOUNT, REVISION, SERVICE, TASK, name_key, object_key, revision_id
from pycompose.manager.orchestrator import drain, global_, jobs, replicated, restart, taskreaper
from pycompose.manager.orchestrator.actions import Create, Decision, Orphan, Remove, leaving, task_name
from pycompose.manager.orchestrator.update import needs_stop_first
from pycompose.manager.store import Delete
from pycompose.proto.v1 import node_pb2, service_pb2, task_pb2

log = logging.getLogger(__name__)


def decide(work: Pass, service_id: str) -> None:
    """Carry one service on: everything that the cores say, into the overlay."""
    service = work.get(SERVICE, service_id)
    for task in work.tasks(service_id):
        if taskreaper.task_done(task):
            work.delete(TASK, task.id)
    tasks = work.tasks(service_id)
    if service is None:
        for task in tasks:
            _remove(work, task.id)
        return
    if taskreaper.job_done(service, tasks):
        service = work.edit(SERVICE, service_id)
        service.removing = True
        work.put(SERVICE, service_id, service)
    _supervise(work, service, tasks)
    service = with_endpoint(work, service)
    decision = _orchestrate(work, service, _drained(work, service))
    if decision.rollback:
        service = _roll_back(work, service, decision)
    for action in decision.actions:
        if isinstance(action, Create):
            _create(work, service, action)
        elif isinstance(action, Remove):
            _remove(work, action.task_id, service)
        elif isinstance(action, Orphan):
            _orphan(work, action)
    work.wake(decision.wake_at)
    _update_status(work, service, decision)
    place(work, service)
    _reap(work, service)


def _orchestrate(work: Pass, service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> Decision:
    mode = service.spec.WhichOneof("mode")
    if mode == "global":
        return global_.decide(service, tasks, _eligible(work, service), work.now)
    if mode == "replicated_job":
        return jobs.decide(service, tasks)
    return replicated.decide(service, tasks, work.now)


def _eligible(work: Pass, service: service_pb2.Service) -> list[str]:
    """Return the nodes on which a global service should have a task, also those that cannot start it just now."""
    demand = scheduler.Demand(service)
    return [
        info.node.id
        for info in work.infos().values()
        if info.node.spec.availability != node_pb2.NODE_AVAILABILITY_DRAIN
        and not scheduler.why_not(demand, info, scheduler.LASTING)
    ]


def _supervise(work: Pass, service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> None:
    """Give up tasks of lost nodes and those that their node rejected."""
    down, known = work.down(), work.infos().keys()
    troubled = [
        task
        for task in tasks
        if task.node_id in down or task.node_id not in known or task.status.state == task_pb2.TASK_STATE_REJECTED
    ]
    if not troubled:
        return
    at_once = service.removing or needs_stop_first(service.spec)
    for action in restart.decide(troubled, known, down, _takers(work, service), at_once, work.now):
        if isinstance(action, Orphan):
            _orphan(work, action)
        elif isinstance(action, Remove):
            _remove(work, action.task_id, service)
    work.wake(restart.orphaned_at(work.tasks(service.id), down))


def _takers(work: Pass, service: service_pb2.Service) -> set[str]:
    """Return the nodes that answer and may have the service's tasks; a global one's are bound to their nodes."""
    if service.spec.WhichOneof("mode") == "global":
        return set()
    demand = scheduler.Demand(service, volume_homes(work.cache))
    return {info.node.id for info in work.infos().values() if not scheduler.why_not(demand, info, scheduler.TAKERS)}


def _drained(work: Pass, service: service_pb2.Service) -> list[task_pb2.Task]:
    """Take tasks off drained nodes; returns those that the orchestrator is to see.

    A task that leaves and whose node is lost fills no slot: its worker cannot say when it is gone.
    """
    mode = service.spec.WhichOneof("mode")
    if mode == "global":
        return work.tasks(service.id)
    down = work.down()

    def there() -> list[task_pb2.Task]:
        return [task for task in work.tasks(service.id) if not (leaving(task) and task.node_id in down)]

    draining = drain.decide(service, there(), work.drained(), service.spec.replicated.replicas)
    for action in draining.actions:
        if isinstance(action, Remove):
            _remove(work, action.task_id, service)
    return [task for task in there() if task.id not in draining.hidden]


def _orphan(work: Pass, action: Orphan) -> None:
    log.info("task %s given up: %s", action.task_id[:12], action.reason)
    work.delete(TASK, action.task_id)


def _remove(work: Pass, task_id: str, service: service_pb2.Service | None = None) -> None:
    """Let a task go; of a service that stays its anonymous volumes wait for the slot's next task."""
    task = work.edit(TASK, task_id)
    leaves_already = leaving(task)
    task.desired_state = task_pb2.DESIRED_STATE_REMOVED
    task.keeps_volumes = task.keeps_volumes or (service is not None and _is_replaced(service, task))
    if taskreaper.task_done(task):
        work.delete(TASK, task_id)
    elif not leaves_already:
        work.put(TASK, task_id, task)


def _is_replaced(service: service_pb2.Service, task: task_pb2.Task) -> bool:
    if service.removing or service.spec.WhichOneof("mode") == "replicated_job":
        return False
    return service.spec.WhichOneof("mode") == "global" or task.slot <= service.spec.replicated.replicas


def _create(work: Pass, service: service_pb2.Service, action: Create) -> None:
    stopped = service.spec.create_stopped
    task = task_pb2.Task(
        id=work.new_id(),
        service_id=service.id,
        revision=service.revision,
        name=task_name(service.spec, action.slot),
        slot=action.slot,
        project=service.spec.project,
        service_name=service.spec.name,
        node_id=action.node_id,
        desired_state=task_pb2.DESIRED_STATE_CREATED if stopped else task_pb2.DESIRED_STATE_RUNNING,
    )
    task.status.state = task_pb2.TASK_STATE_PENDING
    task.status.since.CopyFrom(timestamp(work.now))
    task.status.message = action.reason
    work.put(TASK, task.id, task)


def _roll_back(work: Pass, service: service_pb2.Service, decision: Decision) -> service_pb2.Service:
    """Make the template before the service's again; without one the update is paused."""
    rows = [work.cache.get(REVISION, row) for row in reversed(work.cache.revisions(service.id))]
    before = next((row for row in rows if row is not None and row.revision < service.revision), None)
    if before is None:
        decision.update_state = service_pb2.UPDATE_STATE_PAUSED
        decision.update_message += "; there is no template to go back to"
        return service
    log.warning("service %s goes back to revision %d: %s", service.id, before.revision, decision.update_message)
    copy: service_pb2.Service = work.edit(SERVICE, service.id)
    copy.revision = before.revision
    copy.spec.task.CopyFrom(before.task)
    copy.meta.spec_after = service.meta.version.number
    work.put(SERVICE, service.id, copy)
    return copy


def _update_status(work: Pass, service: service_pb2.Service, decision: Decision) -> None:
    if decision.update_state is None:
        return
    status = service.update_status
    if status.state == decision.update_state and status.message == decision.update_message:
        return
    copy = work.edit(SERVICE, service.id)
    moving = (service_pb2.UPDATE_STATE_UPDATING, service_pb2.UPDATE_STATE_ROLLING_BACK)
    if decision.update_state not in moving:
        copy.update_status.completed_at.CopyFrom(timestamp(work.now))
    elif status.state != decision.update_state:
        copy.update_status.started_at.CopyFrom(timestamp(work.now))
        copy.update_status.ClearField("completed_at")
    copy.update_status.state = decision.update_state
    copy.update_status.message = decision.update_message
    work.put(SERVICE, service.id, copy)


def _reap(work: Pass, service: service_pb2.Service) -> None:
    """Delete what nobody needs any more: the service that ended, templates that nobody runs."""
    tasks = work.tasks(service.id)
    rows = work.cache.revisions(service.id)
    if taskreaper.service_done(service, tasks):
        name = name_key(SERVICE, f"{service.spec.project}/{service.spec.name}")
        others = [object_key(REVISION, row) for row in rows]
        if work.cache.get(ACCOUNT, service.id) is not None:
            others.append(object_key(ACCOUNT, service.id))
        work.delete(SERVICE, service.id, Delete(name), *map(Delete, others))
        return
    numbers = [int(row.rpartition(".")[2]) for row in rows]
    for revision in taskreaper.revisions_done(numbers, service, tasks):
        work.delete(REVISION, revision_id(service.id, revision))
