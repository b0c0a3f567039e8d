"""Whether a majority of the managers answers, and what every command says when it does not.

The store's word decides: a read that a majority must confirm, each second. When it fails the managers' etcds are asked
one by one, by a TLS handshake, which a paused or cut off one does not make. Calls that come then are refused at once
with that sentence; what is connected already, workers and hands on tasks, goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pycompose.manager.member import IDENTITY
from pycompose.manager.members.fellows import Fellow
from pycompose.manager.store import Store, StoreUnavailableError
from pycompose.proto.refusal import UnreachableError
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE, KEY

log = logging.getLogger(__name__)
LOOK_SECONDS, LOST_LOOK_SECONDS = 1.0, 0.3
#: How long the store may take to answer, and another manager's etcd to shake hands.
STORE_SECONDS, HANDSHAKE_SECONDS = 2.0, 1.0
#: A manager whose own etcd was not there so many times in a row sends its workers to others. Times and no seconds: a
#: process that was paused has seen nothing.
ALONE_LOOKS = 5
#: Calls that are answered without the store, by the beginning of their names.
WITHOUT_STORE = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/pycompose.v1.DispatcherService/",
    "/pycompose.v1.ControlService/GetManager",
    "/pycompose.v1.ClusterService/GetMember",
    "/pycompose.v1.ClusterService/ListMembers",
    "/pycompose.v1.ClusterService/Recover",
)
#: Calls that do nothing but read and write the store.
OF_THE_STORE = ("/pycompose.v1.ControlService/", "/pycompose.v1.ClusterService/")
GOES_ON = "nothing that runs is stopped"
Probe = Callable[[Fellow], Awaitable[bool]]


def sentence(own: str, answers: Mapping[Fellow, bool]) -> str:
    """Return why the store does not answer, and what to do.

    Args:
        own: this manager's name.
        answers: whether each manager's etcd answers, this one's too.
    """
    there = sorted(each.label for each, answered in answers.items() if answered)
    missing = sorted(each.label for each, answered in answers.items() if not answered)
    here = next((answered for each, answered in answers.items() if each.name == own), False)
    if len(answers) == 1 and not here:
        return (
            f"this manager's etcd does not answer; {GOES_ON}; it is started again by itself, or see pycompose node logs"
        )
    if len(answers) == 1:
        return f"this manager's etcd is just starting; {GOES_ON}; try again"
    if len(there) * 2 <= len(answers):
        names = "; ".join(filter(None, (", ".join(there), f"not {', '.join(missing)}")))
        return (
            f"the cluster has lost its majority: {len(there)} of {len(answers)} managers answer ({names}); "
            f"{GOES_ON}; start them again, or pycompose cluster recover"
        )
    if not here:
        return (
            f"this manager's own etcd does not answer, and {len(there)} of {len(answers)} managers do "
            f"({', '.join(there)}); {GOES_ON}; ask one of them, and see pycompose node logs here"
        )
    return (
        f"{len(there)} of {len(answers)} managers answer ({', '.join(there)}), and they have no leader yet; {GOES_ON}; "
        "try again"
    )


class Handshake:
    """Asks whether another manager's etcd is there. `folder`: this manager's."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / IDENTITY

    async def __call__(self, fellow: Fellow) -> bool:
        """Whether it shakes hands within a second."""
        host, _, port = fellow.peer.rpartition(":")
        try:
            context = await asyncio.to_thread(self._context)
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        except (OSError, ValueError):
            return False
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await writer.wait_closed()
        return True

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # by the authority, which is the members' own
        context.load_verify_locations(self._files / AUTHORITIES)
        context.load_cert_chain(self._files / CERTIFICATE, self._files / KEY)
        return context


class Quorum:
    """What is known of the majority.

    Args:
        own: this manager's name.
        store: that is asked.
        fellows: gives the managers.
        probe: asks one of them.
        endpoints: of the store, for people.
    """

    def __init__(
        self,
        own: str,
        store: Store,
        fellows: Callable[[], Sequence[Fellow]],
        probe: Probe,
        endpoints: Sequence[str] = (),
    ) -> None:
        self._own, self._store, self._fellows, self._probe = own, store, fellows, probe
        self._endpoints = endpoints
        #: Why the store does not answer; "" while it does.
        self.lost = ""
        #: Is set while it does not.
        self.missing = asyncio.Event()

    async def explain(self) -> str:
        """Ask every manager, and return the sentence."""
        return await explain(self._own, self._fellows(), self._probe, self._endpoints)

    async def answers(self) -> bool:
        """Whether a majority confirms a read now."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self._store.revision()
        except (StoreUnavailableError, TimeoutError):
            return False
        return True

    async def run(self) -> None:
        """Look for ever. Raises StoreUnavailableError: this manager's etcd is gone, so that it is of no use now."""
        gone = 0
        while True:
            if await self.answers():
                if self.lost:
                    log.info("the store answers again")
                self.lost, gone = "", 0
                self.missing.clear()
            else:
                text = await self.explain()
                if text != self.lost:
                    log.warning("%s", text)
                self.lost = text
                self.missing.set()
                gone = 0 if await self._own_is_there() else gone + 1
                if gone >= ALONE_LOOKS:
                    raise StoreUnavailableError(text)
            await asyncio.sleep(LOST_LOOK_SECONDS if self.lost else LOOK_SECONDS)

    async def _own_is_there(self) -> bool:
        own = next((each for each in self._fellows() if each.name == self._own), None)
        return own is None or await self._probe(own)


async def explain(own: str, fellows: Sequence[Fellow], probe: Probe, endpoints: Sequence[str]) -> str:
    """Ask every manager, and return the sentence."""
    if not fellows:
        return f"etcd at {', '.join(endpoints)} does not answer; {GOES_ON}; see pycompose node logs"
    answers = await asyncio.gather(*(probe(each) for each in fellows))
    return sentence(own, dict(zip(fellows, answers, strict=True)))


class QuorumCheck(grpc.aio.ServerInterceptor):
    """Refuses what needs the store while that has no majority; it stands behind `Guard`."""

    def __init__(self, quorum: Quorum) -> None:
        self._quorum = quorum

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the call's handler with the check before it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(WITHOUT_STORE):
            return handler
        kind = "_".join(
            "stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)
        )
        call = getattr(handler, kind)
        if handler.response_streaming:
            checked = self._stream(call)
        else:
            checked = self._single(call, waits=not method.startswith(OF_THE_STORE))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(checked, handler.request_deserializer, handler.response_serializer)

    def _single(self, call: Callable[..., Any], waits: bool) -> Callable[..., Any]:
        """Args: waits: the call may do what takes long without the store, and is not cut off."""

        @functools.wraps(call)
        async def checked(request: Any, context: Any) -> Any:
            self._check()
            try:
                return await (call(request, context) if waits else self._until_lost(call(request, context)))
            except StoreUnavailableError as error:
                raise await self._refusal(error) from None

        return checked

    def _stream(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
            self._check()
            try:
                async for response in call(request, context):
                    yield response
            except StoreUnavailableError as error:
                raise await self._refusal(error) from None

        return checked

    async def _until_lost(self, call: Awaitable[Any]) -> Any:
        """Make the call as long as the majority is there; a write may have been done all the same."""
        calling, missing = asyncio.ensure_future(call), asyncio.ensure_future(self._quorum.missing.wait())
        try:
            await asyncio.wait([calling, missing], return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise UnreachableError(self._quorum.lost)
            return await calling
        finally:
            for task in (calling, missing):
                task.cancel()

    def _check(self) -> None:
        if self._quorum.lost:
            raise UnreachableError(self._quorum.lost)

    async def _refusal(self, error: StoreUnavailableError) -> UnreachableError:
        if await self._quorum.answers():
            return UnreachableError(f"{error}; try again")
        return UnreachableError(await self._quorum.explain())


class Refusing(grpc.GenericRpcHandler):
    """Answers every call with one sentence. `why`: gives it."""

    def __init__(self, why: Callable[[], str]) -> None:
        self._why = why

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of any call."""
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        raise UnreachableError(self._why())
        yield b""
