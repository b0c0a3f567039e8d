"""Published ports: who holds which, and what is free.

A port is held on all nodes (ingress mode) or on one (host mode, and a replica's own port of a range). Two holders
conflict when protocol and port are the same, their addresses overlap, and so do their nodes.

A service whose containers are all down until somebody starts them (`at_rest`) gives its ports back, as Docker's
containers do: others may have them, and whoever starts the service again is told who has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from pycompose.manager import states
from pycompose.manager.allocator.pools import AllocationError
from pycompose.proto.v1 import service_pb2, task_pb2

#: Ports that are chosen where the file names none (RFC 6335, dynamic ports).
FIRST_PORT, LAST_PORT = 49153, 65535
PROTOCOLS = {0: "tcp", 1: "tcp", 2: "udp", 3: "sctp"}
EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Held:
    """One port. `node_id` "": on all nodes; `owner`: id of service or task."""

    protocol: str
    port: int
    host_ip: str
    node_id: str
    owner: str
    holder: str


def service_label(spec: service_pb2.ServiceSpec) -> str:
    """Return how messages name a service."""
    return f"{spec.project}/{spec.name}".lstrip("/")


def own_range(port: service_pb2.PortSpec) -> bool:
    """Return whether each task gets a port for itself."""
    return port.publish_mode == service_pb2.PUBLISH_MODE_HOST or port.published_port_end > port.published_port


def down(task: task_pb2.Task, policy: service_pb2.RestartPolicy) -> bool:
    """Return whether a container does not run, and will not until somebody starts it."""
    state = task.status.state
    if task.desired_state == task_pb2.DESIRED_STATE_CREATED:
        return state not in (task_pb2.TASK_STATE_STARTING, task_pb2.TASK_STATE_RUNNING)
    if state not in states.ENDED or state in (task_pb2.TASK_STATE_ORPHANED, task_pb2.TASK_STATE_REMOVE):
        return False  # an orphan may go on running where nobody sees it
    if task.desired_state != task_pb2.DESIRED_STATE_RUNNING:
        return task.desired_state == task_pb2.DESIRED_STATE_STOPPED
    never = policy.condition in (service_pb2.RESTART_CONDITION_UNSPECIFIED, service_pb2.RESTART_CONDITION_NONE)
    asked = task.run_request > task.status.run_request
    return never and not asked


def at_rest(service: service_pb2.Service, tasks: Iterable[task_pb2.Task]) -> bool:
    """Return whether a service has containers and all of them are down; `tasks`: the service's.

    One whose template was changed meanwhile, or whose containers go, is not at rest: others will take their place.
    """
    policy, some = service.spec.task.restart, False
    for task in tasks:
        if task.revision != service.revision or not down(task, policy):
            return False
        some = True
    return some


def serving(service: service_pb2.Service, tasks: Iterable[task_pb2.Task]) -> bool:
    """Return whether one of a service's containers is up, comes up, or may come up again by itself."""
    policy = service.spec.task.restart
    return any(
        task.status.state >= task_pb2.TASK_STATE_ASSIGNED
        and not down(task, policy)
        and not (task.desired_state == task_pb2.DESIRED_STATE_REMOVED and task.status.state in states.ENDED)
        for task in tasks
    )


TasksOf = Callable[[str], Iterable[task_pb2.Task]]


class PortBook:
    """All ports that are held; `tasks_of` returns a service's tasks."""

    def __init__(
        self,
        services: Iterable[service_pb2.Service] = (),
        tasks: Iterable[task_pb2.Task] = (),
        tasks_of: TasksOf = lambda service_id: (),
    ) -> None:
        self._held: dict[tuple[str, int], list[Held]] = {}
        for service in services:
            self.add(service_ports(service, tasks_of(service.id)))
        for task in tasks:
            self.add(ports_of_task(task))

    def add(self, ports: Iterable[Held]) -> None:
        """Take note of ports."""
        for port in ports:
            self._held.setdefault((port.protocol, port.port), []).append(port)

    def remove(self, owner: str) -> None:
        """Forget what a service or task holds."""
        for key, members in list(self._held.items()):
            rest = [one for one in members if one.owner != owner]
            if len(rest) != len(members):
                self._held[key] = rest

    def conflicts(self, wanted: Held) -> Iterator[Held]:
        """Yield what others than `wanted.owner` hold of the port."""
        for one in self._held.get((wanted.protocol, wanted.port), ()):
            same_ip = one.host_ip == wanted.host_ip or one.host_ip in EVERYWHERE or wanted.host_ip in EVERYWHERE
            same_node = one.node_id == wanted.node_id or not one.node_id or not wanted.node_id
            if one.owner != wanted.owner and same_ip and same_node:
                yield one

    def conflict(self, wanted: Held) -> str:
        """Return who holds the port; "" when it is free for `wanted.owner`."""
        return next((one.holder for one in self.conflicts(wanted)), "")


def service_ports(service: service_pb2.Service, tasks: Iterable[task_pb2.Task] = ()) -> Iterator[Held]:
    """Yield the ports that a service holds on all nodes; `tasks`: the service's."""
    if at_rest(service, tasks):
        return
    for port in service.endpoint.ports or service.spec.endpoint.ports:
        if port.published_port and not own_range(port):
            label = service_label(service.spec)
            yield Held(PROTOCOLS[port.protocol], port.published_port, port.host_ip, "", service.id, label)


def ports_of_task(task: task_pb2.Task) -> Iterator[Held]:
    """Yield the ports that a task holds on its node."""
    for port in task.ports:
        yield Held(port.protocol, port.published_port, port.host_ip, task.node_id, task.id, task.name)


def start_conflicts(service: service_pb2.Service, book: PortBook) -> Iterator[Held]:
    """Yield what others hold of the ports that a service publishes on all nodes."""
    for port in service.endpoint.ports:
        if port.published_port and not own_range(port):
            yield from book.conflicts(
                Held(PROTOCOLS[port.protocol], port.published_port, port.host_ip, "", service.id, "")
            )


def start_conflict(service: service_pb2.Service, book: PortBook) -> Held | None:
    """Return the first port that a service at rest gave back and another has now, or None."""
    return next(start_conflicts(service, book), None)


def port_conflict(spec: service_pb2.ServiceSpec, own_id: str, book: PortBook) -> tuple[int, str] | None:
    """Return (index of the port in the spec, holder) of the first fixed ingress port that is taken, or None."""
    for index, port in enumerate(spec.endpoint.ports):
        if port.published_port and not own_range(port):
            wanted = Held(PROTOCOLS[port.protocol], port.published_port, port.host_ip, "", own_id, "")
            if holder := book.conflict(wanted):
                return index, holder
    return None


def fill_ports(service: service_pb2.Service, book: PortBook) -> list[service_pb2.PortSpec]:
    """Return the spec's ports with published ports chosen; earlier choices are kept. Raises AllocationError."""
    fixed = {(PROTOCOLS[p.protocol], p.published_port) for p in service.spec.endpoint.ports if p.published_port}
    kept: dict[tuple[int, int, str], list[int]] = {}
    for before in service.endpoint.ports:
        protocol = PROTOCOLS[before.protocol]
        mine = Held(protocol, before.published_port, before.host_ip, "", service.id, "")
        if (protocol, before.published_port) not in fixed and not book.conflict(mine):
            kept.setdefault((before.protocol, before.target_port, before.host_ip), []).append(before.published_port)
    filled: list[service_pb2.PortSpec] = []
    taken = fixed | {(PROTOCOLS[key[0]], number) for key, numbers in kept.items() for number in numbers}
    for port in service.spec.endpoint.ports:
        full = service_pb2.PortSpec()
        full.CopyFrom(port)
        if not full.published_port and not own_range(full):
            earlier = kept.get((port.protocol, port.target_port, port.host_ip), [])
            full.published_port = earlier.pop(0) if earlier else _free_port(service, port, taken, book)
            taken.add((PROTOCOLS[port.protocol], full.published_port))
        filled.append(full)
    return filled


def _free_port(
    service: service_pb2.Service, port: service_pb2.PortSpec, taken: Collection[tuple[str, int]], book: PortBook
) -> int:
    protocol = PROTOCOLS[port.protocol]
    for number in range(FIRST_PORT, LAST_PORT + 1):
        wanted = Held(protocol, number, port.host_ip, "", service.id, "")
        if (protocol, number) not in taken and not book.conflict(wanted):
            return number
    raise AllocationError(f"no free port in {FIRST_PORT}-{LAST_PORT} for port {port.target_port}")


def task_ports(service: service_pb2.Service, task: task_pb2.Task, book: PortBook) -> list[task_pb2.TaskPort]:
    """Return the ports that a placed task gets for itself: host mode, and one of each range. Raises AllocationError."""
    chosen: list[task_pb2.TaskPort] = []
    taken: set[tuple[str, int]] = set()
    for port in service.endpoint.ports:
        if not own_range(port):
            continue
        protocol = PROTOCOLS[port.protocol]
        first, last = port.published_port, port.published_port_end or port.published_port
        holder = ""
        for number in range(first, last + 1) if first else range(FIRST_PORT, LAST_PORT + 1):
            wanted = Held(protocol, number, port.host_ip, task.node_id, task.id, "")
            if (protocol, number) not in taken and not (holder := book.conflict(wanted)):
                break
        else:
            if first == last and first:
                raise AllocationError(f"port {first} for port {port.target_port} is held by {holder}")
            span = f"{first or FIRST_PORT}-{last or LAST_PORT}"
            raise AllocationError(
                f"no free port in {span} for port {port.target_port} (the last is held by {holder}); widen the range"
            )
        taken.add((protocol, number))
        chosen.append(
            task_pb2.TaskPort(
                target_port=port.target_port, published_port=number, protocol=protocol, host_ip=port.host_ip
            )
        )
    return chosen
