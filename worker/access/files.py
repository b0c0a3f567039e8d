"""The part of TaskAccessService that is about files: copy, export, changes, commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.base import Calls, Context, begin
from pycompose.worker.copying.files import Files
from pycompose.worker.images import intake
from pycompose.worker.images.instructions import config_of
from pycompose.worker.runtime.errors import RuntimeFault
from pycompose.worker.volumes import room_of

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner

PART = 500
KINDS = {
    "added": access_pb2.PATH_CHANGE_KIND_ADDED,
    "changed": access_pb2.PATH_CHANGE_KIND_CHANGED,
    "deleted": access_pb2.PATH_CHANGE_KIND_DELETED,
}


class FileCalls(Calls):
    """Serves files of one node's containers."""

    async def _files(self, task_id: str) -> Files:
        return Files(self._agent, await self._runner(task_id))

    async def StatPath(self, request: access_pb2.StatPathRequest, context: Context) -> access_pb2.StatPathResponse:
        """Return what is at a path."""
        files = await self._files(request.task_id)
        found = await files.stat(request.path, follow=request.follow_link)
        response = access_pb2.StatPathResponse(
            size_bytes=found["size"], mode=found["mode"], link_target=found["target"]
        )
        response.modified_at.FromNanoseconds(found["mtime_ns"])
        return response

    async def CopyFrom(
        self, request: access_pb2.CopyFromRequest, context: Context
    ) -> AsyncIterator[access_pb2.CopyFromResponse]:
        """Send the tar of a file or folder."""
        files = await self._files(request.task_id)
        async for data in files.pack(request.path, follow=request.follow_link):
            yield access_pb2.CopyFromResponse(data=data)

    async def CopyTo(
        self, requests: AsyncIterator[access_pb2.CopyToRequest], context: Context
    ) -> access_pb2.CopyToResponse:
        """Unpack a tar into a folder."""
        start, stream = await begin(requests)
        files = await self._files(start.task_id)

        async def data() -> AsyncIterator[bytes]:
            async for request in stream:
                yield request.data

        await files.unpack(start.path, data(), archive=start.archive, as_user=start.as_user)
        return access_pb2.CopyToResponse()

    async def ListFiles(
        self, request: access_pb2.ListFilesRequest, context: Context
    ) -> AsyncIterator[access_pb2.ListFilesResponse]:
        """Send what lies below a folder."""
        files = await self._files(request.task_id)
        found = await files.listing(request.path)
        for start in range(0, len(found), PART):
            response = access_pb2.ListFilesResponse()
            for one in found[start : start + PART]:
                entry = response.entries.add(path=one["path"], size_bytes=one["size"], mode=one["mode"])
                entry.modified_at.FromNanoseconds(one["mtime_ns"])
            yield response

    async def RemovePaths(
        self, request: access_pb2.RemovePathsRequest, context: Context
    ) -> access_pb2.RemovePathsResponse:
        """Remove files and folders."""
        files = await self._files(request.task_id)
        await files.remove(request.paths)
        return access_pb2.RemovePathsResponse()

    async def ExportTask(
        self, request: access_pb2.ExportTaskRequest, context: Context
    ) -> AsyncIterator[access_pb2.ExportTaskResponse]:
        """Send the tar of the root file system."""
        runner = await self._runner(request.task_id)
        runner.happened("export")
        async for data in Files(self._agent, runner).export():
            yield access_pb2.ExportTaskResponse(data=data)

    async def ListChanges(
        self, request: access_pb2.ListChangesRequest, context: Context
    ) -> access_pb2.ListChangesResponse:
        """Return what differs from the image."""
        files = await self._files(request.task_id)
        found = await files.changes()
        response = access_pb2.ListChangesResponse()
        for one in found:
            response.changes.add(path=one["path"], kind=KINDS[one["kind"]])
        return response

    async def MeasureTask(
        self, request: access_pb2.MeasureTaskRequest, context: Context
    ) -> access_pb2.MeasureTaskResponse:
        """Return how much a container wrote."""
        runner = await self._runner(request.task_id)
        upper = self._agent.state / "images" / "snapshots" / runner.id / "upper"
        written, _ = await asyncio.to_thread(room_of, upper) if upper.is_dir() else (0, 0)
        image = self._agent.images.find(runner.record.image_id)
        return access_pb2.MeasureTaskResponse(written_bytes=written, image_bytes=image.size if image else 0)

    async def CommitTask(
        self, request: access_pb2.CommitTaskRequest, context: Context
    ) -> access_pb2.CommitTaskResponse:
        """Make an image of a container."""
        runner = await self._runner(request.task_id)
        paused = request.pause and runner.running and not runner.record.paused
        try:
            config = merged(settings_of(runner), config_of(list(request.changes)))
            if paused:
                await self._agent.runtime.pause(runner.id)
            image = await intake.derive(
                self._agent.images,
                runner.record.image_id,
                Files(self._agent, runner).layer(),
                request.reference,
                config,
                author=request.author,
                comment=request.message,
            )
        except ValueError as error:
            raise InvalidError([("changes", str(error))], str(error)) from error
        finally:
            if paused:
                with contextlib.suppress(RuntimeFault):
                    await self._agent.runtime.resume(runner.id)
        runner.happened("commit", imageID=image.id, imageRef=request.reference)
        return access_pb2.CommitTaskResponse(image_id=image.id)


def settings_of(runner: Runner) -> dict[str, Any]:
    """Return the image's configuration as the container changed it: what a new container of it would be like."""
    image = runner.agent.images.find(runner.record.image_id)
    config: dict[str, Any] = dict((image.config.get("config") if image is not None else None) or {})
    spec = runner.spec.container
    config["Env"] = list({item.partition("=")[0]: item for item in [*config.get("Env", ()), *spec.env]}.values())
    config["Labels"] = {**(config.get("Labels") or {}), **spec.labels}
    if spec.HasField("entrypoint"):
        config["Entrypoint"], config["Cmd"] = list(spec.entrypoint.args), None
    if spec.HasField("command"):
        config["Cmd"] = list(spec.command.args)
    own = {"User": spec.user, "WorkingDir": spec.working_dir, "StopSignal": spec.stop_signal}
    config.update({key: value for key, value in own.items() if value})
    return {key: value for key, value in config.items() if value}


def merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with what Dockerfile instructions changed of it."""
    found = dict(config)
    for key, value in changes.items():
        if key == "Env":
            pairs = {item.partition("=")[0]: item for item in [*found.get("Env", ()), *value]}
            found[key] = list(pairs.values())
        elif isinstance(value, dict):
            found[key] = {**(found.get(key) or {}), **value}
        else:
            found[key] = value
        if key == "Entrypoint" and "Cmd" not in changes:
            found.pop("Cmd", None)
    return found
