"""Attacks run on our runtime; in full also on Debian's runc and dockerd, and all are one table at the end.

`make attacks` (PYCOMPOSE_ATTACKS=full) prints the table and writes docs/attacks.md from it. Outcomes are kept in
pytest's cache, so that a run of some cases (ATTACKS="tests/attacks/test_disk.py") renews theirs; PYCOMPOSE_STARTS is
how many starts a race has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from attacks.rows import GROUPS, ROWS
from oci import bundles
from oci.conftest import bench

__all__ = ["bench", "runtime"]

FULL = os.environ.get("PYCOMPOSE_ATTACKS") == "full"
RACES = int(os.environ.get("PYCOMPOSE_STARTS", "10000"))
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "attacks.md"
OURS, PEER = bundles.RUNTIMES
DOCKERD = "dockerd"
COLUMNS = (OURS, PEER, DOCKERD)
CACHE = "attacks/cases"


@dataclass
class Case:
    """One test: `outcomes` of its parameters by runtime, True where it held; `starts` of a race by runtime."""

    rows: tuple[str, ...]
    twin: bool
    text: str
    outcomes: dict[str, list[bool]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    def cell(self, runtime: str) -> str:
        """What to say of a runtime."""
        found = self.outcomes.get(runtime, [])
        failed = found.count(False)
        if not found:
            return "-"
        many = f", {self.starts[runtime]:,} starts" if runtime in self.starts else ""
        if not failed:
            return ("works" if self.twin else "safe") + many
        return ("FAILS" if failed == len(found) else f"FAILS ({failed} of {len(found)})") + many


_cases: dict[str, Case] = {}
_of_item: dict[str, Case] = {}


@pytest.fixture(scope="module", params=[OURS, PEER] if FULL else [OURS])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bundles.Bench]:
    """The runtime under attack."""
    with bundles.open_bench(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which row each test is of."""
    for item in items:
        for kind in ("attack", "twin"):
            for marker in item.iter_markers(kind):
                assert isinstance(item, pytest.Function)
                words = " ".join((item.function.__doc__ or "").partition("\n\n")[0].split()).rstrip(".")
                name = item.nodeid.partition("[")[0]
                compared = item.callspec.params.get("case") if hasattr(item, "callspec") else None
                if hasattr(compared, "text"):  # one test of several rows: each of its cases is one here
                    words, name = compared.text.capitalize(), f"{name}[{compared.text}]"
                _of_item[item.nodeid] = _cases.setdefault(name, Case(marker.args, kind == "twin", words))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each outcome by runtime."""
    case = _of_item.get(report.nodeid)
    if case is not None and not report.skipped and (report.when == "call" or report.failed):
        named = re.findall(rf"(?<![\w]){PEER}(?![\w])|{DOCKERD}", report.nodeid.partition("[")[2])
        runtime = named[0] if named else OURS
        case.outcomes.setdefault(runtime, []).append(report.passed)
        for key, value in report.user_properties:
            if key == "starts":
                case.starts[runtime] = int(value)


def still_there(name: str) -> bool:
    """Whether a test that was run some time is one still."""
    place, _, compared = name.partition("[")
    path, _, function = place.partition("::")
    text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
    return f"def {function}(" in text and compared.rstrip("]") in text


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and write the page; rows that were never run are told on it."""
    if not FULL or not any(case.outcomes for case in _cases.values()) or config.cache is None:
        return
    kept: dict[str, dict[str, Any]] = {
        name: case for name, case in config.cache.get(CACHE, {}).items() if still_there(name)
    }
    kept |= {name: asdict(case) for name, case in _cases.items() if case.outcomes}
    config.cache.set(CACHE, kept)
    cases = [Case(**each | {"rows": tuple(each["rows"])}) for _, each in sorted(kept.items())]
    version = subprocess.run(["runc", "--version"], capture_output=True, text=True).stdout.split()[2]
    lines = [
        (row, ("twin: " if case.twin else "") + case.text, *map(case.cell, COLUMNS))
        for row in ROWS
        for case in sorted(cases, key=lambda case: case.twin)
        if row in case.rows and case.outcomes
    ]
    head = ("row", "case", "pycompose", f"runc {version}", dockerd_version())
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    for line in (head, *lines):
        terminalreporter.write_line("  ".join(map(str.ljust, line, widths)).rstrip())
    PAGE.write_text(page(head, lines))
    terminalreporter.write_line(f"written to {PAGE.name}")


def dockerd_version() -> str:
    """What to call the peer."""
    if not shutil.which(DOCKERD):
        return DOCKERD
    said = subprocess.run([DOCKERD, "--version"], capture_output=True, text=True).stdout.split()
    return f"{DOCKERD} {said[2].split('+')[0].rstrip(',')}"


def page(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """The page of the documentation."""
    text = [
        "# Attacks\n",
        "What is tried against a node, its runtime and its images, each beside a benign twin that must work, and what",
        "came of it here, with Debian's runc, and, where it costs little to ask, with Debian's dockerd. `make attacks`",
        "runs all of it and writes this page; `make test` runs it on our runtime with fewer starts in the races.\n",
        "`-`: there is no such thing in the peer, it lacks the feature, or it was not asked.",
    ]
    for group, title in GROUPS.items():
        text += [f"\n## {group}. {title}"]
        for row, (tried, safe) in ROWS.items():
            if row.startswith(group):
                text += [f"\n**{row}** {tried}. Safe: {safe}.\n"]
                escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines if line[0] == row]
                if not escaped:
                    text += ["In `make test`; not run in full for this page yet."]
                    continue
                text += [f"| case | {' | '.join(head[2:])} |", "|---" * (len(head) - 1) + "|"]
                text += [f"| {' | '.join(line[1:])} |" for line in escaped]
    return "\n".join(text) + "\n"
