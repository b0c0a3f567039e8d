"""What the groups share: JSON of API objects, inspection, filters, removal of several."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pycompose.compose.cli.errors import Exit, UsageError
from pycompose.compose.cli.logprint import time_of
from pycompose.compose.cli.tables import fill
from pycompose.compose.client import ApiError, ClientError, DryRunError
from pycompose.proto.v1 import meta_pb2


def as_dict(message: Message) -> dict[str, Any]:
    """Return an API object as plain data; numbers stay numbers."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def inspect(names: Sequence[str], get: Callable[[str], Mapping[str, Any]], form: str | None) -> None:
    """Print objects as a JSON array, or by a template; a missing one is an error at the end.

    Raises:
        Exit: one was missing.
    """
    found, failed = [], False
    for name in names:
        try:
            found.append(get(name))
        except ClientError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if form and form != "json":
        for one in found:
            print(fill(form, one))
    else:
        print(json.dumps(found, indent=4, default=str))
    if failed:
        raise Exit(1)


def each(names: Iterable[str], do: Callable[[str], Any], *, say: bool = True) -> None:
    """Do something to each object, and print its name when done; go on after a failure.

    Raises:
        Exit: one failed.
    """
    failed = False
    for name in names:
        try:
            do(name)
        except DryRunError as error:
            print(f"{name}: {error}", file=sys.stderr)
        except ClientError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
        else:
            if say:
                print(name)
    if failed:
        raise Exit(1)


def filters(words: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Read `KEY=VALUE` filters.

    Raises:
        UsageError: a key is not known.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UsageError(f"--filter {word}: want KEY=VALUE with one of {', '.join(known)}")
        found.setdefault(key, []).append(value)
    return found


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Return whether labels match all `KEY` or `KEY=VALUE` words."""
    for word in wanted:
        key, equals, value = word.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Return `KEY=VALUE` words as a mapping."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


@contextmanager
def flagged(flags: Mapping[str, str]) -> Iterator[None]:
    """Say what is wrong with a spec by the names of flags.

    Args:
        flags: names by the spec's field ("subnets": "--subnet"), or by one below it.

    Raises:
        UsageError: the manager found something wrong with a field that a flag says.
    """
    try:
        yield
    except ApiError as error:
        lines = []
        for path, text in error.violations:
            flag = next((flags[part] for part in reversed(re.split(r"[.\[\]]+", path)) if part in flags), "")
            if not flag:
                raise
            lines.append(f"{flag}: {text}")
        if not lines:
            raise
        raise UsageError("\n".join(lines)) from None


class Pruning:
    """What --filter of a prune takes: until (a time, or an age) and labels that are there or not.

    Raises:
        UsageError: a filter cannot be read.
    """

    def __init__(self, words: Sequence[str], *, until: bool = False) -> None:
        self._wanted = filters(words, ("until", "label", "label!") if until else ("label", "label!"))
        now = time.time()
        times = [time_of("--filter until", text, now) for text in self._wanted.get("until", ())]
        self._before = min(times, default=None)

    def takes(self, meta: meta_pb2.Meta, labels: Mapping[str, str]) -> bool:
        """Return whether an object may go."""
        without = self._wanted.get("label!", ())
        return (
            (self._before is None or meta.created_at.ToNanoseconds() < self._before)
            and has_labels(labels, self._wanted.get("label", ()))
            and not any(has_labels(labels, [one]) for one in without)
        )


def outline(found: Any, depth: int = 0) -> str:
    """Return plain data as indented lines for people; what is empty is left out."""
    lines = []
    pairs_ = found.items() if isinstance(found, Mapping) else enumerate(found, 1)
    for key, value in pairs_:
        if value in ("", None, [], {}):
            continue
        if isinstance(value, (Mapping, list)):
            lines += [f"{'  ' * depth}{key}:", outline(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {value}")
    return "\n".join(lines)
