"""Published ports that cannot be had, found before anything is done: pure functions.

The manager refuses a port that another service publishes, and the node one that a process holds; but both only when it
comes to that service, with half of the project made. `conflicts` sees the first kind for the whole plan, and `wanted`
says which ports the node must be asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import service_pb2 as pb

PROTOCOLS = {0: "tcp", 1: "tcp", 2: "udp", 3: "sctp"}
_EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Wanted:
    """A port that a service of the plan will publish; `index` is its place in the service's ports."""

    service: str
    index: int
    published: int
    protocol: str
    host_ip: str

    def clashes(self, other: Wanted) -> bool:
        """Return whether both cannot be open at once."""
        here = self.host_ip == other.host_ip or self.host_ip in _EVERYWHERE or other.host_ip in _EVERYWHERE
        return here and (self.published, self.protocol) == (other.published, other.protocol)

    def __str__(self) -> str:
        address = f"{self.host_ip}:" if self.host_ip else ""
        return f"{address}{self.published}" + (f"/{self.protocol}" if self.protocol != "tcp" else "")


def ports_of(name: str, spec: pb.ServiceSpec) -> Iterator[Wanted]:
    """Return the fixed ports of a service; of a range the tasks choose, so it is none."""
    for index, port in enumerate(spec.endpoint.ports):
        if port.published_port and port.published_port_end in (0, port.published_port):
            yield Wanted(name, index, port.published_port, PROTOCOLS[port.protocol], port.host_ip)


def wanted(steps: Sequence[Step]) -> list[Wanted]:
    """Return the ports that the steps open anew: what a service publishes already is not asked for."""
    found = []
    for step in steps:
        again = step.action == "start" and released(step)
        if step.kind != "service" or not (again or step.action in ("create", "recreate", "update")):
            continue
        holds = step.current is not None and not released(step)
        held = list(ports_of(step.name, step.current.spec)) if holds else []
        spec = step.spec or step.current.spec
        found += [one for one in ports_of(step.name, spec) if not any(one.clashes(other) for other in held)]
    return found


def released(step: Step) -> bool:
    """Return whether the service gave its ports back when its containers stopped."""
    return step.current is not None and bool(step.current.endpoint.ports_released)


def conflicts(steps: Sequence[Step], project: str, others: Sequence[pb.Service]) -> list[tuple[Wanted, str]]:
    """Return ports with who holds them: another service of the plan, of the project, or of another project.

    Args:
        steps: of the plan.
        project: its name.
        others: all services of the manager.
    """
    mine = {step.name for step in steps if step.kind == "service"}
    planned = [
        one
        for step in steps
        if step.kind == "service" and step.action != "remove"
        for one in ports_of(step.name, step.spec or step.current.spec)
        if step.action != "start" or released(step)
    ]
    held = [
        (one, f"service {service.spec.name} of project {service.spec.project}" if service.spec.project else one.service)
        for service in others
        if (service.spec.project != project or service.spec.name not in mine) and not service.endpoint.ports_released
        for one in ports_of(service.spec.name, service.spec)
    ]
    found = []
    for place, one in enumerate(planned):
        earlier = next((other for other in planned[:place] if other.clashes(one)), None)
        holder = next((text for other, text in held if other.clashes(one)), None)
        if earlier is not None:
            found.append((one, f"service {earlier.service}"))
        elif holder is not None:
            found.append((one, holder))
    return found
