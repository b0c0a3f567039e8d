"""`cluster autolock`, `cluster unlock` and `cluster unlock-key`: managers' keys behind one that a person keeps."""

from __future__ import annotations

import sys
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc


def _calls(client: Client) -> Any:
    return client.service(cluster_pb2_grpc.ClusterServiceStub)


@command()
@click.argument("state", type=click.Choice(["on", "off"]))
def autolock(state: str) -> None:
    """Lock managers' keys behind one that a person enters after each start, or do so no more.

    A disk that is stolen then opens no secret and no authority. Containers run on while a manager is locked; nobody can
    change anything by it until pycompose cluster unlock.
    """
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"turn autolock {state}"])
    with chosen.client(start=False) as client:
        turn(client, on=state == "on")
    return None


def turn(client: Client, *, on: bool) -> None:
    """Turn autolock on, and print the key, or off."""
    key = _calls(client).SetAutolock(cluster_pb2.SetAutolockRequest(enabled=on)).unlock_key
    if on:
        _show(key)
    else:
        settings().tell("managers start without an unlock key from now on")


def _show(key: str) -> None:
    print(key)
    settings().tell(
        "keep this key elsewhere: each manager asks for it after a start (pycompose cluster unlock), and without it "
        "nobody opens the cluster again, but from a backup"
    )


@command("unlock-key")
@click.option("--rotate", is_flag=True, help="Make a new key; the one before opens nothing any more.")
@click.option("-q", "--quiet", is_flag=True, help="The key alone.")
def unlock_key(rotate: bool, quiet: bool) -> None:
    """Print the key that managers ask for after a start."""
    with settings().client(start=False) as client:
        key = _calls(client).GetUnlockKey(cluster_pb2.GetUnlockKeyRequest(rotate=rotate)).unlock_key
    if quiet:
        print(key)
    else:
        _show(key)


@command()
def unlock() -> None:
    """Unlock this node's manager after a start; the key is asked for, or read from standard input."""
    if sys.stdin.isatty():
        import getpass

        key = getpass.getpass("Unlock key: ")
    else:
        key = sys.stdin.readline()
    if not key.strip():
        raise UsageError("the unlock key is empty")
    with settings().client(start=False) as client:
        _calls(client).Unlock(cluster_pb2.UnlockRequest(key=key.strip()))
        wait(client)


def wait(client: Client) -> None:
    """Wait until the manager serves. Raises CliError: it does not."""
    import time
    from contextlib import suppress

    from pycompose.compose.client import ClientError
    from pycompose.proto.v1 import control_pb2

    for _ in range(300):
        with suppress(ClientError):
            client.control.GetManager(control_pb2.GetManagerRequest())
            return
        time.sleep(0.1)
    raise CliError("the manager is unlocked, and does not serve yet; see pycompose node logs")
