"""`network`: networks of the node or cluster."""

from __future__ import annotations

from typing import Any

import click

from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import Pruning, as_dict, each, flagged, has_labels, inspect, pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.proto.v1 import control_pb2, network_pb2

_FLAGS = {
    "name": "NAME",
    "driver": "--driver",
    "driver_options": "--opt",
    "subnets": "--subnet",
    "gateway": "--gateway",
    "ip_range": "--ip-range",
    "aux_addresses": "--aux-address",
    "labels": "--label",
    "enable_ipv6": "--ipv6",
}
COLUMNS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Subnet": "SUBNET"}


@group(aliases=LISTS)
def network() -> None:
    """Manage networks."""


def _get(client: Client, name: str) -> network_pb2.Network:
    return client.control.GetNetwork(control_pb2.GetNetworkRequest(network=name)).network


@network.command("ls")
@listing("name", "driver", "label", "id", "project", short=True)
def ls(listing_: Listing) -> None:
    """List networks."""
    with settings().client(start=False) as client:
        found = client.control.ListNetworks(control_pb2.ListNetworksRequest()).networks
    rows = [
        {
            "ID": listing_.id(one.id),
            "Name": one.spec.name,
            "Driver": one.spec.driver or "bridge",
            "Scope": "local",
            "Subnet": ", ".join(subnet.subnet for subnet in one.subnets),
            "Internal": one.spec.internal,
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(one.spec.labels.items())),
        }
        for one in sorted(found, key=lambda item: item.spec.name)
        if _matches(one, listing_)
    ]
    listing_.print(rows, COLUMNS)


def _matches(one: network_pb2.Network, listing_: Listing) -> bool:
    return (
        listing_.part("name", one.spec.name)
        and listing_.equal("driver", (one.spec.driver or "bridge"))
        and listing_.equal("project", one.spec.project)
        and listing_.start("id", one.id)
        and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    )


@network.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
@click.option("-v", "--verbose", is_flag=True, help="Accepted: everything is always shown.")
def inspect_(names: tuple[str, ...], form: str | None, verbose: bool) -> None:
    """Print networks as JSON."""
    with settings().client(start=False) as client:
        inspect(names, lambda name: description(client, name), form)


def description(client: Client, name: str) -> dict[str, Any]:
    """Return a network in the shape of `docker network inspect`."""
    one = _get(client, name)
    tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
    return {
        "Name": one.spec.name,
        "Id": one.id,
        "Created": one.meta.created_at.ToJsonString(),
        "Driver": one.spec.driver or "bridge",
        "EnableIPv6": one.spec.enable_ipv6,
        "Internal": one.spec.internal,
        "Attachable": one.spec.attachable,
        "IPAM": {"Config": [{"Subnet": subnet.subnet, "Gateway": subnet.gateway} for subnet in one.subnets]},
        "Options": dict(one.spec.driver_options),
        "Labels": dict(one.spec.labels),
        "Containers": {
            task.id: {"Name": task.name, "IPv4Address": place.address, "MacAddress": place.mac_address}
            for task in tasks
            for place in task.attachments
            if place.network_id == one.id
        },
        "Network": as_dict(one),
    }


@network.command("create")
@click.option("-d", "--driver", default="bridge", help="bridge or overlay (default bridge).")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="Option of the driver.")
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="Subnet.")
@click.option("--gateway", "gateways", multiple=True, metavar="ADDRESS", help="Gateway of the subnet.")
@click.option("--ip-range", "ranges", multiple=True, metavar="CIDR", help="Part of the subnet to allocate from.")
@click.option("--aux-address", "aux", multiple=True, metavar="NAME=ADDRESS", help="Address never allocated.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label.")
@click.option("--internal", is_flag=True, help="No way out.")
@click.option("--attachable", is_flag=True, help="Containers outside of services may attach.")
@click.option("--ipv6", is_flag=True, help="Also IPv6 addresses.")
@click.option("--ipam-driver", default="default", help="Accepted when it says default (default default).")
@click.option("--ipam-opt", multiple=True, metavar="KEY=VALUE", help="Not possible: no address driver takes any.")
@click.option("--scope", help="Accepted when it says local or swarm.")
@click.option("--config-from", help="Not possible: networks are described where they are made.")
@click.option("--config-only", is_flag=True, help="Not possible: networks are described where they are made.")
@click.option("--ingress", is_flag=True, help="Not possible: published ports need no network of their own.")
@click.argument("name")
def create(
    driver: str,
    options: tuple[str, ...],
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ranges: tuple[str, ...],
    aux: tuple[str, ...],
    labels: tuple[str, ...],
    internal: bool,
    attachable: bool,
    ipv6: bool,
    ipam_driver: str,
    ipam_opt: tuple[str, ...],
    scope: str | None,
    config_from: str | None,
    config_only: bool,
    ingress: bool,
    name: str,
) -> None:
    """Create a network."""
    if ipam_driver != "default" or ipam_opt or scope not in (None, "local", "swarm"):
        raise UsageError("--ipam-driver, --ipam-opt and --scope: there is one way to give addresses; leave them out")
    if config_from or config_only or ingress:
        raise UsageError("--config-from, --config-only and --ingress are not possible here; leave them out")
    if (gateways or ranges or aux) and not subnets:
        raise CliError("--gateway, --ip-range and --aux-address are parts of a --subnet; name that, too")
    spec = network_pb2.NetworkSpec(
        name=name,
        driver=driver,
        driver_options=pairs(options),
        labels=pairs(labels),
        internal=internal,
        attachable=attachable,
        enable_ipv6=ipv6,
    )
    for index, subnet in enumerate(subnets):
        spec.subnets.add(
            subnet=subnet,
            gateway=gateways[index] if index < len(gateways) else "",
            ip_range=ranges[index] if index < len(ranges) else "",
            aux_addresses=pairs(aux) if index == 0 else {},
        )
    with settings().client() as client, flagged(_FLAGS):
        print(client.control.CreateNetwork(control_pb2.CreateNetworkRequest(spec=spec)).network.id)


@network.command("rm")
@click.option("-f", "--force", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove networks."""
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            identity = _get(client, name).id
            client.control.RemoveNetwork(control_pb2.RemoveNetworkRequest(network_id=identity))

        each(names, remove)


@network.command("prune")
@click.option("--filter", "texts", multiple=True, metavar="KEY=VALUE", help="By until, label, label!.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(texts: tuple[str, ...], force: bool) -> None:
    """Remove networks that no service uses."""
    wanted = Pruning(texts, until=True)
    with settings().client(start=False) as client:
        services = client.control.ListServices(control_pb2.ListServicesRequest()).services
        used = {place.network for service in services for place in service.spec.task.networks}
        found = client.control.ListNetworks(control_pb2.ListNetworksRequest()).networks
        unused = [one for one in found if one.spec.name not in used and wanted.takes(one.meta, one.spec.labels)]
        if unused and not force:
            confirm(f"remove networks {', '.join(one.spec.name for one in unused)}?", "--force")
        for one in unused:
            try:
                client.control.RemoveNetwork(control_pb2.RemoveNetworkRequest(network_id=one.id))
            except ClientError:
                # somebody began to use it in between
                continue
            print(one.spec.name)


_NOT_LATER = (
    "a container is on the networks that its service names, from its start to its end; change networks in the file and "
    "run pycompose up, or make the container anew with container run --network"
)


@network.command("connect", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS] NETWORK CONTAINER")
def connect(words: tuple[str, ...]) -> None:
    """Join a running container to a network (not there)."""
    raise CliError(_NOT_LATER)


@network.command("disconnect")
@click.option("-f", "--force", is_flag=True, help="Also when it does not answer.")
@click.argument("words", nargs=-1, metavar="NETWORK CONTAINER")
def disconnect(force: bool, words: tuple[str, ...]) -> None:
    """Take a running container off a network (not there)."""
    raise CliError(_NOT_LATER)
