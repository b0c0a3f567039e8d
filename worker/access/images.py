"""ImageService: the images of this node."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import grpc

from pycompose.proto.v1 import image_pb2, image_pb2_grpc
from pycompose.worker.access import pipes
from pycompose.worker.images import Image, archives, describe, intake, references
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.instructions import config_of
from pycompose.worker.images.progress import LayerState, Report
from pycompose.worker.images.spreading import Holder

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from pycompose.worker.agent.agent import Agent
    from pycompose.worker.images.manifests import Manifest
    from pycompose.worker.images.pull import Pulled

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
REPORT_SECONDS = 0.1


def message_of(image: Image) -> image_pb2.Image:
    """Return an image as the API shows it."""
    found = image_pb2.Image(
        id=image.id,
        references=image.references,
        digests=image.digests,
        size_bytes=image.size,
        platform=image.platform,
        labels=image.settings.get("Labels") or {},
    )
    _set_time(found.created_at, image.config.get("created"))
    for name, when in image.named.items():
        found.named_at[name].FromNanoseconds(when)
    return found


def _set_time(stamp: Timestamp, text: object) -> None:
    """Set a time as an image's configuration writes it (RFC 3339); anything else leaves it unset."""
    try:
        stamp.FromDatetime(datetime.fromisoformat(str(text or "")[:19]))
    except ValueError:
        return


def has_labels(image: image_pb2.Image, words: list[str]) -> list[bool]:
    """Return for each "KEY" or "KEY=VALUE" whether an image has that label."""
    pairs = [word.partition("=") for word in words]
    return [key in image.labels and (not equals or image.labels[key] == value) for key, equals, value in pairs]


def credentials_of(found: image_pb2.RegistryCredentials) -> Credentials:
    """Return an account as the registry client has it."""
    return Credentials(found.username, found.password, found.identity_token)


async def reported(
    work: Callable[[Report], Coroutine[Any, Any, T]],
) -> AsyncIterator[list[image_pb2.LayerProgress] | T]:
    """Run work that reports on layers; yield what changed, at most ten times a second, and at last what it gives."""
    changed: dict[str, LayerState] = {}
    something = asyncio.Event()

    def report(state: LayerState) -> None:
        changed[state.digest] = state
        something.set()

    task = asyncio.create_task(work(report))
    task.add_done_callback(lambda _: something.set())
    try:
        while not task.done():
            await something.wait()
            something.clear()
            if changed:
                yield [progress_of(state) for state in changed.values()]
                changed.clear()
                await asyncio.wait([task], timeout=REPORT_SECONDS)
        if changed:
            yield [progress_of(state) for state in changed.values()]
        yield await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def progress_of(state: LayerState) -> image_pb2.LayerProgress:
    """Return a layer's state as the API has it."""
    return image_pb2.LayerProgress(
        layer=state.digest,
        phase=image_pb2.LayerPhase.Value(f"LAYER_PHASE_{state.phase}"),
        current_bytes=state.current,
        total_bytes=state.total,
    )


class ImageCalls(image_pb2_grpc.ImageServiceServicer):
    """Serves one node's images. Its errors are translated for the whole server (`refusals`)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._store, self._registries = agent.images, agent.registries

    async def ListImages(self, request: image_pb2.ListImagesRequest, context: Context) -> image_pb2.ListImagesResponse:
        """Return images, all or by reference."""
        images = self._store.all()
        if request.reference:
            one = self._store.find(request.reference)
            images = [one] if one is not None else []
        return image_pb2.ListImagesResponse(images=[message_of(image) for image in images])

    async def InspectImage(
        self, request: image_pb2.InspectImageRequest, context: Context
    ) -> image_pb2.InspectImageResponse:
        """Return one image."""
        image = self._store.require(request.image)
        text = json.dumps(describe.inspect(image, self._store.layers(image.id)))
        return image_pb2.InspectImageResponse(image=message_of(image), json=text)

    async def GetImageHistory(
        self, request: image_pb2.GetImageHistoryRequest, context: Context
    ) -> image_pb2.GetImageHistoryResponse:
        """Return how an image was built."""
        response = image_pb2.GetImageHistoryResponse()
        image = self._store.require(request.image)
        for number, step in enumerate(describe.history(image, self._store.layer_sizes(image))):
            found = response.steps.add(
                created_by=step["CreatedBy"],
                comment=step["Comment"],
                size_bytes=step["Size"],
                image_id=image.id if number == 0 else "",
            )
            _set_time(found.created_at, step["Created"])
        return response

    async def PullImage(
        self, request: image_pb2.PullImageRequest, context: Context
    ) -> AsyncIterator[image_pb2.PullImageResponse]:
        """Pull an image from its registry."""

        def pull(report: Report) -> Coroutine[Any, Any, Pulled]:
            return self._registries.pull(
                request.reference,
                platform=request.platform,
                credentials=credentials_of(request.credentials),
                report=report,
            )

        async for item in reported(pull):
            if isinstance(item, list):
                yield image_pb2.PullImageResponse(layers=item)
            else:
                found = message_of(item.image)
                yield image_pb2.PullImageResponse(image=found, digest=item.digest, previous_image_id=item.previous)

    async def PushImage(
        self, request: image_pb2.PushImageRequest, context: Context
    ) -> AsyncIterator[image_pb2.PushImageResponse]:
        """Push an image to its registry."""

        def push(report: Report) -> Coroutine[Any, Any, Manifest]:
            return self._registries.push(request.reference, credentials_of(request.credentials), report)

        async for item in reported(push):
            if isinstance(item, list):
                yield image_pb2.PushImageResponse(layers=item)
            else:
                yield image_pb2.PushImageResponse(digest=item.digest, manifest_bytes=len(item.raw))

    async def ResolveImage(
        self, request: image_pb2.ResolveImageRequest, context: Context
    ) -> image_pb2.ResolveImageResponse:
        """Return what a name means at its registry."""
        digest = await self._registries.resolve(request.reference, credentials_of(request.credentials))
        return image_pb2.ResolveImageResponse(digest=digest)

    async def FetchArtifact(
        self, request: image_pb2.FetchArtifactRequest, context: Context
    ) -> image_pb2.FetchArtifactResponse:
        """Return what a registry keeps that is no image."""
        account = credentials_of(request.credentials)
        pieces, digest = await self._registries.fetch_artifact(request.reference, list(request.types), account)
        layers = [
            image_pb2.ArtifactLayer(media_type=one.media_type, data=one.data, annotations=one.annotations)
            for one in pieces
        ]
        return image_pb2.FetchArtifactResponse(layers=layers, digest=digest)

    async def PushArtifact(
        self, request: image_pb2.PushArtifactRequest, context: Context
    ) -> image_pb2.PushArtifactResponse:
        """Write what is no image to a registry."""
        from pycompose.worker.images.artifacts import Kind, Piece

        digest, index = await self._registries.push_artifact(
            request.reference,
            Kind(request.type, request.config_type),
            request.oci_version,
            [Piece(one.media_type, one.data, dict(one.annotations)) for one in request.layers],
            dict(request.annotations),
            [(one.reference, credentials_of(one.credentials)) for one in request.images],
            credentials_of(request.credentials),
        )
        return image_pb2.PushArtifactResponse(digest=digest, index_digest=index)

    async def ListRegistryTags(
        self, request: image_pb2.ListRegistryTagsRequest, context: Context
    ) -> image_pb2.ListRegistryTagsResponse:
        """Return a repository's tags."""
        tags = await self._registries.tags(request.repository, credentials_of(request.credentials))
        return image_pb2.ListRegistryTagsResponse(tags=tags)

    async def CheckCredentials(
        self, request: image_pb2.CheckCredentialsRequest, context: Context
    ) -> image_pb2.CheckCredentialsResponse:
        """Try credentials."""
        await self._registries.check(request.registry, credentials_of(request.credentials))
        return image_pb2.CheckCredentialsResponse()

    async def LoadImages(
        self, requests: AsyncIterator[image_pb2.LoadImagesRequest], context: Context
    ) -> AsyncIterator[image_pb2.LoadImagesResponse]:
        """Take over an archive."""

        async def pieces() -> AsyncIterator[bytes]:
            async for request in requests:
                yield request.data

        images = await pipes.received(pieces(), lambda file: intake.load(self._store, file))
        yield image_pb2.LoadImagesResponse(images=[message_of(image) for image in images])

    async def SaveImages(
        self, request: image_pb2.SaveImagesRequest, context: Context
    ) -> AsyncIterator[image_pb2.SaveImagesResponse]:
        """Send an archive."""
        images = intake.saved(self._store, list(request.images))

        def write(file: BinaryIO) -> None:
            archives.write(file, self._store.blobs, images)

        async for piece in pipes.sent(write):
            yield image_pb2.SaveImagesResponse(data=piece)

    async def ImportImage(
        self, requests: AsyncIterator[image_pb2.ImportImageRequest], context: Context
    ) -> image_pb2.ImportImageResponse:
        """Make an image of a root file system's tar."""
        stream = aiter(requests)
        first = await anext(stream, image_pb2.ImportImageRequest())
        start = first.start

        async def pieces() -> AsyncIterator[bytes]:
            yield first.data
            async for request in stream:
                yield request.data

        async def work(file: BinaryIO) -> Image:
            settings = config_of(list(start.changes))
            return await intake.import_root(
                self._store, file, start.reference, settings, platform=start.platform, message=start.message
            )

        image = await pipes.received(pieces(), work)
        return image_pb2.ImportImageResponse(image=message_of(image))

    async def TagImage(self, request: image_pb2.TagImageRequest, context: Context) -> image_pb2.TagImageResponse:
        """Give an image another name."""
        await self._store.tag(request.image, request.reference)
        return image_pb2.TagImageResponse()

    async def RemoveImage(
        self, request: image_pb2.RemoveImageRequest, context: Context
    ) -> image_pb2.RemoveImageResponse:
        """Remove a name or an image."""
        words = await self._store.remove(request.image, force=request.force, in_use=self._agent.in_use())
        return image_pb2.RemoveImageResponse(
            untagged=[word.removeprefix("Untagged: ") for word in words if word.startswith("Untagged")],
            deleted=[word.removeprefix("Deleted: ") for word in words if word.startswith("Deleted")],
        )

    async def PruneImages(
        self, request: image_pb2.PruneImagesRequest, context: Context
    ) -> image_pb2.PruneImagesResponse:
        """Remove unused images."""
        in_use = self._agent.in_use()
        chosen = []
        for image in map(message_of, self._store.all()):
            old = not request.HasField("created_before") or (
                image.created_at.ToNanoseconds() < request.created_before.ToNanoseconds()
            )
            labelled = all(has_labels(image, list(request.labels)))
            spared = any(has_labels(image, list(request.without_labels)))
            if image.id not in in_use and (request.all or not image.references) and old and labelled and not spared:
                chosen.append(image.id)
        gone, freed = await self._store.prune(chosen)
        return image_pb2.PruneImagesResponse(deleted=gone, reclaimed_bytes=freed)

    async def FetchManifest(
        self, request: image_pb2.FetchManifestRequest, context: Context
    ) -> image_pb2.FetchManifestResponse:
        """Tell another node what an image is made of."""
        image = self._store.require(request.image_id)
        found = image_pb2.FetchManifestResponse(
            manifest=self._store.manifest(image).raw,
            config=self._store.blobs.read(image.id),
            digests=map(references.full, image.digests),
        )
        for name, when in image.named.items():
            found.named_at[references.full(name)].FromNanoseconds(when)
        return found

    async def FetchBlob(
        self, request: image_pb2.FetchBlobRequest, context: Context
    ) -> AsyncIterator[image_pb2.FetchBlobResponse]:
        """Give content to another node."""
        spreading = self._agent.spreading
        caller = Holder(request.caller.node_id, request.caller.address)
        other = spreading.elsewhere(request.digest, caller, insist=request.insist)
        if other is not None:
            holder = image_pb2.Holder(node_id=other.node_id, address=other.address)
            yield image_pb2.FetchBlobResponse(elsewhere=holder)
            return
        async with contextlib.aclosing(spreading.send(request.digest, request.offset, caller)) as pieces:
            async for piece in pieces:
                yield image_pb2.FetchBlobResponse(data=piece)


__all__ = ["ImageCalls", "message_of"]
