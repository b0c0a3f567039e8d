"""The way to the other nodes that have an image: a manager says which, and they are asked over mutual TLS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from pycompose.proto.tls import Identity, channel_credentials, expecting
from pycompose.proto.v1 import dispatcher_pb2, dispatcher_pb2_grpc, image_pb2, image_pb2_grpc
from pycompose.worker.agent.membership import ALIVE, OPTIONS, Managers, folder
from pycompose.worker.images.errors import CutOff
from pycompose.worker.images.peering import Offer
from pycompose.worker.images.spreading import Holder

if TYPE_CHECKING:
    from pycompose.worker.agent.membership import Membership

#: How long an answer may take that is small, in seconds; the longer one is of a manager that asks all nodes.
ANSWER_SECONDS, FINDING_SECONDS = 10.0, 60.0


class NodePeers:
    """Args: state: the node's directory; here: the node's place; managers: where managers are; node_id: gives ours."""

    def __init__(self, state: Path, here: Membership, managers: Managers, node_id: Callable[[], str]) -> None:
        self._folder, self._here, self._managers, self._node_id = folder(state), here, managers, node_id

    @property
    def _own(self) -> Holder:
        return Holder(self._node_id(), f"{self._here.advertise}:{self._here.worker_port}")

    async def find(self, image_id: str) -> list[Holder]:
        """Return nodes that have an image as a whole. Raises CutOff: no manager answers."""
        trouble = "no manager is known"
        for target in self._managers.targets():
            try:
                async with self._managers.connect(target) as channel:
                    stub = dispatcher_pb2_grpc.DispatcherServiceStub(channel)
                    request = dispatcher_pb2.FindImageRequest(image_id=image_id)
                    answer = await stub.FindImage(request, timeout=FINDING_SECONDS)
            except (grpc.aio.AioRpcError, OSError) as error:
                trouble = f"{target}: {_words(error)}"
                continue
            found = [Holder(one.node_id, one.address) for one in answer.holders]
            return [one for one in found if one.node_id != self._own.node_id]
        raise CutOff(f"which nodes have image {image_id[7:19]} cannot be asked: {trouble}")

    async def offer(self, holder: Holder, image_id: str) -> Offer:
        """Ask a node for an image's documents. Raises CutOff."""
        async with self._images(holder) as stub:
            request = image_pb2.FetchManifestRequest(image_id=image_id)
            answer = await stub.FetchManifest(request, timeout=ANSWER_SECONDS)
        named_at = {name: stamp.ToNanoseconds() for name, stamp in answer.named_at.items()}
        return Offer(answer.manifest, answer.config, named_at, list(answer.digests))

    async def blob(
        self, holder: Holder, digest: str, offset: int, *, insist: bool
    ) -> AsyncGenerator[bytes | Holder, None]:
        """Ask a node for a blob: yields its bytes, or the node to ask instead. Raises CutOff."""
        own = image_pb2.Holder(node_id=self._own.node_id, address=self._own.address)
        request = image_pb2.FetchBlobRequest(digest=digest, offset=offset, caller=own, insist=insist)
        async with self._images(holder) as stub:
            async for answer in stub.FetchBlob(request):
                if answer.WhichOneof("answer") == "elsewhere":
                    yield Holder(answer.elsewhere.node_id, answer.elsewhere.address)
                else:
                    yield answer.data

    @contextlib.asynccontextmanager
    async def _images(self, holder: Holder) -> AsyncIterator[image_pb2_grpc.ImageServiceAsyncStub]:
        try:
            credentials = channel_credentials(Identity.load(self._folder))
            options = (*OPTIONS, *ALIVE, expecting(holder.node_id))
            async with grpc.aio.secure_channel(holder.address, credentials, options=options) as channel:
                yield image_pb2_grpc.ImageServiceStub(channel)
        except (grpc.aio.AioRpcError, OSError) as error:
            raise CutOff(f"{holder.address}: {_words(error)}") from None


def _words(error: grpc.aio.AioRpcError | OSError) -> str:
    return (error.details() or "") if isinstance(error, grpc.aio.AioRpcError) else str(error)
