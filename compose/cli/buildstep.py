"""The images that a project builds, for the commands that bring it up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.images_step import Builds
from pycompose.compose.cli.settings import Settings

if TYPE_CHECKING:
    from pycompose.compose.builder.requests import Order, Overrides
    from pycompose.compose.client import Client
    from pycompose.compose.client.credentials import Wallet
    from pycompose.compose.loader import Project


@dataclass
class ProjectBuilds(Builds):
    """Builds images of a project, each once for a command.

    Attributes:
        settings: the global flags.
        project: whose services' sections are built.
        display: shows what goes on.
        every: all images that can be built are.
        never: none is.
        quiet: show nothing of it.
    """

    settings: Settings
    project: Project
    display: Display
    every: bool = False
    never: bool = False
    quiet: bool = False
    _done: dict[str, str] = field(default_factory=dict)

    def build(self, client: Client, services: Sequence[str]) -> Mapping[str, str]:
        """Build the images of services, and those that they build upon; returns their ids by service.

        Raises:
            CliError: one failed.
            LoadError: a section asks for what cannot be done, with its place.
        """
        wanted = [name for name in services if name not in self._done]
        if wanted:
            from pycompose.compose.builder.requests import Overrides

            found = ordered(self.settings, self.project, wanted, Overrides())
            display = Display("quiet") if self.quiet else self.display
            self._done |= build_with(self.settings, client, found, display)
        return {name: self._done[name] for name in services}


def ordered(settings: Settings, project: Project, names: Sequence[str], overrides: Overrides) -> list[Order]:
    """Return what the services' sections ask for, with those that they build upon.

    Raises:
        LoadError: a section asks for what cannot be done, with its place.
    """
    from pathlib import Path

    from pycompose.compose.builder.requests import SERVICE, entry_of, order_of
    from pycompose.compose.convert.problems import Problems

    problems = Problems(project)
    found: dict[str, Order | None] = {}
    left = list(names)
    while left:
        name = left.pop(0)
        if name in found:
            continue
        found[name] = order_of(project, name, overrides, problems, lambda path: Path(path).read_bytes())
        contexts = (entry_of(project, name)["build"].get("additional_contexts") or {}).values()
        left += [text.removeprefix(SERVICE) for text in contexts if text.startswith(SERVICE)]
    problems.check()
    for warning in problems.warnings:
        settings.warn(warning)
    return [order for order in found.values() if order is not None]


def build_with(settings: Settings, client: Client, orders: Sequence[Order], display: Display) -> dict[str, str]:
    """Build with the user's accounts for registries; returns the images' ids by service. Raises CliError."""
    from pycompose.compose.cli.building import build_all
    from pycompose.compose.client.credentials import Wallet

    wallet = Wallet()
    for order in orders:
        _accounts(order, wallet)
    return build_all(client, orders, display, settings.at_once)


def _accounts(order: Order, wallet: Wallet) -> None:
    """Give a build the accounts for the registries that its Dockerfile may name."""
    from pycompose.compose.client.credentials import registry_of

    names = {one.image for one in order.request.contexts if one.image}
    for line in order.request.dockerfile.decode("utf-8", "replace").splitlines():
        words = line.split()
        if words and words[0].upper() == "FROM":
            names |= {word for word in words[1:] if not word.startswith("--") and "$" not in word}
        names |= {word.partition("=")[2] for word in words if word.startswith("--from=") and "$" not in word}
    registries: set[str] = set()
    for name in sorted(names):
        registry = registry_of(name)
        if registry not in registries and (account := wallet.of(name)) is not None:
            registries.add(registry)
            order.request.credentials.add(registry=registry, credentials=account)


def pairs(flag: str, words: Iterable[str], *, from_caller: bool = False) -> dict[str, str]:
    """Return "KEY=VALUE" words; with `from_caller` a key alone takes the caller's variable. Raises UsageError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not (equals or from_caller):
            raise UsageError(f"{flag} {word}: write KEY=VALUE")
        if equals or key in os.environ:
            found[key] = value if equals else os.environ[key]
    return found
