"""A node was started: what was stopped by hand and has the restart condition `any` ("always") runs again.

That is Docker's documented policy: `always` and `unless-stopped` differ only here. What gave its published port back
when it stopped stays down when another service has the port now.

https://docs.docker.com/engine/containers/start-containers-automatically/
"""

from __future__ import annotations

import logging

from pycompose.manager.allocator import at_rest, service_ports, start_conflict
from pycompose.manager.cache import Cache
from pycompose.manager.control.services import port_book
from pycompose.manager.control.tasks import begin
from pycompose.manager.model import SERVICE, TASK, Codec, object_key
from pycompose.manager.store import Compare, Operation, Store
from pycompose.proto.v1 import dispatcher_pb2, service_pb2, task_pb2

log = logging.getLogger(__name__)


def revived(cache: Cache, hello: dispatcher_pb2.SessionHello) -> list[task_pb2.Task]:
    """Return the node's stopped tasks that run again, as they will be.

    Only those that the worker knows to have been stopped before: one that is being stopped just now stays so.
    """
    before = set(hello.stopped_before_start)
    book = port_book(cache)
    kept: dict[str, bool] = {}
    found = []
    for task in sorted(cache.tasks_of_node(hello.node_id), key=lambda one: (one.project, one.service_name, one.slot)):
        service: service_pb2.Service | None = cache.get(SERVICE, task.service_id)
        stopped = task.desired_state == task_pb2.DESIRED_STATE_STOPPED
        if not stopped or service is None or task.id not in before:
            continue
        if service.removing or service.spec.task.restart.condition != service_pb2.RESTART_CONDITION_ANY:
            continue
        if service.id not in kept:
            taken = start_conflict(service, book) if at_rest(service, cache.tasks_of_service(service.id)) else None
            kept[service.id] = taken is not None
            if taken is not None:
                log.warning("%s stays stopped: port %d is published by %s now", task.name, taken.port, taken.holder)
            else:
                book.remove(service.id)
                book.add(service_ports(service))
        copy = task_pb2.Task()
        copy.CopyFrom(task)
        if not kept[service.id] and begin(copy):
            found.append(copy)
    return found


async def revive(store: Store, cache: Cache, codec: Codec, hello: dispatcher_pb2.SessionHello) -> None:
    """Write what `revived` says; a row that was changed meanwhile is looked at again."""
    while tasks := revived(cache, hello):
        part = tasks[: store.max_operations]
        compares = [Compare(object_key(TASK, task.id), task.meta.version.number) for task in part]
        operations: list[Operation] = [codec.put(TASK, task.id, task) for task in part]
        result = await store.transact(compares, operations)
        await cache.wait(result.revision.number)
