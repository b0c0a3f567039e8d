"""Fetching one commit of a git repository with the `git` program, as data: no hooks, no filters, no submodules.

What a reference means is asked with ls-remote; the commit is fetched alone where the server can do that. git talks
https, http, ssh and git only (GIT_ALLOW_PROTOCOL, unless the caller sets it), asks nobody for a password, and sees the
caller's own configuration for the way to the server, but none for the checkout, so that no filter or hook runs. The
repository itself is thrown away: what stays is a folder of files. Sources: git(1), git-config(1), gitattributes(5),
git-ls-remote(1).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pycompose.compose.loader.remotes import RemoteError
from pycompose.compose.remote import cache
from pycompose.compose.remote.references import GitReference

SECONDS = 120.0
"""How long one command of git may take."""
LOOK_SECONDS = 0.1
PROTOCOLS = "https:http:ssh:git"
# what a git that runs us (a hook, an alias) says of its own repository
_OF_A_REPOSITORY = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_CONFIG", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
    *("GIT_REPLACE_REF_BASE", "GIT_TEMPLATE_DIR", "GIT_EXTERNAL_DIFF"),
)
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.writeCommitGraph": "false",
    "advice.detachedHead": "false",
}
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
# what git, curl and ssh say when nobody answers
_NO_ANSWER = (
    "Could not resolve host",
    "Failed to connect",
    "unable to connect",
    "Connection refused",
    "Connection timed out",
    "Network is unreachable",
    "No route to host",
    "Couldn't connect to server",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Connection reset",
    "Operation timed out",
    "The requested URL returned error: 50",
)
# what git says where a server cannot give one commit alone
_NOT_ALONE = ("does not support shallow", "not our ref", "unadvertised object", "does not allow request")


@dataclass
class Git:
    """The git program.

    Attributes:
        environment: the caller's.
        seconds: how long one command may take.
        most_bytes: of what is fetched, and of the files at the commit.
        most_files: at the commit.
    """

    environment: Mapping[str, str]
    seconds: float = SECONDS
    most_bytes: int = cache.MAX_BYTES
    most_files: int = cache.MAX_FILES

    def resolve(self, reference: GitReference) -> str:
        """Return the commit that a reference means at the server now. Raises RemoteError."""
        if reference.commit:
            return reference.commit
        names = ["HEAD"] if not reference.ref else candidates(reference.ref)
        words = ["ls-remote", "--", reference.url, *names, *(f"{name}^{{}}" for name in names)]
        found = chosen(self._run(words, reference).decode(errors="replace"), names)
        if not found:
            what = f"no {reference.ref!r}" if reference.ref else "no commits"
            commit = re.match(r"[0-9a-f]{4,39}\Z", reference.ref)
            raise RemoteError(
                f"{reference.shown}: the repository has {what}",
                "write a commit in full, all 40 digits" if commit else "name a branch, a tag, or a whole commit",
            )
        return found

    def fetch(self, reference: GitReference, commit: str, place: Path) -> Path:
        """Fetch a commit; returns the folder of its files.

        Args:
            place: an empty folder to work in.

        Raises:
            RemoteError: it cannot be had, or is too large.
        """
        store, files = place / "git", place / "files"
        files.mkdir(mode=0o700)
        own = ["--git-dir", str(store)]
        form = "sha256" if len(commit) == 64 else "sha1"
        words = ["init", "--quiet", "--bare", "--template=", f"--object-format={form}", "--", str(store)]
        self._run(words, reference)
        self._fetch(own, reference, commit, place)
        kind = self._run([*own, "cat-file", "-t", commit], reference).decode().strip()
        if kind not in ("commit", "tag"):
            raise RemoteError(f"{reference.shown}: {commit} is a {kind}, no commit")
        self._measure(own, reference, commit)
        # a configuration of its own: filters (git-lfs among them) are programs, and none is named there
        alone = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}
        words = [*own, "--work-tree", str(files), "checkout", "--quiet", "--force", commit, "--", "."]
        self._run(words, reference, watch=place, more=alone)
        return files

    def _fetch(self, own: list[str], reference: GitReference, commit: str, place: Path) -> None:
        """Fetch the commit alone; else, from a server that cannot do that, what leads to it."""
        head = [*own, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        try:
            self._run([*head, "--depth=1", "--", reference.url, commit], reference, watch=place)
        except _GitError as error:
            if not any(word in error.said for word in _NOT_ALONE):
                raise
            everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            self._run([*head, "--", reference.url, *everything], reference, watch=place)

    def _measure(self, own: list[str], reference: GitReference, commit: str) -> None:
        """Refuse what is too large before any file of it is written."""
        try:
            listed = self._run([*own, "ls-tree", "-r", "-l", "-z", "--full-tree", commit], reference)
        except _GitError as error:
            if "Not a valid object name" in error.said or "not a tree object" in error.said:
                raise RemoteError(f"{reference.shown}: the repository has no commit {commit}") from None
            raise
        sizes = [line.split(None, 4)[3] for line in listed.split(b"\0") if line]
        total = sum(int(size) for size in sizes if size.isdigit())
        if len(sizes) > self.most_files:
            raise RemoteError(
                f"{reference.shown}: {len(sizes):,} files are too many; the most is {self.most_files:,}", _SMALLER
            )
        if total > self.most_bytes:
            raise RemoteError(
                f"{reference.shown}: its files have {total >> 20} MB; the most is {self._megabytes} MB", _SMALLER
            )

    @property
    def _megabytes(self) -> int:
        return self.most_bytes >> 20

    def _run(
        self,
        words: Sequence[str],
        reference: GitReference,
        *,
        watch: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run git; returns its output.

        Args:
            watch: a folder that may not grow beyond `most_bytes`, and a half for git's own books.

        Raises:
            RemoteError: git is not there, takes too long, fetches too much, or fails.
        """
        settings = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
        command = ["git", *settings, *words]
        environment = {**environment_for(self.environment), **(more or {})}
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except FileNotFoundError:
            raise RemoteError(f"{reference.shown}: git is not installed", "install it: apt-get install git") from None
        deadline = time.monotonic() + self.seconds
        try:
            while True:
                try:
                    out, err = process.communicate(timeout=LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if time.monotonic() > deadline:
                    raise RemoteError(
                        f"{reference.shown}: git took more than {self.seconds:g} s",
                        "see whether the server answers",
                        passing=True,
                    )
                if watch is not None and size_of(watch) > self.most_bytes * 3 // 2:
                    raise RemoteError(f"{reference.shown}: more than {self._megabytes} MB were fetched", _SMALLER)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0:
            raise _failure(reference, err.decode(errors="replace"), process.returncode)
        return out


_SMALLER = "keep Compose files in a repository of their own"


class _GitError(RemoteError):
    """git failed; `said` is what it printed."""

    def __init__(self, message: str, remedy: str, said: str) -> None:
        super().__init__(message, remedy, passing=any(word in said for word in _NO_ANSWER))
        self.said = said


def _failure(reference: GitReference, said: str, status: int) -> _GitError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))] or lines
    reason = reasons[0].partition(": ")[2] or reasons[0] if reasons else f"git ended with {status}"
    reason = reason.replace(reference.url, reference.shown.partition("#")[0])[:300].rstrip(".")
    remedy = "see that git ls-remote reaches it; a password comes from git's own credential helpers"
    if "could not read Username" in said or "Authentication failed" in said or "Permission denied" in said:
        remedy = "git asks nobody here: keep the account with git credential, or a key with ssh-agent"
    elif "transport" in said and "not allowed" in said:
        remedy = f"allowed are {PROTOCOLS.replace(':', ', ')}; GIT_ALLOW_PROTOCOL says otherwise"
    return _GitError(f"{reference.shown}: {reason}", remedy, said)


def environment_for(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of git: the caller's, without questions, and without a repository around it."""
    found = {name: value for name, value in caller.items() if name not in _OF_A_REPOSITORY}
    found.setdefault("GIT_TERMINAL_PROMPT", "0")
    found.setdefault("GIT_ALLOW_PROTOCOL", PROTOCOLS)
    if found["GIT_TERMINAL_PROMPT"] == "0":
        found.setdefault("GIT_ASKPASS", "true")
        found.setdefault("SSH_ASKPASS_REQUIRE", "never")
    if not found.get("GIT_SSH") and not found.get("GIT_SSH_COMMAND"):
        found["GIT_SSH_COMMAND"] = "ssh -o ControlMaster=no -o BatchMode=yes"
    return {**found, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_LFS_SKIP_SMUDGE": "1"}


def candidates(ref: str) -> list[str]:
    """Return the full names that a short one may stand for, the first that exists counts (gitrevisions(7))."""
    return [ref] if ref.startswith("refs/") or ref == "HEAD" else [f"refs/tags/{ref}", f"refs/heads/{ref}"]


def chosen(listed: str, names: Sequence[str]) -> str:
    """Return the commit in what ls-remote prints: of the first of the names that is there, a tag's own commit."""
    found = {}
    for line in listed.splitlines():
        commit, tab, name = line.partition("\t")
        if tab and _COMMIT.match(commit):
            found[name] = commit
    for name in names:
        if commit := found.get(f"{name}^{{}}") or found.get(name, ""):
            return commit
    return ""


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder, as far as they are there."""
    total = 0
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
