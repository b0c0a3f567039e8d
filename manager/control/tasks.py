"""Calls on tasks: what should be. Workers make it so; `status` tells how far they are."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from pycompose.manager import scheduler, states
from pycompose.manager.allocator import PortBook, at_rest, service_label, service_ports, start_conflict
from pycompose.manager.control.api import Api, ServicerContext
from pycompose.manager.control.services import port_book
from pycompose.manager.control.validate import shape
from pycompose.manager.engine import volume_homes
from pycompose.manager.model import NODE, SERVICE, TASK, Object
from pycompose.manager.orchestrator.actions import leaving
from pycompose.proto.refusal import BlockedError, InvalidError
from pycompose.proto.v1 import control_pb2, meta_pb2, task_pb2


def begin(task: task_pb2.Task) -> bool:
    """Ask for a run unless the task runs or will run; returns whether anything changed. Changes `task`."""
    if leaving(task):
        return False
    due = task.status.HasField("next_restart_at")
    waits = task.status.state not in states.ENDED or due
    if task.desired_state == task_pb2.DESIRED_STATE_RUNNING and waits and not due:
        return False
    task.desired_state = task_pb2.DESIRED_STATE_RUNNING
    task.ClearField("stop_grace_period")
    if task.status.state in states.ENDED or task.status.run:
        task.run_request = max(task.run_request, task.status.run_request) + 1
    return True


class TaskCalls:
    """Get, List, Start, Stop, Restart, Remove, Explain."""

    api: Api

    async def GetTask(
        self, request: control_pb2.GetTaskRequest, context: ServicerContext
    ) -> control_pb2.GetTaskResponse:
        """Return one task."""
        await self.api.fresh(request.stale_ok)
        return control_pb2.GetTaskResponse(task=self.api.find(TASK, request.task))

    async def ListTasks(
        self, request: control_pb2.ListTasksRequest, context: ServicerContext
    ) -> control_pb2.ListTasksResponse:
        """Return tasks by project and name."""
        await self.api.fresh(request.stale_ok)

        def labels(task: Object) -> dict[str, str]:
            service = self.api.cache.get(SERVICE, task.service_id)
            return {} if service is None else dict(service.spec.task.container.labels)

        services, node = set(request.service_ids), request.node_id

        def test(task: Object) -> bool:
            return (not services or task.service_id in services) and (not node or task.node_id == node)

        found, token = self.api.list(TASK, request, labels, test)
        return control_pb2.ListTasksResponse(tasks=found, version=self.api.version(), next_page_token=token)

    async def _change(
        self, task_ids: list[str], desired: int | None, grace: Duration | None, *, again: bool = False
    ) -> meta_pb2.Version:
        if grace is not None and (wrong := shape(grace, "grace_period")):
            raise InvalidError(wrong)

        def change(task: task_pb2.Task) -> bool:
            if leaving(task):
                return False
            before = task.SerializeToString(deterministic=True)
            if grace is not None:
                task.stop_grace_period.CopyFrom(grace)
            else:
                task.ClearField("stop_grace_period")
            if desired is not None:
                task.desired_state = desired  # type: ignore[assignment]
            if again:
                task.run_request = max(task.run_request, task.status.run_request) + 1
            return task.SerializeToString(deterministic=True) != before

        await self.api.fresh()
        return await self.api.edit(TASK, task_ids, change)

    async def StartTasks(
        self, request: control_pb2.StartTasksRequest, context: ServicerContext
    ) -> control_pb2.StartTasksResponse:
        """Start tasks that do not run."""
        await self.api.fresh()
        async with self.api.checking:
            self._check_ports(list(request.task_ids))
            version = await self.api.edit(TASK, list(request.task_ids), begin)
        return control_pb2.StartTasksResponse(version=version)

    def _check_ports(self, task_ids: list[str]) -> None:
        """Refuse to start what gave its ports back when another has them now. Raises BlockedError."""
        cache = self.api.cache
        tasks = [task for identity in task_ids if (task := cache.get(TASK, identity)) is not None]
        resting = [
            service
            for identity in dict.fromkeys(task.service_id for task in tasks)
            if (service := cache.get(SERVICE, identity)) is not None
            and at_rest(service, cache.tasks_of_service(identity))
        ]
        book = port_book(cache)
        for service in resting:
            if taken := start_conflict(service, book):
                raise BlockedError(
                    f"port {taken.port} was given back when {service_label(service.spec)} stopped, and {taken.holder} "
                    f"publishes it now; stop {taken.holder}, or choose another port in {service.spec.name}'s ports",
                    "PORT_TAKEN",
                    service.spec.name,
                )
            book.add(service_ports(service))

    async def StopTasks(
        self, request: control_pb2.StopTasksRequest, context: ServicerContext
    ) -> control_pb2.StopTasksResponse:
        """Stop tasks and keep their containers."""
        grace = request.grace_period if request.HasField("grace_period") else None
        version = await self._change(list(request.task_ids), task_pb2.DESIRED_STATE_STOPPED, grace)
        return control_pb2.StopTasksResponse(version=version)

    async def RestartTasks(
        self, request: control_pb2.RestartTasksRequest, context: ServicerContext
    ) -> control_pb2.RestartTasksResponse:
        """Stop tasks that run, and start them all."""
        grace = request.grace_period if request.HasField("grace_period") else None
        await self.api.fresh()
        async with self.api.checking:
            self._check_ports(list(request.task_ids))
            version = await self._change(list(request.task_ids), task_pb2.DESIRED_STATE_RUNNING, grace, again=True)
        return control_pb2.RestartTasksResponse(version=version)

    async def RemoveTasks(
        self, request: control_pb2.RemoveTasksRequest, context: ServicerContext
    ) -> control_pb2.RemoveTasksResponse:
        """Stop tasks and remove their containers."""
        grace = request.grace_period if request.HasField("grace_period") else None
        version = await self._change(list(request.task_ids), task_pb2.DESIRED_STATE_REMOVED, grace)
        return control_pb2.RemoveTasksResponse(version=version)

    async def ExplainTask(
        self, request: control_pb2.ExplainTaskRequest, context: ServicerContext
    ) -> control_pb2.ExplainTaskResponse:
        """Say why a task is where it is, or why it waits."""
        await self.api.fresh()
        task = self.api.find(TASK, request.task_id)
        service = self.api.require(SERVICE, task.service_id)
        cache = self.api.cache

        def others(node_id: str) -> list[task_pb2.Task]:
            return [other for other in cache.tasks_of_node(node_id) if other.id != task.id]

        infos = scheduler.node_infos(cache.all(NODE), others, lambda identity: cache.get(SERVICE, identity))
        rest = (other for other in cache.all(TASK) if other.id != task.id)
        ports = PortBook(cache.all(SERVICE), rest, cache.tasks_of_service)
        answers = scheduler.verdicts(scheduler.Demand(service, volume_homes(cache), ports), list(infos.values()))
        response = control_pb2.ExplainTaskResponse(summary=_summary(task, answers))
        for place, answer in enumerate(answers):
            response.nodes.add(
                node_id=answer.node_id,
                hostname=answer.hostname,
                suitable=answer.suitable,
                reasons=answer.reasons,
                score=-place,
                merits=answer.merits,
            )
        return response


def _summary(task: task_pb2.Task, answers: list[scheduler.Verdict]) -> str:
    state = states.name(task.status.state)
    why = task.status.error or task.status.message
    if not task.node_id:
        return f"{task.name} is {state}: {why or scheduler.summary(answers)}"
    place = next((answer.hostname for answer in answers if answer.node_id == task.node_id), task.node_id)
    return f"{task.name} is {state} on {place}" + (f": {why}" if why else "")
