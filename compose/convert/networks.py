"""Networks of the project, a service's place on them, and its ports."""

from __future__ import annotations

from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.compose.labels import NETWORK, PROJECT
from pycompose.compose.loader import Project
from pycompose.proto.v1 import network_pb2, service_pb2

_DRIVERS = ("", "default", "bridge", "overlay", "macvlan", "host", "none", "null")
_PROTOCOLS = {
    "tcp": service_pb2.PROTOCOL_TCP,
    "udp": service_pb2.PROTOCOL_UDP,
    "sctp": service_pb2.PROTOCOL_SCTP,
}
PREDEFINED = ("host", "none")


def networks(project: Project, problems: Problems) -> tuple[dict[str, network_pb2.NetworkSpec], dict[str, str]]:
    """Return the networks to have by their name in the cluster, and external names with their place in the files."""
    specs, external = {}, {}
    for key, entry in (project.model.get("networks") or {}).items():
        name = entry["name"]
        if entry.get("external"):
            if name not in PREDEFINED:
                external[name] = problems.place(("networks", key))
            continue
        specs[name] = _network(project, key, entry, problems)
    return specs, external


def _network(project: Project, key: str, entry: dict[str, Any], problems: Problems) -> network_pb2.NetworkSpec:
    driver = entry.get("driver") or ""
    if driver not in _DRIVERS:
        problems.error(("networks", key, "driver"), f'no network driver "{driver}"', "want bridge, overlay or macvlan")
    if entry.get("enable_ipv4") is False:
        problems.error(("networks", key, "enable_ipv4"), "networks without IPv4 are not supported", "leave it out")
    ipam = entry.get("ipam") or {}
    if ipam.get("driver") not in (None, "", "default"):
        problems.error(("networks", key, "ipam", "driver"), f'no IPAM driver "{ipam["driver"]}"', "leave it out")
    spec = network_pb2.NetworkSpec(
        name=entry["name"],
        project=project.name,
        driver={"default": "", "null": "none"}.get(driver, driver),
        driver_options={option: str(value) for option, value in (entry.get("driver_opts") or {}).items()},
        labels={**(entry.get("labels") or {}), PROJECT: project.name, NETWORK: key},
        internal=entry.get("internal") or False,
        attachable=entry.get("attachable") or False,
        enable_ipv6=entry.get("enable_ipv6") or False,
    )
    for config in ipam.get("config") or ():
        spec.subnets.add(
            subnet=config.get("subnet") or "",
            gateway=config.get("gateway") or "",
            ip_range=config.get("ip_range") or "",
            aux_addresses=config.get("aux_addresses") or {},
        )
    return spec


def attach(project: Project, name: str, task: service_pb2.TaskSpec, problems: Problems) -> None:
    """Write the service's networks and network mode into `task`."""
    service = project.services[name]
    defined = project.model.get("networks") or {}
    mode = service.get("network_mode") or ""
    if mode in ("bridge", "default"):
        problems.warn(("services", name, "network_mode"), f"{mode} stands for the project's default network here")
        mode = ""
        task.networks.add(network=(defined.get("default") or {}).get("name") or f"{project.name}_default")
    for key, options in (service.get("networks") or {}).items():
        network = (defined.get(key) or {}).get("name") or key
        if network in PREDEFINED:
            mode = network
            continue
        task.networks.append(_attachment(network, options or {}, _link_aliases(project, name, key)))
    task.network_mode = mode
    mac = service.get("mac_address")
    if mac and task.networks and not task.networks[0].mac_address:
        task.networks[0].mac_address = mac
    if mode in PREDEFINED and task.networks:
        problems.error(("services", name, "networks"), f"{mode} goes with no other network", "name only one")


def _attachment(network: str, options: dict[str, Any], aliases: list[str]) -> service_pb2.NetworkAttachmentSpec:
    return service_pb2.NetworkAttachmentSpec(
        network=network,
        aliases=[*(options.get("aliases") or ()), *aliases],
        ipv4_address=options.get("ipv4_address") or "",
        ipv6_address=options.get("ipv6_address") or "",
        link_local_addresses=options.get("link_local_ips") or (),
        mac_address=options.get("mac_address") or "",
        priority=int(options.get("priority") or 0),
        gateway_priority=int(options.get("gw_priority") or 0),
        driver_options={key: str(value) for key, value in (options.get("driver_opts") or {}).items()},
        interface_name=options.get("interface_name") or "",
    )


def _link_aliases(project: Project, name: str, network: str) -> list[str]:
    """Return the names under which other services link to this one; they hold on the whole shared network."""
    found: dict[str, None] = {}
    for other in project.services.values():
        if network not in (other.get("networks") or {}):
            continue
        for link in other.get("links") or ():
            target, _, alias = link.partition(":")
            if target == name and alias and alias != name:
                found[alias] = None
    return list(found)


def ports(service: dict[str, Any], name: str, mode: str, problems: Problems) -> list[service_pb2.PortSpec]:
    """Return what the service publishes."""
    result = []
    for index, entry in enumerate(service.get("ports") or ()):
        path = ("services", name, "ports", index)
        if mode.startswith(("service:", "container:")):
            problems.error(path, f"ports cannot be published with network_mode: {mode}", "publish them there")
        elif mode == "host":
            problems.warn(path, "network_mode: host publishes every port by itself; this one has no effect")
            break
        else:
            port = _port(entry, path, problems)
            if port is not None:
                result.append(port)
    return result


def _port(entry: dict[str, Any], path: tuple[str | int, ...], problems: Problems) -> service_pb2.PortSpec | None:
    first, _, last = str(entry.get("published") or "0").partition("-")
    protocol = entry.get("protocol") or "tcp"
    target = int(entry.get("target") or 0)
    if protocol not in _PROTOCOLS:
        problems.error(path, f'unknown protocol "{protocol}"', "want tcp, udp or sctp")
        return None
    numbers = [first, last or first]
    if not all(number.isdigit() and int(number) < 65536 for number in numbers) or int(numbers[0]) > int(numbers[1]):
        problems.error(
            path, f'"{entry.get("published")}" is no port and no range of ports', "want 1 to 65535, or 8000-8010"
        )
        return None
    if not 0 < target < 65536:
        problems.error(path, f'"{target}" is no port', "want 1 to 65535")
        return None
    mode = entry.get("mode") or "ingress"
    return service_pb2.PortSpec(
        name=entry.get("name") or "",
        protocol=_PROTOCOLS[protocol],
        target_port=target,
        published_port=int(first),
        published_port_end=int(last) if last else 0,
        host_ip=entry.get("host_ip") or "",
        publish_mode=service_pb2.PUBLISH_MODE_HOST if mode == "host" else service_pb2.PUBLISH_MODE_INGRESS,
        app_protocol=entry.get("app_protocol") or "",
    )
