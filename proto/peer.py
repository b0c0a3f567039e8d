"""Who calls, and what they may call.

On the node's unix sockets the kernel has checked who may connect, and everything is allowed. Over TLS the
certificate's role decides, by one table: what the table does not name is refused, so that a new call is closed until
somebody opens it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc

from pycompose.proto.refusal import ForbiddenError


class Role(StrEnum):
    """What a caller is; the words are those of the certificates."""

    LOCAL = "local"
    MANAGER = "manager"
    WORKER = "worker"
    CLIENT = "client"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Peer:
    """A caller: its role, its own name (a node's id, a client's name) and its cluster's id; "" on a unix socket."""

    role: Role
    name: str = ""
    cluster: str = ""


LOCAL, NOBODY = Peer(Role.LOCAL), Peer(Role.NOBODY)
_HERE = frozenset({Role.LOCAL})
_PEOPLE = frozenset({Role.LOCAL, Role.MANAGER, Role.CLIENT})
_NODES = frozenset({Role.LOCAL, Role.MANAGER, Role.WORKER})
_EVERYONE = frozenset({Role.LOCAL, Role.MANAGER, Role.WORKER, Role.CLIENT})
_ANYBODY = _EVERYONE | {Role.NOBODY}
#: By service or, where one call differs, by its full name.
ALLOWED: Mapping[str, frozenset[Role]] = {
    "pycompose.v1.ControlService": _PEOPLE,
    "pycompose.v1.ClusterService": _PEOPLE,
    "pycompose.v1.TaskAccessService": _PEOPLE,
    "pycompose.v1.ImageService": _PEOPLE,
    "/pycompose.v1.ImageService/FetchManifest": _EVERYONE,
    "/pycompose.v1.ImageService/FetchBlob": _EVERYONE,
    "pycompose.v1.BuildService": _PEOPLE,
    "pycompose.v1.DispatcherService": _NODES,
    "pycompose.v1.CaService": _NODES,
    "pycompose.v1.JoinService": _ANYBODY,
    "pycompose.v1.NodeService": _HERE,
    "grpc.health.v1.Health": _EVERYONE,
    "grpc.reflection.v1alpha.ServerReflection": _PEOPLE,
}


def may(role: Role, method: str) -> bool:
    """Whether a role may make a call.

    Args:
        method: as gRPC names it, "/package.Service/Method".
    """
    service = method.rpartition("/")[0].lstrip("/")
    return role in ALLOWED.get(method, ALLOWED.get(service, frozenset()))


@functools.lru_cache(maxsize=1024)
def peer_of_certificate(pem: bytes) -> Peer:
    """Return whom a certificate, which TLS has verified, names; `NOBODY` when it is none of a cluster's."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_certificate(pem).subject
    except ValueError:
        return NOBODY
    found = []
    for oid in (NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        values = subject.get_attributes_for_oid(oid)
        if len(values) != 1 or not values[0].value:
            return NOBODY
        found.append(str(values[0].value))
    role, name, cluster = found
    return Peer(Role(role), name, cluster) if role in ("manager", "worker", "client") else NOBODY


def peer_of(context: Any) -> Peer:
    """Return who makes the call of a grpc.aio servicer context."""
    properties = context.auth_context()
    if b"ssl" in properties.get("transport_security_type", ()):
        certificate = next(iter(properties.get("x509_pem_cert", ())), None)
        return NOBODY if certificate is None else peer_of_certificate(bytes(certificate))
    return LOCAL if context.peer().startswith("unix:") else NOBODY


class Authorizer(grpc.aio.ServerInterceptor):
    """Lets a call through when its caller may make it. It stands behind `Guard`, which tells the refusal.

    Args:
        cluster: the id of this node's cluster; "" while it has none. Certificates of another are refused.
    """

    def __init__(self, cluster: Callable[[], str] = lambda: "") -> None:
        self._cluster = cluster

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the call's handler with the check before it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        kind = "_".join(
            "stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)
        )
        checked = (self._stream if handler.response_streaming else self._single)(getattr(handler, kind), method)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(checked, handler.request_deserializer, handler.response_serializer)

    def check(self, peer: Peer, method: str) -> None:
        """Raise ForbiddenError when the peer may not make the call."""
        if not may(peer.role, method):
            who = f"a {peer.role} certificate" if peer.role is not Role.NOBODY else "no certificate of this cluster"
            raise ForbiddenError(f"{method.rpartition('/')[2]} is not allowed with {who}", peer.role)
        if peer.cluster and peer.cluster != self._cluster():
            raise ForbiddenError(f"the certificate is of another cluster ({peer.cluster})", "OTHER_CLUSTER")

    def _stream(self, call: Callable[..., Any], method: str) -> Callable[..., Any]:
        @functools.wraps(call)
        async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
            self.check(peer_of(context), method)
            async for response in call(request, context):
                yield response

        return checked

    def _single(self, call: Callable[..., Any], method: str) -> Callable[..., Any]:
        @functools.wraps(call)
        async def checked(request: Any, context: Any) -> Any:
            self.check(peer_of(context), method)
            return await call(request, context)

        return checked
