"""Draining: tasks leave a node that the operator took out, one slot of a service at a time.

Start-first, the new task comes up on another node before the old one leaves; stop-first the other way round. It is
stop-first where two cannot be at once (see `update`), where a task writes to a volume or a folder of the machine, and
where the service's update says so; by default start-first where a healthcheck tells when the new one is up. The next
slot's turn comes when the slot before is up again. A slot whose new task cannot be placed holds up the others: what
still serves is not stopped for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pycompose.manager import states
from pycompose.manager.orchestrator.actions import Action, Remove, by_slot, leaving
from pycompose.manager.orchestrator.update import needs_stop_first
from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2


@dataclass
class Draining:
    """`actions`: what to do; `hidden`: ids of old tasks beside which the slot gets a new one, as if it were empty."""

    actions: list[Action] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)


def decide(
    service: service_pb2.Service, tasks: Sequence[task_pb2.Task], drained: Collection[str], wanted: int
) -> Draining:
    """Return what takes a service's tasks off drained nodes. `wanted`: number of slots.

    A job's tasks, which have no replacement to wait for, leave at once; what has ended stays. A global service's are
    its orchestrator's.
    """
    found = Draining()
    if service.spec.WhichOneof("mode") == "replicated_job":
        here = [task for task in tasks if task.node_id in drained and not leaving(task) and _serves(task)]
        found.actions += [Remove(task.id, "its node is drained") for task in here]
        return found
    if service.removing or not any(task.node_id in drained for task in tasks):
        return found
    slots = {slot: members for slot, members in by_slot(tasks).items() if slot <= wanted}
    old = {
        slot: [task for task in members if task.node_id in drained and not leaving(task)]
        for slot, members in slots.items()
    }
    room = max(1, service.spec.update.parallelism) - _on_the_way(slots, old, drained)
    for slot, leavers in sorted(old.items()):
        new = [task for task in slots[slot] if task.node_id not in drained and not leaving(task)]
        if not leavers:
            continue
        if new and states.up(new[0].status):
            found.actions += [Remove(task.id, "drained; its replacement is up") for task in leavers]
        elif new:
            found.hidden |= {task.id for task in leavers}
        elif not any(_serves(task) for task in leavers) or (room > 0 and not starts_first(service.spec)):
            found.actions += [Remove(task.id, "its node is drained") for task in leavers]
            room -= 1
        elif room > 0:
            found.hidden |= {task.id for task in leavers}
            room -= 1
    return found


def _on_the_way(
    slots: Mapping[int, Sequence[task_pb2.Task]],
    old: Mapping[int, Sequence[task_pb2.Task]],
    drained: Collection[str],
) -> int:
    """How many slots are between their old and their new task."""
    count = 0
    for slot, members in slots.items():
        staying = [task for task in members if not leaving(task)]
        new = [task for task in staying if task.node_id not in drained]
        begun = any(leaving(task) and task.node_id in drained for task in members) or (old[slot] and new)
        count += bool(begun or (new and all(not _settled(task) for task in new)))
    return count


def _serves(task: task_pb2.Task) -> bool:
    return task.desired_state == task_pb2.DESIRED_STATE_RUNNING and task.status.state not in states.ENDED


def _settled(task: task_pb2.Task) -> bool:
    return states.up(task.status) or not _serves(task)


def starts_first(spec: service_pb2.ServiceSpec) -> bool:
    """Return whether a new task comes before the old one leaves."""
    if needs_stop_first(spec) or any(_writes_here(mount) for mount in spec.task.container.mounts):
        return False
    if spec.update.order:
        return bool(spec.update.order == service_pb2.UPDATE_ORDER_START_FIRST)
    return spec.task.container.HasField("healthcheck")


def _writes_here(mount: container_pb2.Mount) -> bool:
    """Whether a mount is data on the machine that the task may change."""
    local = (container_pb2.MOUNT_TYPE_VOLUME, container_pb2.MOUNT_TYPE_BIND)
    return mount.type in local and bool(mount.source) and not mount.read_only
