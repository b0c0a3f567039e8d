"""The cluster's authority and tokens, and who gets through a server's TLS to which call."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

import pycompose.proto.v1
from pycompose.manager.ca import Authority, RequestError, Subject
from pycompose.proto import tls
from pycompose.proto.guard import Guard
from pycompose.proto.peer import ALLOWED, Authorizer, Peer, Role, may, peer_of_certificate
from pycompose.proto.renewal import renew_at
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.tokens import Token, TokenError, digest, new_secret

NOW = datetime.now(UTC).replace(microsecond=0)
CLUSTER = "c" * 25
AUTHORITY = Authority.create(CLUSTER, NOW)


def identity(
    role: Role = Role.CLIENT,
    *,
    authority: Authority = AUTHORITY,
    cluster: str = CLUSTER,
    now: datetime = NOW,
    life: timedelta = timedelta(days=1),
    believes: bytes = b"",
) -> Identity:
    key, request = new_request()
    subject = Subject(role, "n" * 25, cluster, [ip_address("127.0.0.1")])
    return Identity(authority.sign(request, subject, now, life), key, believes or authority.pem)


def test_the_request_gives_the_key_and_nothing_else() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    wanted = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "manager")])
    names = x509.SubjectAlternativeName([x509.DNSName("manager.pycompose")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(wanted).add_extension(names, False)
    request = asked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    signed = x509.load_pem_x509_certificate(AUTHORITY.sign(request, Subject(Role.WORKER, "node1", CLUSTER), NOW))
    found = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["worker.pycompose", "node1"]
    pem = signed.public_bytes(serialization.Encoding.PEM)
    assert peer_of_certificate(pem) == Peer(Role.WORKER, "node1", CLUSTER)
    signed.verify_directly_issued_by(AUTHORITY.certificate)
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_client_is_no_server() -> None:
    _, request = new_request()
    signed = x509.load_pem_x509_certificate(AUTHORITY.sign(request, Subject(Role.CLIENT, "laptop", CLUSTER), NOW))
    uses = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_certificate_does_not_outlive_its_authority() -> None:
    short = Authority.create(CLUSTER, NOW, timedelta(days=2))
    signed = x509.load_pem_x509_certificate(identity(authority=short, life=timedelta(days=90)).certificate)
    assert signed.not_valid_after_utc == short.certificate.not_valid_after_utc


def weak() -> bytes:
    key = rsa.generate_private_key(65537, 1024)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def forged() -> bytes:
    """A request whose signature is not its own."""
    lines = new_request()[1].splitlines(keepends=True)
    other = new_request()[1].splitlines(keepends=True)
    return b"".join([*lines[:-2], other[-2], lines[-1]])


@pytest.mark.parametrize("request_", [b"", b"rubbish", AUTHORITY.pem, forged(), weak()], ids=range(5))
def test_bad_requests_are_refused(request_: bytes) -> None:
    with pytest.raises(RequestError):
        AUTHORITY.sign(request_, Subject(Role.WORKER, "node1", CLUSTER), NOW)


def test_an_authority_is_stored_and_read_again_and_others_are_refused() -> None:
    again = Authority.load(AUTHORITY.pem, AUTHORITY.key_pem)
    assert again.der == AUTHORITY.der
    other = Authority.create(CLUSTER, NOW)
    leaf = identity(Role.MANAGER)
    for certificate, key, word in (
        (AUTHORITY.pem, other.key_pem, "belong together"),
        (leaf.certificate, leaf.key, "no authority's"),
        (b"x", AUTHORITY.key_pem, "cannot be read"),
        (AUTHORITY.pem, b"x", "cannot be read"),
    ):
        with pytest.raises(RequestError, match=word):
            Authority.load(certificate, key)


def test_tokens_name_their_authority() -> None:
    token = Token(digest(AUTHORITY.der), new_secret())
    assert Token.parse(f" {token}\n") == token
    assert token.is_of(AUTHORITY.der)
    assert not token.is_of(Authority.create(CLUSTER, NOW).der)


@given(st.text() | st.from_regex(r"PYC1-[0-9a-z]{48,51}-[0-9a-z]{24,26}", fullmatch=True))
def test_what_is_no_token_is_told(text: str) -> None:
    told = ""
    try:
        assert str(Token.parse(text)) == text.strip()
    except TokenError as error:
        told = str(error)
    assert not told or "pycompose cluster token" in told


@given(st.floats(0, 1))
def test_renewal_is_between_half_and_four_fifths_of_a_life(chance: float) -> None:
    for life in (timedelta(days=100), timedelta(seconds=100)):
        at = renew_at(identity(life=life).certificate, chance) - NOW
        assert life * 0.5 <= at <= life * 0.8


# -- who may call what -----------------------------------------------------------------------------------------


def every_call() -> list[str]:
    """Every method of every service that the API declares."""
    found = []
    for module in pkgutil.iter_modules(pycompose.proto.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"pycompose.proto.v1.{module.name}").DESCRIPTOR
            found += [
                f"/{service.full_name}/{method.name}"
                for service in file.services_by_name.values()
                for method in service.methods
            ]
    return found


CALLS = every_call()


def test_every_call_is_named_by_the_table() -> None:
    assert len(CALLS) > 80
    unnamed = [call for call in CALLS if not may(Role.LOCAL, call)]
    assert not unnamed, f"say in proto/peer.py who may call: {unnamed}"


@pytest.mark.parametrize("call", CALLS)
def test_workers_and_strangers_get_no_hands_on_the_cluster(call: str) -> None:
    service = call.split("/")[1].rpartition(".")[2]
    assert may(Role.NOBODY, call) == (service == "JoinService")
    for_nodes = service in ("DispatcherService", "CaService", "JoinService")
    assert may(Role.WORKER, call) == (for_nodes or call.endswith(("/FetchManifest", "/FetchBlob")))
    if service in ("DispatcherService", "CaService"):
        assert not may(Role.CLIENT, call)


def test_what_the_table_does_not_name_is_closed() -> None:
    for role in Role:
        assert not may(role, "/pycompose.v1.FutureService/Do")
        assert not may(role, "Do")
    assert "pycompose.v1.ControlService" in ALLOWED


Check = Callable[[], Identity | None]
OTHER = Authority.create(CLUSTER, NOW)
WHO: dict[str, tuple[Check, str]] = {
    "a client": (identity, "OK"),
    "a manager": (lambda: identity(Role.MANAGER), "OK"),
    "a worker": (lambda: identity(Role.WORKER), "PERMISSION_DENIED"),
    "another cluster's": (lambda: identity(cluster="d" * 25), "PERMISSION_DENIED"),
    "no role": (lambda: identity(Role.LOCAL), "PERMISSION_DENIED"),
    "another authority's": (lambda: identity(authority=OTHER, believes=AUTHORITY.pem), "UNAVAILABLE"),
    "expired": (lambda: identity(now=NOW - timedelta(days=9)), "UNAVAILABLE"),
    "not valid yet": (lambda: identity(now=NOW + timedelta(days=9)), "UNAVAILABLE"),
    "no certificate": (lambda: None, "UNAVAILABLE"),
}
SERVICE = "grpc.health.v1.Health"


async def ask(port: int, who: Identity | None, name: str = "manager.pycompose") -> str:
    """Return the status of a call."""
    credentials = tls.channel_credentials(who) if who else grpc.ssl_channel_credentials(AUTHORITY.pem)
    options = [tls.expecting(name), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


async def serve(current: Callable[[], Identity]) -> tuple[grpc.aio.Server, int]:
    server = new_server(Guard("the log"), Authorizer(lambda: CLUSTER))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(current))
    await server.start()
    return server, port


@pytest.fixture
def only_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """The health service stands for a call that workers may not make."""
    table = {**ALLOWED, SERVICE: ALLOWED["pycompose.v1.ControlService"]}
    monkeypatch.setattr("pycompose.proto.peer.ALLOWED", table)


@pytest.mark.usefixtures("only_people")
def test_each_kind_of_credential_at_the_door() -> None:
    async def story() -> dict[str, str]:
        server, port = await serve(lambda: identity(Role.MANAGER))
        try:
            return {who: await ask(port, make()) for who, (make, _) in WHO.items()}
        finally:
            await server.stop(None)

    assert asyncio.run(story()) == {who: expected for who, (_, expected) in WHO.items()}


def test_a_server_is_known_by_its_role() -> None:
    async def story() -> list[str]:
        server, port = await serve(lambda: identity(Role.WORKER))
        try:
            return [await ask(port, identity(), name) for name in ("manager.pycompose", "worker.pycompose", "n" * 25)]
        finally:
            await server.stop(None)

    assert asyncio.run(story()) == ["UNAVAILABLE", "OK", "OK"]


def test_a_renewed_certificate_is_shown_without_a_restart() -> None:
    believed = AUTHORITY.pem + OTHER.pem
    shown = [identity(Role.MANAGER, believes=believed)]

    async def story() -> list[str]:
        server, port = await serve(lambda: shown[0])
        try:
            new = identity(authority=OTHER)
            before = await ask(port, new)  # believes the new authority alone
            shown[0] = identity(Role.MANAGER, authority=OTHER, believes=believed)
            return [before, await ask(port, new), await ask(port, identity(believes=believed))]
        finally:
            await server.stop(None)

    assert asyncio.run(story()) == ["UNAVAILABLE", "OK", "OK"]


def test_an_identity_lies_in_files_of_root_alone(tmp_path: Path) -> None:
    made = identity(Role.WORKER)
    made.store(tmp_path / "node")
    renewed = identity(Role.WORKER)
    renewed.store(tmp_path / "node")
    assert Identity.load(tmp_path / "node") == renewed
    files = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "node").iterdir()}
    assert files == {"cert.pem": "0o600", "key.pem": "0o600", "ca.pem": "0o600"}
