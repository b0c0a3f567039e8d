"""`service create` and `service update`: services outside of projects, and changes of any."""

from __future__ import annotations

from typing import Any

import click

from pycompose.compose.cli import serviceflags
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import PASS_ON, command
from pycompose.compose.cli.follow import Goal, converge
from pycompose.compose.cli.images_step import find
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.pulling import pull_one
from pycompose.compose.cli.servicespec import change
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.cli.watching import follow_project
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Streams
from pycompose.compose.plan.observed import Observed
from pycompose.proto.v1 import control_pb2, secret_pb2, service_pb2


@command("create", context_settings=PASS_ON)
@click.option("--name", help="Name; default: the image's.")
@click.option("--replicas", type=click.IntRange(min=0), default=None, help="Number of tasks; default 1.")
@click.option(
    "--mode",
    type=click.Choice(["replicated", "global", "replicated-job"]),
    default="replicated",
    help="How many tasks: as --replicas, one on each node, or as many to completion.",
)
@click.option("-d", "--detach", is_flag=True, help="Do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@serviceflags.creating
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def create(
    name: str | None,
    replicas: int | None,
    mode: str,
    detach: bool,
    quiet: bool,
    image: str,
    command: tuple[str, ...],
    **values: Any,
) -> None:
    """Create a service outside of projects.

    \b
    pycompose service create --name web --replicas 3 -p 8080:80 IMAGE
    """
    from pycompose.compose.cli.inspection import split_reference

    spec = service_pb2.ServiceSpec(name=name or split_reference(image)[0].rpartition("/")[2])
    spec.task.container.image = image
    spec.task.restart.condition = service_pb2.RESTART_CONDITION_ANY
    spec.update.parallelism, spec.update.order = 1, service_pb2.UPDATE_ORDER_STOP_FIRST
    if command:
        spec.task.container.command.args.extend(command)
    if mode == "global":
        if replicas is not None:
            raise UsageError("--replicas: a global service has a task on each node; leave it out")
        getattr(spec, "global").SetInParent()
    elif mode == "replicated-job":
        spec.replicated_job.completions = 1 if replicas is None else replicas
        spec.task.restart.condition = service_pb2.RESTART_CONDITION_NONE
    else:
        spec.replicated.replicas = 1 if replicas is None else replicas
    change(spec, values)
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"create service {spec.name} of {image}"])
    with chosen.client() as client:
        _pin(chosen, client, spec, resolve=not values["no_resolve_image"], quiet=quiet)
        made = client.control.CreateService(
            control_pb2.CreateServiceRequest(spec=spec, account=_account(spec, values))
        ).service
        if not detach:
            wait_for(chosen, client, made, quiet=quiet)
        print(made.id)
    return None


@command("update")
@click.option("--image", help="Image to run.")
@click.option("--replicas", type=click.IntRange(min=0), help="Number of tasks.")
@click.option("--force", is_flag=True, help="New tasks although nothing changes.")
@click.option("--rollback", is_flag=True, help="Go back to the revision before.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@serviceflags.updating
@click.argument("name", metavar="SERVICE")
def update(
    image: str | None,
    replicas: int | None,
    force: bool,
    rollback: bool,
    detach: bool,
    quiet: bool,
    name: str,
    **values: Any,
) -> None:
    """Change a service; its tasks are replaced as its update flags say.

    \b
    pycompose service update --image app:2 web
    pycompose service update --env-add LEVEL=debug --limit-memory 512m shop/web
    """
    chosen = settings()
    with chosen.client(start=False) as client:
        one = client.control.GetService(control_pb2.GetServiceRequest(service=name)).service
        spec = service_pb2.ServiceSpec()
        spec.CopyFrom(one.spec)
        if image is not None:
            spec.task.container.image = image
        if replicas is not None:
            _scale(one, spec, replicas)
        spec.force_recreate += force
        change(spec, values)
        if rollback and (spec != one.spec):
            raise UsageError("--rollback takes the service back as it was; leave the other flags out")
        if chosen.dry_run:
            return chosen.would([f"update service {full_name(one)}"])
        if rollback:
            back = control_pb2.RollbackServiceRequest(service_id=one.id, version=one.meta.version)
            changed = client.control.RollbackService(back).service
        else:
            if image is not None:
                spec.task.container.image_digest = ""
                _pin(chosen, client, spec, resolve=not values["no_resolve_image"], quiet=quiet)
            request = control_pb2.UpdateServiceRequest(
                service_id=one.id, version=one.meta.version, spec=spec, account=_account(spec, values)
            )
            changed = client.control.UpdateService(request).service
        if one.spec.project:
            chosen.tell(f"the next up of project {one.spec.project} makes it again what the file says")
        if not detach:
            wait_for(chosen, client, changed, quiet=quiet)
        print(name)
    return None


def _scale(one: service_pb2.Service, spec: service_pb2.ServiceSpec, replicas: int) -> None:
    if one.spec.WhichOneof("mode") == "global":
        raise UsageError(f"--replicas: service {full_name(one)} is global: it has a task on each node")
    if one.spec.WhichOneof("mode") == "replicated_job":
        spec.replicated_job.completions = replicas
    else:
        spec.replicated.replicas = replicas


def _pin(chosen: Settings, client: Client, spec: service_pb2.ServiceSpec, *, resolve: bool, quiet: bool) -> None:
    """Have the image on the node, with the caller's accounts, and name it by its digest."""
    if not resolve:
        return
    container = spec.task.container
    local = find(client, container.image)
    with chosen.display("Pulling", quiet=quiet) as display:
        container.image_digest = local.id if local else pull_one(client, container.image, "", display).image.id


def _account(spec: service_pb2.ServiceSpec, values: dict[str, Any]) -> secret_pb2.RegistryAccount | None:
    """Return the caller's account for the image's registry, where it is to go with the service.

    Raises:
        CliError: there is none.
    """
    if not values["with_registry_auth"]:
        return None
    from pycompose.compose.client.credentials import Wallet, registry_of

    registry = registry_of(spec.task.container.image)
    credentials = Wallet().of(spec.task.container.image)
    if credentials is None:
        raise CliError(f"--with-registry-auth: there is no account for {registry}; pycompose login {registry}")
    return secret_pb2.RegistryAccount(registry=registry, credentials=credentials)


def full_name(one: service_pb2.Service) -> str:
    """Return PROJECT/NAME, or NAME alone."""
    return f"{one.spec.project}/{one.spec.name}" if one.spec.project else one.spec.name


def wait_for(chosen: Settings, client: Client, one: service_pb2.Service, *, quiet: bool = False) -> None:
    """Wait until a service is up, with a display."""
    with interrupts_into(Streams()) as streams, chosen.display(quiet=quiet) as display:
        follow_project(client, streams, one.spec.project)
        converge(client, streams, Observed(), Goal([one.id]), display)
