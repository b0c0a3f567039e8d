"""`volume`: named volumes."""

from __future__ import annotations

import secrets
from typing import Any

import click

from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import Pruning, as_dict, each, flagged, has_labels, inspect, pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.proto.v1 import control_pb2, volume_pb2

COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@group(aliases=LISTS)
def volume() -> None:
    """Manage volumes."""


def _get(client: Client, name: str) -> volume_pb2.Volume:
    return client.control.GetVolume(control_pb2.GetVolumeRequest(volume=name)).volume


def _used(client: Client) -> set[str]:
    services = client.control.ListServices(control_pb2.ListServicesRequest()).services
    return {mount.source for service in services for mount in service.spec.task.container.mounts}


@volume.command("ls")
@listing("name", "label", "dangling", "project", "driver", quiet="names", short=True)
def ls(listing_: Listing) -> None:
    """List volumes."""
    with settings().client(start=False) as client:
        found = client.control.ListVolumes(control_pb2.ListVolumesRequest()).volumes
        used = _used(client) if "dangling" in listing_.wanted else set()
    rows = [
        row(one)
        for one in sorted(found, key=lambda item: item.spec.name)
        if listing_.part("name", one.spec.name)
        and listing_.equal("project", one.spec.project)
        and listing_.equal("driver", (one.spec.driver or "local"))
        and listing_.equal("dangling", str(one.spec.name not in used).lower())
        and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    ]
    listing_.print(rows, COLUMNS, name="Name")


def row(one: volume_pb2.Volume) -> dict[str, str]:
    """Return a volume's fields, named as Docker's `volume ls --format json`."""
    return {
        "Driver": one.spec.driver or "local",
        "Name": one.spec.name,
        "Mountpoint": next((place.mountpoint for place in one.locations), ""),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(one.spec.labels.items())),
        "Scope": "local",
    }


@volume.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
def inspect_(names: tuple[str, ...], form: str | None) -> None:
    """Print volumes as JSON."""
    with settings().client(start=False) as client:

        def get(name: str) -> dict[str, Any]:
            one = _get(client, name)
            return {
                "Name": one.spec.name,
                "Driver": one.spec.driver or "local",
                "CreatedAt": one.meta.created_at.ToJsonString(),
                "Mountpoint": next((place.mountpoint for place in one.locations), ""),
                "Labels": dict(one.spec.labels),
                "Options": dict(one.spec.driver_options),
                "Scope": "local",
                "Volume": as_dict(one),
            }

        inspect(names, get, form)


@volume.command("create")
@click.option("-d", "--driver", default="local", help="local (default local).")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="type=, device= and o= as mount(8).")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label.")
@click.argument("name", required=False)
def create(driver: str, options: tuple[str, ...], labels: tuple[str, ...], name: str | None) -> None:
    """Create a volume."""
    spec = volume_pb2.VolumeSpec(
        name=name or secrets.token_hex(32), driver=driver, driver_options=pairs(options), labels=pairs(labels)
    )
    flags = {"name": "VOLUME", "driver": "--driver", "driver_options": "--opt", "labels": "--label"}
    with settings().client() as client, flagged(flags):
        print(client.control.CreateVolume(control_pb2.CreateVolumeRequest(spec=spec)).volume.spec.name)


@volume.command("rm")
@click.option("-f", "--force", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove volumes, with their data."""
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            identity = _get(client, name).id
            client.control.RemoveVolume(control_pb2.RemoveVolumeRequest(volume_id=identity))

        each(names, remove)


@volume.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those with a name of their own.")
@click.option("--filter", "texts", multiple=True, metavar="KEY=VALUE", help="By label, label!.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(everything: bool, texts: tuple[str, ...], force: bool) -> None:
    """Remove anonymous volumes that nothing uses (-a: all)."""
    wanted = Pruning(texts)
    with settings().client(start=False) as client:
        used = _used(client)
        found = client.control.ListVolumes(control_pb2.ListVolumesRequest()).volumes
        unused = [one for one in found if one.spec.name not in used and (everything or one.spec.anonymous)]
        unused = [one for one in unused if wanted.takes(one.meta, one.spec.labels)]
        if unused and not force:
            confirm(f"delete the data of {', '.join(one.spec.name for one in unused)}?", "--force")
        for one in unused:
            try:
                client.control.RemoveVolume(control_pb2.RemoveVolumeRequest(volume_id=one.id))
            except ClientError:
                # a container still uses it
                continue
            print(one.spec.name)
