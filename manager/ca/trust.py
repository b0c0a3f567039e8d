"""What a cluster believes and signs with, and whom it lets in: decisions over values, without clock or socket."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

from pycompose.manager.ca.authority import CERTIFICATE_LIFE, Authority, RequestError, Subject
from pycompose.proto import PROTOCOL
from pycompose.proto.peer import Peer, Role
from pycompose.proto.refusal import BlockedError, ForbiddenError, InvalidError
from pycompose.proto.renewal import TOLERANCE
from pycompose.proto.tls import name_of
from pycompose.proto.tokens import Token, TokenError
from pycompose.proto.trust import fingerprint
from pycompose.proto.v1 import ca_pb2, node_pb2

_ID_LENGTH = 25


@dataclass(frozen=True)
class Trust:
    """A cluster's authority as it is now.

    Attributes:
        cluster, name: the cluster's id, and its name for people.
        authority: signs.
        secrets: the second half of the join token of each role that a machine may join as.
        others: authorities (PEM) that are believed, too, while the authority changes: the next one, or the one before.
        life: how long certificates are valid.
    """

    cluster: str
    name: str
    authority: Authority
    secrets: Mapping[Role, str]
    others: Sequence[bytes] = ()
    life: timedelta = CERTIFICATE_LIFE

    @property
    def believed(self) -> bytes:
        """The authorities that nodes believe (PEM), the one that signs first."""
        return b"".join((self.authority.pem, *self.others))

    @property
    def fingerprint(self) -> str:
        """What a node shows that has a certificate of `authority` and believes `believed`."""
        signer = x509.SubjectKeyIdentifier.from_public_key(self.authority.key.public_key()).digest
        return fingerprint(signer, self.believed)

    def sign(self, request: bytes, subject: Subject, now: datetime) -> bytes:
        """Return a certificate (PEM). Raises InvalidError."""
        try:
            return self.authority.sign(request, subject, now, self.life)
        except RequestError as error:
            raise InvalidError([("certificate_request", str(error))], str(error)) from None


def role_of_token(trust: Trust, text: str) -> Role:
    """Return as what a token lets a machine in. Raises InvalidError, ForbiddenError."""
    try:
        token = Token.parse(text)
    except TokenError as error:
        raise InvalidError([("token", str(error))], str(error)) from None
    if not token.is_of(trust.authority.der):
        raise ForbiddenError(
            f"the join token is not of cluster {trust.name}, or of an authority that it had before; print the present "
            "one there with: pycompose cluster token worker",
            "OTHER_CLUSTER",
        )
    found = [role for role, secret in trust.secrets.items() if hmac.compare_digest(secret, token.secret)]
    if not found:
        raise ForbiddenError(
            f"the join token is not valid any more in cluster {trust.name}; print the present one there with: "
            "pycompose cluster token worker",
            "WRONG_TOKEN",
        )
    return found[0]


def check_machine(request: ca_pb2.JoinRequest, nodes: Iterable[node_pb2.Node], now: datetime) -> None:
    """Raise BlockedError or InvalidError when a machine that has a token cannot become a node.

    Args:
        request: what it says of itself.
        nodes: those whose ids and names are taken.
        now: the manager's clock, UTC.
    """
    if request.protocol != PROTOCOL:
        side = "this machine" if request.protocol < PROTOCOL else "the managers"
        raise BlockedError(
            f"this machine speaks protocol {request.protocol} and the cluster {PROTOCOL}; upgrade {side}",
            "VERSION",
            request.node_id,
        )
    if len(request.node_id) != _ID_LENGTH or not (request.node_id.isascii() and request.node_id.isalnum()):
        raise InvalidError([("node_id", f"{_ID_LENGTH} letters and digits are needed")])
    try:
        skew = request.now.ToDatetime(now.tzinfo) - now
    except (ValueError, OverflowError):
        raise InvalidError([("now", "this is no time (google.protobuf.Timestamp)")]) from None
    if abs(skew) > TOLERANCE:
        side = "ahead of" if skew > timedelta() else "behind"
        raise BlockedError(
            f"this machine's clock is {abs(skew).total_seconds():.0f} s {side} the manager's; set the clock "
            "(timedatectl set-ntp true) and join again",
            "CLOCK",
            request.node_id,
        )
    hostname = request.description.hostname
    for node in nodes:
        if _tries_again(request, node):
            continue
        if node.id == request.node_id:
            raise BlockedError(
                f"the cluster has a node with this machine's id ({node.id}) already; remove it first (pycompose node "
                f"rm {node.id}), or, where this machine is a copy of another, remove STATE/agent/node-id here",
                "IN_USE",
                node.id,
            )
        if hostname and node.description.hostname == hostname:
            raise BlockedError(
                f"the cluster has a node named {hostname} already ({node.id}); name this machine otherwise "
                f"(hostnamectl hostname NAME), or remove that one first: pycompose node rm {node.id}",
                "IN_USE",
                hostname,
            )


def _tries_again(request: ca_pb2.JoinRequest, node: node_pb2.Node) -> bool:
    """Whether a machine joined from the same address before, and never came: its answer was lost on the way."""
    never_came = node.status.state == node_pb2.NODE_STATE_UNSPECIFIED
    return (
        node.id == request.node_id
        and never_came
        and node.description.access_address == request.description.access_address
    )


def address_of(request: ca_pb2.JoinRequest) -> tuple[str, int]:
    """Return where the machine's worker listens: host and port. Raises InvalidError."""
    return parse_address(request.description.access_address)


def parse_address(text: str) -> tuple[str, int]:
    """Take "HOST:PORT" or "[IPv6]:PORT" apart. Raises InvalidError."""
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidError([("description.access_address", f"{text or 'nothing'} is no HOST:PORT")])
    return host, int(port)


def address_name(host: str) -> str | IPv4Address | IPv6Address:
    """Return how a certificate names a host."""
    try:
        return ip_address(host)
    except ValueError:
        return host


def renewed(peer: Peer, certificate: bytes) -> Subject:
    """Return whom a certificate that replaces another is for: the same, with the same addresses.

    Args:
        peer: who asks.
        certificate: the one that it has, which TLS has verified (PEM).
    """
    found = x509.load_pem_x509_certificate(certificate).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    implied = (peer.name, name_of(peer.role))
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if name not in implied]
    addresses = [one for one in names.get_values_for_type(x509.IPAddress) if isinstance(one, IPv4Address | IPv6Address)]
    return Subject(peer.role, peer.name, peer.cluster, [*hosts, *addresses])
