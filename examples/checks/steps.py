"""The steps of each application's check, and the table of what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from checks.user import Failed, User, need, until


class Check(Protocol):
    """What a module of an application has. Each function returns in words what was seen, or raises Failed."""

    NAME: str

    def ask(self, user: User) -> str:
        """Put something in over the published port and get it back."""

    def hurt(self, user: User) -> str:
        """Kill a container; nothing is lost."""

    def stopped(self, user: User) -> str:
        """Look at what those wrote that were told to stop."""

    def kept(self, user: User) -> str:
        """What was put in is there after `down` and `up`."""


@dataclass(frozen=True)
class Row:
    """A step: the application, its name, whether it went well, seconds, what was seen."""

    application: str
    step: str
    good: bool
    seconds: float
    words: str


def steps(check: Check, user: User, holdings: Callable[[], set[str]]) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the steps, in their order, as a name and what does it."""
    before = holdings()

    def up() -> str:
        user.pycompose("up", "-d", "--wait")
        found = user.containers().values()
        healthy = sum(item["Health"] == "healthy" for item in found)
        return f"{len(found)} containers, {healthy} with a health check, healthy"

    def stop() -> str:
        if hasattr(check, "before_stop"):
            check.before_stop(user)
        user.pycompose("stop")
        killed = [name for name, item in user.containers().items() if item["ExitCode"] == 137]
        need(not killed, f"these did not stop in time and were killed: {', '.join(killed)}")
        return check.stopped(user)

    def again() -> str:
        user.pycompose("down")
        user.pycompose("up", "-d", "--wait")
        return check.kept(user)

    def down() -> str:
        user.pycompose("down", "-v", "--yes")
        until("nothing is left", lambda: holdings() <= before)
        return "no container, volume, network, mount, cgroup or link is left"

    yield from {
        "up": up,
        "ask": lambda: check.ask(user),
        "kill": lambda: check.hurt(user),
        "stop": stop,
        "down, up": again,
        "down -v": down,
    }.items()


def run(check: Check, user: User, holdings: Callable[[], set[str]]) -> Iterator[Row]:
    """Take an application's steps and yield what came of each; after one that fails only `down -v` is left."""
    failed = False
    for name, step in steps(check, user, holdings):
        if failed and name != "down -v":
            continue
        began = time.monotonic()
        try:
            words = step()
        except Failed as error:
            failed = True
            words = f"{error}\n{_last_words(user)}"
            yield Row(check.NAME, name, False, time.monotonic() - began, words)
        else:
            yield Row(check.NAME, name, True, time.monotonic() - began, words)


def _last_words(user: User) -> str:
    """Return the end of each container's log, and the list of containers."""
    try:
        return user.pycompose("ps", "-a") + user.pycompose("logs", "--tail", "15", "--no-color")
    except Failed as error:
        return str(error)


def line(row: Row, *, first: bool) -> str:
    """Return a row of the table."""
    name = row.application if first else ""
    return f"{name:<11}{row.step:<9} {'ok' if row.good else 'FAILED':<6} {row.seconds:5.1f} s  {row.words}"
