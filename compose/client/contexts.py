"""Contexts: names for clusters and nodes that are talked to from here, with what they ask as a proof.

A context is a folder below `contexts`, in `$XDG_CONFIG_HOME/pycompose` (XDG Base Directory Specification;
`~/.config/pycompose` by default): `context.json`, and for addresses of the form HOST:PORT the client's certificate
`cert.pem`, its `key.pem`, and `ca.pem`, by which the managers are known. `current` beside `contexts` names the one that
is used. The name `default` is this machine's own node, and has no folder.

Which one a command talks to is decided as Docker does (docker-context-use(1), DOCKER_HOST, DOCKER_CONTEXT): --context,
else -H, else PYCOMPOSE_HOST, else PYCOMPOSE_CONTEXT, else the one in use, else `default`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycompose.compose.client.addresses import Address, parse
from pycompose.compose.client.errors import ClientError

DEFAULT = "default"
CERT, KEY, CA = "cert.pem", "key.pem", "ca.pem"
PROOFS = (CERT, KEY, CA)
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*\Z")


class ContextError(ClientError):
    """A context is not there, or cannot be what was asked for."""


@dataclass(frozen=True)
class Context:
    """A place to run things.

    Attributes:
        name: of the context.
        addresses: of its managers; the first that answers is used. Empty for `default`.
        description: for people.
        cluster: id of the cluster, "" when it is not known.
        folder: with the three PEM files, None without.
    """

    name: str
    addresses: tuple[Address, ...] = ()
    description: str = ""
    cluster: str = ""
    folder: Path | None = None

    def proves(self) -> bool:
        """Return whether it has a client's certificate."""
        return self.folder is not None and (self.folder / CERT).exists()


@dataclass(frozen=True)
class Choice:
    """What a command talks to: a context's name, or an address that was named (`host`); `why`: which word said so."""

    context: str = DEFAULT
    host: str = ""
    why: str = ""


def choose(context: str, host: str, environment: Mapping[str, str], current: str) -> Choice:
    """Decide what a command talks to.

    Args:
        context, host: the flags --context and -H, "" when not given.
        environment: variables.
        current: the context in use, "" for none.

    Raises:
        ContextError: both flags are given.
    """
    if context and host:
        raise ContextError("-H and --context contradict one another; leave one out")
    if context:
        return Choice(context, why="--context")
    if host:
        return Choice(host=host, why="-H")
    if environment.get("PYCOMPOSE_HOST"):
        return Choice(host=environment["PYCOMPOSE_HOST"], why="PYCOMPOSE_HOST")
    if environment.get("PYCOMPOSE_CONTEXT"):
        return Choice(environment["PYCOMPOSE_CONTEXT"], why="PYCOMPOSE_CONTEXT")
    return Choice(current or DEFAULT, why="pycompose context use" if current else "")


def config_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the user's settings."""
    base = environment.get("XDG_CONFIG_HOME") or ""
    # a relative one is to be ignored (XDG Base Directory Specification)
    return Path(base if base.startswith("/") else os.path.expanduser("~/.config")) / "pycompose"


def check_name(name: str) -> None:
    """Refuse what cannot be a context's name.

    Raises:
        ContextError: it begins with no letter or digit, or has other characters than those and _.+-
    """
    if not _NAME.match(name):
        raise ContextError(
            f'"{name}" cannot be a context\'s name; want letters, digits and _.+- after a first of those'
        )


class Contexts:
    """The contexts of one user.

    Args:
        folder: of the user's settings.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of_user(cls) -> Contexts:
        """Return the caller's."""
        return cls(config_folder(os.environ))

    def current(self) -> str:
        """Return the name of the one in use, "" when none was chosen."""
        try:
            return (self._folder / "current").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def use(self, name: str) -> None:
        """Make one the current one. Raises ContextError: it is not there."""
        self.get(name)
        if name == DEFAULT:
            (self._folder / "current").unlink(missing_ok=True)
        else:
            _write(self._folder / "current", f"{name}\n".encode())

    def names(self) -> list[str]:
        """Return all names but `default`, in order."""
        try:
            return sorted(entry.name for entry in os.scandir(self._folder / "contexts") if _NAME.match(entry.name))
        except OSError:
            return []

    def get(self, name: str) -> Context:
        """Return a context.

        Raises:
            ContextError: it is not there, or its file is wrong.
        """
        if name == DEFAULT:
            return Context(DEFAULT, description="this machine's node")
        check_name(name)
        folder = self._folder / "contexts" / name
        path = folder / "context.json"
        try:
            return read(name, path.read_bytes(), folder)
        except FileNotFoundError:
            known = ", ".join([DEFAULT, *self.names()])
            raise ContextError(f'there is no context "{name}"; there are {known}') from None
        except OSError as error:
            raise ContextError(f"{path}: {error.strerror}") from None
        except ContextError as error:
            raise ContextError(f"{path}: {error}; make it anew: pycompose context create {name}") from None

    def save(self, context: Context, proofs: Mapping[str, bytes], *, replace: bool = False) -> None:
        """Write a context; of a new one nothing is left behind when that fails.

        Args:
            context: its folder is not looked at.
            proofs: the PEM files by name; {}: it has none, or keeps what it has.
            replace: whether it may be there, else it may not.

        Raises:
            ContextError: the name is taken, or is none, or it cannot be written.
        """
        check_name(context.name)
        if context.name == DEFAULT:
            raise ContextError(f'"{DEFAULT}" is this machine\'s node; choose another name')
        folder = self._folder / "contexts" / context.name
        if not replace and folder.exists():
            raise ContextError(f'there is a context "{context.name}" already; choose another name, or remove that')
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._place(folder, context, proofs)
        except OSError as error:
            raise ContextError(f"{error.filename or folder}: {error.strerror}") from None

    def _place(self, folder: Path, context: Context, proofs: Mapping[str, bytes]) -> None:
        """Put the whole folder where it belongs, in one step for a new one."""
        if folder.exists():
            for name, data in proofs.items():
                _write(folder / name, data)
            _write(folder / "context.json", written(context))
            return
        new = Path(tempfile.mkdtemp(prefix=f".{context.name}-", dir=folder.parent))
        try:
            for name, data in proofs.items():
                _write(new / name, data)
            _write(new / "context.json", written(context))
            os.rename(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove a context with its key; one in use is no longer in use. Raises ContextError."""
        self.get(name)
        if name == DEFAULT:
            raise ContextError(f'"{DEFAULT}" is this machine\'s node and cannot be removed')
        if self.current() == name:
            self.use(DEFAULT)
        shutil.rmtree(self._folder / "contexts" / name)


def read(name: str, data: bytes, folder: Path | None) -> Context:
    """Return the context that a context.json means.

    Raises:
        ContextError: it is not of that form.
    """
    try:
        found: Any = json.loads(data)
        addresses = found["endpoints"]
        form = found.get("format")
        description, cluster = found.get("description", ""), found.get("cluster", "")
        if not isinstance(addresses, list) or not all(
            isinstance(one, str) for one in [*addresses, description, cluster]
        ):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ContextError("this is no context") from None
    if form != FORMAT:
        raise ContextError(f"its format is {form}, this pycompose reads {FORMAT}")
    return Context(name, tuple(parse(one) for one in addresses), description, cluster, folder)


def written(context: Context) -> bytes:
    """Return a context's context.json."""
    found = {
        "format": FORMAT,
        "description": context.description,
        "cluster": context.cluster,
        "endpoints": [str(one) for one in context.addresses],
    }
    return (json.dumps(found, indent=2) + "\n").encode()


def check_addresses(addresses: Iterable[Address], *, proves: bool) -> None:
    """Refuse addresses that cannot be reached as they are.

    Raises:
        ContextError: one takes a certificate, and there is none.
    """
    for one in addresses:
        if one.kind == "tcp" and not proves and not one.loopback:
            raise ContextError(
                f"{one} is reached by mutual TLS, which takes a certificate: on a manager, pycompose context create "
                "NAME --from-node makes a context with one, and context export and import bring it here"
            )


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
    except OSError:
        os.unlink(new)
        raise
