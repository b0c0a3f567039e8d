"""`help`: a command, or a topic; and man pages of all, made from the same source."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path

import click

from pycompose.compose.cli import topics
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tables import screen_width


@command("help", dry=False)
@click.option("--man", "folder", metavar="FOLDER", help="Write man pages of all commands and topics into a folder.")
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]")
def help_(folder: str | None, words: tuple[str, ...]) -> None:
    """Explain a command or a topic.

    \b
    pycompose help up            a command, as pycompose up --help
    pycompose help exit-status   a topic
    pycompose help               all commands and topics
    """
    if folder is not None:
        from pycompose.compose.cli import manpages

        made = manpages.write(_root(), Path(folder))
        print(f"{made} man pages are written to {folder}; man -M reads them: man -M {folder} pycompose")
    elif not words:
        print(_overview())
    elif len(words) == 1 and words[0] in topics.names():
        colour = settings().colour(sys.stdout.isatty())
        print(topics.shown(words[0], screen_width() or 100, colour=colour))
    else:
        print(_of_command(words))


def _root() -> click.Context:
    return click.get_current_context().find_root()


def subjects() -> list[str]:
    """Return all that help explains."""
    from pycompose.compose.cli.main import COMMANDS

    return sorted({*COMMANDS, *topics.names()})


def _overview() -> str:
    width = max(map(len, topics.names()))
    lines = [f"  {name.ljust(width)}  {topics.plain(topics.title(name))}" for name in topics.names()]
    return f"{_root().get_help()}\n\nTopics:\n" + "\n".join(lines)


def _of_command(words: tuple[str, ...]) -> str:
    context = _root()
    for word in words:
        group = context.command
        found = group.get_command(context, word) if isinstance(group, click.Group) else None
        if found is None:
            known = subjects() if context.parent is None else group.list_commands(context)  # type: ignore[attr-defined]
            near = get_close_matches(word, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else "pycompose help lists commands and topics"
            raise UsageError(f'there is no command or topic "{" ".join(words)}"; {hint}')
        context = click.Context(found, parent=context, info_name=word)
    return context.get_help()
