"""Help, man pages, completion: from the same source as the commands, and true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from pycompose.compose.cli import completion, inspection, main, manpages, node, ps, service, topics
from pycompose.compose.cli.listing import Listing
from pycompose.proto.v1 import service_pb2, task_pb2

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main.run(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_help_explains_commands_and_topics(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "help")
    assert status == 0
    for name in topics.names():
        assert re.search(rf"^  {name} +\S", out, re.M), name
    assert run(capsys, "help", "up")[1] == run(capsys, "up", "--help")[1]
    assert run(capsys, "help", "container", "ls")[1] == run(capsys, "container", "ls", "--help")[1]
    assert "  4       a container could not be placed" in run(capsys, "help", "exit-status")[1]
    status, _, err = run(capsys, "help", "exit-statsu")
    assert (status, err) == (2, 'error: there is no command or topic "exit-statsu"; did you mean "exit-status"?\n')
    assert 'did you mean "ls"' in run(capsys, "help", "container", "lss")[2]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_topics_fit_the_terminal(width: int) -> None:
    for name in topics.names():
        lines = topics.shown(name, width, colour=False).splitlines()
        assert all(len(line) <= width for line in lines), name
        assert not any("`" in line for line in lines)


def test_the_exit_statuses_are_those_of_the_code() -> None:
    from pycompose.compose.cli import endings, follow, node_local, planning

    told = {block.term.strip("`") for block in topics.blocks("exit-status") if block.kind == "item"}
    used = {endings.FAILED, endings.USAGE, endings.INTERRUPTED, endings.NO_READER}
    used |= {planning.WOULD_CHANGE, node_local.NOT_RUNNING, follow.NOT_PLACED}
    assert {str(one) for one in used} <= told
    assert {"0", "125", "126", "127", "128+n"} <= told
    head = re.findall(r"^(\d+(?:\+n)?) ", str(endings.__doc__), re.M)
    assert set(head) == told


def test_every_variable_that_is_read_is_told() -> None:
    told = {block.term.strip("`") for block in topics.blocks("variables") if block.kind == "item"}
    read = set()
    for folder in ("compose", "worker/node", "worker/agent", "manager"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"""["'](COMPOSE_[A-Z_]+|PYCOMPOSE_[A-Z_]+|NO_COLOR)["']""", path.read_text()))
    assert read <= told, read - told
    assert told <= read, told - read


def _fields(name: str) -> set[str]:
    """The fields that the topic `formats` tells of a list."""
    for block in topics.blocks("formats"):
        if f"`{name}`" in block.term.split(", "):
            return set(re.sub(r"\([^)]*\)", "", block.text).replace(" ", "").split(","))
    raise AssertionError(name)


def test_the_fields_of_lists_are_those_of_the_code() -> None:
    task, one = task_pb2.Task(), service_pb2.Service()
    assert set(ps.row(task, one, 0.0)) == _fields("ps") == _fields("container ls")
    assert set(service._row(one, Listing())) == _fields("service ls")
    assert set(service.TASKS) == _fields("service ps")
    assert set(inspection.IMAGES) == _fields("images")
    assert set(inspection.PROJECTS) == _fields("ls")
    assert set(inspection.STATS) | {"Container"} == _fields("stats")
    assert set(node.COLUMNS) == _fields("node ls")


def _commands(context: click.Context) -> list[click.Context]:
    found = [context]
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            inside = context.command.get_command(context, name)
            assert inside is not None
            if not inside.hidden:
                found += _commands(click.Context(inside, parent=context, info_name=name))
    return found


def test_every_command_and_flag_is_explained() -> None:
    for context in _commands(click.Context(main.cli, info_name="pycompose")):
        assert context.command.help, context.command_path
        for param in context.command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help, (context.command_path, param.name)


def test_every_list_has_the_same_flags() -> None:
    lists = (
        "ps",
        "images",
        "ls",
        "volumes",
        "container ls",
        "image ls",
        "network ls",
        "volume ls",
        "service ls",
        "node ls",
    )
    for context in _commands(click.Context(main.cli, info_name="pycompose")):
        if context.command_path.removeprefix("pycompose ") in lists:
            names = {name for param in context.command.params for name in param.opts}
            assert {"--quiet", "--format", "--filter", "--no-trunc"} <= names, context.command_path


def test_man_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "help", "--man", str(tmp_path))
    pages = sorted(tmp_path.rglob("pycompose*"))
    assert status == 0
    assert out.startswith(f"{len(pages)} man pages")
    assert len(pages) > 80
    text = (tmp_path / "man1" / "pycompose-up.1").read_text()
    assert text.startswith('.TH "PYCOMPOSE\\-UP" 1 ')
    assert "pycompose\\-up \\- Create and start containers" in text
    assert "\n.TP\n\\fB\\-d, \\-\\-detach\\fR\nRun in the background.\n" in text
    assert ".SH THE PROJECT" in (tmp_path / "man7" / "pycompose-variables.7").read_text()
    if shutil.which("groff"):
        for page in pages:
            done = subprocess.run(
                ["groff", "-man", "-ww", "-z", str(page)], capture_output=True, text=True, check=False
            )
            assert done.stderr == "", page
    assert manpages._escape(".x -y 'z'") == "\\&.x \\-y \\(aqz\\(aq"


FILE = """
services:
  web: {image: "x:${NOT_SET:?}"}
  worker: {image: x, profiles: [batch]}
  db: {image: x}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Compose file that could not be brought up, and no node."""
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "other.yaml").write_text("services: {else: {image: x}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path / "none"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["u"], ["unpause", "up"]),
        (["--pro"], ["--profile", "--progress", "--project-directory", "--project-name"]),
        (["up", "w"], ["web", "worker"]),
        (["up", "web", ""], ["db", "web", "worker"]),
        (["exec", "d"], ["db"]),
        (["-f", "other.yaml", "logs", ""], ["else"]),
        (["up", "--pull", ""], ["always", "build", "missing", "never"]),
        (["up", "--pull", "=", "al"], ["always"]),
        (["ps", "--no-tr"], ["--no-trunc"]),
        (["container", "ins"], ["inspect"]),
        (["container", "stop", ""], []),
        (["-f", ""], [completion.FILES]),
        (["image", "load", "-i", ""], [completion.FILES]),
        (["help", "exit"], ["exit-status"]),
        (["completion", "z"], ["zsh"]),
        (["cp", "we"], ["web:"]),
        (["nothing", ""], []),
        (["-f", "absent.yaml", "up", ""], []),
    ],
)
def test_candidates(project: Path, words: list[str], found: list[str], capfd: Any) -> None:
    assert sorted(line.partition("\t")[0] for line in completion.answer(words)) == sorted(found)
    assert capfd.readouterr() == ("", "")


def test_candidates_have_descriptions(project: Path) -> None:
    assert "up\tCreate and start containers" in completion.answer(["u"])
    assert "--detach\tRun in the background." in completion.answer(["up", "--det"])


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "found"), [("pycompose up we", "web"), ("pycompose unp", "unpause"), ("pycompose up --de", "--detach")]
)
def test_bash_completes(project: Path, typed: str, found: str) -> None:
    script = f"""
    PATH={Path(sys.executable).parent}:$PATH
    eval "$(pycompose completion bash)"
    COMP_WORDS=({typed}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    _pycompose_complete
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.stdout.split(), done.stderr) == ([found], "")


def test_scripts_are_called_as_the_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/docker-compose"])
    for shell in completion.SCRIPTS:
        status, out, _ = run(capsys, "completion", shell)
        assert status == 0
        assert "docker-compose" in out
        assert "PROGRAM" not in out
