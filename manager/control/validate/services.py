"""Services' specs: mode, networks, ports, placement, updates, dependencies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pycompose.manager.control.validate.containers import container
from pycompose.manager.control.validate.names import NAME, name
from pycompose.manager.control.validate.shape import Violation, shape
from pycompose.manager.scheduler import check_key, parse_constraint
from pycompose.proto import vocabulary
from pycompose.proto.v1 import network_pb2, service_pb2

REPLICAS_LIMIT = 1_000_000
MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}\Z", re.IGNORECASE)
ALIAS = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Known:
    """What a service may name: networks by name, names of secrets and configs."""

    networks: Mapping[str, network_pb2.Network]
    secrets: Collection[str]
    configs: Collection[str]


def service(spec: service_pb2.ServiceSpec, known: Known) -> list[Violation]:
    """Check a service's spec against what exists."""
    wrong = shape(spec) + name(spec.name)
    if wrong:
        return wrong
    if spec.project:
        wrong += name(spec.project, "spec.project")
    wrong += _mode(spec)
    wrong += _attachments(spec, known.networks)
    wrong += _ports(spec.endpoint.ports)
    wrong += container(spec.task.container, known.secrets, known.configs)
    wrong += _placement(spec.task.placement)
    wrong += _update(spec.update, "spec.update")
    wrong += _update(spec.rollback, "spec.rollback")
    wrong += _dependencies(spec)
    return wrong


def _mode(spec: service_pb2.ServiceSpec) -> Iterator[Violation]:
    if spec.WhichOneof("mode") is None:
        yield "spec.replicated", "a mode is needed: replicated, global or replicated_job"
    numbers = {"replicated.replicas": spec.replicated.replicas}
    numbers["replicated_job.completions"] = spec.replicated_job.completions
    for field, number in numbers.items():
        if number > REPLICAS_LIMIT:
            yield f"spec.{field}", f"{number} are more than {REPLICAS_LIMIT}"
    text, replicas = spec.task.container_name, max(numbers.values())
    if text and not NAME.match(text):
        yield "spec.task.container_name", f"{text!r} is no name; use letters, digits, '.', '_' and '-'"
    if text and replicas > 1:
        yield "spec.task.container_name", f"{text!r} can name one container, not {replicas}"


def _attachments(spec: service_pb2.ServiceSpec, networks: Mapping[str, network_pb2.Network]) -> Iterator[Violation]:
    mode = spec.task.network_mode
    kind, colon, target = mode.partition(":")
    if mode not in ("", "none", "host") and not (kind in ("service", "container") and colon and target):
        yield "spec.task.network_mode", f"{mode!r} is not none, host, service:NAME or container:ID"
    if mode and spec.task.networks:
        yield "spec.task.networks", f"cannot be combined with network_mode {mode!r}; leave one out"
    box = spec.task.container
    wrong = vocabulary.against_userns(
        box.userns_mode, privileged=box.privileged, network_mode=mode, pid_mode=box.pid_mode
    )
    if wrong:
        yield "spec.task.container.userns_mode", f"auto cannot be combined with {wrong}; leave one out"
    seen: set[str] = set()
    for index, attachment in enumerate(spec.task.networks):
        field = f"spec.task.networks[{index}]"
        if attachment.network not in networks:
            yield f"{field}.network", f"there is no network {attachment.network!r}; create it first"
            continue
        if attachment.network in seen:
            yield f"{field}.network", f"{attachment.network!r} is attached already; name it once"
        seen.add(attachment.network)
        yield from _attachment(field, attachment, networks[attachment.network], spec.replicated.replicas)


def _attachment(
    field: str, attachment: service_pb2.NetworkAttachmentSpec, network: network_pb2.Network, replicas: int
) -> Iterator[Violation]:
    for part, version in (("ipv4_address", 4), ("ipv6_address", 6)):
        text = getattr(attachment, part)
        if not text:
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            address = None
        if address is None or address.version != version:
            yield f"{field}.{part}", f"{text!r} is no IPv{version} address"
            continue
        if replicas > 1:
            yield f"{field}.{part}", f"one address cannot serve {replicas} replicas"
        subnets = [ipaddress.ip_network(one.subnet, strict=False) for one in network.subnets if one.subnet]
        same = [subnet for subnet in subnets if subnet.version == version]
        if same and not any(address in subnet for subnet in same):
            yield f"{field}.{part}", f"{text} is not in {same[0]}, the subnet of network {attachment.network}"
    if attachment.mac_address and not MAC.match(attachment.mac_address):
        yield f"{field}.mac_address", f"{attachment.mac_address!r} is no address; write it like 02:42:ac:11:65:43"
    for place, alias in enumerate(attachment.aliases):
        if not ALIAS.match(alias):
            yield f"{field}.aliases[{place}]", f"{alias!r} is no host name"
    # IFNAMSIZ, netdevice(7)
    interface = attachment.interface_name
    if interface and (len(interface.encode()) > 15 or "/" in interface or " " in interface or interface in (".", "..")):
        yield f"{field}.interface_name", f"{interface!r} is no name of an interface; use at most 15 letters and digits"


def _same_port(one: service_pb2.PortSpec, other: service_pb2.PortSpec) -> bool:
    """Whether two ports of one service want the same port of a node."""
    anywhere = ("", "0.0.0.0", "::")
    same_ip = one.host_ip == other.host_ip or one.host_ip in anywhere or other.host_ip in anywhere
    spans = [(p.published_port, p.published_port_end or p.published_port) for p in (one, other)]
    overlap = all(spans[0]) and all(spans[1]) and spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]
    same_protocol = (one.protocol or service_pb2.PROTOCOL_TCP) == (other.protocol or service_pb2.PROTOCOL_TCP)
    return overlap and same_ip and same_protocol


def _ports(ports: Sequence[service_pb2.PortSpec]) -> Iterator[Violation]:
    for index, port in enumerate(ports):
        field = f"spec.endpoint.ports[{index}]"
        if not 0 < port.target_port < 65536:
            yield f"{field}.target_port", f"{port.target_port} is no port; use 1 to 65535"
        last = port.published_port_end
        if port.published_port > 65535:
            text = f"{port.published_port} is no port; use 1 to 65535, or 0 to have one chosen"
            yield f"{field}.published_port", text
        elif last and not port.published_port <= last < 65536:
            yield f"{field}.published_port_end", f"{last} does not end a range from {port.published_port}"
        elif last and not port.published_port:
            yield f"{field}.published_port", "is needed where published_port_end is given"
        if port.host_ip:
            try:
                ipaddress.ip_address(port.host_ip)
            except ValueError:
                yield f"{field}.host_ip", f"{port.host_ip!r} is no address; leave it out for all"
        for earlier in range(index):
            if _same_port(port, ports[earlier]):
                text = f"{port.published_port} is published by spec.endpoint.ports[{earlier}] already"
                yield f"{field}.published_port", text
                break


def _placement(placement: service_pb2.Placement) -> Iterator[Violation]:
    for index, constraint in enumerate(placement.constraints):
        try:
            parse_constraint(constraint)
        except ValueError as error:
            yield f"spec.task.placement.constraints[{index}]", str(error)
    for index, key in enumerate(placement.spread):
        try:
            check_key(key)
        except ValueError as error:
            yield f"spec.task.placement.spread[{index}]", str(error)


def _update(config: service_pb2.UpdateConfig, field: str) -> Iterator[Violation]:
    if not 0.0 <= config.max_failure_ratio <= 1.0:
        yield f"{field}.max_failure_ratio", f"{config.max_failure_ratio} is no part of the whole; use 0 to 1"


def _dependencies(spec: service_pb2.ServiceSpec) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, dependency in enumerate(spec.dependencies):
        field = f"spec.dependencies[{index}].service"
        if not dependency.service:
            yield field, "names no service"
        elif dependency.service == spec.name:
            yield field, f"{spec.name} cannot wait for itself"
        elif dependency.service in seen:
            yield field, f"{dependency.service} is named twice"
        seen.add(dependency.service)
