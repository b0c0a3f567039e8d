"""`secrets` and `configs`: small files of the cluster that services read; a file names them as `external`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import LISTS, Group, group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import as_dict, each, flagged, has_labels, inspect, outline, pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.words import age
from pycompose.compose.client import Client
from pycompose.proto.v1 import control_pb2, secret_pb2

LIMITS = {"secret": 500 << 10, "config": 1000 << 10}
COLUMNS = {"ID": "ID", "Name": "NAME", "Project": "PROJECT", "CreatedAt": "CREATED"}


@group(aliases=LISTS)
def secrets() -> None:
    """Manage secrets of the cluster.

    A secret is kept encrypted, is read by the services that name it, and is never printed.

    \b
    pass db | pycompose secrets create db_password -
    """


@group(aliases=LISTS)
def configs() -> None:
    """Manage configs of the cluster."""


def _call(client: Client, verb: str, kind: str, **fields: Any) -> Any:
    """Call `CreateSecret(spec=…)` and its like."""
    word = f"{verb}{kind.capitalize()}{'s' if verb == 'List' else ''}"
    return getattr(client.control, word)(getattr(control_pb2, f"{word}Request")(**fields))


def _commands(kind: str, parent: Group, spec: type[secret_pb2.SecretSpec] | type[secret_pb2.ConfigSpec]) -> None:
    """Give a group its four commands."""
    upper = kind.upper()

    @parent.command("create", help=f"Make a {kind} of a file, or of standard input (-).")
    @click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label.")
    @click.option("--template-driver", hidden=True)
    @click.option("-d", "--driver", hidden=True)
    @click.argument("name", metavar=upper)
    @click.argument("file", metavar="FILE|-", required=False)
    def create(
        labels: tuple[str, ...], template_driver: str | None, driver: str | None, name: str, file: str | None
    ) -> None:
        if driver or template_driver:
            raise UsageError(
                "--driver and --template-driver are plugins of Docker's, which are not there; leave them out"
            )
        if file is None:
            raise UsageError(f"where is the {kind}'s content? name a file, or - for standard input")
        data = _content(file, kind)
        made = spec(name=name, labels=pairs(labels), data=data)
        with settings().client() as client, flagged({"name": upper, "labels": "--label", "data": "FILE"}):
            print(getattr(_call(client, "Create", kind, spec=made), kind).id)

    @parent.command("ls", help=f"List {kind}s.")
    @listing("id", "name", "label", "project", short=True)
    def ls(listing_: Listing) -> None:
        with settings().client(start=False) as client:
            found = getattr(_call(client, "List", kind), f"{kind}s")
        now = time.time()
        rows = [
            {
                "ID": listing_.id(one.id),
                "Name": one.spec.name,
                "Project": one.spec.project,
                "CreatedAt": f"{age(now - one.meta.created_at.ToNanoseconds() / 1e9)} ago",
                "Labels": ",".join(f"{key}={value}" for key, value in sorted(one.spec.labels.items())),
            }
            for one in sorted(found, key=lambda item: item.spec.name)
            if listing_.part("name", one.spec.name)
            and listing_.start("id", one.id)
            and listing_.equal("project", one.spec.project)
            and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
        ]
        listing_.print(rows, COLUMNS)

    @parent.command("inspect", help=f"Print {kind}s as JSON{'; never their content' if kind == 'secret' else ''}.")
    @click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
    @click.option("--pretty", is_flag=True, help="For people.")
    @click.argument("names", nargs=-1, required=True, metavar=f"{upper}...")
    def inspect_(form: str | None, pretty: bool, names: tuple[str, ...]) -> None:
        with settings().client(start=False) as client:
            get = _getter(client, kind)
            if pretty:
                print("\n".join(outline(as_dict(get(name))) for name in names))
                return
            inspect(names, lambda name: as_dict(get(name)), form)

    @parent.command("rm", help=f"Remove {kind}s that no service uses.")
    @click.argument("names", nargs=-1, required=True, metavar=f"{upper}...")
    def rm(names: tuple[str, ...]) -> None:
        with settings().client(start=False) as client:
            get = _getter(client, kind)
            each(names, lambda name: _call(client, "Remove", kind, **{f"{kind}_id": get(name).id}))


def _getter(client: Client, kind: str) -> Callable[[str], Any]:
    return lambda name: getattr(_call(client, "Get", kind, **{kind: name}), kind)


def _content(file: str, kind: str) -> bytes:
    """Read what the object is to hold.

    Raises:
        CliError: it cannot be read, or is too long.
    """
    limit = LIMITS[kind]
    try:
        if file == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with open(file, "rb") as source:
                data = source.read(limit + 1)
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from None
    if len(data) > limit:
        raise CliError(f"{file}: it is too long; a {kind} has at most {limit >> 10} KiB")
    return data


_commands("secret", secrets, secret_pb2.SecretSpec)
_commands("config", configs, secret_pb2.ConfigSpec)
