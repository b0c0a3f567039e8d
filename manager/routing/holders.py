"""Which nodes have an image: they are asked when somebody wants to know, and nothing is kept.

First the nodes whose tasks use it, then the manager's own, where people's commands load and pull, then all others,
`WAVE` at a time, until some have it. An image that a node has is so found wherever it was made; one that nobody has
costs a question to every node, once for each node that wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import grpc

from pycompose.manager.routing.workers import Workers
from pycompose.proto.refusal import Refusal
from pycompose.proto.v1 import image_pb2, image_pb2_grpc

WAVE, MOST = 64, 8
ANSWER_SECONDS, LATE_SECONDS = 10.0, 0.5


class Holders:
    """Args: workers: the nodes."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def of(self, reference: str) -> list[image_pb2.Holder]:
        """Return nodes that have an image, at most MOST; those where its name is youngest first.

        Args:
            reference: a name or an id.
        """
        for wave in waves(self._workers.using(reference), self._workers.answering()):
            if having := await self._having(wave, reference):
                return [self._workers.holder(node_id) for _, node_id in sorted(having)[:MOST]]
        return []

    async def _having(self, wave: Sequence[str], reference: str) -> list[tuple[int, str]]:
        """Return those of some nodes that have an image, with how young its name is there (less is younger).

        All have time to answer until one of them has the image; then those that are late are not waited for.
        """
        asking = {asyncio.create_task(self._named_at(node_id, reference)): node_id for node_id in wave}
        pending = set(asking)
        having: list[tuple[int, str]] = []
        try:
            while pending:
                patience = LATE_SECONDS if having else None
                done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                having += [(-when, asking[task]) for task in done if (when := task.result()) is not None]
            return having
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _named_at(self, node_id: str, reference: str) -> int | None:
        """Return when a node has last named an image (ns since the epoch); None: it does not have it, or is silent."""
        request = image_pb2.ListImagesRequest(reference=reference)
        try:
            channel = await self._workers.channel(node_id)
            stub = image_pb2_grpc.ImageServiceStub(channel)
            answer = await stub.ListImages(request, timeout=ANSWER_SECONDS, wait_for_ready=True)
        except (grpc.aio.AioRpcError, Refusal):
            return None
        times = [stamp.ToNanoseconds() for image in answer.images for stamp in image.named_at.values()]
        return max(times, default=0) if answer.images else None


def waves(likely: Sequence[str], everyone: Sequence[str]) -> Iterator[list[str]]:
    """Yield node ids in the order of asking: first likely ones that answer, then all others. Pure."""
    there = set(everyone)
    first = [one for one in dict.fromkeys(likely) if one in there][:WAVE]
    if first:
        yield first
    rest = [one for one in everyone if one not in set(first)]
    for place in range(0, len(rest), WAVE):
        yield rest[place : place + WAVE]
