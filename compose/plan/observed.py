"""A project as a watch tells it: events in, services and tasks out."""

from __future__ import annotations

from collections.abc import Collection

from pycompose.compose.plan import progress
from pycompose.compose.plan.progress import Progress
from pycompose.proto.v1 import control_pb2, service_pb2, task_pb2


class Observed:
    """The services and tasks of one project, kept up to date by `apply`."""

    def __init__(self) -> None:
        self.services: dict[str, service_pb2.Service] = {}
        self.tasks: dict[str, task_pb2.Task] = {}
        self.synchronized = False

    def apply(self, answer: control_pb2.WatchResponse) -> list[control_pb2.ObjectEvent]:
        """Take in one answer of a watch and return its events."""
        for event in answer.events:
            kind = event.WhichOneof("object")
            gone = event.type == control_pb2.EVENT_TYPE_REMOVED
            if kind == "service":
                _put(self.services, event.service, gone)
            elif kind == "task":
                _put(self.tasks, event.task, gone)
        self.synchronized = self.synchronized or answer.synchronized
        return list(answer.events)

    def forget(self) -> None:
        """Know nothing again: a new watch tells everything anew."""
        self.services.clear()
        self.tasks.clear()
        self.synchronized = False

    def by_name(self) -> dict[str, service_pb2.Service]:
        """Return the services by their name in the project."""
        return {service.spec.name: service for service in self.services.values()}

    def of(self, service_id: str) -> list[task_pb2.Task]:
        """Return a service's tasks by slot."""
        mine = [task for task in self.tasks.values() if task.service_id == service_id]
        return sorted(mine, key=lambda task: (task.slot, task.name))

    def up(
        self, service_id: str, *, wait: bool, started: bool = True, held: Collection[str] = ()
    ) -> tuple[bool, dict[str, Progress]]:
        """Return whether a service is where it should be, and the progress of its containers by their name.

        Args:
            service_id: the service.
            wait: until healthy.
            started: False: containers need only exist.
            held: ids of stopped tasks that will be started once what the service depends on is ready.
        """
        service = self.services.get(service_id)
        if service is None:
            return False, {}
        rows: dict[str, Progress] = {}
        waits = progress.waits(service.spec.dependencies, self.by_name(), list(self.tasks.values()))
        current = 0
        for task in self.of(service_id):
            if progress.leaving(task) or task.revision != service.revision:
                rows.setdefault(task.name, Progress("Recreate" if not progress.leaving(task) else "Removing"))
                continue
            current += 1
            if task.id in held:
                rows[task.name] = Progress("Waiting", waits or "to be started")
            elif started:
                rows[task.name] = progress.start(task, wait=wait, waits=waits)
            else:
                rows[task.name] = progress.created(task)
        wanted = self.wanted(service)
        everything = current == wanted if wanted is not None else current > 0
        return everything and all(row.done for row in rows.values()), rows

    @staticmethod
    def wanted(service: service_pb2.Service) -> int | None:
        """Return how many tasks a service should have; None when the nodes decide."""
        mode = service.spec.WhichOneof("mode")
        if mode == "global":
            return None
        if mode == "replicated_job":
            return service.spec.replicated_job.completions
        return service.spec.replicated.replicas


def _put(into: dict, item: service_pb2.Service | task_pb2.Task, gone: bool) -> None:  # type: ignore[type-arg]
    if gone:
        into.pop(item.id, None)
    else:
        into[item.id] = item
