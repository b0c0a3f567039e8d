"""In which order services are stopped: those that depend on others first."""

from __future__ import annotations

from collections.abc import Iterable

from pycompose.proto.v1 import service_pb2


def levels(services: Iterable[service_pb2.Service], *, stopping: bool = True) -> list[list[service_pb2.Service]]:
    """Return services in groups; each group may be handled once the group before it is done.

    Args:
        services: of one project.
        stopping: dependents first; False: what they depend on first.
    """
    left = {service.spec.name: service for service in services}
    groups = []
    while left:
        ready = [
            service
            for service in left.values()
            if not any(one.service in left and one.service != service.spec.name for one in service.spec.dependencies)
        ]
        # a cycle cannot be ordered: all at once
        ready = ready or list(left.values())
        groups.append(ready)
        for service in ready:
            del left[service.spec.name]
    return groups[::-1] if stopping else groups
