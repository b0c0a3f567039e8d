"""The tables of attributes: every attribute has a row, every refusal says what it says, the documentation is theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from attributes import table

from pycompose.compose.convert import Desired, convert
from pycompose.compose.loader import LoadError, MemoryFiles, load
from pycompose.compose.loader.init_services import with_init_services
from pycompose.proto import vocabulary
from pycompose.proto.v1 import container_pb2
from pycompose.worker.runtime import capabilities

ROOT = Path(__file__).parents[2]


class Machine:
    """A machine without files."""

    def read(self, path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", path)

    def exists(self, path: str) -> bool:
        return False

    def caller(self) -> tuple[int, int]:
        return 0, 0


def desired(text: str) -> Desired:
    files = MemoryFiles({"/p/compose.yaml": text})
    project = load(["/p/compose.yaml"], files=files, environment={"HOME": "/root"})
    return convert(with_init_services(project), Machine())


def test_the_documentation_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_attribute_has_a_row() -> None:
    seen = {path for row in [*table.rows(), *table.refusals(), *table.elsewhere()] for path in row.paths}
    assert seen == set(table.known_paths())
    assert len(table.known_paths()) == 360


def test_rows_have_names_of_their_own() -> None:
    names = [name for row in table.rows() for name in [row.name, *row.others]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", table.refusals(), ids=lambda row: row.paths[0])
def test_a_refusal(row: table.Refusal) -> None:
    if row.error:
        with pytest.raises(LoadError) as caught:
            desired(row.file)
        found = str(caught.value)
        assert row.error in found
    else:
        found = "\n".join(desired(row.file).warnings)
        assert found.endswith(row.warning)
    assert re.match(r"/p/compose.yaml:\d+:\d+: ", found)


@pytest.mark.parametrize("row", table.elsewhere(), ids=lambda row: row.paths[0])
def test_a_test_elsewhere_is_there(row: table.Elsewhere) -> None:
    file, _, function = row.test.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ("pull_policy: daily", 86_400),
        ("pull_policy: weekly", 604_800),
        ("pull_policy: every_2h30m", 9000),
        ("pull_policy: refresh\n    pull_refresh_after: 90s", 90),
    ],
)
def test_pull_policies_that_refresh(lines: str, seconds: int) -> None:
    spec = desired(f"services:\n  web:\n    image: nginx\n    {lines}\n").services["web"].task.container
    assert spec.pull_policy == container_pb2.PULL_POLICY_REFRESH
    assert spec.pull_refresh_after.seconds == seconds


def test_the_vocabulary_is_the_kernels() -> None:
    assert {f"CAP_{name}" for name in vocabulary.CAPABILITIES} == set(capabilities.NAMES)
    assert [vocabulary.signal_number(text) for text in ("SIGTERM", "int", "9", "RTMIN+3", "SIGRTMAX-1")] == [
        15,
        2,
        9,
        37,
        63,
    ]
    assert [vocabulary.signal_number(text) for text in ("NOPE", "0", "65", "RTMIN-1", "RTMAX+1")] == [None] * 5


def test_what_a_node_does_without_is_told_by_container() -> None:
    from pycompose.compose.cli.follow import warnings_of
    from pycompose.compose.plan.observed import Observed
    from pycompose.proto.v1 import task_pb2

    observed = Observed()
    for name, service in (("p-b-1", "b"), ("p-a-1", "a"), ("p-c-1", "c")):
        status = task_pb2.TaskStatus(warnings=["no swappiness"])
        observed.tasks[name] = task_pb2.Task(id=name, name=name, service_id=service, status=status)
    assert warnings_of(observed, ["a", "b"]) == ["p-a-1: no swappiness", "p-b-1: no swappiness"]
