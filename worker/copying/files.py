"""Files of containers: what `program` does in a process of its own, as calls of the agent.

A container that runs is looked at through its first process; one that does not is mounted for the purpose.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.worker.copying import child

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent
    from pycompose.worker.agent.runner import Runner

_MODULE = "pycompose.worker.copying.program"


class FilesError(Exception):
    """A request about files failed; `code` is gRPC's name of why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Files:
    """The files of one container."""

    def __init__(self, agent: Agent, runner: Runner) -> None:
        self._agent, self._runner = agent, runner

    async def stat(self, path: str, *, follow: bool) -> dict[str, Any]:
        """Return size, mode, mtime_ns and target of what is at `path`. Raises FilesError."""
        request = {"view": self._view(), "do": "stat", "path": path, "follow": follow}
        found: dict[str, Any] = json.loads(await self._whole(request))
        return found

    def pack(self, path: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield the tar of what is at `path`. Raises FilesError."""
        return self._run({"view": self._view(), "do": "pack", "path": path, "follow": follow})

    def export(self) -> AsyncIterator[bytes]:
        """Yield the tar of the root file system. Raises FilesError."""
        return self._run({"view": self._rootfs(), "do": "export"})

    def layer(self) -> AsyncIterator[bytes]:
        """Yield the tar of what the container changed, as an image's layer. Raises FilesError."""
        upper = {"upper": str(self._upper())}
        return self._run({"view": upper, "do": "layer", "skip": self._mounted()})

    async def changes(self) -> list[dict[str, str]]:
        """Return path and kind (added, changed, deleted) of what differs from the image. Raises FilesError."""
        view = {"upper": str(self._upper()), "rootfs": {"lower": self._lower(), "readonly": True}}
        request = {"view": {**view, "place": self._place()}, "do": "changes", "skip": self._mounted()}
        found: list[dict[str, str]] = json.loads(await self._whole(request))
        return sorted(found, key=lambda one: one["path"])

    async def listing(self, path: str) -> list[dict[str, Any]]:
        """Return path, size, mode and mtime_ns of what is at and below `path`. Raises FilesError."""
        lines = await self._whole({"view": self._view(), "do": "list", "path": path})
        return [json.loads(line) for line in lines.splitlines()]

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove files and folders. Raises FilesError."""
        await self._whole({"view": self._view(), "do": "remove", "paths": list(paths)})

    async def unpack(self, path: str, data: AsyncIterator[bytes], *, archive: bool, as_user: bool) -> None:
        """Unpack a tar below `path`.

        Args:
            path: an existing folder.
            data: the tar.
            archive: keep the owners that the tar names.
            as_user: else give everything to the container's user, not to root.

        Raises:
            FilesError.
        """
        owner: tuple[int, int] | None = None if archive else (0, 0)
        if as_user and not archive:
            user = self._agent.oci_of(self._runner.id)["process"]["user"]
            owner = (user["uid"], user["gid"])
        request = {"view": self._view(), "do": "unpack", "path": path, "owner": owner}
        async for _ in self._run(request, data):
            pass

    # What the container's root is.

    def _view(self) -> dict[str, Any]:
        if not self._runner.record.created:
            raise FilesError("FAILED_PRECONDITION", f"container {self._runner.task.name} was not made yet")
        config = self._agent.oci_of(self._runner.id)
        linux = config.get("linux") or {}
        users = [linux.get(key) for key in ("uidMappings", "gidMappings")] if linux.get("uidMappings") else None
        if self._runner.running:
            return {"pid": self._runner.record.pid, "users": users}
        return {**self._rootfs(), "mounts": config.get("mounts") or [], "users": users}

    def _rootfs(self) -> dict[str, Any]:
        upper = self._upper()
        rootfs = {"lower": self._lower(), "upper": str(upper), "work": str(upper.parent / "work")}
        return {"rootfs": rootfs, "place": self._place()}

    def _upper(self) -> Path:
        return self._agent.state / "images" / "snapshots" / self._runner.id / "upper"

    def _lower(self) -> list[str]:
        return [str(path) for path in self._agent.images.layers(self._runner.record.image_id)]

    def _place(self) -> str:
        return str(self._agent.runtime.state_dir / self._runner.id / "rootfs")

    def _mounted(self) -> list[str]:
        """Mount points: what the runtime made in the root for them is no change of the container's."""
        mounts = self._agent.oci_of(self._runner.id).get("mounts") or []
        return [str(mount["destination"]).rstrip("/") for mount in mounts]

    # The process.

    async def _whole(self, request: dict[str, Any]) -> bytes:
        return b"".join([piece async for piece in self._run(request)])

    def _run(self, request: dict[str, Any], data: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
        return child.stream(_MODULE, request, data, _error)


def _error(words: bytes) -> FilesError:
    try:
        said = json.loads(words.splitlines()[-1])
        return FilesError(said["code"], said["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return FilesError("INTERNAL", f"the files cannot be reached: {words.decode('utf-8', 'replace')[-300:]}")
