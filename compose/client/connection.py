"""A client of a manager, with the services of its API; the node started when nothing answers.

A call that fails because its manager went away is made again, at another manager or at the same one when that is back:
when it cannot have been carried out (it never left), or when it only reads. What changes something and may have been
carried out is never made twice; `apply.py` looks what became of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.compose.client.addresses import Address, parse
from pycompose.compose.client.errors import (
    AddressError,
    ApiError,
    ClientError,
    DryRunError,
    LostError,
    NodeError,
    decode,
)
from pycompose.compose.client.links import Link, Route, Target
from pycompose.proto import places

if TYPE_CHECKING:
    from pycompose.proto.v1.access_pb2_grpc import TaskAccessServiceStub
    from pycompose.proto.v1.build_pb2_grpc import BuildServiceStub
    from pycompose.proto.v1.control_pb2_grpc import ControlServiceStub
    from pycompose.proto.v1.image_pb2_grpc import ImageServiceStub

READING = ("Get", "List", "Watch", "Explain", "Inspect", "Read", "Probe", "Measure", "Stat", "Resolve", "Fetch")
"""How the names of calls begin that change nothing."""
TIMEOUT, LONG_TIMEOUT = 30.0, 600.0
PATIENCE, PAUSE = 15.0, 0.2
"""Seconds that a manager may take to come back under a command that it had answered, and between two looks."""
_LONG = ("CommitTask", "PushArtifact", "MeasureVolumes", "PruneImages", "RemoveImage")


def run_dir() -> str:
    """Return the folder of the node's sockets: the user's own node's, or root's where only that lets the user in."""
    own = places.run_dir()
    if "PYCOMPOSE_RUN_DIR" in os.environ or os.path.exists(f"{own}/api.sock"):
        return own
    return places.RUN if os.access(f"{places.RUN}/api.sock", os.W_OK) else own


def state_dir() -> str:
    """Return the folder of the node's data."""
    return places.state_dir(uid=0 if run_dir() == places.RUN else None)


def own_socket() -> str:
    """Return the path of the socket of this machine's node."""
    return os.path.normpath(os.path.join(run_dir(), "api.sock"))


def target_of(context: str = "", host: str = "") -> Target:
    """Return what a command talks to.

    Args:
        context, host: the flags --context and -H.

    Raises:
        AddressError: what is named is no address.
        ContextError: the context is not there, or cannot be used.
    """
    from pycompose.compose.client.contexts import DEFAULT, Contexts, check_addresses, choose

    contexts = Contexts.of_user()
    choice = choose(context, host, os.environ, contexts.current())
    if choice.host:
        address = parse(choice.host)
        if address.kind == "tcp" and not address.loopback:
            raise AddressError(
                f"{choice.why} {choice.host}: a manager of a cluster is reached by mutual TLS, which takes a "
                "certificate; use a context that has one: pycompose context create --help"
            )
        return Target((address,), str(address), startable=address.path == own_socket())
    if choice.context == DEFAULT:
        return Target((Address("unix", path=own_socket()),), DEFAULT, startable=True)
    found = contexts.get(choice.context)
    check_addresses(found.addresses, proves=found.proves())
    startable = any(one.path == own_socket() and one.kind == "unix" for one in found.addresses)
    return Target(found.addresses, found.name, found.folder if found.proves() else None, startable=startable)


class Client:
    """One conversation with a cluster. Services' methods are called as `client.control.GetService(request)`.

    A failure raises ClientError; unary calls have a deadline (half a minute, for what may take long ten) unless
    `timeout` is given. Use it as a context manager, or call `close`.

    Args:
        target: the managers, or the one address of one ("unix:///path", "host:port").
        start: start this machine's node when nothing answers at its socket.
        tell: is told what takes time, in a line for people.
        read_only: refuse calls that could change anything.
    """

    def __init__(
        self,
        target: Target | str,
        *,
        start: bool = True,
        tell: Callable[[str], None] = lambda _: None,
        read_only: bool = False,
    ) -> None:
        self.target = target_of(host=target) if isinstance(target, str) else target
        self.read_only = read_only
        self.route = Route(self.target, start=start, tell=tell)
        self.route.link()

    @property
    def control(self) -> ControlServiceStub:
        """The control API."""
        from pycompose.proto.v1.control_pb2_grpc import ControlServiceStub

        return self.service(ControlServiceStub)  # type: ignore[no-any-return]

    @property
    def access(self) -> TaskAccessServiceStub:
        """Hands on tasks."""
        from pycompose.proto.v1.access_pb2_grpc import TaskAccessServiceStub

        return self.service(TaskAccessServiceStub)  # type: ignore[no-any-return]

    @property
    def images(self) -> ImageServiceStub:
        """The node's images."""
        from pycompose.proto.v1.image_pb2_grpc import ImageServiceStub

        return self.service(ImageServiceStub)  # type: ignore[no-any-return]

    @property
    def builds(self) -> BuildServiceStub:
        """The node's builder."""
        from pycompose.proto.v1.build_pb2_grpc import BuildServiceStub

        return self.service(BuildServiceStub)  # type: ignore[no-any-return]

    def service(self, stub: Callable[[grpc.Channel], Any]) -> Any:
        """Return a service by its stub's class; its errors are ours."""
        kept = self.__dict__.setdefault("_services", {})
        if stub not in kept:
            kept[stub] = _Service(stub, self.route, self.read_only)
        return kept[stub]

    def close(self) -> None:
        """Close the connection; calls that are under way end."""
        self.route.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Service:
    """A service whose errors are ours, whose unary calls have a deadline, and which outlives a manager."""

    def __init__(self, stub: Callable[[grpc.Channel], Any], route: Route, read_only: bool) -> None:
        self._stub, self._route, self._read_only = stub, route, read_only

    def __getattr__(self, name: str) -> Any:
        reads = name.startswith(READING)
        if self._read_only and not reads:
            raise DryRunError(name)
        route, stub = self._route, self._stub
        method = getattr(route.any_link().stub(stub), name)
        unary = isinstance(method, grpc.UnaryUnaryMultiCallable)
        limit = None if not unary else LONG_TIMEOUT if name in _LONG else TIMEOUT
        # answers that stream have no deadline: they last as long as their reader
        streams = not isinstance(method, (grpc.UnaryUnaryMultiCallable, grpc.StreamUnaryMultiCallable))
        # a stream of requests is read once and cannot be sent again
        replayed = unary or isinstance(method, grpc.UnaryStreamMultiCallable)

        def call(request: Any, timeout: float | None = None) -> Any:
            retry = Retry(route, reads=reads, replayed=replayed)
            if streams:
                return _Stream(lambda link: getattr(link.stub(stub), name)(request, timeout=timeout), route, retry)
            while True:
                link = retry.link()
                bound = getattr(link.stub(stub), name)
                try:
                    answer = bound(request, timeout=timeout or limit)
                    if getattr(answer, "next_page_token", ""):
                        answer = _whole(bound, request, answer)
                except grpc.RpcError as error:
                    retry.failed(link, error)
                else:
                    route.answered()
                    return answer

        self.__dict__[name] = call
        return call


class Retry:
    """Decides what follows a failed call: another attempt, or its error.

    Args:
        route: to the managers.
        reads: the call changes nothing.
        replayed: its request can be sent again.
    """

    def __init__(self, route: Route, *, reads: bool, replayed: bool) -> None:
        self._route, self._reads, self._replayed = route, reads, replayed
        self._until = 0.0
        self._refusal: ApiError | None = None

    def link(self) -> Link:
        """Return the link for the next attempt; wait for a manager that had answered before. Raises NodeError."""
        while True:
            try:
                return self._route.link()
            except NodeError as failure:
                if not self._route.met:
                    raise
                self._wait(failure)

    def failed(self, link: Link, error: grpc.RpcError) -> None:
        """Return when the call is to be made again.

        Raises:
            ClientError: it is not.
        """
        failure = decode(error, str(link.address), link.problem)
        away = isinstance(failure, LostError)
        unable = isinstance(failure, ApiError) and failure.code == "UNAVAILABLE"
        late = self._reads and isinstance(failure, ApiError) and failure.code == "DEADLINE_EXCEEDED"
        if not (away or unable or late):
            raise failure
        if isinstance(failure, ApiError):
            self._refusal = failure
        reason = str(failure).removeprefix(f"cannot reach {link.address}: ")
        others = self._route.lost(link, reason)
        repeatable = self._reads or (isinstance(failure, LostError) and not failure.sent)
        if not repeatable or not self._replayed:
            if not others:
                self._route.again()
            raise failure
        if others:
            return
        # what a manager said itself says more than why others are not reached
        last = self._refusal or (failure if len(self._route.target.addresses) == 1 else self._route.unreachable())
        if not away or not self._route.met:
            self._route.again()
            raise last
        self._wait(last)

    def _wait(self, last: ClientError) -> None:
        now = time.monotonic()
        self._until = self._until or now + PATIENCE
        if now > self._until:
            raise last
        time.sleep(PAUSE)
        self._route.again()


def _whole(method: Any, request: Any, answer: Any) -> Any:
    """Return a list's first page with all further pages' objects in it."""
    following = type(request)()
    following.CopyFrom(request)
    while answer.next_page_token:
        following.page_token = answer.next_page_token
        answer.next_page_token = ""
        answer.MergeFrom(method(following, timeout=TIMEOUT))
    return answer


class _Stream:
    """The answers of one call; `cancel` ends it from any thread. It is begun anew only before its first answer."""

    def __init__(self, begin: Callable[[Link], Any], route: Route, retry: Retry) -> None:
        self._begin, self._route, self._retry = begin, route, retry
        self._canceled = False
        self._call: Any = None
        self._problem: ClientError | None = None
        try:
            self._start(route.link())
        except ClientError as error:
            # whoever reads the answers hears of it, as of all that goes wrong with a stream
            self._problem = error

    def _start(self, link: Link) -> None:
        self._link, self._call = link, self._begin(link)

    def __iter__(self) -> Iterator[Any]:
        if self._problem is not None:
            raise self._problem
        begun = False
        while True:
            try:
                for answer in self._call:
                    if not begun:
                        begun = True
                        self._route.answered()
                    yield answer
                return
            except grpc.RpcError as error:
                if self._canceled or error.code() == grpc.StatusCode.CANCELLED:
                    return
                if begun:
                    raise self._broken(error) from None
                self._retry.failed(self._link, error)
                self._start(self._retry.link())

    def _broken(self, error: grpc.RpcError) -> ClientError:
        failure = decode(error, str(self._link.address), self._link.problem)
        if isinstance(failure, LostError) and not self._route.lost(self._link, str(failure)):
            self._route.again()
        return failure

    def cancel(self) -> None:
        """End the call."""
        self._canceled = True
        if self._call is not None:
            self._call.cancel()
