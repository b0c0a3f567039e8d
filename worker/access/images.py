"""ImageService: the images of this node."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.proto.v1 import image_pb2, image_pb2_grpc
from pycompose.worker.images import Image, ImageError, ImageNotFound
from pycompose.worker.images.errors import ImageInUse

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent

Context = grpc.aio.ServicerContext[Any, Any]
PIECE = 1 << 20


def message_of(image: Image) -> image_pb2.Image:
    """Return an image as the API shows it."""
    found = image_pb2.Image(
        id=image.id,
        references=image.references,
        size_bytes=image.size,
        platform=image.platform,
        labels=(image.config.get("config") or {}).get("Labels") or {},
    )
    created = str(image.config.get("created") or "")
    if created:
        found.created_at.FromDatetime(datetime.fromisoformat(created[:19]))
    return found


def config_of(changes: list[str]) -> dict[str, Any]:
    """Return the image configuration that Dockerfile instructions make. Raises ImageError."""
    config: dict[str, Any] = {}
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word in ("CMD", "ENTRYPOINT"):
            listed = rest.startswith("[")
            config[word.title()] = json.loads(rest) if listed else ["/bin/sh", "-c", rest]
        elif word == "ENV":
            pairs = shlex.split(rest) if "=" in rest else [rest.replace(" ", "=", 1)]
            config.setdefault("Env", []).extend(pairs)
        elif word == "LABEL":
            config.setdefault("Labels", {}).update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word in ("EXPOSE", "VOLUME"):
            key = {"EXPOSE": "ExposedPorts", "VOLUME": "Volumes"}[word]
            words = json.loads(rest) if rest.startswith("[") else rest.split()
            config.setdefault(key, {}).update({item: {} for item in words})
        elif word in ("USER", "STOPSIGNAL", "WORKDIR"):
            config[{"USER": "User", "STOPSIGNAL": "StopSignal", "WORKDIR": "WorkingDir"}[word]] = rest
        else:
            raise ImageError(
                f"change {line!r}: use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR"
            )
    return config


async def refuse(context: Context, error: ImageError) -> None:
    """End the call with the error's status."""
    code = grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, ImageNotFound):
        code = grpc.StatusCode.NOT_FOUND
    elif isinstance(error, ImageInUse):
        code = grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(code, str(error))


class ImageCalls(image_pb2_grpc.ImageServiceServicer):
    """Serves one node's images."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._store = agent.images

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
        try:
            image = self._store.require(request.image)
            text = json.dumps(self._store.inspect(request.image))
        except ImageError as error:
            await refuse(context, error)
            raise
        return image_pb2.InspectImageResponse(image=message_of(image), json=text)

    async def PullImage(
        self, request: image_pb2.PullImageRequest, context: Context
    ) -> AsyncIterator[image_pb2.PullImageResponse]:
        """Answer with the image when it is here; fetching from a registry is not there yet."""
        image = self._store.find(request.reference)
        if image is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"image {request.reference} is not on this node, and pulling from a registry is not supported yet; "
                "bring it with `pycompose image load` or `pycompose image import`",
            )
            return
        yield image_pb2.PullImageResponse(image=message_of(image))

    async def LoadImages(
        self, requests: AsyncIterator[image_pb2.LoadImagesRequest], context: Context
    ) -> AsyncIterator[image_pb2.LoadImagesResponse]:
        """Take over an archive."""
        with tempfile.NamedTemporaryFile(dir=self._store.root, prefix=".load-") as file:
            async for request in requests:
                file.write(request.data)
            file.flush()
            try:
                images = await self._store.load(Path(file.name))
            except ImageError as error:
                await refuse(context, error)
                raise
        yield image_pb2.LoadImagesResponse(images=[message_of(image) for image in images])

    async def SaveImages(
        self, request: image_pb2.SaveImagesRequest, context: Context
    ) -> AsyncIterator[image_pb2.SaveImagesResponse]:
        """Send an archive."""
        with tempfile.NamedTemporaryFile(dir=self._store.root, prefix=".save-") as file:
            try:
                await self._store.save(list(request.images), Path(file.name))
            except ImageError as error:
                await refuse(context, error)
                raise
            while piece := file.read(PIECE):
                yield image_pb2.SaveImagesResponse(data=piece)

    async def ImportImage(
        self, requests: AsyncIterator[image_pb2.ImportImageRequest], context: Context
    ) -> image_pb2.ImportImageResponse:
        """Make an image of a root file system's tar."""
        start = image_pb2.ImportImageStart()
        with tempfile.NamedTemporaryFile(dir=self._store.root, prefix=".import-") as file:
            async for request in requests:
                if request.HasField("start"):
                    start.CopyFrom(request.start)
                file.write(request.data)
            file.flush()
            try:
                config = config_of(list(start.changes))
                image = await self._store.import_(Path(file.name), start.reference, config)
            except (ImageError, ValueError) as error:
                await refuse(context, ImageError(str(error)))
                raise
        return image_pb2.ImportImageResponse(image=message_of(image))

    async def TagImage(self, request: image_pb2.TagImageRequest, context: Context) -> image_pb2.TagImageResponse:
        """Give an image another name."""
        try:
            await self._store.tag(request.image, request.reference)
        except ImageError as error:
            await refuse(context, error)
        return image_pb2.TagImageResponse()

    async def RemoveImage(
        self, request: image_pb2.RemoveImageRequest, context: Context
    ) -> image_pb2.RemoveImageResponse:
        """Remove a name or an image."""
        try:
            words = await self._store.remove(request.image, force=request.force, in_use=self._agent.in_use())
        except ImageError as error:
            await refuse(context, error)
            raise
        return image_pb2.RemoveImageResponse(
            untagged=[word.removeprefix("Untagged: ") for word in words if word.startswith("Untagged")],
            deleted=[word.removeprefix("Deleted: ") for word in words if word.startswith("Deleted")],
        )

    async def PruneImages(
        self, request: image_pb2.PruneImagesRequest, context: Context
    ) -> image_pb2.PruneImagesResponse:
        """Remove unused images."""
        before = {image.id: image.size for image in self._store.all()}
        gone = await self._store.prune(everything=request.all, in_use=self._agent.in_use())
        return image_pb2.PruneImagesResponse(deleted=gone, reclaimed_bytes=sum(before[identity] for identity in gone))


__all__ = ["ImageCalls", "config_of", "message_of"]
