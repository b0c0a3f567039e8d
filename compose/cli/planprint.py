"""A plan on paper: for people, and as JSON. Pure functions over steps.

::

    recreate  service web: lab-web-1, lab-web-2 (stop first)
                command: sh -c 'echo tick' → sh -c 'echo tock'
                environment.LEVEL
    create    service api: lab-api-1
    remove    service old: lab-old-1, because it is not in the files
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pycompose.compose.plan.steps import Step

MOST_NAMES = 6
_WIDTH = len("recreate")
_SIGNS = {"create": "\x1b[32m", "remove": "\x1b[31m", "recreate": "\x1b[33m", "update": "\x1b[33m"}
_RESET = "\x1b[0m"


def lines(steps: Sequence[Step], *, colour: bool = False) -> list[str]:
    """Return the lines of what changes anything."""
    found = []
    for step in steps:
        if not step.changes:
            continue
        word = step.action.ljust(_WIDTH)
        if colour and step.action in _SIGNS:
            word = f"{_SIGNS[step.action]}{word}{_RESET}"
        found.append(f"{word}  {step.kind} {step.name}{_containers(step)}{_how(step)}")
        told = () if step.reason.startswith("scale") else step.keys
        found += [f"{' ' * (_WIDTH + 4)}{one}" for one in told]
    return found


def _containers(step: Step) -> str:
    names = step.containers[:MOST_NAMES]
    more = f" and {len(step.containers) - MOST_NAMES} more" if len(step.containers) > MOST_NAMES else ""
    return f": {', '.join(names)}{more}" if names else ""


def _how(step: Step) -> str:
    if step.action == "recreate" and step.containers:
        order = f" ({'start' if step.start_first else 'stop'} first)"
    else:
        order = ""
    told = bool(step.keys) and not step.reason.startswith("scale")
    return order + (f" – {step.reason}" if step.reason and not told else "")


def summary(steps: Sequence[Step]) -> str:
    """Return "2 to create, 1 to recreate"."""
    counts = Counter(step.action for step in steps if step.changes)
    return ", ".join(f"{count} to {word}" for word, count in counts.items())


def as_data(project: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return the plan as plain data; its shape is documented in docs/command-line.md and is only added to."""
    return {
        "project": project,
        "changes": [
            {
                "action": step.action,
                "kind": step.kind,
                "name": step.name,
                "reason": step.reason,
                "keys": [{"key": one.key, "before": one.before, "after": one.after} for one in step.keys],
                "containers": list(step.containers),
                "order": ("start-first" if step.start_first else "stop-first") if step.action == "recreate" else "",
            }
            for step in steps
            if step.changes
        ],
    }
