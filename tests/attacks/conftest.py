"""Attacks run on our runtime; in full also on Debian's runc, as a table of both at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from oci import bundles
from oci.conftest import bench

__all__ = ["bench", "runtime"]

FULL = os.environ.get("PYCOMPOSE_ATTACKS") == "full"
_outcomes: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", params=list(bundles.RUNTIMES)[: None if FULL else 1])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bundles.Bench]:
    """The runtime under attack."""
    with bundles.open_bench(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each case's outcome by runtime."""
    name, _, parameters = report.nodeid.rpartition("::")[2].partition("[")
    found = next((each for each in bundles.RUNTIMES if each in parameters), None)
    if "tests/attacks" in report.nodeid and found and (report.when == "call" or report.failed):
        case = f"{name} {parameters.rstrip(']').replace(found, '').strip('-')}".strip()
        _outcomes.setdefault(case, {})[found] = "-" if report.skipped else "safe" if report.passed else "FAILS"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not FULL or not _outcomes:
        return
    width = max(map(len, _outcomes))
    terminalreporter.write_line(f"{'case'.ljust(width)}  " + "  ".join(bundles.RUNTIMES))
    for case, row in _outcomes.items():
        cells = [row.get(each, "-").ljust(len(each)) for each in bundles.RUNTIMES]
        terminalreporter.write_line(f"{case.ljust(width)}  " + "  ".join(cells).rstrip())
