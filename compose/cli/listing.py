"""What every list has: -q, --format, --filter and --no-trunc, with one meaning everywhere.

A command decorated with `listing` is given a `Listing`, fills it with rows and prints it. -q prints one field of each
row, once; ids are 12 digits long unless --no-trunc says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from pycompose.compose.cli import program
from pycompose.compose.cli.fitting import Row
from pycompose.compose.cli.objects import filters
from pycompose.compose.cli.tables import show

F = TypeVar("F", bound=Callable[..., Any])
FORMS = "table, json (an array), ndjson, or a template"


@dataclass(frozen=True)
class Listing:
    """How one list is wanted.

    Attributes:
        quiet: only the field that names a row.
        form: "table", "json", "ndjson" or a template.
        whole: cut and leave out nothing.
        wanted: values by key of --filter.
    """

    quiet: bool = False
    form: str = "table"
    whole: bool = False
    wanted: Mapping[str, list[str]] = field(default_factory=dict)

    def id(self, identity: str) -> str:
        """Return an id as it is shown: 12 digits of it."""
        return identity if self.whole else identity.removeprefix("sha256:")[:12]

    def equal(self, key: str, text: str) -> bool:
        """Return whether a filter is not given, or one of its values is `text`."""
        return key not in self.wanted or text in self.wanted[key]

    def part(self, key: str, text: str) -> bool:
        """Return whether a filter is not given, or one of its values is in `text`."""
        return key not in self.wanted or any(value in text for value in self.wanted[key])

    def start(self, key: str, text: str) -> bool:
        """Return whether a filter is not given, or `text` begins with one of its values."""
        return key not in self.wanted or text.startswith(tuple(self.wanted[key]))

    def print(self, rows: Sequence[Row], columns: Mapping[str, str], *, name: str = "ID", lines: bool = False) -> None:
        """Print the rows.

        Args:
            rows: fields by name.
            columns: header by field name.
            name: the field of -q.
            lines: Docker Compose prints this list's JSON as lines; under its name so do we.
        """
        if self.quiet:
            text = "\n".join(dict.fromkeys(str(row[name]) for row in rows))
        else:
            as_lines = lines and self.form == "json" and program.name() == program.DOCKERS
            text = show("ndjson" if as_lines else self.form, rows, columns, whole=self.whole)
        if text:
            print(text)


def listing(*keys: str, quiet: str = "ids", short: bool = False) -> Callable[[F], F]:
    """Add the flags of a list; the command gets `listing_`, a Listing.

    Args:
        keys: what --filter knows.
        quiet: what -q prints.
        short: whether -f is short for --filter (where it is not --follow or --file).
    """

    def decorate(function: F) -> F:
        def command(
            *args: Any, quiet_: bool, form: str, filter_words: tuple[str, ...], no_trunc: bool, **kwargs: Any
        ) -> Any:
            kwargs["listing_"] = Listing(quiet_, form, no_trunc, filters(filter_words, keys))
            return function(*args, **kwargs)

        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        # options that the function has already (click keeps them here until the command is made)
        command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        names = ("-f", "--filter") if short else ("--filter",)
        for option in (
            click.option("--no-trunc", is_flag=True, help="Cut and leave out nothing."),
            click.option(*names, "filter_words", multiple=True, metavar="KEY=VALUE", help=f"By {', '.join(keys)}."),
            click.option("--format", "form", default="table", metavar="FORM", help=f"{FORMS[0].upper()}{FORMS[1:]}."),
            click.option("-q", "--quiet", "quiet_", is_flag=True, help=f"Only {quiet}."),
        ):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate
