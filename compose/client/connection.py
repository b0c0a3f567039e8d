"""A channel to a manager, with its three services, and the node started when nothing answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.compose.client.errors import AddressError, DryRunError, NodeError, NotRunningError, decode

if TYPE_CHECKING:
    from pycompose.proto.v1.access_pb2_grpc import TaskAccessServiceStub
    from pycompose.proto.v1.control_pb2_grpc import ControlServiceStub
    from pycompose.proto.v1.image_pb2_grpc import ImageServiceStub

READING = ("Get", "List", "Watch", "Explain", "Inspect", "Read", "Probe", "Measure", "Stat", "Resolve", "Fetch")
"""How the names of calls begin that change nothing."""
MESSAGE_LIMIT = 64 << 20
TIMEOUT, LONG_TIMEOUT, CONNECT_SECONDS = 30.0, 600.0, 10.0
_LONG = ("CommitTask", "PushArtifact", "MeasureVolumes", "PruneImages", "RemoveImage")


def run_dir() -> str:
    """Return the folder of the node's sockets."""
    return os.environ.get("PYCOMPOSE_RUN_DIR") or "/run/pycompose"


def state_dir() -> str:
    """Return the folder of the node's data."""
    return os.environ.get("PYCOMPOSE_STATE_DIR") or "/var/lib/pycompose"


def default_host() -> str:
    """Return the address of the node: PYCOMPOSE_HOST, else this machine's socket."""
    return os.environ.get("PYCOMPOSE_HOST") or f"unix://{run_dir()}/api.sock"


def socket_path(host: str) -> str | None:
    """Return the path of a unix socket address, None for another address."""
    return host.removeprefix("unix:").removeprefix("//") if host.startswith("unix:") else None


def check_host(host: str) -> None:
    """Refuse what is no address.

    Raises:
        AddressError: it is neither a socket's path nor HOST:PORT.
    """
    path = socket_path(host)
    if path is not None and path.startswith("/"):
        return
    name, colon, port = host.removeprefix("tcp://").rpartition(":")
    if path is not None or not colon or not name or "/" in name or not port.isdigit() or not 0 < int(port) < 65536:
        raise AddressError(f'"{host}" is no address of a node; want unix:///PATH/api.sock or HOST:PORT')


class Client:
    """One connection. Methods of the services are called as `client.control.GetService(request)`.

    A failure raises ClientError; unary calls have a deadline (half a minute, for what may take long ten) unless
    `timeout` is given. Use it as a context manager, or call `close`.

    Args:
        host: "unix:///path" or "host:port".
        start: start this machine's node when nothing answers at its socket.
        tell: is told what takes time, in a line for people.
        read_only: refuse calls that could change anything.
    """

    def __init__(
        self,
        host: str,
        *,
        start: bool = True,
        tell: Callable[[str], None] = lambda _: None,
        read_only: bool = False,
    ) -> None:
        check_host(host)
        self.host, self.read_only = host, read_only
        path = socket_path(host)
        if path is not None:
            self._reach(path, start, tell)
        target = f"unix:{path}" if path is not None else host.removeprefix("tcp://")
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0),
            ("grpc.min_reconnect_backoff_ms", int(CONNECT_SECONDS * 1000)),
        ]
        self.channel = grpc.insecure_channel(target, options=options)

    @staticmethod
    def _reach(path: str, start: bool, tell: Callable[[str], None]) -> None:
        from pycompose.compose.client import node

        try:
            if node.answers(path):
                return
        except PermissionError:
            raise NodeError(
                f"you may not talk to the node at {path}; run as root (sudo pycompose …) or join the group pycompose"
            ) from None
        if not start:
            raise NotRunningError(f"no node answers at {path}; start it with pycompose up or pycompose node start")
        node.start(path, tell)

    @property
    def control(self) -> ControlServiceStub:
        """The control API."""
        from pycompose.proto.v1.control_pb2_grpc import ControlServiceStub

        return self._service("control", ControlServiceStub)  # type: ignore[no-any-return]

    @property
    def access(self) -> TaskAccessServiceStub:
        """Hands on tasks."""
        from pycompose.proto.v1.access_pb2_grpc import TaskAccessServiceStub

        return self._service("access", TaskAccessServiceStub)  # type: ignore[no-any-return]

    @property
    def images(self) -> ImageServiceStub:
        """The node's images."""
        from pycompose.proto.v1.image_pb2_grpc import ImageServiceStub

        return self._service("images", ImageServiceStub)  # type: ignore[no-any-return]

    def _service(self, name: str, stub: Callable[[grpc.Channel], Any]) -> Any:
        kept = self.__dict__.get(f"_{name}")
        if kept is None:
            kept = self.__dict__[f"_{name}"] = _Decoding(stub(self.channel), self.host, self.read_only)
        return kept

    def close(self) -> None:
        """Close the connection; calls that are under way end."""
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Decoding:
    """A stub whose errors are ours and whose unary calls have a deadline."""

    def __init__(self, stub: Any, host: str, read_only: bool) -> None:
        self._stub, self._host, self._read_only = stub, host, read_only

    def __getattr__(self, name: str) -> Any:
        if self._read_only and not name.startswith(READING):
            raise DryRunError(name)
        method = getattr(self._stub, name)
        host = self._host
        # answers that stream have no deadline: they last as long as their reader
        streams = not isinstance(method, (grpc.UnaryUnaryMultiCallable, grpc.StreamUnaryMultiCallable))
        unary = isinstance(method, grpc.UnaryUnaryMultiCallable)
        limit = None if not unary else LONG_TIMEOUT if name in _LONG else TIMEOUT

        def call(request: Any, timeout: float | None = None) -> Any:
            try:
                if streams:
                    return _Stream(method(request, timeout=timeout), host)
                answer = method(request, timeout=timeout or limit)
                return _whole(method, request, answer) if getattr(answer, "next_page_token", "") else answer
            except grpc.RpcError as error:
                raise decode(error, host) from None

        self.__dict__[name] = call
        return call


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
    """The answers of one call; `cancel` ends it from any thread."""

    def __init__(self, call: Any, host: str) -> None:
        self._call, self._host = call, host

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise decode(error, self._host) from None

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()
