"""Our commands and flags against those of Docker Compose 2.40.3 and of docker 20.10, read from the programs' own help.

Every difference is listed below with its reason. A difference that is not listed fails, and so does a reason for a
difference that is not there any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from pycompose.compose.cli.main import cli

DATA = Path(__file__).parents[1] / "data"
COMPOSE = json.loads((DATA / "docker-compose-2.40.3.json").read_text())
DOCKER = json.loads((DATA / "docker-20.10.24.json").read_text())
NUMBERS = {"int": int, "uint": int, "uint16": int, "decimal": float, "float": float}
MANY = {"stringArray", "list", "strings", "filter", "scale", "map", "ulimit", "mount", "network", "port", "secret"}
MANY |= {"config", "pref"}

ON_PURPOSE = {
    "exec --no-tty: is False by default": "as there: a terminal is used where there is one",
    "run --no-TTY: is False by default": "as there: a terminal is used where there is one",
    "ps --filter: may be given several times": "several conditions hold together",
    "alpha generate: ": "not there yet",
    "container update --": "refused: limits are what the service says, so that a new container has them, too",
    "network connect --": "refused: a container is on the networks that its service names",
    "node update --role: ": "comes with several managers",
    "image build --cache-from: ": "a node has a cache of its own; no other is read",
    "image build --squash: ": "layers stay as the Dockerfile has them",
    "image build --isolation: ": "for Windows",
    "image build --security-opt: ": "RUN is confined as containers are",
    **{
        f"image build --{flag}: ": "builds have no limits of their own yet"
        for flag in (
            *("cgroup-parent", "cpu-period", "cpu-quota", "cpu-shares", "cpuset-cpus", "cpuset-mems"),
            *("memory", "memory-swap"),
        )
    },
}


def find(path: str) -> click.Command | None:
    """Return our command of a path such as "bridge convert"."""
    context = click.Context(cli, info_name="pycompose")
    found: click.Command | None = cli
    for word in path.split():
        if not isinstance(found, click.Group):
            return None
        found = found.get_command(context, word)
    return found


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by each of their names."""
    params = command.get_params(click.Context(command))
    return {name: param for param in params if isinstance(param, click.Option) for name in param.opts}


def differences(table: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each difference."""
    for path, entry in table.items():
        command = find(path)
        if command is None:
            yield f"{path}: no such command"
            continue
        for alias in entry.get("aliases", ()):
            parent, _, _ = path.rpartition(" ")
            if find(f"{parent} {alias}") is not command:
                yield f"{path}: no alias {alias}"
        ours = options_of(command)
        for flag in entry["flags"]:
            for wrong in _flag(flag, ours):
                yield f"{path} --{flag['long']}: {wrong}"


def _flag(flag: dict[str, Any], ours: dict[str, click.Option]) -> Iterator[str]:
    option = ours.get(f"--{flag['long']}")
    short = ours.get(f"-{flag['short']}") if "short" in flag else None
    if option is None:
        yield "missing"
        return
    if "short" in flag and short is not option:
        yield f"-{flag['short']} is {'another flag' if short else 'missing'}"
    if "alias_of" in flag and ours[f"--{flag['alias_of']}"] is not option:
        yield f"is not --{flag['alias_of']}"
    if option.is_flag != (flag["type"] == "bool"):
        yield "takes a value" if not option.is_flag else "takes no value"
    if option.multiple != (flag["type"] in MANY):
        yield "may be given once only" if not option.multiple else "may be given several times"
    wanted = NUMBERS.get(flag["type"])
    if wanted is not None and not isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
        yield f"is no {flag['type']}"
    yield from _default(flag, option)


def _default(flag: dict[str, Any], option: click.Option) -> Iterator[str]:
    default = option.get_default(click.Context(cli))
    wanted = flag.get("default")
    if flag.get("hidden"):
        return
    if option.is_flag:
        if (default is True) != (wanted == "true"):
            yield f"is {default} by default"
    elif wanted in (None, "policy", "map[]", "to stdout") or option.multiple:
        return
    elif str(default) != wanted and f"default {wanted}" not in (option.help or ""):
        yield f"default is {default}, not {wanted}"


def found() -> list[str]:
    """Return all differences."""
    return [*differences(COMPOSE), *differences(DOCKER)]


def test_every_difference_has_a_reason() -> None:
    unexplained = [line for line in found() if not any(line.startswith(key) for key in ON_PURPOSE)]
    assert not unexplained, "\n".join(unexplained)


def test_every_reason_has_a_difference() -> None:
    lines = found()
    assert not [key for key in ON_PURPOSE if not any(line.startswith(key) for line in lines)]


@pytest.mark.parametrize("path", [path for path in COMPOSE if path and find(path) is not None])
def test_every_command_knows_dry_run(path: str) -> None:
    command = find(path)
    assert command is not None
    assert isinstance(command, click.Group) or "--dry-run" in options_of(command)
