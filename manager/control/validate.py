"""What is wrong with a spec: pairs of a field's path and a sentence that says what would be right. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from pycompose.manager.scheduler import parse_constraint
from pycompose.proto import vocabulary
from pycompose.proto.v1 import container_pb2, network_pb2, service_pb2

Violation = tuple[str, str]
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z", re.IGNORECASE)
SECRET_LIMIT, CONFIG_LIMIT, REPLICAS_LIMIT = 500 * 1024, 1000 * 1024, 1_000_000


def name(value: str, field: str = "spec.name") -> list[Violation]:
    """Check a name of a service, network, volume, secret, config or project."""
    if not value:
        return [(field, "a name is needed: letters, digits, '.', '_' and '-'")]
    if len(value) > 255 or not NAME.match(value):
        return [(field, f"{value!r} is no name: begin with a letter or digit, go on with letters, digits, '._-'")]
    return []


def data(size: int, limit: int) -> list[Violation]:
    """Check the size in bytes of a secret or config."""
    return [("spec.data", f"{size} bytes are more than the {limit} that fit; use a volume")] if size > limit else []


def network(spec: network_pb2.NetworkSpec) -> list[Violation]:
    """Check a network's spec."""
    import ipaddress

    wrong = name(spec.name)
    if spec.driver not in ("", "bridge", "overlay", "macvlan"):
        wrong.append(("spec.driver", f"there is no driver {spec.driver!r}; use bridge, overlay or macvlan"))
    for index, subnet in enumerate(spec.subnets):
        field = f"spec.subnets[{index}].subnet"
        try:
            block = ipaddress.ip_network(subnet.subnet, strict=False) if subnet.subnet else None
        except ValueError:
            wrong.append((field, f"{subnet.subnet!r} is no subnet; write it like 10.5.0.0/16"))
            continue
        if subnet.gateway and block is not None:
            try:
                inside = ipaddress.ip_address(subnet.gateway) in block
            except ValueError:
                inside = False
            if not inside:
                wrong.append((field.replace(".subnet", ".gateway", 1), f"{subnet.gateway!r} is not in {block}"))
    return wrong


def service(
    spec: service_pb2.ServiceSpec, networks: Collection[str], secrets: Collection[str], configs: Collection[str]
) -> list[Violation]:
    """Check a service's spec against the names of networks, secrets and configs that exist."""
    wrong = name(spec.name)
    if spec.project:
        wrong += name(spec.project, "spec.project")
    container = spec.task.container
    if not container.image:
        wrong.append(("spec.task.container.image", "an image is needed, such as redis:7"))
    if spec.WhichOneof("mode") is None:
        wrong.append(("spec.replicated", "a mode is needed: replicated, global or replicated_job"))
    replicas = spec.replicated.replicas
    if replicas > REPLICAS_LIMIT:
        wrong.append(("spec.replicated.replicas", f"{replicas} are more than {REPLICAS_LIMIT}"))
    if spec.task.container_name and replicas > 1:
        wrong.append(
            ("spec.task.container_name", f"{spec.task.container_name!r} can name one container, not {replicas}")
        )
    wrong += _attachments(spec, networks)
    wrong += _ports(spec.endpoint.ports)
    wrong += _container(container, secrets, configs)
    for index, constraint in enumerate(spec.task.placement.constraints):
        try:
            parse_constraint(constraint)
        except ValueError as error:
            wrong.append((f"spec.task.placement.constraints[{index}]", str(error)))
    for index, dependency in enumerate(spec.dependencies):
        if dependency.service == spec.name:
            wrong.append((f"spec.dependencies[{index}].service", f"{spec.name} cannot wait for itself"))
    return wrong


def _attachments(spec: service_pb2.ServiceSpec, networks: Collection[str]) -> Iterable[Violation]:
    mode = spec.task.network_mode
    if mode not in ("", "none", "host") and not mode.startswith(("service:", "container:")):
        yield "spec.task.network_mode", f"{mode!r} is not none, host, service:NAME or container:ID"
    if mode and spec.task.networks:
        yield "spec.task.networks", f"cannot be combined with network_mode {mode!r}; leave one out"
    for index, attachment in enumerate(spec.task.networks):
        field = f"spec.task.networks[{index}]"
        if attachment.network not in networks:
            yield f"{field}.network", f"there is no network {attachment.network!r}; create it first"
        if attachment.ipv4_address and spec.replicated.replicas > 1:
            yield f"{field}.ipv4_address", f"one address cannot serve {spec.replicated.replicas} replicas"


def _same_port(one: service_pb2.PortSpec, other: service_pb2.PortSpec) -> bool:
    """Whether two ports of one service want the same port of a node."""
    anywhere = ("", "0.0.0.0", "::")
    same_ip = one.host_ip == other.host_ip or one.host_ip in anywhere or other.host_ip in anywhere
    spans = [(p.published_port, p.published_port_end or p.published_port) for p in (one, other)]
    overlap = all(spans[0]) and all(spans[1]) and spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]
    same_protocol = (one.protocol or service_pb2.PROTOCOL_TCP) == (other.protocol or service_pb2.PROTOCOL_TCP)
    return overlap and same_ip and same_protocol


def _ports(ports: Sequence[service_pb2.PortSpec]) -> Iterable[Violation]:
    for index, port in enumerate(ports):
        field = f"spec.endpoint.ports[{index}]"
        if not 0 < port.target_port < 65536:
            yield f"{field}.target_port", f"{port.target_port} is no port; use 1 to 65535"
        if port.published_port > 65535 or port.published_port_end > 65535:
            yield f"{field}.published_port", "is no port; use 1 to 65535, or 0 to have one chosen"
        elif port.published_port_end and port.published_port_end < port.published_port:
            yield f"{field}.published_port_end", f"is below {port.published_port}"
        for earlier, other in enumerate(list(ports)[:index]):
            if _same_port(port, other):
                text = f"{port.published_port} is published by spec.endpoint.ports[{earlier}] already"
                yield f"{field}.published_port", text


def _container(
    container: container_pb2.ContainerSpec, secrets: Collection[str], configs: Collection[str]
) -> Iterable[Violation]:
    place = "spec.task.container"
    for index, mount in enumerate(container.mounts):
        field = f"{place}.mounts[{index}]"
        if not mount.target.startswith("/"):
            yield f"{field}.target", f"{mount.target!r} is not absolute"
        if mount.type == container_pb2.MOUNT_TYPE_UNSPECIFIED:
            yield f"{field}.type", "a type is needed: bind, volume, tmpfs or image"
        if mount.type == container_pb2.MOUNT_TYPE_BIND and not mount.source.startswith("/"):
            yield f"{field}.source", f"{mount.source!r} is not absolute"
    for index, secret in enumerate(container.secrets):
        if secret.name not in secrets:
            yield f"{place}.secrets[{index}].name", f"there is no secret {secret.name!r}; create it first"
    for index, config in enumerate(container.configs):
        if config.name not in configs:
            yield f"{place}.configs[{index}].name", f"there is no config {config.name!r}; create it first"
    for field, allowed in vocabulary.NAMESPACE_MODES.items():
        value = getattr(container, field)
        if not vocabulary.matches_mode(field, value):
            yield f"{place}.{field}", f"{value!r} cannot be done; use {', '.join(allowed)}, or leave it out"
    for field in ("cap_add", "cap_drop"):
        for index, word in enumerate(getattr(container, field)):
            if word.upper().removeprefix("CAP_") not in {*vocabulary.CAPABILITIES, "ALL"}:
                yield f"{place}.{field}[{index}]", f"there is no capability {word!r}; see capabilities(7)"
    for index, limit in enumerate(container.ulimits):
        if limit.name not in vocabulary.ULIMITS:
            yield f"{place}.ulimits[{index}].name", f"there is no limit {limit.name!r}; see getrlimit(2)"
    if container.stop_signal and vocabulary.signal_number(container.stop_signal) is None:
        yield f"{place}.stop_signal", f"there is no signal {container.stop_signal!r}; see signal(7)"
    if container.logging.driver and container.logging.driver not in vocabulary.LOG_DRIVERS:
        known = ", ".join(vocabulary.LOG_DRIVERS)
        yield f"{place}.logging.driver", f"there is no log driver {container.logging.driver!r}; use {known}"
    if container.runtime not in ("", "pycompose"):
        yield f"{place}.runtime", f"there is no runtime {container.runtime!r}; leave it out"
    if container.storage_options:
        yield f"{place}.storage_options", "the writable layer of a container cannot be limited; leave it out"
    limits = container.resources.limits
    if 0 < limits.memory_bytes < 6 * 1024 * 1024:
        yield f"{place}.resources.limits.memory_bytes", f"{limits.memory_bytes} bytes are less than the least, 6 MiB"
    if limits.nano_cpus < 0:
        yield f"{place}.resources.limits.nano_cpus", "is negative"
