"""BuildService: images made from Dockerfiles on this node."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.proto.refusal import BlockedError, InvalidError
from pycompose.proto.v1 import build_pb2, build_pb2_grpc, image_pb2
from pycompose.worker.access.images import credentials_of, message_of, progress_of
from pycompose.worker.builder.errors import BuildError, DockerfileError, StepFailed
from pycompose.worker.images import Image, references
from pycompose.worker.images.progress import LayerState, Report

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent
    from pycompose.worker.builder.building import ImageBuild, Wanted

Context = grpc.aio.ServicerContext[Any, Any]


class BuildCalls(build_pb2_grpc.BuildServiceServicer):
    """Serves one node's."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._slots: asyncio.Semaphore | None = None

    async def Build(
        self, requests: AsyncIterator[build_pb2.BuildRequest], context: Context
    ) -> AsyncIterator[build_pb2.BuildResponse]:
        """Build, and tell what happens meanwhile."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "start":
            raise InvalidError([("start", "the first message says what to build")])
        answers = _Answers()
        build = self._made(first.start, answers)
        work = asyncio.create_task(build.run())
        taking = asyncio.create_task(_take(requests, build))
        taking.add_done_callback(lambda done: work.cancel() if not done.cancelled() and done.exception() else None)
        work.add_done_callback(lambda _: answers.finish())
        try:
            async for answer in answers:
                yield answer
            result = build_pb2.BuildResult(image=message_of(await self._image(work, taking)))
            yield build_pb2.BuildResponse(result=result)
        except DockerfileError as error:
            name = first.start.dockerfile_name or "Dockerfile"
            raise InvalidError([("dockerfile", str(error))], f"{name}:{error}") from None
        except StepFailed as error:
            raise _blocked(error, first.start.dockerfile_name or "Dockerfile") from None
        except BuildError as error:
            raise BlockedError(str(error), "BUILD") from None
        finally:
            taking.cancel()
            work.cancel()
            await asyncio.gather(work, taking, return_exceptions=True)

    @staticmethod
    async def _image(work: asyncio.Task[Image], taking: asyncio.Task[None]) -> Image:
        try:
            return await work
        except asyncio.CancelledError:
            if taking.done() and not taking.cancelled() and (error := taking.exception()) is not None:
                raise error from None
            raise

    def _made(self, start: build_pb2.BuildStart, answers: _Answers) -> ImageBuild:
        from pycompose.worker.builder.building import ImageBuild
        from pycompose.worker.builder.running import Runs

        agent = self._agent
        if self._slots is None:
            self._slots = asyncio.Semaphore(max(2, os.cpu_count() or 1))
            shutil.rmtree(agent.state / "builder" / "work", ignore_errors=True)
            self._runs = Runs(agent, agent.state / "builder" / "mounts")
        accounts = {one.registry: credentials_of(one.credentials) for one in start.credentials}

        async def pull(name: str, platform: str, report: Report) -> object:
            found = accounts.get(references.parse(name).registry)
            return await agent.registries.pull(name, platform=platform, credentials=found, report=report)

        folder = agent.state / "builder" / "work" / secrets.token_hex(12)
        wanted, cache = _wanted(start), agent.build_cache
        try:
            return ImageBuild(agent.images, cache, self._runs, pull, folder, wanted, answers.ask, answers, self._slots)
        except DockerfileError as error:
            name = start.dockerfile_name or "Dockerfile"
            raise InvalidError([("dockerfile", str(error))], f"{name}:{error}") from None
        except BuildError as error:
            raise InvalidError([("target", str(error))], str(error)) from None

    async def ListBuildCache(
        self, request: build_pb2.ListBuildCacheRequest, context: Context
    ) -> build_pb2.ListBuildCacheResponse:
        """Return what is kept."""
        entries = [
            build_pb2.BuildCacheEntry(id=one.key[:24], step=one.step, size_bytes=one.size, used_at_ns=one.used_ns)
            for one in self._agent.build_cache
        ]
        return build_pb2.ListBuildCacheResponse(entries=entries)

    async def PruneBuildCache(
        self, request: build_pb2.PruneBuildCacheRequest, context: Context
    ) -> build_pb2.PruneBuildCacheResponse:
        """Forget what is not needed."""
        cache = self._agent.build_cache
        before = time.time_ns() - request.unused_for_ns if request.unused_for_ns else None
        surplus = cache.surplus(request.keep_bytes, before)
        cache.drop(one.key for one in surplus)
        await asyncio.to_thread(cache.save)
        freed = await self._agent.images.keep(cache.held())
        return build_pb2.PruneBuildCacheResponse(removed=len(surplus), reclaimed_bytes=freed)


def _blocked(error: StepFailed, name: str) -> BlockedError:
    kind = "SOURCE" if error.source else "STEP"
    subject = f"spec.source:{error.source}" if error.source else f"{error.first}-{error.last} {error.code}"
    return BlockedError(f"{name}:{error.first}: {error}", kind, subject)


async def _take(requests: AsyncIterator[build_pb2.BuildRequest], build: ImageBuild) -> None:
    """Carry what the client sends to the contexts that wait for it."""
    async for request in requests:
        data = request.data
        try:
            await build.contexts.take(data.context, data.data, end=data.end)
        except BuildError as error:
            raise InvalidError([("data.context", str(error))]) from None


class _Answers:
    """What a build tells, as messages for its client. Is a `building.Told`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[build_pb2.BuildResponse | None] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[build_pb2.BuildResponse]:
        return self._all()

    async def _all(self) -> AsyncIterator[build_pb2.BuildResponse]:
        while (answer := await self._queue.get()) is not None:
            yield answer

    def finish(self) -> None:
        """Nothing more comes."""
        self._queue.put_nowait(None)

    async def ask(self, context: str, paths: list[str]) -> None:
        """Ask the client for files."""
        wanted = build_pb2.BuildWanted(context=context, paths=paths)
        self._queue.put_nowait(build_pb2.BuildResponse(wanted=wanted))

    def began(self, number: int, title: str) -> None:
        """A step begins."""
        self._step(build_pb2.BuildStep(number=number, title=title, state=build_pb2.BUILD_STEP_STATE_RUNNING))

    def said(self, number: int, data: bytes) -> None:
        """It wrote something."""
        self._step(build_pb2.BuildStep(number=number, state=build_pb2.BUILD_STEP_STATE_RUNNING, output=data))

    def pulls(self, number: int) -> Report:
        """Return what hears of the layers that are pulled for it."""

        def report(state: LayerState) -> None:
            layers: list[image_pb2.LayerProgress] = [progress_of(state)]
            running = build_pb2.BUILD_STEP_STATE_RUNNING
            self._step(build_pb2.BuildStep(number=number, state=running, layers=layers))

        return report

    def ended(self, number: int, state: str, nanoseconds: int) -> None:
        """It ended."""
        value = build_pb2.BuildStepState.Value(f"BUILD_STEP_STATE_{state}")
        self._step(build_pb2.BuildStep(number=number, state=value, duration_ns=nanoseconds))

    def _step(self, step: build_pb2.BuildStep) -> None:
        self._queue.put_nowait(build_pb2.BuildResponse(step=step))


def _wanted(start: build_pb2.BuildStart) -> Wanted:
    from pycompose.worker.builder.building import Wanted
    from pycompose.worker.builder.running import RunSettings

    return Wanted(
        dockerfile=start.dockerfile,
        contexts={one.name: one.image for one in start.contexts},
        target=start.target,
        args=dict(start.args),
        tags=list(start.tags),
        labels=dict(start.labels),
        platform=start.platform,
        no_cache=start.no_cache,
        no_cache_stages=list(start.no_cache_stages),
        pull=start.pull,
        latest=start.source_date_epoch or None,
        run=RunSettings(
            network=start.network,
            extra_hosts=list(start.extra_hosts),
            shm_size_bytes=start.shm_size_bytes,
            ulimits=list(start.ulimits),
            secrets={one.id: one.data for one in start.secrets},
            entitlements=list(start.entitlements),
        ),
    )
