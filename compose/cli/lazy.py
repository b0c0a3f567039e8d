"""Groups of commands that are imported when they are used.

A table gives each command's place ("module:attribute") and its one line of help, so that the list of commands costs no
import.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click
from click.shell_completion import CompletionItem

from pycompose.compose.cli.flags import Group

Table = Mapping[str, tuple[str, str]]


class LazyGroup(Group):
    """A click group whose commands come from a table; `hidden_table` has those that help does not list."""

    def __init__(
        self, *args: Any, table: Table | None = None, hidden_table: Table | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = dict(table or {})
        self.hidden_table = dict(hidden_table or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(self.aliases.get(cmd_name, cmd_name)) or self.hidden_table.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry[0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.table, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"see {ctx.command_path} --help"
            raise click.UsageError(f'unknown command "{name}" for {ctx.command_path}; {hint}', ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return commands, without importing them, and flags."""
        found = [
            CompletionItem(name, help=self.table[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])
