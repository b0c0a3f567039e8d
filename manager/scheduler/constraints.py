"""Placement constraints and what their keys stand for: "node.labels.disk == ssd", "node.hostname != db1"."""

from __future__ import annotations

import re

from pycompose.proto.v1 import node_pb2

CONSTRAINT = re.compile(r"\s*([\w.\-/]+)\s*(==|!=)\s*(.+?)\s*\Z")
KEYS = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch")
LABELS = ("node.labels.", "engine.labels.")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def parse_constraint(text: str) -> tuple[str, str, str]:
    """Return (key, operator, value). Raises ValueError that says what would be right."""
    match = CONSTRAINT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no constraint; write it like 'node.labels.disk == ssd', or with '!='")
    check_key(match[1])
    return match[1], match[2], match[3]


def check_key(key: str) -> None:
    """Raises ValueError when nothing of a node has that name."""
    if key not in KEYS and not any(key.startswith(prefix) and len(key) > len(prefix) for prefix in LABELS):
        raise ValueError(f"{key!r} is nothing of a node; use {', '.join(KEYS)}, node.labels.NAME or engine.labels.NAME")


def attribute(node: node_pb2.Node, key: str) -> str:
    """Return what a key stands for on a node; "" when it is not set."""
    os_name, _, machine = node.description.platform.partition("/")
    for prefix, labels in zip(LABELS, (node.spec.labels, node.description.engine_labels), strict=True):
        if key.startswith(prefix):
            return str(labels.get(key.removeprefix(prefix), ""))
    values = {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": "manager",
        "node.platform.os": os_name,
        "node.platform.arch": machine,
    }
    return str(values.get(key, ""))


def holds(node: node_pb2.Node, text: str) -> tuple[bool, str]:
    """Return whether a constraint holds, and what the node has. Values are compared without case, as Swarm does."""
    key, operator, value = parse_constraint(text)
    actual = attribute(node, key)
    if key == "node.platform.arch":
        actual, value = MACHINES.get(actual, actual), MACHINES.get(value, value)
    return (actual.casefold() == value.casefold()) == (operator == "=="), actual


def same_platform(have: str, want: str) -> bool:
    """Return whether a node of platform `have` runs what is made for `want` ("os/arch", variants aside)."""
    want_os, _, want_machine = want.partition("/")
    have_os, _, have_machine = have.partition("/")
    wanted = want_machine.split("/")[0]
    machine = MACHINES.get(wanted, wanted)
    return have_os == want_os and (not machine or MACHINES.get(have_machine, have_machine).split("/")[0] == machine)
