"""`convert`: a loaded project to everything that it asks for."""

from __future__ import annotations

from pycompose.compose.convert import unsupported
from pycompose.compose.convert.desired import Desired, Machine, MachineFiles, order
from pycompose.compose.convert.files import secrets_and_configs, volumes
from pycompose.compose.convert.networks import networks
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.service import service
from pycompose.compose.loader import Project
from pycompose.proto.v1 import project_pb2, service_pb2


def convert(project: Project, machine: Machine | None = None) -> Desired:
    """Return what the project asks for.

    Args:
        project: as loaded, with consistency checked.
        machine: where files are read and bind sources looked for; default: this machine.

    Raises:
        ConvertError: with everything that cannot be honoured, each with its place.
    """
    machine = machine or MachineFiles()
    problems = Problems(project)
    unsupported.check_project(project, problems)
    desired = Desired(
        project=project_pb2.ProjectSpec(
            name=project.name, working_dir=project.working_dir, config_files=project.config_files
        ),
        kept=frozenset(project.disabled_services),
    )
    desired.networks, desired.external_networks = networks(project, problems)
    volumes(project, desired, problems)
    secrets_and_configs(project, desired, machine, problems)
    specs: dict[str, service_pb2.ServiceSpec] = {}
    provided = {name for name, entry in project.services.items() if entry.get("provider")}
    for name, entry in project.services.items():
        unsupported.check_service(name, entry, problems)
        if name in provided:
            for other in sorted(set(entry.get("depends_on") or ()) - provided):
                place = ("services", name, "depends_on", other)
                problems.warn(place, "a provider's program is run before containers are started; it does not wait")
            continue
        specs[name] = service(project, name, machine, problems)
        desired.places[name] = problems.place(("services", name, "image" if entry.get("image") else "build"))
        if entry.get("build"):
            desired.builds[name] = problems.place(("services", name, "build"))
            if entry.get("pull_policy") == "build":
                desired.always_built |= {name}
    problems.check()
    desired.providers = order({name: frozenset(project.services[name].get("depends_on") or ()) for name in provided})
    for spec in specs.values():
        waits = [one for one in spec.dependencies if one.service not in provided]
        del spec.dependencies[:]
        spec.dependencies.extend(waits)
    dependencies = {name: frozenset(one.service for one in spec.dependencies) for name, spec in specs.items()}
    desired.services = {name: specs[name] for name in order(dependencies)}
    desired.warnings = problems.warnings
    return desired
