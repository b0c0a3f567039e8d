"""A machine joins a cluster: the whole way over TLS on loopback, and each reason why it may not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from pycompose.manager.ca.authority import Authority, Subject
from pycompose.manager.ca.joining import CaCalls, JoinCalls, Roll
from pycompose.manager.ca.trust import Trust
from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import Delete
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto import tls
from pycompose.proto.files import replace as replace_file
from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer, Peer, Role, peer_of_certificate
from pycompose.proto.refusal import Refusal
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.tokens import Token, digest, new_secret
from pycompose.proto.v1 import ca_pb2, ca_pb2_grpc, node_pb2
from pycompose.worker.agent import joining
from pycompose.worker.agent.joining import Invitation, join
from pycompose.worker.agent.membership import Managers, Membership, folder
from pycompose.worker.agent.renewing import LOOK_SECONDS, Renewing

NOW = datetime.now(UTC).replace(microsecond=0)
CLUSTER, NODE_ID = "c" * 25, "n" * 25
MANAGERS = ["10.0.0.2:7420", "10.0.0.1:7420"]
CODEC = Codec(Sealer(bytes(32)))
AUTHORITY = Authority.create(CLUSTER, NOW)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Manager:
    """A manager's two doors, on a store of its own."""

    folder: Path
    trust: Trust = field(
        default_factory=lambda: Trust(
            CLUSTER, "shop", AUTHORITY, {Role.WORKER: new_secret(), Role.MANAGER: new_secret()}
        )
    )
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    certificate_made: datetime = NOW
    unbound: str = ""

    def identity(self) -> Identity:
        key, request = new_request()
        subject = Subject(Role.MANAGER, "m" * 25, CLUSTER)
        own = self.trust.authority.sign(request, subject, self.certificate_made, timedelta(days=1))
        return Identity(own + self.trust.authority.pem, key, self.trust.believed)

    def token(self, role: Role = Role.WORKER) -> Token:
        return Token(digest(self.trust.authority.der), self.trust.secrets[role])

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Manager]:
        self.store = await SqliteStore.open(self.folder / "store.db")
        self.cache = Cache(self.store, CODEC)
        await self.cache.load()
        follow = asyncio.create_task(self.cache.follow())
        roll = Roll(self.store, self.cache, CODEC, lambda: self.unbound)
        shown = self.identity()
        self.join_server = new_server(Guard("the log"), Authorizer(lambda: CLUSTER))
        ca_pb2_grpc.add_JoinServiceServicer_to_server(
            JoinCalls(lambda: self.trust, roll, lambda: MANAGERS, lambda: self.clock()),
            self.join_server,
        )
        self.join_port = self.join_server.add_secure_port(
            "127.0.0.1:0", tls.server_credentials(lambda: shown, mutual=False)
        )
        self.server = new_server(Guard("the log"), Authorizer(lambda: CLUSTER))
        ca_pb2_grpc.add_CaServiceServicer_to_server(
            CaCalls(lambda: self.trust, roll, lambda: self.clock()), self.server
        )
        self.port = self.server.add_secure_port("127.0.0.1:0", tls.server_credentials(lambda: shown))
        await self.join_server.start()
        await self.server.start()
        try:
            yield self
        finally:
            await self.join_server.stop(None)
            await self.server.stop(None)
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)
            await self.store.close()

    async def add(self, node_id: str, hostname: str) -> None:
        node = node_pb2.Node(id=node_id, description=node_pb2.NodeDescription(hostname=hostname))
        node.status.state = node_pb2.NODE_STATE_READY
        await self.store.transact([], [CODEC.put(NODE, node_id, node)])

    async def joined(self, state: Path, **changed: Any) -> Membership:
        """Join as worker from a machine whose state is there."""
        arguments: dict[str, Any] = {
            "invitation": Invitation(self.token(), "127.0.0.1", self.join_port),
            "node_id": NODE_ID,
            "description": node_pb2.NodeDescription(hostname="box"),
            "advertise": "127.0.0.1",
            "port": free_port(),
            "listen": "127.0.0.1",
        }
        return await join(state, **(arguments | changed))


def told(story: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(story(), 60))  # type: ignore[arg-type]


def test_a_machine_joins(tmp_path: Path) -> None:
    async def story() -> tuple[Membership, node_pb2.Node]:
        async with Manager(tmp_path).serving() as manager:
            made = await manager.joined(tmp_path / "state", advertise="", port=(port := free_port()))
            node = manager.cache.get(NODE, NODE_ID)
            assert node is not None
            assert node.description.access_address == f"127.0.0.1:{port}"
            return made, node

    made, node = told(story)
    assert Membership.load(tmp_path / "state") == made
    assert (made.cluster_id, made.cluster_name, made.role, made.advertise) == (CLUSTER, "shop", "worker", "127.0.0.1")
    assert sorted(Managers(tmp_path / "state", tmp_path).targets()) == ["10.0.0.1:7420", "10.0.0.2:7420"]
    assert f":{made.worker_port}" in node.description.access_address
    assert node.description.hostname == "box"
    assert node.status.state == node_pb2.NODE_STATE_UNSPECIFIED
    identity = Identity.load(tmp_path / "state" / "node")
    assert peer_of_certificate(identity.certificate) == Peer(Role.WORKER, NODE_ID, CLUSTER)
    assert identity.authorities == AUTHORITY.pem


def test_the_first_managers_own_node_is_a_manager_with_a_workers_certificate(tmp_path: Path) -> None:
    async def story() -> Membership:
        async with Manager(tmp_path, unbound=NODE_ID).serving() as manager:
            invitation = Invitation(manager.token(Role.MANAGER), "127.0.0.1", manager.join_port)
            return await manager.joined(tmp_path / "state", invitation=invitation)

    assert told(story).role == "manager"
    certificate = Identity.load(tmp_path / "state" / "node").certificate
    assert peer_of_certificate(certificate).role is Role.WORKER


Prepare = Callable[[Manager, Path], Awaitable[dict[str, Any]]]


async def _wrong_secret(manager: Manager, _: Path) -> dict[str, Any]:
    token = Token(digest(AUTHORITY.der), new_secret())
    return {"invitation": Invitation(token, "127.0.0.1", manager.join_port)}


async def _other_cluster(manager: Manager, _: Path) -> dict[str, Any]:
    token = Token(digest(Authority.create("d" * 25, NOW).der), new_secret())
    return {"invitation": Invitation(token, "127.0.0.1", manager.join_port)}


async def _nobody(manager: Manager, _: Path) -> dict[str, Any]:
    return {"invitation": Invitation(manager.token(), "127.0.0.1", free_port())}


async def _no_clock(manager: Manager, _: Path) -> dict[str, Any]:
    manager.clock = lambda: datetime.now(UTC) + timedelta(hours=3)
    return {}


async def _early(_: Manager, __: Path) -> dict[str, Any]:
    return {"now": lambda: NOW - timedelta(days=3)}


async def _late(_: Manager, __: Path) -> dict[str, Any]:
    return {"now": lambda: NOW + timedelta(days=3)}


async def _cloned(manager: Manager, _: Path) -> dict[str, Any]:
    await manager.add(NODE_ID, "elsewhere")
    return {}


async def _name_taken(manager: Manager, _: Path) -> dict[str, Any]:
    await manager.add("o" * 25, "box")
    return {}


async def _twice(manager: Manager, state: Path) -> dict[str, Any]:
    await manager.joined(state)
    return {}


async def _unreachable(_: Manager, __: Path) -> dict[str, Any]:
    return {"advertise": "127.0.0.9"}


async def _manager(manager: Manager, _: Path) -> dict[str, Any]:
    return {"invitation": Invitation(manager.token(Role.MANAGER), "127.0.0.1", manager.join_port)}


REASONS: dict[str, tuple[Prepare, str]] = {
    "wrong token": (_wrong_secret, "the join token is not valid any more in cluster shop"),
    "wrong cluster": (_other_cluster, "is of another cluster than the token"),
    "nobody there": (_nobody, "there is no manager at 127.0.0.1:"),
    "a clock that is behind": (_no_clock, "s behind the manager's; set the clock"),
    "a clock before the certificate": (_early, "is valid only from"),
    "an expired certificate": (_late, "is expired since"),
    "a copy of another machine": (_cloned, "has a node with this machine's id"),
    "a name in use": (_name_taken, "has a node named box already (ooooo"),
    "joining twice": (_twice, "is a node of cluster shop already; leave it first"),
    "a further manager": (_manager, "it takes no further one"),
    "an address that nobody reaches": (_unreachable, "the manager cannot reach this machine at 127.0.0.9:"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_own_words_and_leaves_nothing(tmp_path: Path, reason: str) -> None:
    prepare, words = REASONS[reason]

    async def story() -> tuple[str, int, int]:
        async with Manager(tmp_path).serving() as manager:
            changed = await prepare(manager, tmp_path / "state")
            await manager.cache.synchronize()
            before = len(list(manager.cache.all(NODE)))
            with pytest.raises(Refusal) as refused:
                await manager.joined(tmp_path / "state", **changed)
            await manager.cache.synchronize()
            return refused.value.message, before, len(list(manager.cache.all(NODE)))

    message, before, after = told(story)
    assert words in message
    assert before == after
    assert Membership.load(tmp_path / "state").cluster_id == (CLUSTER if reason == "joining twice" else "")


@pytest.mark.parametrize(("protocol", "side"), [(0, "upgrade this machine"), (99, "upgrade the managers")])
def test_versions_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, side: str) -> None:
    monkeypatch.setattr(joining, "PROTOCOL", protocol)

    async def story() -> str:
        async with Manager(tmp_path).serving() as manager:
            with pytest.raises(Refusal) as refused:
                await manager.joined(tmp_path / "state")
            return refused.value.message

    assert side in told(story)


def test_another_program_on_the_port_is_not_the_machine(tmp_path: Path) -> None:
    """The manager compares the key that it finds: an address of somebody else's cannot be claimed."""

    async def story() -> str:
        async with Manager(tmp_path).serving() as manager:
            request = ca_pb2.JoinRequest(
                token=str(manager.token()),
                certificate_request=new_request()[1],
                node_id=NODE_ID,
                description=node_pb2.NodeDescription(access_address=f"127.0.0.1:{manager.join_port}"),
                protocol=joining.PROTOCOL,
            )
            request.now.GetCurrentTime()
            invitation = Invitation(manager.token(), "127.0.0.1", manager.join_port)
            with pytest.raises(Refusal) as refused:
                await joining._ask(invitation, AUTHORITY.pem, request)
            return refused.value.message

    assert "another program or machine answers there" in told(story)


def test_an_answer_that_was_lost_does_not_shut_the_machine_out(tmp_path: Path) -> None:
    async def story() -> Membership:
        async with Manager(tmp_path).serving() as manager:
            port = free_port()
            await manager.joined(tmp_path / "first", port=port)
            return await manager.joined(tmp_path / "again", port=port)

    assert told(story).node_id == NODE_ID


def test_the_node_that_becomes_the_first_manager_joins_itself(tmp_path: Path) -> None:
    async def story() -> Membership:
        async with Manager(tmp_path, unbound=NODE_ID).serving() as manager:
            await manager.add(NODE_ID, "box")
            return await manager.joined(tmp_path / "state")

    assert told(story).node_id == NODE_ID


async def renew(manager: Manager, identity: Identity) -> tuple[bytes, ca_pb2.RenewResponse]:
    key, request = new_request()
    options = [tls.expecting("manager.pycompose"), ("grpc.enable_http_proxy", 0)]
    target = f"127.0.0.1:{manager.port}"
    async with grpc.aio.secure_channel(target, tls.channel_credentials(identity), options=options) as channel:
        message = ca_pb2.RenewRequest(certificate_request=request)
        return key, await ca_pb2_grpc.CaServiceStub(channel).Renew(message, timeout=30)


def test_a_certificate_is_renewed_as_what_it_was_also_by_a_new_authority(tmp_path: Path) -> None:
    new = Authority.create(CLUSTER, NOW)

    async def story() -> tuple[Identity, Identity, str]:
        async with Manager(tmp_path).serving() as manager:
            await manager.joined(tmp_path / "state")
            first = Identity.load(tmp_path / "state" / "node")
            manager.trust = replace(manager.trust, authority=new, others=[AUTHORITY.pem])
            key, answer = await renew(manager, first)
            await manager.store.transact([], [Delete(object_key(NODE, NODE_ID))])
            try:
                await renew(manager, first)
            except grpc.aio.AioRpcError as error:
                return first, Identity(answer.certificate, key, answer.authorities), str(error.details())
            return first, first, ""

    first, second, refused = told(story)
    assert peer_of_certificate(second.certificate) == peer_of_certificate(first.certificate)
    assert second.authorities == new.pem + AUTHORITY.pem
    assert f"node {NODE_ID} was removed from the cluster" in refused


class Clock:
    """Is ahead of the true time by what a test says."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def test_a_node_lives_over_many_renewals_each_with_a_new_key(tmp_path: Path) -> None:
    """Its clock is put forward to each renewal, beside a manager with the true time and certificates of ten days."""
    place, clock = tmp_path / "state", Clock()

    async def story() -> list[tuple[Identity, float]]:
        async with Manager(tmp_path).serving() as manager:
            manager.trust = replace(manager.trust, life=timedelta(days=10))
            await manager.joined(place)
            managers = Managers(place, tmp_path)
            managers.heard([f"127.0.0.1:{manager.port}"])
            renewing, found = Renewing(place, managers, clock, lambda: 0.5), []
            for _ in range(20):
                clock.ahead = timedelta()
                early = await renewing.look()
                clock.ahead = timedelta(days=6, hours=13)
                assert await renewing.look() == 0, renewing.problem
                found.append((Identity.load(folder(place)), early))
            assert renewing.problem == ""
            return found

    found = told(story)
    assert len({identity.key for identity, _ in found}) == 20
    assert len({identity.certificate for identity, _ in found}) == 20
    assert {peer_of_certificate(one.certificate) for one, _ in found} == {Peer(Role.WORKER, NODE_ID, CLUSTER)}
    assert all(early == LOOK_SECONDS for _, early in found), "what is not due is left alone"


def test_why_a_certificate_is_not_renewed_is_told(tmp_path: Path) -> None:
    place, clock = tmp_path / "state", Clock()

    async def story() -> list[str]:
        async with Manager(tmp_path).serving() as manager:
            await manager.joined(place)
            managers, said = Managers(place, tmp_path), []
            renewing = Renewing(place, managers, clock, lambda: 0.0)
            managers.heard([f"127.0.0.1:{free_port()}"])
            for days in (46, 91):
                clock.ahead = timedelta(days=days)
                await renewing.look()
                said.append(renewing.problem)
            managers.heard([f"127.0.0.1:{manager.port}"])
            await manager.store.transact([], [Delete(object_key(NODE, NODE_ID))])
            clock.ahead = timedelta(days=46)
            await renewing.look()
            said.append(renewing.problem)
            (folder(place) / "key.pem").unlink()
            await renewing.look()
            return [*said, renewing.problem]

    not_yet, ended, removed, unreadable = told(story)
    assert "and is not renewed yet: 127.0.0.1:" in not_yet
    assert "ended at" in ended
    assert "pycompose node leave --force here" in ended
    assert f"node {NODE_ID} was removed from the cluster" in removed
    assert "cannot be read or written" in unreadable


def test_an_identity_whose_writing_was_cut_short_is_the_new_one_or_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Identity(b"c1", b"k1", b"a1"), Identity(b"c2", b"k2", b"a2")
    for steps in range(5):
        place = tmp_path / str(steps)
        old.store(place)
        left = [steps]

        def some(path: Path, data: bytes, mode: int = 0o600, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError("the power is off")
            replace_file(path, data, mode)

        with monkeypatch.context() as patch:
            patch.setattr(tls, "replace", some)
            with contextlib.suppress(OSError):
                new.store(place)
        assert Identity.load(place) == (old if steps == 0 else new)
        new.store(place)
        assert Identity.load(place) == new
        assert sorted(path.name for path in place.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


def test_a_node_that_left_may_join_again_under_its_name(tmp_path: Path) -> None:
    async def story() -> bool:
        async with Manager(tmp_path).serving() as manager:
            await manager.add(NODE_ID, "box")
            node = node_pb2.Node()
            await manager.cache.synchronize()
            node.CopyFrom(manager.cache.get(NODE, NODE_ID))
            node.status.left = True
            await manager.store.transact([], [CODEC.put(NODE, NODE_ID, node)])
            await manager.joined(tmp_path / "state")
            await manager.cache.synchronize()
            return bool(manager.cache.get(NODE, NODE_ID).status.left)

    assert told(story) is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with PYC1-"),
        ("PYC1-short-x@host:1", "is not whole"),
        (f"PYC1-{'a' * 50}-{'b' * 25}", "give TOKEN@HOST:PORT"),
        (f"PYC1-{'a' * 50}-{'b' * 25}@host:0", "give TOKEN@HOST:PORT"),
        (f"PYC1-{'a' * 50}-{'b' * 25}@:7421", "give TOKEN@HOST:PORT"),
    ],
)
def test_invitations_that_are_none(text: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Invitation.parse(text)


def test_an_invitation_may_leave_the_port_out_and_name_an_ipv6_address() -> None:
    token = f"PYC1-{'a' * 50}-{'b' * 25}"
    found = [Invitation.parse(f"{token}@{where}").where for where in ("m1", "m1:99", "[fd00::1]", "[fd00::1]:99")]
    assert found == ["m1:7421", "m1:99", "[fd00::1]:7421", "[fd00::1]:99"]
