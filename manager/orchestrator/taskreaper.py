"""The reaper's pure core: what may be deleted for good, so that history stays bounded.

A task that should go is deleted when its worker confirmed that the container is gone, or when no worker has it.
A service that is being removed disappears with its last task; a volume with the last node's data. Of a service's
task templates the newest KEPT_REVISIONS stay, and those that tasks still run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pycompose.manager.orchestrator.actions import leaving
from pycompose.manager.states import ENDED
from pycompose.proto.v1 import service_pb2, task_pb2, volume_pb2

KEPT_REVISIONS = 20


def revisions_done(rows: Sequence[int], service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> list[int]:
    """Return which of a service's stored template revisions (`rows`, ascending) can be deleted."""
    used = {service.revision, *(task.revision for task in tasks)}
    return [revision for revision in rows[:-KEPT_REVISIONS] if revision not in used]


def task_done(task: task_pb2.Task) -> bool:
    """Return whether the task's row can be deleted."""
    if task.status.state == task_pb2.TASK_STATE_REMOVE:
        return True
    unknown = (task_pb2.TASK_STATE_NEW, task_pb2.TASK_STATE_PENDING, task_pb2.TASK_STATE_ORPHANED)
    return leaving(task) and (not task.node_id or task.status.state in unknown)


def service_done(service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> bool:
    """Return whether the service can be deleted."""
    return bool(service.removing) and not tasks


def job_done(service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> bool:
    """Return whether the service is a job that ended and asked to be removed then."""
    mode = service.spec.replicated_job
    if not mode.remove_when_done or service.removing or len(tasks) < mode.completions:
        return False
    return all(task.status.state in ENDED and not task.status.HasField("next_restart_at") for task in tasks)


def volume_done(volume: volume_pb2.Volume) -> bool:
    """Return whether no node has the volume's data any more."""
    return bool(volume.removing) and not volume.locations
