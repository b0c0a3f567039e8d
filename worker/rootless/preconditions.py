"""What an ordinary user's node needs of the machine; each thing that is missing is one sentence with its remedy."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

IDS = 65_536
#: Switches by which distributions and administrators forbid user namespaces, and what each must not be.
SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=28633"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
)


class CannotRun(Exception):
    """A rootless node cannot be made here; the message says why, and what helps."""


def account(uid: int) -> str:
    """Return the user's name, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def given(table: str, names: Iterable[str]) -> tuple[int, int] | None:
    """Return the first range (first id, count) of at least IDS ids that a subuid(5) table gives to one of these. Pure.

    Args:
        table: the file's text.
        names: the user's name and number.
    """
    wanted = set(names)
    for line in table.splitlines():
        who, *numbers = line.strip().split(":")
        if who in wanted and len(numbers) == 2 and all(number.isdigit() for number in numbers):
            first, count = map(int, numbers)
            if count >= IDS:
                return first, count
    return None


def free(table: str) -> int:
    """Return a first id for the remedy: above all ranges of the table. Pure."""
    ends = [100_000]
    for line in table.splitlines():
        numbers = line.strip().split(":")[1:]
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            ends.append(int(numbers[0]) + int(numbers[1]))
    return -(-max(ends) // IDS) * IDS


def ranges(uid: int, etc: Path = Path("/etc")) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the user's ranges of user and of group ids. Raises CannotRun."""
    name = account(uid)
    found = []
    for file, flag in (("subuid", "--add-subuids"), ("subgid", "--add-subgids")):
        text = _read(etc / file)
        one = given(text, (name, str(uid)))
        if one is None:
            first = free(text)
            raise CannotRun(
                f"/etc/{file} gives {name} no range of {IDS} ids, which images' files need; as root: "
                f"usermod {flag} {first}-{first + IDS - 1} {name}"
            )
        found.append(one)
    return found[0], found[1]


def missing(sysctls: Path = Path("/proc/sys")) -> list[str]:
    """Return what the machine lacks, in plain words."""
    found = []
    for name, bad, remedy in SWITCHES:
        if _read(sysctls / name).strip() == bad:
            found.append(
                f"this machine forbids ordinary users their own user namespaces (/proc/sys/{name} is {bad}); as root: "
                f"sysctl {remedy}"
            )
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        found.append("newuidmap and newgidmap are missing; install them: apt-get install uidmap")
    if not (shutil.which("pasta") or shutil.which("slirp4netns")):
        found.append("neither pasta nor slirp4netns is here, a way to the network; install one: apt-get install passt")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def directory(path: Path) -> str:
    """Return why a folder of the node's cannot be used, "" when it can: others must not be able to write there."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user ({account(status.st_uid)})"
    return f"{path} can be written by others; chmod 700 {path}" if status.st_mode & 0o022 else ""
