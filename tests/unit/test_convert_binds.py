"""Binds on a cluster of several nodes: what goes along, what stays on one node, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycompose.compose.convert import Desired, convert
from pycompose.compose.convert.binds import for_several_nodes, keeps_to_one_node
from pycompose.compose.loader import load


def fitted(folder: Path, volume: str, more: str = "") -> tuple[Desired, list[str]]:
    (folder / "compose.yaml").write_text(f"name: p\nservices:\n  a:\n    image: x\n    volumes: [{volume}]\n{more}")
    project = load([str(folder / "compose.yaml")])
    desired = convert(project)
    return desired, for_several_nodes(project, desired)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "conf" / "sub").mkdir(parents=True)
    (folder / "conf" / "one").write_text("1")
    (folder / "conf" / "sub" / "two").write_text("2")
    (folder / "conf" / "sub" / "two").chmod(0o755)
    (tmp_path / "outside").write_text("no")
    return folder


def test_files_go_along_by_their_digest(project: Path) -> None:
    desired, wrong = fitted(project, "./conf:/etc/app:ro, ./conf/one:/one:ro, data:/data", "volumes: {data: {}}\n")
    assert wrong == []
    container = desired.services["a"].task.container
    assert [mount.target for mount in container.mounts] == ["/data"]
    found = {one.target: (desired.configs[one.name].data, one.mode & 0o111) for one in container.configs}
    assert found == {"/etc/app/one": (b"1", 0), "/etc/app/sub/two": (b"2", 0o111), "/one": (b"1", 0)}
    assert len(desired.configs) == 2
    before = set(desired.configs)
    (project / "conf" / "one").write_text("new")
    assert set(fitted(project, "./conf:/etc/app:ro")[0].configs) != before


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ("./conf:/c", "would be written on the node"),
        ("../outside:/c:ro", "outside of the project's folder"),
        ("./long:/c:ro", "longer than 1000 KiB"),
        ("./many:/c:ro", "more than 200 files"),
        ("./links:/c:ro", "is not an ordinary file"),
        ("./empty:/c:ro", "has no files"),
    ],
)
def test_what_one_node_alone_has_is_refused(project: Path, volume: str, said: str) -> None:
    (project / "long").write_bytes(bytes((1000 << 10) + 1))
    for name in ("many", "links", "empty"):
        (project / name).mkdir()
    for number in range(201):
        (project / "many" / str(number)).write_text(str(number))
    (project / "links" / "out").symlink_to("/etc/passwd")
    _, wrong = fitted(project, volume)
    assert len(wrong) == 1
    assert f"{project}/compose.yaml:5:" in wrong[0]
    assert "services.a.volumes[0]" in wrong[0]
    assert said in wrong[0]
    assert "node.hostname == NAME" in wrong[0]


def test_a_service_that_names_its_node_keeps_its_binds(project: Path) -> None:
    more = "    deploy: {placement: {constraints: [node.hostname == n1]}}\n"
    desired, wrong = fitted(project, "./conf:/c", more)
    assert wrong == []
    assert [mount.target for mount in desired.services["a"].task.container.mounts] == ["/c"]


def test_which_constraints_name_a_node() -> None:
    assert keeps_to_one_node(["node.id==abc"])
    assert not keeps_to_one_node(["node.hostname != n1", "node.role == manager", "node.labels.x == y"])
