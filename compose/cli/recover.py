"""`cluster recover`: a manager goes on alone when the majority of them is lost for good."""

from __future__ import annotations

import time
from contextlib import suppress

import click

from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, control_pb2

#: For etcd to end, to start alone, and for the manager to read everything.
BEGINS_SECONDS = 90.0


@command()
@click.option("--force-new-cluster", "forced", is_flag=True, help="Needed: it says what is done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def recover(forced: bool, yes: bool) -> None:
    """Go on with this manager alone, when the majority of the managers is lost for good.

    Run it on a manager that survived, one alone. Changes that only the others had are lost. Containers run on, and
    workers come to this manager by themselves. The other managers are of the cluster no longer: should their machines
    come back, let them leave (node leave --force) and join anew.

    \b
    pycompose cluster recover --force-new-cluster
    """
    if not forced:
        raise UsageError(
            "managers that come back make a majority again, and nothing is lost: start them first. Where they are gone "
            "for good: pycompose cluster recover --force-new-cluster"
        )
    chosen = settings()
    with chosen.client(start=False) as client:
        calls = client.service(cluster_pb2_grpc.ClusterServiceStub)
        found = calls.Recover(cluster_pb2.RecoverRequest(check_only=True)).given_up
        names = ", ".join(found) or "the others"
        if chosen.dry_run:
            return chosen.would([f"give up {names}, and go on with this manager alone"])
        if not yes:
            chosen.tell(
                f"{names} will be of the cluster no longer, and what only they knew is lost; should a majority of them "
                "still run elsewhere, there are two clusters then"
            )
            confirm("Go on with this manager alone?", "-y")
        calls.Recover(cluster_pb2.RecoverRequest())
        _wait(client)
    chosen.tell(f"this manager goes on alone; given up: {names}. Let further managers join: cluster token manager")
    return None


def _wait(client: Client) -> None:
    """Wait until the manager serves. Raises CliError: it does not."""
    deadline = time.monotonic() + BEGINS_SECONDS
    while time.monotonic() < deadline:
        with suppress(ClientError):
            client.control.ListNodes(control_pb2.ListNodesRequest())
            return
        time.sleep(0.2)
    raise CliError("the manager does not serve yet; it tries on; see pycompose node logs")
