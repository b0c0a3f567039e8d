"""What the loader knows of files that lie elsewhere: how their names look, and the seam through which they come.

Fetching is another package's (`compose.remote`); here nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pycompose.compose.loader.tree import clone

if TYPE_CHECKING:
    from pycompose.compose.loader.files import Files
    from pycompose.compose.loader.yaml_source import Document

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|github\.com/|[A-Za-z0-9_-]+@[A-Za-z0-9.-]+:")


class RemoteError(Exception):
    """A remote file cannot be had.

    Args:
        message: what is wrong.
        remedy: what would help, if anything does.
        passing: nobody answers now; another time they may.
    """

    def __init__(self, message: str, remedy: str = "", passing: bool = False) -> None:
        super().__init__(message)
        self.message, self.remedy, self.passing = message, remedy, passing


@dataclass(frozen=True)
class Fetched:
    """One remote file, on this machine.

    Attributes:
        reference: as it was written, without a password.
        pinned: what it is now: with the commit or digest in place of what can move.
        root: absolute path of the folder that came with it; everything of it lies below.
        path: absolute path of its Compose file.
        hashes: SHA-256 of each file below the root by its path there; None: they are not compared.
    """

    reference: str
    pinned: str
    root: str
    path: str
    hashes: Mapping[str, str] | None = field(default=None, repr=False, compare=False)


Fetch = Callable[[str], Fetched]
"""Bring a remote file to this machine: (as written) to what it is. Raises RemoteError. The same name gives the same."""


def is_remote(path: object) -> bool:
    """Tell whether a path names something that would have to be fetched."""
    return isinstance(path, str) and _REMOTE.match(path) is not None


def no_remotes(written: str) -> Fetched:
    """Refuse: for callers that load nothing but local files."""
    raise RemoteError(f"{written}: remote files are not fetched here", "fetch it, and name the local file")


LIMIT = 50
"""How many remote files one project may name."""


class RemoteFiles:
    """The remote files of one project as it is loaded.

    Args:
        fetch: brings one here.
    """

    def __init__(self, fetch: Fetch = no_remotes) -> None:
        self._fetch = fetch
        self.fetched: dict[str, Fetched] = {}
        self.trees: list[Any] = []

    def bring(self, written: str) -> Fetched:
        """Return a remote file; each is fetched once. Raises RemoteError."""
        if written not in self.fetched:
            if len(self.fetched) >= LIMIT:
                raise RemoteError(f"{written}: more than {LIMIT} remote files in one project")
            self.fetched[written] = self._fetch(written)
        return self.fetched[written]

    def owner(self, path: str) -> Fetched | None:
        """Return the remote file that a path came with, None for a local one."""
        return next((one for one in self.fetched.values() if path.startswith(one.root + "/")), None)

    def name(self, path: str) -> str:
        """Return what people call a file: where it came from, if it is remote."""
        owner = self.owner(path)
        if owner is None:
            return path
        return owner.pinned if path == owner.path else f"{owner.pinned} ({path.removeprefix(owner.root + '/')})"

    def read(self, path: str, documents: Sequence[Document]) -> None:
        """Keep what a remote file says, as it was written, to tell later which variables it reads."""
        if self.fetched and self.owner(path) is not None:
            self.trees.extend(clone(document.tree) for document in documents)


class CheckedFiles:
    """A file system that gives a fetched file's content only while it is what was fetched.

    A container that mounts a folder of the checkout can write there, and what it wrote is not what the user asked for.

    Args:
        files: the file system.
        remotes: what was fetched; more may come while this is used.
    """

    def __init__(self, files: Files, remotes: RemoteFiles) -> None:
        self._files, self._remotes = files, remotes
        self.is_file, self.is_dir, self.real = files.is_file, files.is_dir, files.real

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        content = self._files.read(path)
        owner = self._remotes.owner(path)
        if owner is None or owner.hashes is None:
            return content
        import hashlib  # it loads OpenSSL, which local files do without

        real, root = self.real(path), self.real(owner.root)
        known = owner.hashes.get(real.removeprefix(f"{root}/"))
        # what a symbolic link shows of elsewhere is the walls' (`confine`), who let it pass only if it is trusted
        if real.startswith(f"{root}/") and known != hashlib.sha256(content).hexdigest():
            folder = owner.root.rpartition("/")[0]
            raise OSError(5, f"is not what was fetched any more; to fetch it anew: rm -r {folder}", path)
        return content
