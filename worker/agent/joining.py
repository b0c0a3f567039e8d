"""How a machine joins a cluster.

It knows an address and a token. From the address it reads the chain of certificates that the manager shows, believing
nothing of it; the authority in it whose digest is the token's is the cluster's, and from there on it alone is believed.
While it asks, the machine listens where its worker will, with a certificate that it signed itself: the manager connects
there, and finds the key for which it signs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pycompose.proto import PROTOCOL, tls
from pycompose.proto.peer import Role
from pycompose.proto.ports import JOIN, WORKER
from pycompose.proto.refusal import BlockedError, ForbiddenError, InvalidError, Refusal, UnreachableError, by_code
from pycompose.proto.tls import Identity
from pycompose.proto.tokens import Token, TokenError
from pycompose.proto.v1 import ca_pb2, ca_pb2_grpc, node_pb2
from pycompose.worker.agent.membership import Membership, folder

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0


@dataclass(frozen=True)
class Invitation:
    """A token and where to show it: "TOKEN@HOST:PORT"; without a port that of managers is meant."""

    token: Token
    host: str
    port: int

    @property
    def where(self) -> str:
        """The manager's address, for people and gRPC."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Take an invitation apart. Raises InvalidError."""
        first, at, address = text.strip().partition("@")
        try:
            token = Token.parse(first)
        except TokenError as error:
            raise InvalidError([("token", str(error))], str(error)) from None
        host, colon, port = address.rpartition(":")
        if address.endswith("]") or not colon:
            host, port = address, str(JOIN)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not at or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            message = f"where the manager is, is missing or wrong: {address!r}; give TOKEN@HOST:PORT"
            raise InvalidError([("token", message)], message)
        return cls(token, host, int(port))


def authority_in(chain: Sequence[bytes], invitation: Invitation, now: datetime) -> bytes:
    """Return the authority (PEM) that a token names, of the chain that a manager showed.

    Args:
        chain: certificates (DER), the manager's own first.
        invitation: the token, and where the chain is from.
        now: this machine's clock, UTC.

    Raises:
        ForbiddenError: it is another cluster's.
        BlockedError: by this machine's clock the manager's certificate is not valid.
    """
    found = next((one for one in chain if invitation.token.is_of(one)), None)
    if found is None:
        raise ForbiddenError(
            f"the manager at {invitation.where} is of another cluster than the token, or the cluster has a new "
            "authority; print the present token on that manager with: pycompose cluster token worker",
            "OTHER_CLUSTER",
        )
    shown = x509.load_der_x509_certificate(chain[0])
    for wrong, word, end in (
        (now < shown.not_valid_before_utc, "valid only from", shown.not_valid_before_utc),
        (now > shown.not_valid_after_utc, "expired since", shown.not_valid_after_utc),
    ):
        if wrong:
            raise BlockedError(
                f"the certificate of the manager at {invitation.where} is {word} {end:%Y-%m-%d %H:%M} UTC, and this "
                f"machine's clock says {now:%Y-%m-%d %H:%M}; set the clock (timedatectl set-ntp true), or look at "
                "pycompose cluster status on the manager",
                "CLOCK",
                invitation.where,
            )
    return x509.load_der_x509_certificate(found).public_bytes(serialization.Encoding.PEM)


async def read_chain(invitation: Invitation, seconds: float = CONNECT_SECONDS) -> list[bytes]:
    """Return the certificates (DER) that a server shows, none of them verified. Raises UnreachableError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(invitation.host, invitation.port, ssl=context)
    except TimeoutError:
        reason = f"no answer within {seconds:.0f} s"
    except OSError as error:
        reason = tls.why(error)
    else:
        shown = writer.get_extra_info("ssl_object")
        # Public since Python 3.13; the C object behind has it since 3.10 (https://github.com/python/cpython/pull/25467).
        read = getattr(shown, "get_unverified_chain", None)
        found = read() if read else [one.public_bytes(2) for one in shown._sslobj.get_unverified_chain()]
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return list(found)
    raise UnreachableError(f"there is no manager at {invitation.where}: {reason}; look at its address and firewall")


@contextlib.asynccontextmanager
async def listening(key: ec.EllipticCurvePrivateKey, host: str, port: int, now: datetime) -> AsyncIterator[None]:
    """Answer on the worker's port with a key, for the manager that dials back. Raises BlockedError."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "joining")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:  # load_cert_chain takes files alone
        file.write(certificate + _pem(key))
        file.flush()
        context.load_cert_chain(file.name)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    try:
        server = await asyncio.start_server(answer, host if host != "::" else None, port, ssl=context)
    except OSError as error:
        where = f"port {port}" + (f" of {host}" if host else "")
        text = f"nothing can listen on {where} here: {tls.why(error)}; free it, or give others by --port, --listen-addr"
        raise BlockedError(text, "IN_USE", str(port)) from None
    async with server:
        yield


async def join(
    state: Path,
    invitation: Invitation,
    node_id: str,
    description: node_pb2.NodeDescription,
    advertise: str,
    *,
    port: int = WORKER,
    listen: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Membership:
    """Become a node of a cluster; nothing is changed here unless that succeeds.

    Args:
        state: the node's state directory.
        invitation: the token, and where to show it.
        node_id, description: this machine.
        advertise: the address at which the other nodes reach it; "": the one that it has towards the manager.
        port: where its worker listens; `listen`: on which address, "" for all.
        now: this machine's clock, UTC.

    Raises:
        Refusal: it cannot; the message says what to do.
    """
    present = Membership.load(state)
    if present.cluster_id:
        raise BlockedError(
            f"this machine is a node of cluster {present.cluster_name} already; leave it first: pycompose node leave",
            "IN_USE",
            present.cluster_id,
        )
    authority = authority_in(await read_chain(invitation), invitation, now())
    key = ec.generate_private_key(ec.SECP256R1())
    host = advertise or await own_address(invitation)
    told = node_pb2.NodeDescription()
    told.CopyFrom(description)
    told.access_address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = ca_pb2.JoinRequest(
        token=str(invitation.token),
        certificate_request=_request(key),
        node_id=node_id,
        description=told,
        protocol=PROTOCOL,
    )
    request.now.FromDatetime(now())
    async with listening(key, listen, port, now()):
        answer = await _ask(invitation, authority, request)
    made = Membership(answer.role, answer.cluster_id, node_id, host, {"worker": port}, answer.cluster_name, listen)
    Identity(answer.certificate, _pem(key), answer.authorities).store(folder(state))
    made.store(state, answer.managers)
    return made


async def own_address(invitation: Invitation) -> str:
    """Return the address that this machine has towards a manager. Raises UnreachableError."""
    try:
        _, writer = await asyncio.open_connection(invitation.host, invitation.port)
    except OSError as error:
        raise UnreachableError(f"there is no manager at {invitation.where}: {tls.why(error)}") from None
    found = str(writer.get_extra_info("sockname")[0])
    writer.close()
    return found


async def _ask(invitation: Invitation, authority: bytes, request: ca_pb2.JoinRequest) -> ca_pb2.JoinResponse:
    options = [tls.expecting(tls.name_of(Role.MANAGER)), ("grpc.enable_http_proxy", 0)]
    credentials = grpc.ssl_channel_credentials(authority)
    async with grpc.aio.secure_channel(invitation.where, credentials, options=options) as channel:
        try:
            return await ca_pb2_grpc.JoinServiceStub(channel).Join(request, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _told(error, invitation) from None


def _told(error: grpc.aio.AioRpcError, invitation: Invitation) -> Refusal:
    code, details = error.code(), error.details() or error.code().name
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnreachableError(f"the manager at {invitation.where} does not answer: {details}")
    return by_code(code, details, "node", invitation.where, "token")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _request(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
