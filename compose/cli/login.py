"""`login` and `logout`: accounts of registries, kept where Docker keeps them."""

from __future__ import annotations

import sys

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import ApiError
from pycompose.compose.client.credentials import HUB, Accounts, host_of
from pycompose.proto.v1 import image_pb2


@command(dry=False)
@click.option("-u", "--username", default="", metavar="NAME", help="Name of the account.")
@click.option(
    "-p", "--password", metavar="PASSWORD", help="Password; every user of this machine can see it for a moment."
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.argument("server", required=False, default=HUB)
def login(username: str, password: str | None, password_stdin: bool, server: str) -> None:
    """Log in at a registry (Docker Hub unless another is named).

    The node tries name and password at the registry; then they are kept in Docker's config.json, or by the credential
    helper that it names, and sent with each pull and push.

    \b
    pycompose login registry.example.com
    pass registry | pycompose login -u ci --password-stdin registry.example.com
    """
    registry = host_of(server)
    if password is not None and password_stdin:
        raise UsageError("-p and --password-stdin contradict one another")
    if password is not None:
        print("warning: -p shows the password to every user of this machine; use --password-stdin", file=sys.stderr)
    elif password_stdin:
        if not username:
            raise UsageError("--password-stdin needs -u NAME")
        password = sys.stdin.read().rstrip("\r\n")
    accounts = Accounts.read()
    username, password = _asked(registry, username, password)
    with settings().client() as client:
        credentials = image_pb2.RegistryCredentials(username=username, password=password)
        try:
            client.images.CheckCredentials(
                image_pb2.CheckCredentialsRequest(registry=registry, credentials=credentials)
            )
        except ApiError as error:
            if error.code == "UNAUTHENTICATED":
                raise CliError(f"{registry} refuses this name or password") from None
            raise
    place = accounts.keep(registry, username, password)
    if place == accounts.path:
        print(
            f"warning: the password is now in {place}, readable by you; a credsStore there keeps it better",
            file=sys.stderr,
        )
    print("Login Succeeded")


def _asked(registry: str, username: str, password: str | None) -> tuple[str, str]:
    """Ask a person for what is missing."""
    if (not username or password is None) and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on; use -u NAME --password-stdin")
    if not username:
        username = input(f"Username for {registry}: ").strip()
    if password is None:
        import getpass

        password = getpass.getpass("Password: ")
    if not username or not password:
        raise CliError("name and password must not be empty")
    return username, password


@command(dry=False)
@click.argument("server", required=False, default=HUB)
def logout(server: str) -> None:
    """Forget the account of a registry (Docker Hub unless another is named)."""
    registry = host_of(server)
    if Accounts.read().forget(registry):
        print(f"Removing login credentials for {registry}")
    else:
        print(f"Not logged in to {registry}")
