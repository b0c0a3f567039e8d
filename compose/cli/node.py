"""`node`: the nodes of the cluster; the commands about this machine's node are in `node_local.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.membership import join, leave
from pycompose.compose.cli.node_local import dial_stdio, install, logs, restart, start, status, stop, uninstall
from pycompose.compose.cli.objects import as_dict, each, has_labels, inspect, outline, pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.proto.v1 import control_pb2, node_pb2

COLUMNS = {
    "ID": "ID",
    "Hostname": "HOSTNAME",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "ManagerStatus": "MANAGER STATUS",
    "EngineVersion": "ENGINE VERSION",
}
_ACTIVE = node_pb2.NODE_AVAILABILITY_ACTIVE


@group(aliases=LISTS)
def node() -> None:
    """Manage this machine's node, and list nodes."""


for _command in (start, stop, restart, status, logs, install, uninstall, dial_stdio, join, leave):
    node.add_command(_command)


@node.command("ls")
@listing("id", "name", "label", "status", "availability", short=True)
def ls(listing_: Listing) -> None:
    """List nodes."""
    with settings().client(start=False) as client:
        nodes = client.control.ListNodes(control_pb2.ListNodesRequest()).nodes
    rows = [
        {
            "ID": listing_.id(one.id),
            "Hostname": one.description.hostname,
            "Status": _word(node_pb2.NodeState.Name(one.status.state)),
            "Availability": _word(node_pb2.NodeAvailability.Name(one.spec.availability or _ACTIVE)),
            "ManagerStatus": manager_status(one),
            "EngineVersion": one.description.engine_version,
        }
        for one in nodes
        if listing_.start("id", one.id) and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    ]
    rows = [
        row
        for row in rows
        if listing_.part("name", row["Hostname"])
        and listing_.equal("status", row["Status"].lower())
        and listing_.equal("availability", row["Availability"].lower())
    ]
    listing_.print(rows, COLUMNS)


def manager_status(node: node_pb2.Node) -> str:
    """Return what a node is among the managers; "" for none of them."""
    if not node.status.HasField("manager"):
        return "Joining" if node.spec.role == node_pb2.NODE_ROLE_MANAGER and node.status.state else ""
    found = node.status.manager
    if node.spec.role == node_pb2.NODE_ROLE_WORKER:
        return "Leaving"
    return (
        "Leader" if found.leader else "Learner" if found.learner else "Reachable" if found.reachable else "Unreachable"
    )


def _word(name: str) -> str:
    return name.rpartition("_")[2].capitalize()


def _get(client: Client, name: str) -> node_pb2.Node:
    return client.control.GetNode(control_pb2.GetNodeRequest(node="" if name == "self" else name)).node


@node.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="self|NODE...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
@click.option("--pretty", is_flag=True, help="For people.")
def inspect_(names: tuple[str, ...], form: str | None, pretty: bool) -> None:
    """Print nodes as JSON."""
    with settings().client(start=False) as client:
        if pretty:
            return print("\n".join(outline(as_dict(_get(client, name))) for name in names))
        return inspect(names, lambda name: as_dict(_get(client, name)), form)


def _change(names: Sequence[str], change: Callable[[node_pb2.NodeSpec], None], force: bool = False) -> None:
    """Change nodes' specs and print their names; go on after a failure."""
    with settings().client(start=False) as client:

        def one(name: str) -> None:
            found = _get(client, name)
            change(found.spec)
            request = control_pb2.UpdateNodeRequest(
                node_id=found.id, version=found.meta.version, spec=found.spec, force=force
            )
            client.control.UpdateNode(request)

        each(names, one)


@node.command("promote")
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
def promote(names: tuple[str, ...]) -> None:
    """Make managers of nodes, beside what they are.

    Each gets its copy of the cluster's state first, and then has a vote; pycompose node ls tells how far it is.
    """
    _change(names, lambda spec: setattr(spec, "role", node_pb2.NODE_ROLE_MANAGER))


@node.command("demote")
@click.option("-f", "--force", is_flag=True, help="Also when the other managers are no majority then.")
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
def demote(force: bool, names: tuple[str, ...]) -> None:
    """Make workers of managers: they have no vote any more, and what they had of the cluster's state goes."""
    _change(names, lambda spec: setattr(spec, "role", node_pb2.NODE_ROLE_WORKER), force)


@node.command("drain")
@click.option("--undo", is_flag=True, help="Let tasks run on them again.")
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
def drain(undo: bool, names: tuple[str, ...]) -> None:
    """Move all tasks off nodes, and let no new ones on them."""
    to = _ACTIVE if undo else node_pb2.NODE_AVAILABILITY_DRAIN
    _change(names, lambda spec: setattr(spec, "availability", to))


@node.command("label")
@click.argument("name", metavar="NODE")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def label(name: str, labels: tuple[str, ...]) -> None:
    """Set labels of a node, or take them away.

    \b
    pycompose node label db-1 disk=ssd
    pycompose node label db-1 disk-
    """
    for word in labels:
        if word.partition("=")[0] in ("", "-") or ("=" not in word and not word.endswith("-")):
            raise UsageError(f"{word}: want KEY=VALUE, or KEY- to take it away")

    def change(spec: node_pb2.NodeSpec) -> None:
        spec.labels.update(pairs(word for word in labels if "=" in word))
        for word in labels:
            if "=" not in word:
                spec.labels.pop(word.removesuffix("-"), None)

    _change([name], change)


@node.command("update")
@click.option("--availability", type=click.Choice(["active", "pause", "drain"]), help="Whether tasks may run on it.")
@click.option("--label-add", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--label-rm", multiple=True, metavar="KEY", help="Take a label away.")
@click.argument("name", metavar="self|NODE")
def update(availability: str | None, label_add: tuple[str, ...], label_rm: tuple[str, ...], name: str) -> None:
    """Change a node's availability and labels."""

    def change(spec: node_pb2.NodeSpec) -> None:
        if availability:
            spec.availability = node_pb2.NodeAvailability.Value(f"NODE_AVAILABILITY_{availability.upper()}")
        spec.labels.update(pairs(label_add))
        for label in label_rm:
            spec.labels.pop(label, None)

    _change([name], change)


@node.command("ps")
@listing("id", "name", "desired-state", short=True)
@click.option("--no-resolve", is_flag=True, help="Ids of nodes in place of names.")
@click.argument("names", nargs=-1, metavar="[NODE...]")
def ps(names: tuple[str, ...], no_resolve: bool, listing_: Listing) -> None:
    """List the tasks of nodes, of all when none is named."""
    import time

    from pycompose.compose.cli.service import TASKS, task_rows

    with settings().client(start=False) as client:
        listed = control_pb2.ListNodesRequest()
        found = [_get(client, name) for name in names] if names else client.control.ListNodes(listed).nodes
        nodes = {one.id: one for one in found}
        every = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
        tasks = sorted((task for task in every if task.node_id in nodes), key=lambda task: (task.name, task.slot))
        services = client.control.ListServices(control_pb2.ListServicesRequest()).services
    images = {one.id: one.spec.task.container.image for one in services}
    hosts = {} if no_resolve else {one.id: one.description.hostname for one in nodes.values()}
    listing_.print(task_rows(tasks, images, hosts, time.time(), listing_), TASKS)


@node.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also when it is ready.")
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove nodes that are down."""
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            request = control_pb2.RemoveNodeRequest(node_id=_get(client, name).id, force=force)
            client.control.RemoveNode(request)

        each(names, remove)
