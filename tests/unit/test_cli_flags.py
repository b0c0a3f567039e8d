"""Flags read as Docker's programs read them, and what the program is called."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from pycompose.compose.cli import program
from pycompose.compose.cli.attach import detach_sequence
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import PASS_ON, command, option
from pycompose.compose.client.session import Leaving


@command(dry=False)
@click.option("-d", "--detach", is_flag=True)
@click.option("--proxy", is_flag=True, default=True)
@click.option("-n", "--name")
@option("-v", "--volumes", also=["--volume"], is_flag=True)
@click.argument("rest", nargs=-1)
def free(**given: object) -> None:
    click.echo(repr(given))


@command(context_settings=PASS_ON, dry=False)
@click.option("-T", "--no-tty", is_flag=True)
@click.option("-e", "--env", multiple=True)
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def passing(**given: object) -> None:
    click.echo(repr(given))


def given(tool: click.Command, line: str) -> dict[str, object]:
    done = CliRunner().invoke(tool, line.split())
    assert done.exit_code == 0, done.output
    found: dict[str, object] = eval(done.output)
    return found


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--detach", {"detach": True}),
        ("--detach=true", {"detach": True}),
        ("--detach=0 a", {"detach": False, "rest": ("a",)}),
        ("-d=false", {"detach": False}),
        ("--proxy=false", {"proxy": False}),
        ("--proxy", {"proxy": True}),
        ("-n=x=y", {"name": "x=y"}),
        ("-nx", {"name": "x"}),
        ("-dn x", {"detach": True, "name": "x"}),
        ("--name=--detach", {"name": "--detach", "detach": False}),
        ("-n -d", {"name": "-d", "detach": False}),
        ("--volume", {"volumes": True}),
        ("a -- --detach", {"rest": ("a", "--detach"), "detach": False}),
        ("a -d b", {"rest": ("a", "b"), "detach": True}),
    ],
)
def test_flags(line: str, wanted: dict[str, object]) -> None:
    found = given(free, line)
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "service", "words"),
    [
        ("web ls -T --env x", "web", ("ls", "-T", "--env", "x")),
        ("-T web -- ls", "web", ("ls",)),
        ("-e A=1 web sh -c x=true", "web", ("sh", "-c", "x=true")),
        ("web ls -- x", "web", ("ls", "--", "x")),
    ],
)
def test_words_of_another_program_are_left_alone(line: str, service: str, words: tuple[str, ...]) -> None:
    found = given(passing, line)
    assert (found["service"], found["command"]) == (service, words)


def test_a_wrong_boolean_is_refused() -> None:
    done = CliRunner().invoke(free, ["--detach=maybe"])
    assert done.exit_code == 2
    assert '"maybe" is neither true nor false' in done.output


def test_under_the_name_docker_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program.renamed("run pycompose up") == "run pycompose up"
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/docker-compose", "up"])
    assert program.name() == "docker-compose"
    assert program.renamed("pycompose -f x.yaml down; pycompose image load") == (
        "docker-compose -f x.yaml down; pycompose image load"
    )
    assert program.version() == program.FOLLOWED
    assert program.banner().startswith(f"Docker Compose version v{program.FOLLOWED}")


def test_detach_keys() -> None:
    assert detach_sequence("ctrl-p,ctrl-q") == b"\x10\x11"
    assert detach_sequence("ctrl-@,a,ctrl-_") == b"\x00a\x1f"
    with pytest.raises(UsageError):
        detach_sequence("ctrl-pp")
    leaving = Leaving(b"\x10\x11")
    assert leaving.take(b"ab\x10") == (b"ab", False)
    assert leaving.take(b"\x10x") == (b"\x10\x10x", False)
    assert leaving.take(b"y\x10") == (b"y", False)
    assert leaving.take(b"\x11z") == (b"", True)
    assert Leaving(b"").take(b"\x10\x11") == (b"\x10\x11", False)
