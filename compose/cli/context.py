"""`context`: names for clusters and nodes, and which of them commands talk to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import each, inspect
from pycompose.compose.cli.saying import say
from pycompose.compose.cli.settings import settings
from pycompose.compose.client.addresses import parse
from pycompose.compose.client.connection import own_socket
from pycompose.compose.client.contexts import (
    CA,
    CERT,
    DEFAULT,
    KEY,
    PROOFS,
    Context,
    ContextError,
    Contexts,
    check_addresses,
    check_name,
    choose,
)

COLUMNS = {"Name": "NAME", "Description": "DESCRIPTION", "Endpoints": "ENDPOINTS", "Error": "ERROR"}
_DOCKER_KEYS = ("host", "ca", "cert", "key")


@group(aliases=LISTS)
def context() -> None:
    """Choose the cluster that commands talk to.

    A context has the addresses of a cluster's managers and a certificate; the first manager that answers is used.

    \b
    pycompose context create prod --endpoint ssh://root@node-1
    pycompose context use prod                   from now on
    pycompose -c prod ps                         for one command
    """


def _shaping(function: Any) -> Any:
    """Add the flags that say what a context is."""
    for option in (
        click.option("--docker", metavar="KEY=VALUE,...", help="As docker context has it: host=, ca=, cert=, key=."),
        click.option("--ca", metavar="FILE", help="The cluster's CA certificate."),
        click.option("--key", metavar="FILE", help="The client's key."),
        click.option("--cert", metavar="FILE", help="The client's certificate."),
        click.option(
            "--endpoint",
            "endpoints",
            multiple=True,
            metavar="ADDRESS",
            help="HOST[:7420] of a manager, ssh://USER@HOST or unix:///PATH; several: any of them.",
        ),
        click.option("--description", metavar="TEXT", help="For people."),
    ):
        function = option(function)
    return function


@context.command("create")
@_shaping
@click.option("--from", "origin", metavar="CONTEXT", help="Begin with a copy of another.")
@click.option("--from-node", is_flag=True, help="Of the cluster that commands talk to now, with a new certificate.")
@click.argument("name")
def create(
    description: str | None,
    endpoints: tuple[str, ...],
    cert: str | None,
    key: str | None,
    ca: str | None,
    docker: str | None,
    origin: str | None,
    from_node: bool,
    name: str,
) -> None:
    """Make a context.

    \b
    pycompose context create lab --endpoint ssh://root@lab-1
    pycompose context create laptop --from-node          on a node, after cluster init
    """
    contexts = Contexts.of_user()
    made, proofs = Context(name), dict[str, bytes]()
    if origin:
        source = contexts.get(origin)
        made, proofs = replace(source, name=name), _proofs_of(source)
    check_name(name)
    if from_node:
        made, proofs = _of_node(name)
    made, given = _shaped(made, description, endpoints, {"cert": cert, "key": key, "ca": ca}, docker)
    proofs.update(given)
    if not made.addresses:
        raise UsageError("name a manager: --endpoint HOST:7420 or --endpoint ssh://USER@HOST")
    _check_proofs(proofs)
    check_addresses(made.addresses, proves=bool(proofs))
    contexts.save(made, proofs)
    print(name)
    settings().tell(f"pycompose context use {name} makes it the one that commands talk to")


def _of_node(name: str) -> tuple[Context, dict[str, bytes]]:
    """Return a context of the cluster that is talked to now, with a certificate of its own."""
    from pycompose.compose.cli.cluster import certificate_for

    with settings().client(start=False) as client:
        files, answer = certificate_for(client, name)
    places = {"cert": CERT, "key": KEY, "ca": CA}
    made = Context(name, tuple(parse(one) for one in answer.managers), cluster=answer.cluster_id)
    return made, {places[word]: data for word, data in files.items()}


@context.command("update")
@_shaping
@click.argument("name")
def update(
    description: str | None,
    endpoints: tuple[str, ...],
    cert: str | None,
    key: str | None,
    ca: str | None,
    docker: str | None,
    name: str,
) -> None:
    """Change a context."""
    contexts = Contexts.of_user()
    before = contexts.get(name)
    if name == DEFAULT:
        raise CliError(f'"{DEFAULT}" is this machine\'s node and cannot be changed')
    made, proofs = _shaped(before, description, endpoints, {"cert": cert, "key": key, "ca": ca}, docker)
    if proofs:
        _check_proofs({**_proofs_of(before), **proofs})
    check_addresses(made.addresses, proves=before.proves() or bool(proofs))
    contexts.save(made, proofs, replace=True)
    print(name)


def _shaped(
    made: Context,
    description: str | None,
    endpoints: Sequence[str],
    files: Mapping[str, str | None],
    docker: str | None,
) -> tuple[Context, dict[str, bytes]]:
    """Return a context changed by the flags, and the PEM files that they name."""
    named = {word: path for word, path in files.items() if path}
    addresses = list(endpoints)
    for pair in docker.split(",") if docker else ():
        word, equals, value = pair.partition("=")
        if not equals or word not in _DOCKER_KEYS:
            raise UsageError(f"--docker {pair}: want KEY=VALUE with one of {', '.join(_DOCKER_KEYS)}")
        if word == "host":
            addresses.append(value)
        else:
            named[word] = value
    if addresses:
        made = replace(made, addresses=tuple(parse(one) for one in addresses))
    if description is not None:
        made = replace(made, description=description)
    places = {"cert": CERT, "key": KEY, "ca": CA}
    return made, {places[word]: _file(f"--{word}", path) for word, path in named.items()}


def _file(flag: str, path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CliError(f"{flag} {path}: {error.strerror}") from None
    if b"-----BEGIN " not in data:
        raise CliError(f"{flag} {path}: this is no PEM file (-----BEGIN …)")
    return data


def _check_proofs(proofs: Mapping[str, bytes]) -> None:
    if proofs and set(proofs) != set(PROOFS):
        raise UsageError("certificate, key and CA go together: --cert FILE --key FILE --ca FILE")


def _proofs_of(one: Context) -> dict[str, bytes]:
    if not one.proves() or one.folder is None:
        return {}
    try:
        return {name: (one.folder / name).read_bytes() for name in PROOFS}
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from None


@context.command("use")
@click.argument("name")
def use(name: str) -> None:
    """Make a context the one that commands talk to; "default" is this machine's node."""
    Contexts.of_user().use(name)
    print(name)
    for variable in ("PYCOMPOSE_HOST", "PYCOMPOSE_CONTEXT"):
        if os.environ.get(variable):
            say(f"warning: {variable} is set and goes before the context in use; unset it, or give -c {name}")


@context.command("show")
def show() -> None:
    """Print the name of the context that commands talk to."""
    print(_chosen().context)


def _chosen() -> Any:
    chosen = settings()
    return choose(chosen.context, chosen.host, os.environ, Contexts.of_user().current())


@context.command("ls")
@listing("name", quiet="names")
def ls(listing_: Listing) -> None:
    """List contexts; the one that commands talk to has a star."""
    contexts, choice = Contexts.of_user(), _chosen()
    rows = []
    for name in [DEFAULT, *contexts.names()]:
        if not listing_.part("name", name):
            continue
        here = name == choice.context and not choice.host
        row: dict[str, Any] = {"Name": name, "Current": here, "Description": "", "Endpoints": "", "Error": ""}
        try:
            one = contexts.get(name)
            where = ", ".join(str(address) for address in one.addresses) or f"unix://{own_socket()}"
            row.update({"Description": one.description, "Endpoints": where})
        except ContextError as error:
            row["Error"] = str(error)
        rows.append(row)
    if listing_.form == "table" and not listing_.quiet:
        rows = [{**row, "Name": f"{row['Name']} *" if row["Current"] else row["Name"]} for row in rows]
    columns = {key: title for key, title in COLUMNS.items() if key != "Error" or any(row["Error"] for row in rows)}
    listing_.print(rows, columns, name="Name")
    if choice.host:
        settings().tell(f"{choice.why} names {choice.host}, which goes before the context in use")


@context.command("inspect")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
@click.argument("names", nargs=-1, metavar="[CONTEXT...]")
def inspect_(form: str | None, names: tuple[str, ...]) -> None:
    """Print contexts as JSON; the current one when none is named. Keys are not printed."""
    contexts = Contexts.of_user()

    def get(name: str) -> dict[str, Any]:
        from datetime import UTC, datetime

        from pycompose.compose.client.diagnosis import validity

        one = contexts.get(name)
        found: dict[str, Any] = {
            "Name": one.name,
            "Description": one.description,
            "Endpoints": [str(address) for address in one.addresses] or [f"unix://{own_socket()}"],
            "Cluster": one.cluster,
        }
        if one.folder is not None:
            found["Folder"] = str(one.folder)
        valid = validity(one.folder / CERT) if one.folder is not None and one.proves() else None
        if valid is not None:
            begins, ends = (datetime.fromtimestamp(moment, UTC).isoformat() for moment in valid)
            found["Certificate"] = {"NotBefore": begins, "NotAfter": ends}
        return found

    inspect(names or (_chosen().context,), get, form)


@context.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also the one in use.")
@click.argument("names", nargs=-1, required=True, metavar="CONTEXT...")
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove contexts, with their keys."""
    contexts = Contexts.of_user()

    def remove(name: str) -> None:
        if name == contexts.current() and not force:
            raise ContextError(f'"{name}" is in use; choose another first (pycompose context use), or use -f')
        contexts.remove(name)

    each(names, remove)


@context.command("export")
@click.argument("name")
@click.argument("target", required=False, metavar="[FILE|-]")
def export(name: str, target: str | None) -> None:
    """Write a context with its certificate and key into a file (NAME.pycontext); "-": to standard output.

    Who has the file has the rights of the context.
    """
    from pycompose.compose.client.contextfiles import pack

    one = Contexts.of_user().get(name)
    if name == DEFAULT:
        raise CliError(f'"{DEFAULT}" is this machine\'s node; there is nothing to export')
    data = pack(one, _proofs_of(one))
    if target == "-":
        if sys.stdout.isatty():
            raise UsageError("a context is not for a terminal; name a file, or send it into a pipe")
        sys.stdout.buffer.write(data)
        return
    path = target or f"{name}.pycontext"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CliError(f"{path} exists already; name another file") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    print(path)
    if one.proves():
        say(f"warning: {path} has a key: who has it has all rights of the context; remove it once it is imported")


@context.command("import")
@click.argument("name")
@click.argument("source", metavar="FILE|-")
def import_(name: str, source: str) -> None:
    """Make a context of what `context export` wrote."""
    from pycompose.compose.client.contextfiles import MOST_BYTES, unpack

    try:
        if source == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CliError(f"{source}: {error.strerror}") from None
    try:
        made, proofs = unpack(name, data)
    except ContextError as error:
        raise CliError(f"{source}: {error}") from None
    Contexts.of_user().save(made, proofs)
    print(name)
    settings().tell(f"pycompose context use {name} makes it the one that commands talk to")
