"""Ports of `up`: before it does anything, whether all can be had; at its end, what is open, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pycompose.compose.cli.errors import CliError
from pycompose.compose.client import Client, ClientError
from pycompose.compose.loader import Project
from pycompose.compose.plan.ports import Wanted, conflicts, wanted
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import access_pb2, control_pb2, service_pb2


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
            "\n".join(str(project.problem(("services", one.service, "ports", one.index), text)) for one, text in found)
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


def open_ports(service: service_pb2.Service) -> list[str]:
    """Return what a service publishes, a line for each set of people who can reach it."""
    places: dict[str, list[str]] = {}
    for port in service.endpoint.ports:
        first, last = port.published_port, port.published_port_end
        if first:
            places.setdefault(_who(port.host_ip), []).append(f"{first}-{last}" if last > first else str(first))
    return [f"{service.spec.name} listens on {', '.join(ports)} ({who})" for who, ports in places.items()]


def _who(address: str) -> str:
    if address.startswith("127.") or address == "::1":
        return "this machine only"
    return "all addresses" if address in ("", "0.0.0.0", "::") else f"address {address}"
