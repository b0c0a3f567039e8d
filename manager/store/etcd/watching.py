"""One watch of etcd, as batches of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

import grpc
import grpc.aio

from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.client import Client
from pycompose.manager.store.interface import Batch, CompactedError, Event, Revision, StoreUnavailableError

#: Key and end of a range that has every key.
ALL = (b"\0", b"\0")
Naming = Callable[[bytes], "str | None"]


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"


async def watch(
    client: Client, key: bytes, end: bytes, after: int, naming: Naming, epoch: str
) -> AsyncIterator[tuple[int, Batch | None]]:
    """Yield the revisions after `after` that changed a key of the range.

    The watch begins at `after` itself, and what it says of that is dropped: etcd answers a watch from the revision
    that it is compacted to, but has forgotten the deletions of that one.

    Args:
        client: whom to ask.
        key, end: the range.
        after: the revision that is known.
        naming: the store's key for etcd's; None for keys of others.
        epoch: of the batches.

    Yields:
        A revision and what it changed; None: nothing of the range, up to there (etcd says so when it is idle).

    Raises:
        CompactedError: etcd has forgotten what comes after `after`.
        StoreUnavailableError: the connection is lost.
        StoreClosedError: the client was closed.
    """
    channel = client.channel()
    method = channel.stream_stream(
        "/etcdserverpb.Watch/Watch", wire.WatchRequest.SerializeToString, wire.WatchResponse.FromString
    )
    call = method()
    create = wire.WatchCreate(
        key=key, range_end=end, start_revision=max(after, 1), progress_notify=True, with_before=True
    )
    try:
        await call.write(wire.WatchRequest(create=create))
        while True:
            answer = await call.read()
            if not isinstance(answer, wire.WatchResponse):
                raise StoreUnavailableError("etcd ended a watch")
            if answer.canceled:
                if answer.compact_revision:
                    raise CompactedError(f"the history after {after} is gone, up to {answer.compact_revision}")
                raise StoreUnavailableError(f"etcd cancelled a watch: {answer.cancel_reason}")
            for number, events in _by_revision(answer.events):
                if number > after:
                    after = number
                    yield number, _batch(number, events, naming, epoch)
            if not answer.events and not answer.created and answer.header.revision > after:
                after = answer.header.revision
                yield after, None
    except grpc.aio.AioRpcError as error:
        client.leave(channel)
        raise client.refused(error) from None
    except asyncio.CancelledError:
        client.raise_if_closed()
        raise
    except asyncio.InvalidStateError:
        client.raise_if_closed()
        raise StoreUnavailableError("the connection to etcd is lost") from None
    finally:
        call.cancel()


def _by_revision(events: Iterable[wire.Event]) -> list[tuple[int, list[wire.Event]]]:
    found: list[tuple[int, list[wire.Event]]] = []
    for event in events:
        if not found or found[-1][0] != event.now.mod_revision:
            found.append((event.now.mod_revision, []))
        found[-1][1].append(event)
    return found


def _batch(number: int, events: list[wire.Event], naming: Naming, epoch: str) -> Batch | None:
    known = [(key, event) for event in events if (key := naming(event.now.key)) is not None]
    kept = tuple(_event(key, event) for key, event in known)
    return Batch(Revision(epoch, number), kept) if kept else None


def _event(key: str, event: wire.Event) -> Event:
    number = event.now.mod_revision
    if event.kind == wire.Event.PUT:
        return Event(key, event.now.value, number, created=event.now.create_revision == number)
    before = event.before.value if event.HasField("before") else None
    return Event(key, None, number, previous=before)
