"""Attacks run on our runtime; in full also on Debian's runc, and both are one table at the end.

`make attacks` (PYCOMPOSE_ATTACKS=full) prints the table and writes docs/attacks.md from it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from attacks.rows import GROUPS, ROWS
from oci import bundles
from oci.conftest import bench

__all__ = ["bench", "runtime"]

FULL = os.environ.get("PYCOMPOSE_ATTACKS") == "full"
PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
OURS, PEER = bundles.RUNTIMES


@dataclass
class Case:
    """One test: `outcomes` of its parameters by runtime, True where it held."""

    rows: tuple[str, ...]
    twin: bool
    text: str
    outcomes: dict[str, list[bool]] = field(default_factory=dict)

    def cell(self, runtime: str) -> str:
        """What to say of a runtime."""
        found = self.outcomes.get(runtime, [])
        failed = found.count(False)
        if not found:
            return "-"
        if not failed:
            return "works" if self.twin else "safe"
        return "FAILS" if failed == len(found) else f"FAILS ({failed} of {len(found)})"


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
                _of_item[item.nodeid] = _cases.setdefault(name, Case(marker.args, kind == "twin", words))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each outcome by runtime."""
    case = _of_item.get(report.nodeid)
    if case is not None and not report.skipped and (report.when == "call" or report.failed):
        runtime = PEER if re.search(rf"[\[-]{PEER}[\]-]", report.nodeid) else OURS
        case.outcomes.setdefault(runtime, []).append(report.passed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and write the page when every row was run."""
    if not FULL or not any(case.outcomes for case in _cases.values()):
        return
    version = subprocess.run(["runc", "--version"], capture_output=True, text=True).stdout.split()[2]
    lines = [
        (row, ("twin: " if case.twin else "") + case.text, case.cell(OURS), case.cell(PEER))
        for row in ROWS
        for case in sorted(_cases.values(), key=lambda case: case.twin)
        if row in case.rows and case.outcomes
    ]
    head = ("row", "case", "pycompose", f"runc {version}")
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(4)]
    for line in (head, *lines):
        terminalreporter.write_line("  ".join(map(str.ljust, line, widths)).rstrip())
    if {row for row, *_ in lines} == set(ROWS):
        PAGE.write_text(page(head, lines))
        terminalreporter.write_line(f"written to {PAGE.name}")


def page(head: tuple[str, ...], lines: list[tuple[str, str, str, str]]) -> str:
    """The page of the documentation."""
    text = [
        "# Attacks\n",
        "What is tried against a node, its runtime and its images, each beside a benign twin that must work, and what",
        "came of it here and with Debian's runc. `make attacks` runs all of it and writes this page; `make test` runs",
        "it on our runtime with fewer starts in the races.\n",
        "`-`: there is no such thing in the peer, or it lacks the feature.",
    ]
    for group, title in GROUPS.items():
        text += [f"\n## {group}. {title}"]
        for row, (tried, safe) in ROWS.items():
            if row.startswith(group):
                text += [f"\n**{row}** {tried}. Safe: {safe}.\n", f"| case | {head[2]} | {head[3]} |", "|---|---|---|"]
                escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines if line[0] == row]
                text += [f"| {case} | {ours} | {peer} |" for _, case, ours, peer in escaped]
    return "\n".join(text) + "\n"
