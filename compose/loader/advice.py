"""What is allowed and probably not meant: warnings about a project that loads.

An override file can only add to a list, so a port that it publishes anew is published twice, and two services cannot
have one port of this machine (docker/compose#3729, #4973).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pycompose.compose.loader.tree import Mark, locate

_ANY = ("", "0.0.0.0", "::")


def advise(services: dict[str, Any], tree: Any) -> list[str]:
    """Return the warnings about the enabled services' ports; `tree` knows the places."""
    return [*_published_again(services, tree), *_taken_twice(services, tree)]


def _ports(name: str, service: Any, tree: Any) -> Iterator[tuple[dict[str, Any], Mark]]:
    for index, port in enumerate(service.get("ports") or ()):
        mark = locate(tree, ("services", name, "ports", index))
        if mark and port.get("published"):
            yield port, mark


def _published_again(services: dict[str, Any], tree: Any) -> Iterator[str]:
    """Find container ports that a file publishes and another file, laid over it, publishes again."""
    for name, service in services.items():
        first: dict[tuple[Any, Any], tuple[dict[str, Any], Mark]] = {}
        for port, mark in _ports(name, service, tree):
            key = (port.get("target"), port.get("protocol"))
            before = first.setdefault(key, (port, mark))
            if before[1].source.name != mark.source.name:
                yield (
                    f"{_place(mark)}: services.{name}.ports: publishes container port {port['target']} as "
                    f"{port['published']} in addition to {before[0]['published']} ({_place(before[1])}); to publish "
                    "only this one, write ports: !override"
                )


def _taken_twice(services: dict[str, Any], tree: Any) -> Iterator[str]:
    """Find ports of this machine that two services publish."""
    holders: dict[tuple[Any, Any], list[tuple[str, str, Mark]]] = {}
    for name, service in services.items():
        for port, mark in _ports(name, service, tree):
            address, published = port.get("host_ip", ""), port["published"]
            if not published.isdecimal() or published == "0":
                continue
            others = holders.setdefault((published, port.get("protocol")), [])
            for other, where, first in others:
                if other != name and (where == address or where in _ANY or address in _ANY):
                    yield (
                        f"{_place(mark)}: services.{name}.ports: port {published} of this machine is published by "
                        f'service "{other}" too ({_place(first)}); only one of them can have it'
                    )
                    break
            others.append((name, address, mark))


def _place(mark: Mark) -> str:
    return f"{mark.source.name}:{mark.line}:{mark.column}"
