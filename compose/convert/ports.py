"""Published ports of a service, and how their clients are treated."""

from __future__ import annotations

from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.proto.v1 import service_pb2 as pb

Path = tuple[str | int, ...]
_PROTOCOLS = {"tcp": pb.PROTOCOL_TCP, "udp": pb.PROTOCOL_UDP, "sctp": pb.PROTOCOL_SCTP}
_PUBLISH: dict[str, dict[str, int]] = {
    "source": {"keep": pb.PUBLISH_SOURCE_KEEP, "masquerade": pb.PUBLISH_SOURCE_MASQUERADE},
    "sticky": {"none": pb.PUBLISH_STICKY_NONE, "source": pb.PUBLISH_STICKY_SOURCE},
}


def ports(service: dict[str, Any], name: str, mode: str, problems: Problems) -> list[pb.PortSpec]:
    """Return what the service publishes."""
    result = []
    for index, entry in enumerate(service.get("ports") or ()):
        path = ("services", name, "ports", index)
        if mode.startswith(("service:", "container:")):
            problems.error(path, f"ports cannot be published with network_mode: {mode}", "publish them there")
        elif mode in ("host", "none"):
            what = "publishes every port by itself" if mode == "host" else "has no ports"
            problems.warn(path, f"network_mode: {mode} {what}; this one has no effect")
            break
        else:
            port = _port(entry, path, problems)
            if port is not None:
                result.append(port)
    return result


def _port(entry: dict[str, Any], path: Path, problems: Problems) -> pb.PortSpec | None:
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
    if mode not in ("ingress", "host"):
        problems.error(path, f'unknown mode "{mode}"', "want ingress or host")
    return pb.PortSpec(
        name=entry.get("name") or "",
        protocol=_PROTOCOLS[protocol],
        target_port=target,
        published_port=int(first),
        published_port_end=int(last) if last else 0,
        host_ip=entry.get("host_ip") or "",
        publish_mode=pb.PUBLISH_MODE_HOST if mode == "host" else pb.PUBLISH_MODE_INGRESS,
        app_protocol=entry.get("app_protocol") or "",
    )


def publishing(endpoint: pb.EndpointSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    """Write `x-publish: {source: keep|masquerade, sticky: none|source}`."""
    given, path = service.get("x-publish"), ("services", name, "x-publish")
    if given is None:
        return
    if not isinstance(given, dict):
        problems.error(path, "is no mapping", "write x-publish: {sticky: source}")
        return
    for key, value in given.items():
        words = _PUBLISH.get(key)
        if words is None:
            problems.error((*path, key), f'unknown key "{key}"', "known are source and sticky")
        elif value not in words:
            problems.error((*path, key), f'unknown value "{value}"', f"want {' or '.join(words)}")
        else:
            setattr(endpoint, key, words[value])
