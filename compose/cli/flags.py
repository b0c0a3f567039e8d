"""Flags read as Docker's programs read them (the pflag library of Go), where click differs.

============================  ==================================================
`--detach=false`, `-d=0`      a flag without a value takes one after "="
`-p=shop`                     the value of a short flag may follow "="
`up --dry-run`                the one global flag that every command knows, too
`exec web -- ls`              "--" before a command is not part of it
============================  ==================================================

Commands are made with `command` and `group` of this module instead of click's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click

PASS_ON = {"allow_interspersed_args": False}
"""Context settings of a command whose arguments after the first are another program's."""

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def truth(word: str) -> bool | None:
    """Return the boolean that a word means to Go (strconv.ParseBool), None when it means none."""
    return True if word in _TRUE else False if word in _FALSE else None


def _dry_run() -> click.Option:
    return click.Option(["--dry-run"], is_flag=True, help="Print what would be done and change nothing.")


class Option(click.Option):
    """An option with further names, `also`, that help does not list."""

    def __init__(self, names: Sequence[str], *, also: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__([*names, *also], **kwargs)
        self._also = also

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        everything = self.opts
        self.opts = [name for name in everything if name not in self._also]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = everything


class Reading(click.Command):
    """A command or group that reads its flags as Docker's programs do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        flags = {name: option for option in options for name in option.opts}
        words, said = rewrite(args, flags, interspersed=ctx.allow_interspersed_args)
        try:
            rest = super().parse_args(ctx, words)
        except click.NoSuchOption as error:
            raise _unknown(error, ctx) from None
        ctx.params.update(said)
        return rest


class Command(Reading):
    """A command of a project or a group.

    Args:
        dry: whether it knows `--dry-run`.
    """

    def __init__(self, *args: Any, dry: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dry = dry

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        return [*params, _dry_run()] if self.dry else params

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if (ctx.params.get("command") or ())[:1] == ("--",):
            ctx.params["command"] = ctx.params["command"][1:]
        if self.dry and ctx.params.pop("dry_run", False) and ctx.obj is not None:
            ctx.obj.dry_run = True
        return rest


def rewrite(
    args: Sequence[str], flags: Mapping[str, click.Option], *, interspersed: bool
) -> tuple[list[str], dict[str, bool]]:
    """Return arguments that click understands, and the flags that were given a value, by their parameter's name.

    Args:
        args: as typed.
        flags: options by each of their names.
        interspersed: whether flags may follow arguments.

    Raises:
        click.BadParameter: a flag's value is no boolean.
    """
    words: list[str] = []
    said: dict[str, bool] = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--" or (not interspersed and not _is_flag(word)):
            return [*words, word, *rest], said
        name, equals, value = word.partition("=")
        option = flags.get(name)
        if option is None or (not name.startswith("--") and len(name) != 2):
            words.append(word)
            # the value of the last of several short flags ("-it 5")
            if _is_flag(word) and not equals and _waits(word, flags) and rest:
                words.append(rest.pop(0))
        elif not equals:
            words.append(word)
            if not option.is_flag and rest:
                words.append(rest.pop(0))
        elif not option.is_flag:
            words += [word] if name.startswith("--") else [name, value]
        else:
            meant = truth(value)
            if meant is None:
                raise click.BadParameter(f'"{value}" is neither true nor false', param=option)
            said[str(option.name)] = meant
    return words, said


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _waits(word: str, flags: Mapping[str, click.Option]) -> bool:
    """Return whether the last letter of "-abc" is a flag that takes the next word."""
    if word.startswith("--"):
        return False
    for place, letter in enumerate(word[1:], 1):
        option = flags.get(f"-{letter}")
        if option is None:
            return False
        if not option.is_flag:
            return place == len(word) - 1
    return False


def _unknown(error: click.NoSuchOption, ctx: click.Context) -> click.NoSuchOption:
    """Return the error of an unknown flag; a global one says where it belongs."""
    root = ctx.find_root().command
    if any(error.option_name in param.opts for param in root.params):
        hint = f"it is a global flag: {ctx.find_root().info_name} {error.option_name} … {ctx.info_name}"
        text = f'unknown flag "{error.option_name}" for {ctx.command_path}; {hint}'
        return click.NoSuchOption(error.option_name, text, ctx=ctx)
    return error


class Group(Reading, click.Group):
    """A group of such commands; `aliases` are further names of its commands that help does not list."""

    command_class = Command

    def __init__(self, *args: Any, aliases: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aliases = dict(aliases or {})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


command: Callable[..., Callable[[Callable[..., Any]], Command]] = partial(click.command, cls=Command)
"""Decorator: a command of a project."""
option = partial(click.option, cls=Option)
"""Decorator: an option with further names."""
group: Callable[..., Callable[[Callable[..., Any]], Group]] = partial(click.group, cls=Group)
"""Decorator: a group of commands."""
LISTS = {"list": "ls", "remove": "rm"}
"""Docker's further names of the commands that every group has."""
