"""The one way in: a name of a remote file to the file on this machine, once a command."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pycompose.compose.loader.discover import FILE_NAMES
from pycompose.compose.loader.remotes import Fetched, RemoteError
from pycompose.compose.remote.cache import Cache
from pycompose.compose.remote.git import Git
from pycompose.compose.remote.references import ArtifactReference, GitReference, parse

if TYPE_CHECKING:
    from pycompose.compose.remote.artifacts import Registry

GIT_SWITCH, OCI_SWITCH = "COMPOSE_EXPERIMENTAL_GIT_REMOTE", "COMPOSE_EXPERIMENTAL_OCI_REMOTE"


class Remotes:
    """Remote files of one command.

    Args:
        cache: where they are kept; an attribute, too.
        git: fetches from repositories.
        registry: makes what fetches artifacts, where one is named.
        environment: the caller's.
        warn: is told what the user should know.
        offline: ask nobody; what was fetched before is there.
    """

    def __init__(
        self,
        cache: Cache,
        git: Git,
        registry: Callable[[], Registry],
        environment: Mapping[str, str],
        warn: Callable[[str], None],
        *,
        offline: bool = False,
    ) -> None:
        self.cache, self._git, self._registry = cache, git, registry
        self._environment, self._warn = environment, warn
        self._offline = offline
        self._done: dict[str, Fetched] = {}

    def fetch(self, written: str) -> Fetched:
        """Return a remote file; the network is asked once for each name. Raises RemoteError."""
        if written not in self._done:
            reference = parse(written)
            if isinstance(reference, GitReference):
                self._allowed(GIT_SWITCH, reference.shown)
                self._done[written] = self._repository(reference)
            else:
                self._allowed(OCI_SWITCH, reference.shown)
                self._done[written] = self._artifact(reference)
        return self._done[written]

    def _allowed(self, switch: str, shown: str) -> None:
        """Refuse what Docker Compose's own switches turn off."""
        word = self._environment.get(switch, "")
        if word in ("0", "f", "F", "false", "FALSE", "False"):
            raise RemoteError(f"{shown}: remote files of this kind are turned off by {switch}={word}", "unset it")
        if word not in ("", "1", "t", "T", "true", "TRUE", "True"):
            raise RemoteError(f"{switch}={word}: want true or false")

    def _repository(self, reference: GitReference) -> Fetched:
        name = f"{reference.url}#{reference.ref}"
        commit = self._meaning(name, reference.shown, lambda: self._git.resolve(reference))
        if not commit.startswith(reference.checksum):
            raise RemoteError(
                f"{reference.shown}: it is {commit} now", "the commit that the reference asks for is another"
            )
        kept = self.cache.find(commit)
        if kept is None:
            self._may_ask(reference.shown)
            if not reference.commit and reference.in_the_clear:
                self._warn(f"{reference.shown} comes unencrypted: who is on the way can change it; name a whole commit")
            with self.cache.fetching() as place:
                files = self._git.fetch(reference, commit, place)
                kept = self.cache.put(commit, files, {"from": reference.pinned(commit)})
        self.cache.remember(name, commit)
        path = compose_file(kept.root, reference.subfolder, reference.shown)
        return Fetched(reference.shown, reference.pinned(commit), str(kept.root), path, kept.hashes)

    def _artifact(self, reference: ArtifactReference) -> Fetched:
        name = str(reference.image)
        digest = reference.image.digest or self._meaning(name, reference.shown, lambda: self._registry().resolve(name))
        key = digest.replace(":", "-")
        kept = self.cache.find(key)
        if kept is None:
            self._may_ask(reference.shown)
            from pycompose.compose.remote.artifacts import files_of

            layers = self._registry().fetch(f"{reference.image.repository}@{digest}")
            with self.cache.fetching() as place:
                files = place / "files"
                files.mkdir(mode=0o700)
                for file, content in files_of(layers, reference.shown).items():
                    (files / file).write_bytes(content)
                kept = self.cache.put(key, files, {"from": reference.pinned(digest)})
        self.cache.remember(name, digest)
        path = compose_file(kept.root, "", reference.shown)
        return Fetched(reference.shown, reference.pinned(digest), str(kept.root), path, kept.hashes)

    def _may_ask(self, shown: str) -> None:
        if self._offline:
            raise RemoteError(f"{shown}: it was not fetched before, and nobody is asked now", passing=True)

    def _meaning(self, name: str, shown: str, ask: Callable[[], str]) -> str:
        """Return what a name means now; where nobody answers, what it meant last."""
        try:
            self._may_ask(shown)
            return ask()
        except RemoteError as error:
            before = self.cache.recall(name)
            if not error.passing or before is None or self.cache.find(before[0].replace(":", "-")) is None:
                raise
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(before[1]))
            self._warn(f"{error.message}; it is taken as it was fetched on {when}, {before[0]}")
            return before[0]


def compose_file(root: Path, below: str, shown: str) -> str:
    """Return the path of the Compose file in what was fetched.

    Args:
        below: a file, or a folder where the usual names are looked for.

    Raises:
        RemoteError: there is none, or a symbolic link leads out.
    """
    place = posixpath.join(str(root), below) if below else str(root)
    real_root = os.path.realpath(root)
    tried = [place] if not os.path.isdir(place) else [posixpath.join(place, name) for name in FILE_NAMES]
    for path in tried:
        real = os.path.realpath(path)
        if not (real == real_root or real.startswith(f"{real_root}/")):
            raise RemoteError(f"{shown}: {below or 'its Compose file'} is a symbolic link that leads out of it")
        if os.path.isfile(real):
            return path
    what = f"no {below}" if len(tried) == 1 else f"no {' or '.join(FILE_NAMES)} in {below or 'its top folder'}"
    raise RemoteError(f"{shown}: it has {what}", "name the file or its folder after #REF: as in #main:deploy")
