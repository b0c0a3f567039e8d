"""`builder`: what the node keeps of builds."""

from __future__ import annotations

import time

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import group
from pycompose.compose.cli.logprint import parse_time
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tables import table
from pycompose.proto.v1 import build_pb2

_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}


@group()
def builder() -> None:
    """Manage what the node keeps of builds."""


@builder.command("ls")
def ls() -> None:
    """List the steps that later builds can take over."""
    with settings().client(start=False) as client:
        entries = client.builds.ListBuildCache(build_pb2.ListBuildCacheRequest()).entries
    now = time.time()
    rows = [
        [one.id[:12], words.size(one.size_bytes), f"{words.age(now - one.used_at_ns / 1e9)} ago", one.step]
        for one in entries
    ]
    print(table(["ID", "SIZE", "LAST USED", "STEP"], rows))


@builder.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, hidden=True)
@click.option("--keep-storage", metavar="BYTES", default="0", help="Keep so much of what was used last, as 5GB.")
@click.option("--filter", "filter_words", multiple=True, metavar="until=AGE", help="Only what is unused for so long.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(everything: bool, keep_storage: str, filter_words: tuple[str, ...], force: bool) -> None:
    """Remove what is kept of builds; images stay.

    \b
    pycompose builder prune --filter until=240h
    pycompose builder prune --keep-storage 5GB
    """
    chosen = settings()
    request = build_pb2.PruneBuildCacheRequest(keep_bytes=_bytes(keep_storage))
    for word in filter_words:
        key, _, text = word.partition("=")
        try:
            if key != "until":
                raise ValueError(key)
            request.unused_for_ns = time.time_ns() - parse_time(text, time.time())
        except ValueError:
            raise UsageError(f"--filter {word}: want until=AGE, as until=240h") from None
    if chosen.dry_run:
        chosen.would(["remove what is kept of builds"])
        return
    if not force:
        confirm("remove what is kept of builds?", "--force")
    with chosen.client(start=False) as client:
        answer = client.builds.PruneBuildCache(request)
    print(f"Removed steps: {answer.removed}")
    print(f"Total reclaimed space: {words.size(answer.reclaimed_bytes)}")


def _bytes(text: str) -> int:
    digits = text.lower().rstrip("kmgb")
    unit = _UNITS.get(text.lower().removeprefix(digits))
    try:
        if unit is None:
            raise ValueError(text)
        return int(float(digits) * unit)
    except ValueError:
        raise UsageError(f"{text!r} is no size; write 500MB or 5GB") from None
