"""Answers of the embedded DNS (RFC 1035), purely: question + what the client may see -> decision.

A client sees a name only on networks that it shares. First the client's networks in order, then on each:
service names and aliases, ``tasks.NAME``, container names and aliases. What no network knows is asked upstream,
but never for a client that has only internal networks: DNS would be its way out (CVE-2024-29018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pycompose.worker.network.model import NetworkView

A, PTR, AAAA = 1, 12, 28


@dataclass(frozen=True)
class Zone:
    """Names of one network, in lower case.

    ``names``: name -> addresses; ``vips``: VIP -> service id; ``reverse``: address -> name; ``names6``: name -> IPv6
    addresses, of tasks always, for VIPs are IPv4.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vips: Mapping[str, str] = field(default_factory=dict)
    reverse: Mapping[str, str] = field(default_factory=dict)
    domain: str = ""
    names6: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """Who asks: its networks in order, name servers of its own, and whether names may be asked upstream.

    ``aliases``: names in lower case that it alone has for others.
    """

    networks: tuple[str, ...]
    servers: tuple[str, ...] = ()
    forward: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)


class Verdict(Enum):
    """What to do with a question."""

    ANSWER = "answer"
    UPSTREAM = "upstream"
    REFUSE = "refuse"
    """Nobody may be asked: for this client the name does not exist."""


@dataclass(frozen=True)
class Decision:
    """``records``: addresses (A) or names (PTR), empty for a name without such; ``services``: whose VIPs are told."""

    verdict: Verdict
    records: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


def build_zones(view: NetworkView) -> dict[str, Zone]:
    """The zones of all networks of a view."""
    names: dict[str, dict[str, list[str]]] = {network.id: {} for network in view.networks}
    vips: dict[str, dict[str, str]] = {network.id: {} for network in view.networks}
    reverse: dict[str, dict[str, str]] = {network.id: {} for network in view.networks}
    domains = {network.id: network.name for network in view.networks}
    in_rotation: dict[tuple[str, str], list[str]] = {}
    for endpoint in view.endpoints:
        if endpoint.network_id not in names:
            continue
        address = str(endpoint.address)
        for name in endpoint.names:
            names[endpoint.network_id].setdefault(name.lower(), []).append(address)
        if endpoint.names:
            reverse[endpoint.network_id][address] = f"{endpoint.names[0]}.{domains[endpoint.network_id]}"
        if endpoint.service is not None and endpoint.in_rotation:
            in_rotation.setdefault((endpoint.network_id, endpoint.service), []).append(address)
    told: dict[tuple[str, str], list[str]] = {}
    for service in view.services:
        if service.network_id not in names:
            continue
        tasks = in_rotation.get((service.network_id, service.service_id), [])
        own = [str(service.vip)] if service.vip is not None else tasks
        if service.vip is not None:
            vips[service.network_id][str(service.vip)] = service.service_id
            if service.names:
                reverse[service.network_id][str(service.vip)] = f"{service.names[0]}.{domains[service.network_id]}"
        for name in service.names:
            told.setdefault((service.network_id, name.lower()), []).extend(own)
            told.setdefault((service.network_id, f"tasks.{name.lower()}"), []).extend(tasks)
    for (network, name), addresses in told.items():  # a service's name wins over a container's
        names[network][name] = addresses
    six = _names6(view)
    return {
        key: Zone(_sorted(table), vips[key], reverse[key], domains[key].lower(), _sorted(six.get(key, {})))
        for key, table in names.items()
    }


def _sorted(table: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(set(addresses))) for name, addresses in table.items()}


def _names6(view: NetworkView) -> dict[str, dict[str, list[str]]]:
    """Network id -> name -> IPv6 addresses."""
    found: dict[str, dict[str, list[str]]] = {}
    services = {(service.network_id, service.service_id): service.names for service in view.services}
    for endpoint in view.endpoints:
        if endpoint.address6 is None:
            continue
        names = [name.lower() for name in endpoint.names]
        if endpoint.in_rotation and endpoint.service is not None:
            for name in services.get((endpoint.network_id, endpoint.service), ()):
                names += [name.lower(), f"tasks.{name.lower()}"]
        for name in names:
            found.setdefault(endpoint.network_id, {}).setdefault(name, []).append(str(endpoint.address6))
    return found


def decide(name: str, kind: int, client: Client, zones: Mapping[str, Zone]) -> Decision:
    """What to answer to one question. ``name`` absolute, any case, with or without its last dot."""
    plain = name.rstrip(".").lower()
    plain = client.aliases.get(plain, plain)
    nowhere = Decision(Verdict.UPSTREAM if client.forward else Verdict.REFUSE)
    seen = [zones[key] for key in client.networks if key in zones]
    if kind == PTR:
        address = reversed_address(plain)
        for zone in seen:
            if address is not None and address in zone.reverse:
                return Decision(Verdict.ANSWER, (zone.reverse[address],))
        return nowhere
    for zone in seen:
        short = plain.removesuffix(f".{zone.domain}") if zone.domain else plain
        addresses = zone.names.get(plain, zone.names.get(short))
        if addresses is None:
            continue
        if kind == AAAA:
            return Decision(Verdict.ANSWER, zone.names6.get(plain, zone.names6.get(short, ())))
        if kind != A:
            return Decision(Verdict.ANSWER)
        services = tuple(zone.vips[address] for address in addresses if address in zone.vips)
        return Decision(Verdict.ANSWER, addresses, services)
    return nowhere


def reversed_address(name: str) -> str | None:
    """``4.3.2.1.in-addr.arpa`` -> ``1.2.3.4``."""
    labels = name.split(".")
    if len(labels) != 6 or labels[4:] != ["in-addr", "arpa"]:
        return None
    return ".".join(reversed(labels[:4]))


def zone_to_json(zone: Zone) -> dict[str, Any]:
    """For the resolver's pipe."""
    return {
        "names": zone.names,
        "vips": zone.vips,
        "reverse": zone.reverse,
        "domain": zone.domain,
        "names6": zone.names6,
    }


def zone_from_json(data: Mapping[str, Any]) -> Zone:
    """The opposite."""
    names = {name: tuple(addresses) for name, addresses in data["names"].items()}
    names6 = {name: tuple(addresses) for name, addresses in data["names6"].items()}
    return Zone(names, data["vips"], data["reverse"], data["domain"], names6)


def client_from_json(data: Mapping[str, Any]) -> Client:
    """A client as the agent sends it."""
    networks: Sequence[str] = data["networks"]
    return Client(tuple(networks), tuple(data["servers"]), data["forward"], data["aliases"])
