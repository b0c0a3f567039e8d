"""Reading what there is: a project's current objects, and single objects by name."""

from __future__ import annotations

from pycompose.compose.client.connection import Client
from pycompose.compose.client.errors import ApiError, NotThereError
from pycompose.compose.labels import SERVICE
from pycompose.compose.plan.current import Current
from pycompose.proto.v1 import control_pb2, service_pb2, task_pb2


def fetch(client: Client, project: str) -> Current:
    """Return everything that planning a change of `project` must know."""
    control = client.control
    only = control_pb2.ObjectFilter(project=project)
    current = Current()
    try:
        current.project = control.GetProject(control_pb2.GetProjectRequest(project=project)).project
    except NotThereError:
        current.project = None
    services = control.ListServices(control_pb2.ListServicesRequest(filter=only)).services
    current.services = {service.spec.name: service for service in services}
    current.tasks = list(control.ListTasks(control_pb2.ListTasksRequest(filter=only)).tasks)
    networks = control.ListNetworks(control_pb2.ListNetworksRequest()).networks
    current.networks = {network.spec.name: network for network in networks}
    volumes = control.ListVolumes(control_pb2.ListVolumesRequest()).volumes
    current.volumes = {volume.spec.name: volume for volume in volumes if not volume.removing}
    secrets = control.ListSecrets(control_pb2.ListSecretsRequest()).secrets
    current.secrets = {secret.spec.name: secret for secret in secrets}
    configs = control.ListConfigs(control_pb2.ListConfigsRequest()).configs
    current.configs = {config.spec.name: config for config in configs}
    return current


def several_nodes(client: Client) -> bool:
    """Return whether containers may run on more than one machine."""
    return len(client.control.ListNodes(control_pb2.ListNodesRequest()).nodes) > 1


def services_and_tasks(
    client: Client, project: str, names: tuple[str, ...] = ()
) -> tuple[list[service_pb2.Service], list[task_pb2.Task]]:
    """Return a project's services (only those named) and their tasks by service and slot.

    Raises:
        ApiError: a named service does not exist.
    """
    only = control_pb2.ObjectFilter(project=project)
    services = list(client.control.ListServices(control_pb2.ListServicesRequest(filter=only)).services)
    tasks = list(client.control.ListTasks(control_pb2.ListTasksRequest(filter=only)).tasks)
    if names:
        there = {service.spec.name for service in services}
        for name in names:
            if name not in there:
                known = f"it has {', '.join(sorted(there))}" if there else "nothing of it runs; pycompose up starts it"
                raise ApiError(f'no service "{name}" in project {project}; {known}', "NOT_FOUND")
        services = [service for service in services if service.spec.name in names]
    ids = {service.id for service in services}
    mine = [task for task in tasks if task.service_id in ids]
    return services, sorted(mine, key=lambda task: (task.service_name, task.slot, task.name))


def tasks_of(client: Client, project: str, service: str, *, oneoff: bool = False) -> list[task_pb2.Task]:
    """Return the tasks of a service by slot; with `oneoff` also those of its one-off runs.

    Raises:
        ApiError: there is no such service or container.
    """
    from pycompose.compose.plan.current import is_oneoff
    from pycompose.compose.plan.progress import leaving

    services, tasks = services_and_tasks(client, project)
    chosen = {
        one.id
        for one in services
        if one.spec.name == service
        or (oneoff and is_oneoff(one) and one.spec.task.container.labels.get(SERVICE) == service)
    }
    if not chosen:
        services_and_tasks(client, project, (service,))
    found = [task for task in tasks if task.service_id in chosen and not leaving(task)]
    if not found:
        raise ApiError(f"service {service} has no container; pycompose up makes it", "NOT_FOUND")
    return found


def task_of(client: Client, project: str, service: str, index: int = 0) -> task_pb2.Task:
    """Return one task of a service: number `index` from 1, or with 0 the first that runs.

    Raises:
        ApiError: there is no such service or container.
    """
    from pycompose.compose.plan.progress import leaving, running

    _, tasks = services_and_tasks(client, project, (service,))
    tasks = [task for task in tasks if not leaving(task)]
    if index:
        for task in tasks:
            if task.slot == index:
                return task
        have = ", ".join(str(task.slot) for task in tasks) or "none"
        raise ApiError(f"service {service} has no container number {index}; it has {have}", "NOT_FOUND")
    for task in sorted(tasks, key=lambda one: not running(one)):
        return task
    raise ApiError(f"service {service} has no container; pycompose up makes it", "NOT_FOUND")
