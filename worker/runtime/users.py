"""Who a container runs as: ``user`` strings resolved from the image's own passwd and group.

The files belong to the image: they are opened by descriptor inside each layer (openat2,
RESOLVE_IN_ROOT), only when regular, only up to 1 MiB, and never through NSS. A number is always
a number (never looked up as a name); an overflowing one is an error, not root. Sources:
passwd(5), group(5), Docker's reference (``docker run --user``), ATTACKS A20.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pycompose.worker.runtime import paths
from pycompose.worker.runtime.errors import ConfigError

LIMIT = 1 << 20
HIGHEST = (1 << 31) - 1


@dataclass(frozen=True)
class User:
    """Numbers for ``process.user``, and the home directory for ``HOME``."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def as_process_user(self) -> dict[str, object]:
        """As OCI's ``process.user``. The own group is among the others too: a setgid program that changes the first
        must not get rid of one that a file's mode shuts out (CVE-2022-36109)."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(dict.fromkeys([self.gid, *self.groups]))}


def resolve(user: str, passwd: str, group: str, group_add: Iterable[str] = ()) -> User:
    """Resolve ``name``, ``uid``, ``name:group``, ``uid:gid`` or "" (root).

    Args:
        user: from the service or the image.
        passwd: content of the image's /etc/passwd ("" when it has none).
        group: content of the image's /etc/group.
        group_add: more groups, names or numbers.

    Raises:
        ConfigError: a name that the image does not have, or a number out of range.
    """
    wanted, colon, wanted_group = user.partition(":")
    wanted = wanted or "0"
    accounts = _entries(passwd, 7)
    groups = _entries(group, 4)
    number = _number(wanted, "user")
    found = next((row for row in accounts if (int(row[2]) == number if number is not None else row[0] == wanted)), None)
    if found is None and number is None:
        raise ConfigError(f"user: {wanted!r} is not in the image's /etc/passwd; use a name from it, or a number")
    uid = number if number is not None else int(found[2]) if found else 0
    name, home = (found[0], found[5] or "/") if found else ("", "/")
    if colon and wanted_group:
        return User(uid, _group(wanted_group, groups), _more(group_add, groups), home)
    gid = int(found[3]) if found else 0
    member = [int(row[2]) for row in groups if name and name in row[3].split(",")]
    return User(uid, gid, tuple(dict.fromkeys([*member, *_more(group_add, groups)])), home)


def _more(group_add: Iterable[str], groups: list[list[str]]) -> tuple[int, ...]:
    return tuple(_group(each, groups) for each in group_add)


def _group(wanted: str, groups: list[list[str]]) -> int:
    number = _number(wanted, "group")
    if number is not None:
        return number
    for row in groups:
        if row[0] == wanted:
            return int(row[2])
    raise ConfigError(f"group: {wanted!r} is not in the image's /etc/group; use a name from it, or a number")


def _number(text: str, what: str) -> int | None:
    """The number that the text is, None for a name; what looks like a number but cannot be one is an error."""
    if text.isascii() and text.isdigit():
        value = int(text) if len(text) < 20 else HIGHEST + 1
        if value > HIGHEST:
            raise ConfigError(f"{what}: {text} is out of range 0 to {HIGHEST}")
        return value
    if text[:1] in "+-" or not text.isascii() or any(character.isspace() for character in text):
        raise ConfigError(f"{what}: {text!r} is neither a name nor a number from 0 to {HIGHEST}")
    return None


def _entries(text: str, fields: int) -> list[list[str]]:
    """Well-formed lines only: enough fields, a name that is no number, numbers in range."""
    result = []
    for line in text.splitlines():
        row = line.split(":")
        numbers = row[2:4] if fields == 7 else row[2:3]
        valid = all(n.isascii() and n.isdigit() and len(n) < 11 and int(n) <= HIGHEST for n in numbers)
        if len(row) >= fields and row[0] and not row[0].isdigit() and valid:
            result.append(row)
    return result


def read_account_file(layers: Iterable[Path], path: str) -> str:
    """A small text file of an image by its layers, topmost first; "" where it is missing or no regular file.

    An overlay whiteout (a character device 0:0) in an upper layer hides what is below.
    """
    for layer in layers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # O_PATH first: opening a FIFO or a device would block or act
            fd = paths.open_in_root(root, path.encode())
        except OSError:
            continue
        finally:
            os.close(root)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        try:
            return os.read(readable, LIMIT).decode("utf-8", "replace")
        finally:
            os.close(readable)
    return ""


def resolve_in(user: str, layers: Iterable[Path], group_add: Iterable[str] = ()) -> User:
    """``resolve`` with the files of the image's layers (topmost first; the writable layer may come first)."""
    kept = tuple(layers)
    return resolve(user, read_account_file(kept, "/etc/passwd"), read_account_file(kept, "/etc/group"), group_add)
