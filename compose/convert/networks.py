"""Networks of the project, and a service's place on them."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.compose.labels import NETWORK, PROJECT
from pycompose.compose.loader import Project
from pycompose.proto.v1 import network_pb2, service_pb2

Path = tuple[str | int, ...]
PREDEFINED = ("host", "none")
_DRIVERS = {
    "": "",
    "default": "",
    "bridge": "bridge",
    "overlay": "overlay",
    "macvlan": "macvlan",
    "host": "host",
    "none": "none",
    "null": "none",
}
_BRIDGE = "com.docker.network.bridge."
_BRIDGE_OPTIONS = (
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
    f"{_BRIDGE}enable_icc",
    f"{_BRIDGE}enable_ip_masquerade",
    f"{_BRIDGE}host_binding_ipv4",
)
NETWORK_OPTIONS = {
    "": _BRIDGE_OPTIONS,
    "bridge": _BRIDGE_OPTIONS,
    "overlay": _BRIDGE_OPTIONS,
    "macvlan": ("parent", "macvlan_mode", "com.docker.network.driver.mtu"),
}
"""Options that are honoured, by driver."""
_BOOLEANS = (f"{_BRIDGE}enable_icc", f"{_BRIDGE}enable_ip_masquerade")
MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
ENDPOINT_OPTIONS = ("com.docker.network.endpoint.sysctls", "com.docker.network.endpoint.ifname")
LONGEST6 = 94
"""Longest prefix of an IPv6 subnet: tasks' addresses hold their IPv4 ones."""
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.\w+\Z")
_MAC = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")
_LINK = re.compile(r"[^\s/:]{1,15}\Z")


def networks(project: Project, problems: Problems) -> tuple[dict[str, network_pb2.NetworkSpec], dict[str, str]]:
    """Return the networks to have by their name in the cluster, and external names with their place in the files."""
    specs, external = {}, {}
    for key, entry in (project.model.get("networks") or {}).items():
        name = entry["name"]
        if entry.get("external"):
            if name not in PREDEFINED:
                external[name] = problems.place(("networks", key))
        elif predefined(entry) is None:
            specs[name] = _network(project, key, entry, problems)
    for name, service in project.services.items():
        mode = service.get("network_mode") or ""
        if _is_network(mode):
            external[mode] = problems.place(("services", name, "network_mode"))
        elif mode in ("bridge", "default"):
            default = _default(project)
            specs.setdefault(
                default, network_pb2.NetworkSpec(name=default, project=project.name, labels=_labels(project))
            )
    return specs, external


def predefined(entry: dict[str, Any]) -> str | None:
    """Return "host" or "none" when the network is one of these, None for a network of containers."""
    word = entry["name"] if entry.get("external") else _DRIVERS.get(entry.get("driver") or "", "")
    return word if word in PREDEFINED else None


def _is_network(mode: str) -> bool:
    """Return whether a network_mode is the name of a network."""
    return bool(mode) and mode not in ("bridge", "default", *PREDEFINED) and ":" not in mode


def _default(project: Project) -> str:
    known = (project.model.get("networks") or {}).get("default") or {}
    return str(known.get("name") or f"{project.name}_default")


def _labels(project: Project, key: str = "default") -> dict[str, str]:
    return {PROJECT: project.name, NETWORK: key}


def _network(project: Project, key: str, entry: dict[str, Any], problems: Problems) -> network_pb2.NetworkSpec:
    path: Path = ("networks", key)
    driver = entry.get("driver") or ""
    if driver not in _DRIVERS:
        problems.error((*path, "driver"), f'there is no network driver "{driver}"', "want bridge, macvlan or overlay")
    if entry.get("enable_ipv4") is False:
        problems.error((*path, "enable_ipv4"), "a network without IPv4 cannot be made", "leave it out")
    spec = network_pb2.NetworkSpec(
        name=entry["name"],
        project=project.name,
        driver=_DRIVERS.get(driver, ""),
        labels={**(entry.get("labels") or {}), **_labels(project, key)},
        internal=entry.get("internal") or False,
        attachable=entry.get("attachable") or False,
        enable_ipv6=entry.get("enable_ipv6") or False,
    )
    _driver_options(spec, entry.get("driver_opts") or {}, path, problems)
    _ipam(project, spec, entry.get("ipam") or {}, (*path, "ipam"), problems)
    return spec


def _driver_options(spec: network_pb2.NetworkSpec, options: dict[str, Any], path: Path, problems: Problems) -> None:
    known = NETWORK_OPTIONS.get(spec.driver, ())
    for name, given in options.items():
        value, place = str(given), (*path, "driver_opts", name)
        if name == "encrypted":
            problems.error(place, "traffic between nodes cannot be encrypted yet", "leave it out")
        elif name not in known:
            driver = spec.driver or "bridge"
            problems.warn(
                place, f"the driver {driver} has no such option, and it has no effect; known: {', '.join(known)}"
            )
        elif name in _BOOLEANS and value.lower() not in ("true", "false", "1", "0"):
            problems.error(place, f'"{value}" is neither true nor false', 'want "true" or "false"')
        elif name.endswith("mtu") and not (value.isdigit() and 68 <= int(value) <= 65535):
            problems.error(place, f'"{value}" is no MTU', "want 68 to 65535")
        elif name == "macvlan_mode" and value not in MACVLAN_MODES:
            problems.error(place, f'unknown mode "{value}"', f"want one of {', '.join(MACVLAN_MODES)}")
        else:
            spec.driver_options[name] = value
    if spec.driver == "macvlan" and not options.get("parent"):
        remedy = "add driver_opts: {parent: eth0}, the machine's interface"
        problems.error((*path, "driver_opts"), "macvlan needs an interface to sit on", remedy)


def _ipam(
    project: Project, spec: network_pb2.NetworkSpec, ipam: dict[str, Any], path: Path, problems: Problems
) -> None:
    if ipam.get("driver") not in (None, "", "default"):
        problems.error((*path, "driver"), f'there is no IPAM driver "{ipam["driver"]}"', "leave it out")
    if problems.written((*path, "options")):
        problems.warn((*path, "options"), "the default IPAM driver has no options, and they have no effect")
    versions = set()
    for index, config in enumerate(ipam.get("config") or ()):
        place = (*path, "config", index)
        subnet = _subnet(config, place, problems)
        if subnet is None:
            continue
        if subnet.version in versions:
            problems.error(place, f"a network has one IPv{subnet.version} subnet", "remove the others")
        versions.add(subnet.version)
        if subnet.version == 6 and subnet.prefixlen > LONGEST6:
            problems.error((*place, "subnet"), f"{subnet} is too small", f"want /{LONGEST6} or larger, such as /64")
        if subnet.version == 6 and not spec.enable_ipv6:
            problems.error((*place, "subnet"), f"{subnet} is IPv6 and the network is not", "add enable_ipv6: true")
        spec.subnets.add(
            subnet=config.get("subnet") or "",
            gateway=config.get("gateway") or "",
            ip_range=config.get("ip_range") or "",
            aux_addresses=config.get("aux_addresses") or {},
        )


def _subnet(config: dict[str, Any], path: Path, problems: Problems) -> IPv4Network | IPv6Network | None:
    text = config.get("subnet") or ""
    try:
        subnet = ip_network(text, strict=False)
    except ValueError:
        problems.error((*path, "subnet"), f'"{text}" is no subnet', "write it like 10.5.0.0/16")
        return None
    addresses: dict[tuple[str, ...], Any] = {("gateway",): config.get("gateway")}
    addresses |= {("aux_addresses", name): text for name, text in (config.get("aux_addresses") or {}).items()}
    for key, address in addresses.items():
        try:
            if address and ip_address(address) not in subnet:
                problems.error((*path, *key), f"{address} is not in {subnet}", "name one of its addresses")
        except ValueError:
            problems.error((*path, *key), f'"{address}" is no address', f"name one of {subnet}")
    span = config.get("ip_range")
    try:
        inside = not span or ip_network(span, strict=False).subnet_of(subnet)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        inside = False
    if not inside:
        problems.error((*path, "ip_range"), f"{span} is no part of {subnet}", "write it like 10.5.1.0/24")
    return subnet


def attach(project: Project, name: str, task: service_pb2.TaskSpec, problems: Problems) -> None:
    """Write the service's networks and network mode into `task`."""
    service = project.services[name]
    path: Path = ("services", name)
    defined = project.model.get("networks") or {}
    mode = service.get("network_mode") or ""
    if mode in ("bridge", "default"):
        problems.warn((*path, "network_mode"), f"{mode} stands for the project's default network here")
        task.networks.add(network=_default(project))
        mode = ""
    elif _is_network(mode):
        task.networks.add(network=mode)
        mode = ""
    for key, options in (service.get("networks") or {}).items():
        entry = defined.get(key) or {"name": key}
        fixed = predefined(entry)
        if fixed is not None:
            mode = fixed
            continue
        _addresses(entry, options or {}, (*path, "networks", key), problems)
        task.networks.append(_attachment(entry["name"], options or {}, (*path, "networks", key), problems))
    task.network_mode = mode
    mac = service.get("mac_address")
    if mac:
        _mac(mac, (*path, "mac_address"), problems)
    if mac and not task.networks:
        problems.warn((*path, "mac_address"), f"network_mode {mode} has no interface of its own, and it has no effect")
    elif mac and not task.networks[0].mac_address:
        first = max(range(len(task.networks)), key=lambda index: (task.networks[index].priority, -index))
        task.networks[first].mac_address = mac
    if mode in PREDEFINED and task.networks:
        problems.error((*path, "networks"), f"{mode} goes with no other network", "name only one")


def _addresses(entry: dict[str, Any], options: dict[str, Any], path: Path, problems: Problems) -> None:
    """Check fixed addresses against the network's subnets, where the file says them."""
    if entry.get("external"):
        return
    given = [config.get("subnet") for config in (entry.get("ipam") or {}).get("config") or ()]
    subnets = []
    for text in given:
        try:
            subnets.append(ip_network(text or "", strict=False))
        except ValueError:
            return
    for key, version in (("ipv4_address", 4), ("ipv6_address", 6)):
        text = options.get(key)
        if not text:
            continue
        try:
            address = ip_address(text)
        except ValueError:
            problems.error((*path, key), f'"{text}" is no address', "write one of the network's subnet")
            continue
        fitting = [subnet for subnet in subnets if subnet.version == version]
        if address.version != version:
            problems.error((*path, key), f"{text} is IPv{address.version}", f"want an IPv{version} address")
        elif not fitting:
            remedy = f"add ipam: {{config: [{{subnet: …}}]}} to networks.{path[-1]}"
            problems.error((*path, key), f"a fixed address needs an IPv{version} subnet of the network's own", remedy)
        elif address not in fitting[0]:
            problems.error((*path, key), f"{text} is not in {fitting[0]}", "name one of its addresses")


def _attachment(
    network: str, options: dict[str, Any], path: Path, problems: Problems
) -> service_pb2.NetworkAttachmentSpec:
    found = service_pb2.NetworkAttachmentSpec(
        network=network,
        aliases=options.get("aliases") or (),
        ipv4_address=options.get("ipv4_address") or "",
        ipv6_address=options.get("ipv6_address") or "",
        mac_address=options.get("mac_address") or "",
        priority=int(options.get("priority") or 0),
        gateway_priority=int(options.get("gw_priority") or 0),
        interface_name=options.get("interface_name") or "",
    )
    _endpoint_options(found, options.get("driver_opts") or {}, (*path, "driver_opts"), problems)
    for index, text in enumerate(options.get("link_local_ips") or ()):
        found.link_local_addresses.append(text)
        try:
            local = ip_address(text).is_link_local
        except ValueError:
            local = False
        if not local:
            remedy = "want one of 169.254.0.0/16 or fe80::/10"
            problems.error((*path, "link_local_ips", index), f"{text} is no link-local address", remedy)
    if found.mac_address:
        _mac(found.mac_address, (*path, "mac_address"), problems)
    if found.interface_name and not _LINK.match(found.interface_name):
        remedy = "want up to 15 characters without spaces, / and :"
        problems.error((*path, "interface_name"), f'"{found.interface_name}" is no name of an interface', remedy)
    return found


def _endpoint_options(
    attachment: service_pb2.NetworkAttachmentSpec, options: dict[str, Any], path: Path, problems: Problems
) -> None:
    for name, value in options.items():
        if name not in ENDPOINT_OPTIONS:
            known = ", ".join(ENDPOINT_OPTIONS)
            problems.warn((*path, name), f"no such option, and it has no effect; known: {known}")
            continue
        attachment.driver_options[name] = str(value)
        for item in str(value).split(",") if name.endswith(".sysctls") else ():
            key, equals, _ = item.partition("=")
            if not equals or not _SYSCTL.match(key.strip()):
                remedy = "write it like net.ipv4.conf.IFNAME.log_martians=1"
                problems.error((*path, name), f'"{item}" sets nothing of an interface', remedy)
        if name.endswith(".ifname") and not _LINK.match(str(value)):
            problems.error((*path, name), f'"{value}" is no name of an interface', "want up to 15 characters")


def way_in(project: Project, name: str) -> tuple[bool, str]:
    """Return whether published ports can reach the service, and the address that its network publishes them on.

    The address is "" where the network says none; a network that the files do not define is taken to lead outside.
    """
    defined = project.model.get("networks") or {}
    used = project.services[name].get("networks") or {}
    ranked = sorted(
        (-int((options or {}).get("gw_priority") or 0), -int((options or {}).get("priority") or 0), key)
        for key, options in used.items()
    )
    entries = [defined.get(key) or {} for _, _, key in ranked]
    outward = [one for one in entries if not one.get("internal") and one.get("driver") not in ("macvlan", "none")]
    binding = ((outward or [{}])[0].get("driver_opts") or {}).get(f"{_BRIDGE}host_binding_ipv4") or ""
    return bool(outward) or not used, str(binding)


def _mac(text: str, path: Path, problems: Problems) -> None:
    if not _MAC.match(text):
        problems.error(path, f'"{text}" is no MAC address', "write it like 02:42:ac:11:00:02")
    elif int(text[:2], 16) & 1:
        problems.error(path, f"{text} is a group address", "make its first byte even")
