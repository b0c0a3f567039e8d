"""Names of remote files, read purely: `REPOSITORY[#REF[:SUBFOLDER]]` for git, `oci://NAME[:TAG]` for artifacts.

The forms are Docker's (BuildKit's git URLs, which Docker Compose 2.40 takes): https, http, ssh and git URLs,
`user@host:path`, `github.com/org/repository`; what follows "#" or "?" says which commit and which folder.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pycompose.compose.client.references import ImageName
from pycompose.compose.client.references import parse as parse_image
from pycompose.compose.loader.remotes import RemoteError

OCI = "oci://"
_SCHEMES = ("https", "http", "ssh", "git")
_SCP = re.compile(r"([A-Za-z0-9_-]+)@([A-Za-z0-9.-]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_HOST = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*\Z")
_FORMS = "write https://host/path.git#REF:FOLDER, git@host:path.git#REF:FOLDER or oci://registry/name:TAG"


@dataclass(frozen=True)
class GitReference:
    """A file or folder of a git repository.

    Attributes:
        url: for git, with the password if one was written.
        shown: the whole reference for people, without a password.
        ref: a branch, tag or commit; "" for the repository's HEAD.
        subfolder: of the file or its folder, "" for the top.
        checksum: the commit that `ref` has to mean, "" for any.
    """

    url: str
    shown: str
    ref: str = ""
    subfolder: str = ""
    checksum: str = ""

    @property
    def commit(self) -> str:
        """The commit where the reference names one in full, else ""."""
        return self.ref if _COMMIT.match(self.ref) else ""

    @property
    def in_the_clear(self) -> bool:
        """Whether others could change what comes on its way: http or git from another machine."""
        host = urlsplit(self.url).hostname or ""
        near = host == "localhost" or host.startswith("127.") or host == "::1"
        return self.url.startswith(("http://", "git://")) and not near

    def pinned(self, commit: str) -> str:
        """Return the reference for people with the commit in place of what can move."""
        below = f":{self.subfolder}" if self.subfolder else ""
        return f"{self.shown.partition('#')[0].partition('?')[0]}#{commit}{below}"


@dataclass(frozen=True)
class ArtifactReference:
    """A project that was published at a registry."""

    shown: str
    image: ImageName

    def pinned(self, digest: str) -> str:
        """Return the reference for people with the digest in place of the tag."""
        return f"{OCI}{self.image.repository}@{digest}"


def parse(written: str) -> GitReference | ArtifactReference:
    """Read the name of a remote file.

    Raises:
        RemoteError: it is none, or one that git could take for an option.
    """
    shown = _masked(written)
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in written):
        raise RemoteError(f"{shown!r}: white space and control characters are not allowed in the name of a remote file")
    if written.startswith(OCI):
        try:
            return ArtifactReference(shown, parse_image(written.removeprefix(OCI)))
        except ValueError as error:
            raise RemoteError(f"{shown}: {error}") from None
    if match := _SCP.match(written):
        user, host, path, query, fragment = match.groups()
        found = GitReference(f"{user}@{host}:{path}", shown)
        _check_host(host, user, shown)
        if not path or path.startswith("-"):
            raise RemoteError(f"{shown}: the path of the repository is missing", _FORMS)
        return _with_options(found, query or "", fragment or "")
    short = written.startswith("github.com/")
    try:
        parts = urlsplit(f"https://{written}" if short else written)
        _ = parts.port
    except ValueError as error:
        raise RemoteError(f"{shown}: {error}", _FORMS) from None
    return _of_url(parts, shown, short)


def _of_url(parts: SplitResult, shown: str, short: bool) -> GitReference:
    if parts.scheme not in _SCHEMES:
        known = ", ".join(sorted(_SCHEMES))
        raise RemoteError(f"{shown}: {parts.scheme or 'no'}:// is not fetched from (but {known})", _FORMS)
    _check_host(parts.hostname or "", parts.username or "", shown)
    path = parts.path.strip("/")
    if parts.scheme in ("https", "http") and not short and not path.endswith(".git"):
        raise RemoteError(f"{shown} is no git repository: its path does not end with .git", _FORMS)
    if not path or path.startswith("-"):
        raise RemoteError(f"{shown}: the path of the repository is missing", _FORMS)
    url = parts._replace(query="", fragment="").geturl()
    return _with_options(GitReference(url, shown), parts.query, unquote(parts.fragment))


def _check_host(host: str, user: str, shown: str) -> None:
    # ssh takes what begins with "-" for an option (CVE-2017-1000117)
    if not _HOST.match(host) or unquote(user).startswith("-"):
        raise RemoteError(f"{shown}: {host!r} is no host")


def _with_options(found: GitReference, query: str, fragment: str) -> GitReference:
    """Add what follows "?" and "#": a ref, a folder, a checksum."""
    ref, _, folder = fragment.partition(":")
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in ("submodules", "keep-git-dir"):
            if value.lower() not in ("0", "f", "false"):
                raise RemoteError(f"{found.shown}: {key} is not there; submodules and .git are never fetched")
            continue
        if not value:
            raise RemoteError(f"{found.shown}: {key} has no value")
        if key in ("ref", "tag", "branch"):
            value = {"tag": "refs/tags/", "branch": "refs/heads/"}.get(key, "") + value
            ref = _same(found, "ref", ref, value)
        elif key == "subdir":
            folder = _same(found, "subdir", folder, value)
        elif key in ("checksum", "commit"):
            found = replace(found, checksum=value)
        else:
            raise RemoteError(f"{found.shown}: {key} is unknown; known are ref, tag, branch, commit, checksum, subdir")
    if ref.startswith("-") or re.search(r"[\s~^:?*\[\\\x00-\x1f\x7f]|\.\.|@\{|//|/\Z|\.lock\Z", ref):
        raise RemoteError(f"{found.shown}: {ref!r} is no branch, tag or commit (git-check-ref-format(1))")
    if found.checksum and not re.match(r"[0-9a-f]{7,64}\Z", found.checksum):
        raise RemoteError(f"{found.shown}: {found.checksum!r} is no commit")
    folder = posixpath.normpath(folder) if folder else ""
    if folder.startswith(("/", "-", "../")) or folder == ".." or "\\" in folder:
        raise RemoteError(f"{found.shown}: {folder!r} is no folder of the repository")
    if ".git" in (part.lower() for part in folder.split("/")):
        raise RemoteError(f"{found.shown}: {folder!r} is not fetched")
    return replace(found, ref=ref, subfolder="" if folder == "." else folder)


def _same(found: GitReference, what: str, before: str, value: str) -> str:
    if before and before != value:
        raise RemoteError(f"{found.shown}: {what} is said twice: {before!r} and {value!r}")
    return value


def _masked(written: str) -> str:
    """Return a reference without the password that is in it."""
    return re.sub(r"(?<=://)([^/@\s]*):[^/@\s]*@", r"\1:***@", written)
