"""Placement constraints: "node.labels.disk == ssd"."""

from __future__ import annotations

import re

from pycompose.proto.v1 import node_pb2

CONSTRAINT = re.compile(r"^\s*([\w.\-/]+)\s*(==|!=)\s*(.+?)\s*$")


def parse_constraint(text: str) -> tuple[str, str, str]:
    """Return (key, operator, value). Raises ValueError that says what would be right."""
    match = CONSTRAINT.match(text)
    if match is None:
        raise ValueError(f"constraint {text!r} is not of the form 'node.labels.disk == ssd' or with '!='")
    key = match[1]
    known = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch")
    if key not in known and not key.startswith(("node.labels.", "engine.labels.")):
        raise ValueError(f"constraint {text!r}: unknown key {key!r}; use {', '.join(known)}, node.labels.NAME")
    return key, match[2], match[3]


def attribute(node: node_pb2.Node, key: str) -> str:
    """Return what a constraint's key stands for on a node."""
    os_name, _, machine = node.description.platform.partition("/")
    if key.startswith("node.labels."):
        return str(node.spec.labels.get(key.removeprefix("node.labels."), ""))
    if key.startswith("engine.labels."):
        return str(node.description.engine_labels.get(key.removeprefix("engine.labels."), ""))
    values = {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": "manager",
        "node.platform.os": os_name,
        "node.platform.arch": machine,
    }
    return str(values.get(key, ""))
