"""Users and groups of containers with ``userns_mode: auto``: a range of ids for each, and its user namespace.

The ranges come from what /etc/subuid and /etc/subgid (subuid(5)) give to the account "pycompose"; without such lines,
from ids that neither useradd(8) nor systemd's dynamic users hand out, but for what other accounts have there. A range
is kept with the task's record, and free when the task is removed.

The namespace is kept as a file, as network namespaces are, since it owns the container's network namespace, which is
there before the first process and after the last one (user_namespaces(7)).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.network import netns
from pycompose.worker.runtime import idmap

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner

ACCOUNT = "pycompose"
SIZE = 65_536
#: First id and count: above useradd's SUB_UID_MAX (login.defs(5)), below the end of systemd-nspawn's.
DEFAULT = (1_200_000_000, 8_192 * SIZE)


@dataclass(frozen=True)
class Range:
    """The machine's ids that are 0 and what follows in the container; `of` is the task that the range is of."""

    uid: int
    gid: int
    of: str

    def mappings(self) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
        """Return OCI's uidMappings and gidMappings."""
        return idmap.shift(self.uid, SIZE), idmap.shift(self.gid, SIZE)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the machine's ids of a user and a group of the container. Raises SpecError."""
        if not (0 <= uid < SIZE and 0 <= gid < SIZE):
            raise SpecError(
                f"user {uid}:{gid} is beyond what userns_mode: auto gives a container; want ids below {SIZE}"
            )
        return self.uid + uid, self.gid + gid


def blocks(table: str) -> list[int]:
    """Return the first ids of all ranges that a subuid(5) table leaves to us. Pure."""
    ours: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for line in table.splitlines():
        account, *numbers = line.strip().split(":")
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            (ours if account == ACCOUNT else others).append((int(numbers[0]), int(numbers[1])))
    if ours:
        return [start for first, count in ours for start in range(first, first + count - SIZE + 1, SIZE)]
    first, count = DEFAULT
    near = [(start, many) for start, many in others if start < first + count and first < start + many]
    candidates = range(first, first + count, SIZE)
    return [one for one in candidates if not any(one < start + many and start < one + SIZE for start, many in near)]


def free(subuid: str, subgid: str, taken: Iterable[Range], of: str) -> Range:
    """Return a range that nobody has. Pure.

    Args:
        subuid, subgid: the tables' texts.
        taken: the ranges in use.
        of: the task that gets it.

    Raises:
        SpecError: all are in use.
    """
    used = list(taken)
    uids, gids = {one.uid for one in used}, {one.gid for one in used}
    uid = next((one for one in blocks(subuid) if one not in uids), None)
    gid = next((one for one in blocks(subgid) if one not in gids), None)
    if uid is None or gid is None:
        raise SpecError(
            f"userns_mode: auto: all ranges of {SIZE} ids are in use; "
            f"give {ACCOUNT} more in /etc/subuid and /etc/subgid"
        )
    return Range(uid, gid, of)


class UserNamespaces:
    """``RUN/userns/ID``, a namespace each; beside it ``ID.net``, a network namespace of it until it is plugged in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, container_id: str) -> Path:
        """Return the file of a container's namespace."""
        return self._directory / container_id

    def network(self, container_id: str) -> Path | None:
        """Return a network namespace that is not plugged in yet."""
        path = self._directory / f"{container_id}.net"
        return path if os.path.ismount(path) else None

    def plugged(self, container_id: str) -> None:
        """The network namespace has a file elsewhere."""
        netns.drop(self._directory / f"{container_id}.net")

    async def make(self, ids: Range, *, plugged: bool) -> None:
        """Make both namespaces, unless they are there; `plugged`: the network namespace is.

        A program makes them, since only a process without threads can enter a new user namespace (unshare(2)).

        Raises:
            SpecError: the kernel refuses.
        """
        path = self.path(ids.of)
        if os.path.ismount(path) and (plugged or self.network(ids.of)):
            return
        self.remove(ids.of)
        netns.mount_home(self._directory)
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *("unshare", "--user", "--net", "cat"), stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            child.stdin.write(b".")
            if not await child.stdout.read(1):  # it answers when it is inside
                words = (await child.stderr.read()).decode("utf-8", "replace").strip()
                raise SpecError(
                    f"userns_mode: auto: no user namespace: {words}; see /proc/sys/user/max_user_namespaces"
                )
            for name, mappings in zip(("uid_map", "gid_map"), ids.mappings(), strict=True):
                Path(f"/proc/{child.pid}/{name}").write_bytes(idmap.lines(mappings))
            for kind, place in (("user", path), ("net", self._directory / f"{ids.of}.net")):
                descriptor = netns.open_file(f"/proc/{child.pid}/ns/{kind}")
                try:
                    netns.keep(descriptor, place)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise SpecError(f"userns_mode: auto: no user namespace: {error.strerror}") from error
        finally:
            child.stdin.close()
            await child.wait()

    def remove(self, container_id: str) -> None:
        """Let a container's namespaces go; its processes keep theirs."""
        for path in (self.path(container_id), self._directory / f"{container_id}.net"):
            if path.exists():
                netns.drop(path)

    def keep_only(self, known: Iterable[str]) -> None:
        """Remove those of containers that are not known any more."""
        names = {path.name.removesuffix(".net") for path in self._directory.glob("*")}
        for name in names - set(known):
            self.remove(name)

    def close(self) -> None:
        """Undo everything."""
        netns.unmount_home(self._directory)


def range_of(runner: Runner) -> Range | None:
    """Return the range that a task has, None: the machine's ids."""
    known: dict[str, Any] = runner.record.userns
    return Range(**known) if known else None


async def provide(runner: Runner, givers: Iterable[Runner]) -> Range | None:
    """Give a task its range, and make its user namespace, before anything that belongs to it.

    Args:
        runner: the task's.
        givers: the tasks whose namespaces it shares: theirs is then its user namespace, too.

    Raises:
        SpecError: there is no range left, those that share have not the same one, or the kernel refuses.
    """
    if runner.spec.container.userns_mode != "auto":
        return None
    agent = runner.agent
    if agent.around is not None:
        raise SpecError("userns_mode: auto: this node is an ordinary user's, whose containers share one user namespace")
    known = range_of(runner)
    for giver in givers:
        theirs = range_of(giver)
        if theirs is None or (known is not None and known != theirs):
            raise SpecError(
                f"userns_mode: auto: {giver.task.name}, whose namespaces are shared, has another user namespace; "
                "write userns_mode: auto there, too, or host here"
            )
        known = theirs
    if known is None:
        taken = [one for one in map(range_of, agent.runners.values()) if one is not None]
        known = free(_read("/etc/subuid"), _read("/etc/subgid"), taken, runner.id)
    runner.record.userns = vars(known)
    runner.save()
    if known.of == runner.id:
        await _make(runner, known)
    return known


async def _make(runner: Runner, ids: Range) -> None:
    agent = runner.agent
    plugged = agent.network.has(runner.id)
    if plugged and not os.path.ismount(agent.user_namespaces.path(runner.id)):
        await agent.network.detach(runner.id)  # of a user namespace that is lost
        plugged = False
    await agent.user_namespaces.make(ids, plugged=plugged)


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""
