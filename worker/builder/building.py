"""One build: stages beside each other where they do not wait, each step done or taken from the cache."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pycompose.worker.builder import evaluation, files, parsing, source, stages
from pycompose.worker.builder.cache import Cache, CacheEntry, key_of
from pycompose.worker.builder.contexts import Ask, Context, Contexts
from pycompose.worker.builder.errors import BuildError, DockerfileError, MissingSource, StepFailed
from pycompose.worker.builder.evaluation import CopyOperation, Operation, RunOperation, State
from pycompose.worker.builder.fetching import Fetched, fetch, is_remote
from pycompose.worker.builder.instructions import Copy, Instruction, Run
from pycompose.worker.builder.layering import CommandFailed, Layering, Prepared
from pycompose.worker.builder.running import Runs, RunSettings, mounts_of_kind
from pycompose.worker.builder.source import Source, statement_of
from pycompose.worker.builder.stages import SCRATCH, Origin, Stage, Stages
from pycompose.worker.images import Image, ImageStore, intake, platforms, references
from pycompose.worker.images.errors import ImageError
from pycompose.worker.images.manifests import Descriptor
from pycompose.worker.images.progress import Report
from pycompose.worker.images.store import Lease
from pycompose.worker.runtime.errors import RuntimeFault

Pull = Callable[[str, str, Report], Awaitable[object]]


@dataclass(frozen=True)
class Wanted:
    """What to build; as BuildStart has it. `contexts`: image by name of the context, "" for one of the client's."""

    dockerfile: bytes
    contexts: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    no_cache: bool = False
    no_cache_stages: Sequence[str] = ()
    pull: bool = False
    latest: int | None = None
    run: RunSettings = field(default_factory=RunSettings)


class Told(Protocol):
    """What a build says about a step while it goes on; the words are the API's states without their prefix."""

    def began(self, number: int, title: str) -> None:
        """A step begins."""
        ...

    def said(self, number: int, data: bytes) -> None:
        """It wrote something."""
        ...

    def pulls(self, number: int) -> Report:
        """Return what hears of the layers that are pulled for it."""
        ...

    def ended(self, number: int, state: str, nanoseconds: int) -> None:
        """It ended: "DONE", "CACHED" or "FAILED"."""
        ...


@dataclass(frozen=True)
class Files:
    """Layers, lowest first; `blobs` as in a manifest."""

    diff_ids: tuple[str, ...] = ()
    blobs: tuple[Descriptor, ...] = ()

    def over(self, diff_id: str, blob: Descriptor) -> Files:
        """Return these with another layer upon them."""
        return Files((*self.diff_ids, diff_id), (*self.blobs, blob))


@dataclass(frozen=True)
class Result:
    """A stage that was built. `below`: the configuration of the image that it began with."""

    below: Mapping[str, Any]
    state: State
    files: Files


class ImageBuild:
    """Args:
    store, cache: of the node.
    runs: runs commands.
    pull: fetches an image (reference, platform, report).
    folder: for this build's own, made here and removed at the end.
    wanted: what to build.
    ask: asks the client for files.
    told: hears what goes on.
    slots: how many steps work at once on the node.
    """

    def __init__(
        self,
        store: ImageStore,
        cache: Cache,
        runs: Runs,
        pull: Pull,
        folder: Path,
        wanted: Wanted,
        ask: Ask,
        told: Told,
        slots: asyncio.Semaphore,
    ) -> None:
        self._store, self._cache, self._runs, self._pull = store, cache, runs, pull
        self._folder, self._wanted, self._told, self._slots = folder, wanted, told, slots
        self._source: Source = source.read(wanted.dockerfile)
        self._platform = platforms.parse(wanted.platform) if wanted.platform else platforms.local()
        self._stages: Stages = stages.stages_of(
            parsing.parse(self._source), wanted.args, built_in(self._platform, platforms.local()), wanted.contexts
        )
        self._target = self._stages.target(wanted.target)
        self._needed = self._stages.needed(self._target)
        self._results: dict[int, asyncio.Task[Result]] = {}
        self._images: dict[str, asyncio.Task[Image]] = {}
        self._number = 0
        folder.mkdir(parents=True)
        own = {name for name, image in wanted.contexts.items() if not image}
        self.contexts = Contexts(
            (name, Context(name, folder / f"context-{number}", ask, self._expected(name)))
            for number, name in enumerate(sorted(own))
        )

    async def run(self) -> Image:
        """Build. Raises DockerfileError, StepFailed, BuildError, ImageError."""
        try:
            async with Lease(self._store, everything=True) as lease:
                self._layering = Layering(
                    self._store,
                    lease,
                    self._runs,
                    self._wanted.run,
                    self._folder,
                    self._slots,
                    self._wanted.latest,
                )
                synced = False
                try:
                    result = await self._stage(self._target)
                    image = await self._list(result)  # which has put everything on the disk
                    synced = True
                    return image
                finally:
                    await self._end()
                    await self._remember(synced=synced)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, self._folder, True))

    async def _end(self) -> None:
        running = [*self._results.values(), *self._images.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _remember(self, *, synced: bool) -> None:
        """Write down what was done, also of a build that failed: it goes on there the next time."""
        if not synced:
            await self._store.sync()
        self._cache.drop(entry.key for entry in self._cache.surplus(self._cache.limit))
        self._cache.save()
        await self._store.keep(self._cache.held())

    # Stages.

    def _stage(self, stage: Stage) -> asyncio.Task[Result]:
        if stage.index not in self._results:
            self._results[stage.index] = asyncio.create_task(self._build(stage))
        return self._results[stage.index]

    async def _build(self, stage: Stage) -> Result:
        needed = [self._stages.stages[index] for index in sorted(self._stages.needs(stage))]
        others = [self._stage(one) for one in needed if one in self._needed]
        below, made = await self._base(stage)
        state, triggers = evaluation.begun(
            below,
            self._wanted.args,
            self._stages.outer,
            built_in(self._platform, platforms.local()),
            self._source.escape,
        )
        steps = [*self._triggered(stage, triggers), *stage.instructions]
        visible = [step for step in steps if isinstance(step, Copy | Run) or step.word == "WORKDIR"]
        for step in steps:
            state, operation = evaluation.apply(state, step)
            if operation is None:
                continue
            title = f"[{stage.title} {visible.index(step) + 2}/{len(visible) + 1}] {evaluation.shown(step)}"
            before = made
            made, done_ns = await self._step(stage, step, operation, made, title)
            last: dict[str, Any] = {**state.history[-1], "created": self._stamp(done_ns)}
            if made == before:  # it changed nothing
                last["empty_layer"] = True
            state = replace(state, history=(*state.history[:-1], last))
        await asyncio.gather(*others)
        return Result(below, state, made)

    def _triggered(self, stage: Stage, triggers: Sequence[str]) -> list[Instruction]:
        """Return the instructions that the image below brings."""
        at = stage.base.statement
        return [parsing.instruction(statement_of(text, at), self._source.escape) for text in triggers]

    async def _base(self, stage: Stage) -> tuple[Mapping[str, Any], Files]:
        origin = self._stages.base_of(stage)
        if origin.stage is not None:
            found = await asyncio.shield(self._stage(self._stages.stages[origin.stage]))
            return self._config_of(found), found.files
        if origin.image == SCRATCH:
            return {}, Files()
        try:
            image = await self._image(origin, stage.platform)
        except (ImageError, BuildError) as error:
            statement = stage.base.statement
            raise StepFailed(statement.first, statement.last, f"FROM {stage.image}: {error}") from error
        return image.config, Files(image.diff_ids, tuple(self._store.manifest(image).layers))

    async def _image(self, origin: Origin, platform: str = "") -> Image:
        """Return an image of the node's, pulled when it is not there. Raises ImageError, BuildError."""
        name = self._wanted.contexts.get(origin.context, "") if origin.context else origin.image
        if not name:
            raise BuildError(f"the context {origin.context} is a folder, and a stage cannot begin with it")
        wanted = platform or self._wanted.platform
        key = f"{name} {wanted}"
        if key not in self._images:
            self._images[key] = asyncio.create_task(self._found(name, wanted))
        return await asyncio.shield(self._images[key])

    async def _found(self, name: str, platform: str) -> Image:
        image = self._store.find(name)
        fits = image is not None and (
            not platform or platforms.same(platforms.parse(platform), platforms.of(image.config))
        )
        if image is not None and fits and not self._wanted.pull:
            return image
        number = self._next(f"pull {name}")
        began = time.monotonic_ns()
        try:
            await self._pull(name, platform, self._told.pulls(number))
        except BaseException:
            self._told.ended(number, "FAILED", time.monotonic_ns() - began)
            raise
        self._told.ended(number, "DONE", time.monotonic_ns() - began)
        return self._store.require(name)

    # Steps.

    def _next(self, title: str) -> int:
        self._number += 1
        self._told.began(self._number, title)
        return self._number

    async def _step(
        self, stage: Stage, step: Instruction, operation: Operation, below: Files, title: str
    ) -> tuple[Files, int]:
        """Do one step, or take it from the cache; returns the files, and when it was done (ns since the epoch).

        Raises:
            StepFailed, DiskFull.
        """
        number, began = self._next(title), time.monotonic_ns()
        state = "FAILED"
        try:
            prepared = await self._prepared(stage, operation)
            key = key_of(below.diff_ids, evaluation.encoded(operation), [*prepared.inputs, *self._salt()])
            entry = self._cached(stage, key, below)
            if entry is not None:
                state = "CACHED"
            else:
                made, size = await self._layering.do(
                    operation, prepared, below.diff_ids, lambda data: self._told.said(number, data)
                )
                now = time.time_ns()
                entry = CacheEntry(key, made, below.diff_ids, evaluation.shown(step)[:200], size, now, now)
                self._cache.put(entry)
                state = "DONE"
        except (MissingSource, BuildError, RuntimeFault) as error:
            raise self._failed(step, operation, error) from error
        finally:
            self._told.ended(number, state, time.monotonic_ns() - began)
        if not entry.made.diff_id:
            return below, entry.made_ns
        layer = intake.layer_of(self._store, entry.made.blob)
        return below.over(entry.made.diff_id, layer), entry.made_ns

    def _salt(self) -> list[str]:
        return [f"latest {self._wanted.latest}"] if self._wanted.latest is not None else []

    def _failed(self, step: Instruction, operation: Operation, error: Exception) -> Exception:
        if isinstance(error, DockerfileError | StepFailed):
            return error
        first, last = step.statement.first, step.statement.last
        if isinstance(error, MissingSource):
            place = f"in {operation.origin}" if isinstance(operation, CopyOperation) and operation.origin else ""
            text = f"{error.source} is not there {place or 'in the build context'}"
            return StepFailed(first, last, text, source="" if place else error.source)
        code = error.code if isinstance(error, CommandFailed) else 0
        return StepFailed(first, last, str(error), code)

    def _cached(self, stage: Stage, key: str, below: Files) -> CacheEntry | None:
        if self._wanted.no_cache or stage.name in {name.lower() for name in self._wanted.no_cache_stages}:
            return None
        entry = self._cache.get(key)
        if entry is None:
            return None
        made = entry.made
        there = not made.diff_id or self._store.has(made.blob, (*below.diff_ids, made.diff_id))
        return entry if there else None

    async def _prepared(self, stage: Stage, operation: Operation) -> Prepared:
        """Have what a step reads, and its digests. Raises MissingSource, BuildError, ImageError."""
        if isinstance(operation, CopyOperation):
            return await self._prepared_copy(stage, operation)
        roots, inputs = [], []
        for mount in mounts_of_kind(operation, "bind") if isinstance(operation, RunOperation) else ():
            root = await self._root(self._origin(mount.origin, stage), [mount.source or "."])
            roots.append(root)
            if "path" in root:
                inputs.append(await self._digest(root, [mount.source or "."], (), owners=True))
            else:
                inputs.append("".join(root["lower"]))
        return Prepared(roots, inputs)

    async def _prepared_copy(self, stage: Stage, operation: CopyOperation) -> Prepared:
        remote = [one for one in operation.sources if operation.add and is_remote(one)]
        local = [one for one in operation.sources if one not in remote]
        fetched = [await self._fetched(one, operation) for one in remote]
        inputs = [json.dumps([one.name, one.digest]) for one in fetched]
        roots: list[dict[str, Any]] = []
        if local:
            root = await self._root(self._origin(operation.origin, stage), local)
            roots.append(root)
            inputs.append(await self._digest(root, local, operation.exclude, owners=bool(operation.origin)))
        return Prepared(roots, inputs, tuple(local), tuple(fetched))

    async def _fetched(self, url: str, operation: CopyOperation) -> Fetched:
        return await fetch(url, Path(self._folder) / f"fetched-{secrets.token_hex(8)}", operation.checksum)

    async def _digest(self, root: dict[str, Any], paths: Sequence[str], exclude: Sequence[str], *, owners: bool) -> str:
        job = {"do": "digest", "from": root, "sources": list(paths), "exclude": list(exclude), "keep_owner": owners}
        return str(json.loads(await files.whole(job))["digest"])

    def _origin(self, name: str, stage: Stage) -> Origin:
        return self._stages.origin(name, stage) if name else Origin(context="")

    async def _root(self, origin: Origin, paths: Sequence[str]) -> dict[str, Any]:
        """Return the root that sources are in, as `program` has it. Raises BuildError, ImageError."""
        if origin.stage is not None:
            return self._layering.root(
                (await asyncio.shield(self._stage(self._stages.stages[origin.stage]))).files.diff_ids
            )
        if origin.image or self._wanted.contexts.get(origin.context):
            return self._layering.root((await self._image(origin)).diff_ids)
        return {"path": str(await self.contexts.provide(origin.context, paths))}

    # The image.

    def _expected(self, context: str) -> list[str]:
        """Return the sources that the needed stages take from a context, as they are written."""
        found: list[str] = []
        for stage in self._needed:
            for step in stage.instructions:
                if isinstance(step, Copy) and step.origin == context:
                    found += [one for one in step.sources if not (step.add and is_remote(one))]
        return found

    def _config_of(self, result: Result) -> dict[str, Any]:
        stamp = str(result.below.get("created") or self._stamp(0))
        history = list(result.below.get("history") or ())
        for one in result.state.history:  # what changes no file is as old as what was before it
            stamp = str(one.get("created") or stamp)
            history.append({**one, "created": stamp})
        document: dict[str, Any] = {
            "created": stamp,
            "architecture": self._platform.architecture,
            **({"variant": self._platform.variant} if self._platform.variant else {}),
            "os": self._platform.os,
            "config": dict(result.state.settings),
            "rootfs": {"type": "layers", "diff_ids": list(result.files.diff_ids)},
            "history": history,
        }
        return document | ({"author": result.state.author} if result.state.author else {})

    def _stamp(self, when_ns: int) -> str:
        """Return a time as a configuration has it; a step that was done before gives the same image again."""
        seconds = when_ns // 10**9
        seconds = seconds if self._wanted.latest is None else min(seconds, self._wanted.latest)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _list(self, result: Result) -> Image:
        if not result.files.diff_ids:
            raise BuildError("the image would have no files; copy something into it")
        document = self._config_of(result)
        if self._wanted.labels:
            document["config"]["Labels"] = {**(document["config"].get("Labels") or {}), **self._wanted.labels}
        names = [str(references.parse(tag)) for tag in self._wanted.tags]
        return await intake.list_image(self._store, json.dumps(document).encode(), result.files.blobs, names)


def built_in(target: platforms.Platform, own: platforms.Platform) -> dict[str, str]:
    """Return the arguments that every build has ("Dockerfile reference", "Automatic platform ARGs")."""
    found: dict[str, str] = {}
    for word, one in (("TARGET", target), ("BUILD", own)):
        found |= {
            f"{word}PLATFORM": str(one),
            f"{word}OS": one.os,
            f"{word}ARCH": one.architecture,
            f"{word}VARIANT": one.variant,
        }
    return found
