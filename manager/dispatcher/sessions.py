"""Session records: who answers for a node. `/session/<node id>` names the manager that has the node's stream.

A record is written when a worker says hello, under a comparison with the one before, and stays when the session ends:
from then on every write about that node compares the record's revision (its fence). So of two managers that both
believe to have a node only the later one writes.

`boot` tells a manager's process from the one before it: a manager that started again has none of its old sessions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pycompose.manager.store import Compare, KeyValue, Put

SESSIONS = "/session/"
MANAGERS = "/manager/"


@dataclass(frozen=True, slots=True)
class ManagerId:
    """One run of a manager's process: its name (the node's id) and a random word."""

    name: str
    boot: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored of a node's session. `counter` rises by one with each."""

    manager: ManagerId
    session_id: str
    counter: int


def session_key(node_id: str) -> str:
    """Return where a node's session is recorded."""
    return SESSIONS + node_id


def parse(item: KeyValue | None) -> Record | None:
    """Return a stored record, None when there is none."""
    if item is None:
        return None
    row = json.loads(item.value)
    return Record(ManagerId(row["manager"], row["boot"]), row["session"], row["counter"])


def taken_over(node_id: str, before: KeyValue | None, manager: ManagerId, session_id: str) -> tuple[Compare, Put]:
    """Return how a node's session becomes this manager's."""
    known = parse(before)
    row = {
        "manager": manager.name,
        "boot": manager.boot,
        "session": session_id,
        "counter": 1 if known is None else known.counter + 1,
    }
    key = session_key(node_id)
    return Compare(key, before.mod_revision if before else 0), Put(key, json.dumps(row).encode())
