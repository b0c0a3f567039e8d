"""Networks' specs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from pycompose.manager.control.validate.names import name
from pycompose.manager.control.validate.shape import Violation
from pycompose.proto.v1 import network_pb2

DRIVERS = ("", "bridge", "overlay", "macvlan")

#: Tasks' IPv6 addresses hold their IPv4 ones (manager.allocator.pools).
LONGEST6 = 94


def network(spec: network_pb2.NetworkSpec) -> list[Violation]:
    """Check a network's spec."""
    wrong = name(spec.name)
    if spec.driver not in DRIVERS:
        wrong.append(("spec.driver", f"there is no driver {spec.driver!r}; use bridge, overlay or macvlan"))
    for index, subnet in enumerate(spec.subnets):
        wrong += _subnet(f"spec.subnets[{index}]", subnet)
        if ":" in subnet.subnet and not spec.enable_ipv6:
            wrong.append((f"spec.subnets[{index}].subnet", f"{subnet.subnet} is IPv6; set enable_ipv6 too"))
    if spec.driver == "macvlan" and not spec.driver_options.get("parent"):
        wrong.append(("spec.driver_options", "macvlan needs an interface of the node: parent=eth0"))
    return wrong


def _subnet(field: str, subnet: network_pb2.IpamSubnet) -> Iterator[Violation]:
    if not subnet.subnet:
        if subnet.gateway or subnet.ip_range or subnet.aux_addresses:
            yield f"{field}.subnet", "is needed where gateway, ip_range or aux_addresses are given"
        return
    try:
        block = ipaddress.ip_network(subnet.subnet, strict=False)
    except ValueError:
        yield f"{field}.subnet", f"{subnet.subnet!r} is no subnet; write it like 10.5.0.0/16"
        return
    if block.version == 6 and block.prefixlen > LONGEST6:
        yield f"{field}.subnet", f"{block} is too small; use /{LONGEST6} or larger, such as /64"
    if block.num_addresses < 4:
        yield f"{field}.subnet", f"{block} has no room for a gateway and a container; use a shorter prefix"
    addresses = {"gateway": subnet.gateway} | {f"aux_addresses[{k!r}]": v for k, v in subnet.aux_addresses.items()}
    for part, text in addresses.items():
        if text and not _inside(text, block):
            yield f"{field}.{part}", f"{text!r} is no address in {block}"
    if subnet.ip_range:
        try:
            inside = ipaddress.ip_network(subnet.ip_range, strict=False).subnet_of(block)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            inside = False
        if not inside:
            yield f"{field}.ip_range", f"{subnet.ip_range!r} is no part of {block}"


def _inside(text: str, block: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(text) in block
    except ValueError:
        return False
