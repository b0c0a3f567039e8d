"""A manager's certificate renews itself, by a clock that is passed in; where a manager may listen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pycompose.manager.ca import Authority
from pycompose.manager.cluster.identity import Keeper, issue
from pycompose.manager.cluster.listening import FILE, Listening, wrong
from pycompose.manager.model import CLUSTER, CLUSTER_ID, Codec, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import KeyValue
from pycompose.proto.files import replace
from pycompose.proto.peer import Peer, Role, peer_of_certificate
from pycompose.proto.renewal import validity
from pycompose.proto.v1 import cluster_pb2

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODE = "n" * 25


def cluster(days: int = 0) -> cluster_pb2.Cluster:
    authority = Authority.create("c" * 25, NOW)
    made = cluster_pb2.Cluster(id="c" * 25)
    made.authority.certificate, made.authority.key = authority.pem, authority.key_pem
    if days:
        made.spec.certificate_life.FromTimedelta(timedelta(days=days))
    return made


class Cache:
    """Has one cluster, or none."""

    def __init__(self, found: cluster_pb2.Cluster | None) -> None:
        self.found = found

    def get(self, kind: Any, identity: str) -> Any:
        return self.found if (kind, identity) == (CLUSTER, CLUSTER_ID) else None

    def listen(self, _: Any) -> Callable[[], None]:
        return lambda: None


class Clock:
    """Stands still until it is set."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


def keeper(folder: Path, found: cluster_pb2.Cluster | None, clock: Clock) -> Keeper:
    return Keeper(folder, Cache(found), lambda: NODE, clock, lambda: 0.0)  # type: ignore[arg-type]


def test_a_certificate_is_renewed_in_the_second_half_of_its_life(tmp_path: Path) -> None:
    clock = Clock()
    replace(tmp_path / FILE, Listening("10.0.0.1").encoded())
    kept = keeper(tmp_path, cluster(days=10), clock)
    assert kept.due_at() <= clock.now  # there is none yet
    kept.renew()
    first = kept.current()
    assert validity(first.certificate)[1] == NOW + timedelta(days=10)
    assert peer_of_certificate(first.certificate) == Peer(Role.MANAGER, NODE, "c" * 25)
    clock.now = NOW + timedelta(days=4)
    assert kept.due_at() > clock.now
    clock.now = NOW + timedelta(days=5)
    assert kept.due_at() <= clock.now
    kept.renew()
    assert kept.current() != first
    assert kept.due_at() > clock.now
    assert keeper(tmp_path, None, clock).current() == kept.current()  # as the next manager finds it


def test_a_damaged_certificate_is_replaced(tmp_path: Path) -> None:
    clock = Clock()
    replace(tmp_path / FILE, Listening("manager.example").encoded())
    kept = keeper(tmp_path, cluster(), clock)
    kept.renew()
    (kept.files / "cert.pem").write_bytes(b"torn")
    again = keeper(tmp_path, cluster(), clock)
    assert again.due_at() <= clock.now


def test_a_single_node_needs_none(tmp_path: Path) -> None:
    kept = keeper(tmp_path, None, Clock())
    kept.renew()
    assert not kept.files.exists()

    async def story() -> None:
        running = asyncio.create_task(kept.run())
        await asyncio.sleep(0)
        assert not running.done()
        running.cancel()

    asyncio.run(story())


def test_the_cluster_lies_encrypted_in_the_store() -> None:
    codec = Codec(Sealer(bytes(32)))
    made = cluster()
    stored = codec.put(CLUSTER, CLUSTER_ID, made)
    assert b"PRIVATE" not in stored.value
    key = object_key(CLUSTER, CLUSTER_ID)
    found = codec.decode(CLUSTER, "epoch", KeyValue(key, stored.value, 1, 7))
    assert found.authority == made.authority
    assert found.meta.version.number == 7


@pytest.mark.parametrize(
    ("listening", "fields"),
    [
        (Listening("10.0.0.1"), []),
        (Listening("manager-1.example.org", "127.0.0.1", 1), []),
        (Listening("fd00::1", "::", 65535), []),
        (Listening("0.0.0.0"), ["advertise_address"]),
        (Listening("::"), ["advertise_address"]),
        (Listening("224.0.0.1"), ["advertise_address"]),
        (Listening("10.0.0.1:7420"), ["advertise_address"]),
        (Listening("-x"), ["advertise_address"]),
        (Listening(""), ["advertise_address"]),
        (Listening("a" * 300), ["advertise_address"]),
        (Listening("10.0.0.1", "everywhere", 0), ["listen_address", "port"]),
    ],
)
def test_addresses(listening: Listening, fields: list[str]) -> None:
    assert [field for field, _ in wrong(listening)] == fields


def test_addresses_of_version_6_are_written_with_brackets() -> None:
    assert Listening("fd00::1").reached == "[fd00::1]:7420"
    assert issue(cluster(), NODE, Listening("fd00::1"), NOW).certificate
