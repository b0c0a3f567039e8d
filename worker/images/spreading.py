"""Giving images' content to other nodes, so that many get it at the price of about one upload.

A node that wants a blob asks one that has it, and gives what it gets to others while it comes. A node that has all of
a blob sends it to `WHOLE` others at once, one that is still getting it to `PARTIAL`; who asks beyond that is sent to
one of those. So many nodes that ask at once make a tree below the source, whose depth grows with the logarithm of
their number, and the source sends the blob once. Nobody keeps a plan of the tree: where a node dies, those below ask
again elsewhere and go on from the byte that they have. Who insists is always served, so that no tree starves anybody.

Content is passed on unchecked while it comes; each receiver compares the digest at the end, before it keeps anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pycompose.worker.images.blobs import CHUNK, Blobs
from pycompose.worker.images.errors import CutOff, ImageNotFound
from pycompose.worker.images.shared import in_thread

WHOLE, PARTIAL = 1, 2


@dataclass(frozen=True, order=True)
class Holder:
    """A node that has content. `address`: "HOST:PORT" of its worker."""

    node_id: str
    address: str


def sent_on(
    serving: Mapping[Holder, int], caller: Holder, *, whole: bool, insist: bool, asked_before: int
) -> Holder | None:
    """Return the node that a caller is sent to; None: it is served here. Pure.

    Args:
        serving: those that get the blob from here now, with the number of their calls.
        caller: who asks; a call of its own that it lost may still be among `serving`.
        whole: all of the blob is here.
        insist: it must be served here.
        asked_before: how many were sent on, so that they take turns.
    """
    others = sorted(one for one in serving if one != caller)
    if insist or len(others) < (WHOLE if whole else PARTIAL):
        return None
    return others[asked_before % len(others)]


class Growing:
    """A blob that is on its way here.

    Attributes:
        path: where its bytes lie until it is whole.
        source: the node that it comes from now.
        whole: all of it is here, and right.
        cut: it will not become whole.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.source = path, ""
        self.whole = self.cut = False
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Wake those who wait for more."""
        self._news.set()
        self._news = asyncio.Event()

    async def more(self) -> None:
        """Wait until there may be more."""
        await self._news.wait()


@dataclass
class Spreading:
    """What this node gives to others.

    Attributes:
        blobs: the store's content.
        growing: blobs on their way here, by digest.
        serving: who gets which blob, with the number of its calls.
        sent_bytes: of all blobs, since the start.
    """

    blobs: Blobs
    growing: dict[str, Growing] = field(default_factory=dict)
    serving: dict[str, dict[Holder, int]] = field(default_factory=dict)
    sent_bytes: int = 0
    _turns: int = 0

    @contextmanager
    def coming(self, digest: str, path: Path) -> Iterator[Growing]:
        """While a blob comes into the file `path`, others get of it what is there."""
        growing = self.growing[digest] = Growing(path)
        try:
            yield growing
        finally:
            growing.cut = not growing.whole
            del self.growing[digest]
            growing.tell()

    def elsewhere(self, digest: str, caller: Holder, *, insist: bool) -> Holder | None:
        """Return where a caller is sent, None when it is served here. Raises ImageNotFound: the blob is not here."""
        growing = self.growing.get(digest)
        whole = self.blobs.size(digest) is not None
        if not whole and (growing is None or growing.source == caller.node_id):
            raise ImageNotFound(f"{digest} is not on this node")
        found = sent_on(self.serving.get(digest, {}), caller, whole=whole, insist=insist, asked_before=self._turns)
        self._turns += found is not None
        return found

    async def send(self, digest: str, offset: int, caller: Holder) -> AsyncGenerator[bytes, None]:
        """Yield a blob from an offset on, as it comes where it is not whole.

        Raises:
            ImageNotFound: it is not here.
            CutOff: it will not become whole.
        """
        growing = self.growing.get(digest)
        serving = self.serving.setdefault(digest, {})
        serving[caller] = serving.get(caller, 0) + 1
        try:
            descriptor = os.open(growing.path if growing is not None else self.blobs.path(digest), os.O_RDONLY)
        except FileNotFoundError:
            self._served(digest, caller)
            raise ImageNotFound(f"{digest} is not on this node") from None
        try:
            while True:
                whole = growing is None or growing.whole
                piece = await in_thread(partial(os.pread, descriptor, CHUNK, offset))
                if piece:
                    offset += len(piece)
                    self.sent_bytes += len(piece)
                    yield piece
                elif whole:
                    return
                elif growing is not None and not growing.whole:
                    if growing.cut:
                        raise CutOff(f"the way of {digest} to this node was cut")
                    await growing.more()
        finally:
            os.close(descriptor)
            self._served(digest, caller)

    def _served(self, digest: str, caller: Holder) -> None:
        serving = self.serving[digest]
        serving[caller] -= 1
        if not serving[caller]:
            del serving[caller]
        if not serving:
            del self.serving[digest]
