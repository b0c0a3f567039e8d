"""Man pages (man-pages(7), groff_man(7)) of all commands and topics, from what `--help` and `help` print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from pycompose import __version__
from pycompose.compose.cli import topics


def write(root: click.Context, folder: Path) -> int:
    """Write pycompose.1, a page for each command (pycompose-up.1) and each topic (pycompose-files.7); return how many.

    Args:
        root: the context of the program.
        folder: gets man1 and man7.
    """
    made = 0
    for section in ("man1", "man7"):
        (folder / section).mkdir(parents=True, exist_ok=True)
    for context in _contexts(root):
        name = context.command_path.replace(" ", "-")
        (folder / "man1" / f"{name}.1").write_text(_command_page(name, context, root), encoding="utf-8")
        made += 1
    for topic in topics.names():
        (folder / "man7" / f"pycompose-{topic}.7").write_text(_topic_page(topic), encoding="utf-8")
        made += 1
    return made


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _contexts(click.Context(found, parent=context, info_name=name))


def _command_page(name: str, context: click.Context, root: click.Context) -> str:
    what = context.command
    help_text = textwrap.dedent(what.help or "").strip()
    first, _, rest = help_text.partition("\n")
    usage = " ".join(what.collect_usage_pieces(context))
    lines = [
        _head(name, 1),
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(first.rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_escape(context.command_path)}\\fR {_escape(usage)}",
        ".SH DESCRIPTION",
        *_paragraphs(help_text if not rest.strip() else rest),
    ]
    records = [record for param in what.get_params(context) if (record := param.get_help_record(context))]
    if records:
        lines.append(".SH OPTIONS")
        for flag, text in records:
            lines += [".TP", f"\\fB{_escape(flag)}\\fR", _escape(text)]
    if isinstance(what, click.Group):
        lines.append(".SH COMMANDS")
        for word in what.list_commands(context):
            found = what.get_command(context, word)
            if found is not None and not found.hidden:
                lines += [".TP", f"\\fB{_escape(name)}-{_escape(word)}\\fR(1)", _escape(found.get_short_help_str(200))]
    lines += [".SH SEE ALSO", ", ".join(f"\\fBpycompose-{_escape(one)}\\fR(7)" for one in topics.names())]
    if context is not root:
        lines[-1] = "\\fBpycompose\\fR(1), " + lines[-1]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """Return help text as paragraphs; what stands after click's mark \\b is an example, kept as it is."""
    for block in text.strip().split("\n\n"):
        yield ".PP"
        if block.lstrip().startswith("\b"):
            yield ".nf"
            yield from (_escape(line) for line in block.strip().splitlines()[1:])
            yield ".fi"
        else:
            yield _escape(" ".join(block.split()))


def _topic_page(topic: str) -> str:
    name = f"pycompose-{topic}"
    lines = [_head(name, 7), ".SH NAME"]
    for block in topics.blocks(topic):
        if block.kind == "title":
            lines += [f"{_escape(name)} \\- {_escape(topics.plain(block.text))}", ".SH DESCRIPTION"]
        elif block.kind == "heading":
            lines.append(f".SH {_escape(block.text.upper())}")
        elif block.kind == "item":
            lines += [".TP", _marked(block.term), _marked(block.text)]
        else:
            lines += [".PP", _marked(block.text)]
    return "\n".join([*lines, ".SH SEE ALSO", "\\fBpycompose\\fR(1)"]) + "\n"


def _head(name: str, section: int) -> str:
    return f'.TH "{_escape(name.upper())}" {section} "" "pycompose {__version__}" "pycompose"'


def _marked(text: str) -> str:
    """Return text with its code in bold."""
    parts = text.split("`")
    return "".join(f"\\fB{_escape(part)}\\fR" if number % 2 else _escape(part) for number, part in enumerate(parts))


def _escape(text: str) -> str:
    """Return text as roff reads it: no macros by accident, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text
