"""Providers: arguments, messages, programs."""

from __future__ import annotations

import pytest

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.providers import arguments_of, find, read

OPTIONS = {"type": "cloud", "options": {"size": 3, "fast": True, "tag": ["a", "b"]}}


def test_arguments() -> None:
    words = ["compose", "--project-name=p", "up", "--size=3", "--fast=true", "--tag=a", "--tag=b", "db"]
    assert arguments_of("p", "db", "up", OPTIONS, {}, "") == words
    known = {"up": {"parameters": [{"name": "size", "required": True}]}}
    assert arguments_of("p", "db", "up", OPTIONS, known, "") == [*words[:4], "db"]
    assert arguments_of("p", "db", "down", OPTIONS, known, "") == ["compose", "--project-name=p", "down", "db"]
    with pytest.raises(CliError, match="f:1: provider cloud needs the option size"):
        arguments_of("p", "db", "up", {"type": "cloud"}, known, "f:1")


def test_messages() -> None:
    variables: dict[str, str] = {}
    problems: list[str] = []
    said: list[str] = []
    for line in (
        '{"type": "setenv", "message": "URL=a=b"}',
        '{"type": "info", "message": "working"}',
        '{"type": "debug", "message": "quiet"}',
        "",
    ):
        read(line, variables, problems, said.append)
    assert (variables, problems, said) == ({"URL": "a=b"}, [], ["working"])
    read("no json", variables, problems, said.append)
    read('{"type": "error", "message": "full"}', variables, problems, said.append)
    assert problems == ["it wrote what is no message: no json", "full"]


def test_programs() -> None:
    with pytest.raises(CliError, match='"compose" is no provider'):
        find("compose", "f:1")
    with pytest.raises(CliError, match="there is no provider no-such-program"):
        find("no-such-program", "f:1")
    assert find("sh", "").endswith("/sh")
