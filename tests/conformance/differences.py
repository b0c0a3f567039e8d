"""Keeping differences: one run goes on after the first one, and ends with each kind of difference once, made small.

Two differences are of one kind when their `signature` is equal. The example of a kind that is shown is the shortest one
seen, with every line taken out of its files that it does not need.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from conformance.files import ComposeProject

Compare = Callable[[ComposeProject], str]
"""Load a project with both programs; return how they differ, nothing when they agree."""
MAX_KINDS = 20
"""More kinds than these mean that something general is broken, and need no further search."""
MAX_TRIALS = 400
"""How many comparisons are spent on making one example small."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|/[^\s:]+|[0-9]+")
_CHANGED = re.compile(r"[-+](?![-+]{2} )")


def signature(found: str) -> str:
    """Return what is the same for differences of one kind.

    Args:
        found: a difference as `Compare` returns it: a unified diff, or both programs' errors.
    """
    lines = found.splitlines()
    changed = [line for line in lines if _CHANGED.match(line)]
    if not found.startswith("ours ended with"):
        return "\n".join(_QUOTED.sub("…", line[0] + line[1:].strip().partition(":")[0]) for line in changed[:2])
    said = [line for line in lines if line.strip() and "is not set. Defaulting" not in line]
    return "\n".join(_QUOTED.sub("…", line) for line in said[:2])


class Differences:
    """The kinds of difference seen so far, each with its shortest example."""

    def __init__(self, compare: Compare) -> None:
        self.compare = compare
        self.kinds: dict[str, tuple[ComposeProject, str]] = {}
        self.counts: dict[str, int] = {}

    def look(self, project: ComposeProject) -> None:
        """Compare one project, and keep what differs."""
        if len(self.kinds) >= MAX_KINDS or not (found := self.compare(project)):
            return
        kind = signature(found)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind not in self.kinds or len(str(project)) < len(str(self.kinds[kind][0])):
            self.kinds[kind] = (project, found)

    def report(self) -> str:
        """Return every kind of difference with a small example, nothing when there is none."""
        shown = []
        for kind, (project, _) in self.kinds.items():
            small = self.smaller(project, kind)
            shown.append(f"=== seen {self.counts[kind]} times\n{self.compare(small)}\n{small}")
        return "\n\n".join(shown)

    def smaller(self, project: ComposeProject, kind: str) -> ComposeProject:
        """Take out of the files what the difference does not need: whole files, halves, then single lines."""
        trials = 0
        for name in list(project.files):
            size = len(project.files[name].splitlines())
            while size and trials < MAX_TRIALS:
                start = 0
                while start < len(lines := project.files[name].splitlines(keepends=True)) and trials < MAX_TRIALS:
                    text = "".join(lines[:start] + lines[start + size :])
                    candidate = replace(project, files={**project.files, name: text})
                    trials += 1
                    if signature(self.compare(candidate)) == kind:
                        project = candidate
                    else:
                        start += size
                size //= 2
        return project
