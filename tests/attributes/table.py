"""The tables: rows of attributes that work, tried in containers, and of attributes that are refused or warned of.

A row of ``process.yaml``, ``limits.yaml``, ``storage.yaml``, ``network.yaml``, ``lifecycle.yaml``, ``project.yaml``:

=========  ==============================================================================================
name       of the row, and of its service
paths      the attributes that it is about, as in ``paths.txt``; ".x" stands for "services.<name>.x"
service    the service, over ``image: test/busybox``
run        a shell script, the service's command; ``$`` is escaped for it
with       further services
top        networks, volumes, secrets, configs, include and x- keys
files      files beside the Compose file, by path
before     pycompose commands to run before ``up``
objects    secrets and configs that exist before ``up``, with their content
output     what the service prints, in all
matches    a regular expression that its output matches, in all
warning    what ``up`` says about it
checks     what else must hold: see ``node/test_attributes.py``
note       what the documentation says besides
=========  ==============================================================================================

All rows are one project on one node; names of services, networks and so on must differ between rows unless they are
meant to be the same. ``@WORD@`` stands for something of the machine (``node/test_attributes.py``).

A row of ``refused.yaml`` has ``paths``, ``file`` (text of a Compose file, or ``service``: text of one service), and
``error`` or ``warning``: the message after its place. A row of ``elsewhere.yaml`` names the test that shows it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FILES = ("process", "limits", "storage", "network", "lifecycle", "project")


@dataclass(frozen=True)
class Row:
    """One row of what works; see the module."""

    name: str
    paths: tuple[str, ...]
    service: dict[str, Any] | None = None
    run: str = ""
    others: dict[str, Any] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    objects: dict[str, dict[str, str]] = field(default_factory=dict)
    output: str | None = None
    matches: str | None = None
    warning: str | None = None
    checks: tuple[dict[str, Any], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Refusal:
    """One row of what does not; see the module."""

    paths: tuple[str, ...]
    file: str
    error: str = ""
    warning: str = ""


@functools.cache
def known_paths() -> list[str]:
    """Every attribute of the Compose specification that Docker Compose 2.40 or its successors know."""
    return (HERE / "paths.txt").read_text().split()


@functools.cache
def rows() -> list[Row]:
    """All rows of what works."""
    found = []
    for name in FILES:
        for entry in yaml.load((HERE / f"{name}.yaml").read_text(), yaml.CSafeLoader):
            entry["others"] = entry.pop("with", {})
            entry["paths"] = full_paths(entry["paths"])
            if "run" in entry or "output" in entry or "service" in entry:
                entry.setdefault("service", {})
            found.append(Row(**entry))
    return found


@functools.cache
def refusals() -> list[Refusal]:
    """All rows of what does not."""
    found = []
    for entry in yaml.safe_load((HERE / "refused.yaml").read_text()):
        entry["paths"] = full_paths(entry["paths"])
        service = entry.pop("service", None)
        if service is not None:
            body = re.sub("^", "    ", service.strip(), flags=re.MULTILINE)
            entry["file"] = f"services:\n  web:\n    image: nginx\n{body}\n{entry.pop('rest', '')}"
        found.append(Refusal(**entry))
    return found


@dataclass(frozen=True)
class Elsewhere:
    """Attributes that another test shows: "file::function"."""

    paths: tuple[str, ...]
    test: str
    refused: str = ""
    note: str = ""


@functools.cache
def elsewhere() -> list[Elsewhere]:
    """All rows of what other tests show."""
    entries = yaml.safe_load((HERE / "elsewhere.yaml").read_text())
    return [Elsewhere(**(entry | {"paths": full_paths(entry["paths"])})) for entry in entries]


def full_paths(texts: list[str]) -> tuple[str, ...]:
    """Expand a leading dot, and "*" at the end, to paths that there are."""
    known = known_paths()
    found: list[str] = []
    for text in texts:
        path = f"services.<name>{text}" if text.startswith(".") else text
        below = path.endswith(".*") and path != "x-*"
        matching = [one for one in known if one.startswith(path[:-1])] if below else [path]
        if not set(matching) <= set(known):
            raise ValueError(f"{text}: no such attribute in paths.txt")
        found += matching
    return tuple(found)
