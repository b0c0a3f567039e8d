"""Before `up` does anything: can all ports be had that it will publish?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pycompose.compose.cli.errors import CliError
from pycompose.compose.client import Client, ClientError
from pycompose.compose.loader import Project
from pycompose.compose.plan.ports import Wanted, conflicts, wanted
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import access_pb2, control_pb2


def check_ports(client: Client, project: Project, steps: Sequence[Step]) -> None:
    """Refuse a plan whose ports are taken.

    Raises:
        CliError: each port with its place in the file, and who holds it.
    """
    asked = wanted(steps)
    if not asked:
        return
    others = client.control.ListServices(control_pb2.ListServicesRequest()).services
    found = [
        (one, f"port {one} is published by {holder} already; choose another, or stop that")
        for one, holder in conflicts(steps, project.name, others)
    ]
    known = [one for one, _ in found]
    found += [(one, text) for one, text in _probed(client, asked) if one not in known]
    if found:
        raise CliError(
            "\n".join(project.place("services", one.service, "ports", one.index) + text for one, text in found)
        )


def _probed(client: Client, asked: Sequence[Wanted]) -> list[tuple[Wanted, str]]:
    """Ask the node who holds ports; one that cannot tell is no reason to stop."""
    request = access_pb2.ProbePortsRequest(
        ports=[access_pb2.PortProbe(port=one.published, protocol=one.protocol, host_ip=one.host_ip) for one in asked]
    )
    with suppress(ClientError):
        problems = client.access.ProbePorts(request).problems
        return [(one, text) for one, text in zip(asked, problems, strict=False) if text]
    return []
