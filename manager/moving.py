"""The manager's content from SQLite to an etcd of its own, and back while there is one manager.

Everything is prepared beside what is in use. The point of no return is one rename, of ``backend.json``: a manager that
is killed before it goes on as it was (and a second try clears what the first left), one killed after it goes on
with the new store. Containers do not notice; calls that write wait while the keys are copied.

Numbers of revisions begin anew with another epoch: versions, watches and updates from before are refused as
compacted, and clients read again. `spec_after`, a number of the old epoch, is therefore forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pycompose.manager.backend import DATABASE, Backend
from pycompose.manager.ca import Authority, Subject
from pycompose.manager.ca.trust import address_name
from pycompose.manager.member import DATA, FILE, IDENTITY, Addresses, Settings, check_program
from pycompose.manager.model import OBJECTS, Codec, parse_key
from pycompose.manager.store import KeyValue, Put, Store, StoreError, StoreUnavailableError
from pycompose.manager.store.copying import copy
from pycompose.manager.store.gate import Gate
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.files import sync_folder
from pycompose.proto.peer import Role
from pycompose.proto.tls import Identity, new_request

log = logging.getLogger(__name__)
#: Seconds for etcd to start, and to stop.
START_SECONDS, STOP_SECONDS = 60.0, 30.0
#: Where every manager finds the members' authority: its certificate and key, sealed.
AUTHORITY = "/etcd/authority"
#: Of a member's certificate.
MEMBER_LIFE = timedelta(days=365)
NEW_DATABASE = f"{DATABASE}.moving"
#: What a backup had, complete: the manager begins its next life with it.
RESTORED_DATABASE = f"{DATABASE}.restored"


async def to_etcd(
    folder: Path,
    gate: Gate,
    codec: Codec,
    name: str,
    cluster: str,
    addresses: Addresses,
    more: Sequence[Put] = (),
) -> Backend:
    """Start a member and move everything there.

    Args:
        folder: the manager's, below the state directory.
        gate: before the store in use.
        codec: of what is stored.
        name: of this manager; the node's id.
        cluster: the cluster's id; members of others are refused by it.
        addresses: of the member.
        more: what is stored with it, for the first time.

    Returns:
        The store's place; the manager is to begin anew with it.

    Raises:
        StoreError: it was moved before, or it cannot be; then nothing has changed.
    """
    if Backend.load(folder).store == "etcd":
        raise StoreError("the store is on etcd already")
    await asyncio.to_thread(check_program)
    backend = Backend("etcd", (addresses.client,), name=name)
    await clear(folder, addresses.client)
    try:
        authority = new_identity(folder, name, cluster, addresses)
        members = {name: addresses.peer}
        Settings(name, addresses.client, addresses.peer, members, token=cluster, listen=addresses.listen).save(folder)
        target = await _opened(backend, folder)
        try:
            async with gate.closed() as source:
                began = time.monotonic()
                count = await copy(source, target, lambda item: _renumbered(codec, item))
                key = codec.seal(AUTHORITY, authority.pem + authority.key_pem)
                await target.transact([], [key, *more])
                backend.save(folder)
            log.info("%d keys are on etcd now; writes waited %.3f s", count, time.monotonic() - began)
        finally:
            await target.close()
    except BaseException:
        with contextlib.suppress(StoreError, OSError):
            await clear(folder, addresses.client)
        raise
    return backend


async def to_sqlite(folder: Path, gate: Gate, codec: Codec) -> Backend:
    """Move everything back into a file of this machine; for a manager without others.

    Raises:
        StoreError: it is there already, or it cannot be moved; then nothing has changed.
    """
    if Backend.load(folder).store == "sqlite":
        raise StoreError("the store is on SQLite already")
    new = folder / NEW_DATABASE
    remove_database(new)
    backend = Backend()
    async with gate.closed() as source:
        target = await SqliteStore.open(new)
        try:
            count = await copy(source, target, lambda item: _renumbered(codec, item))
        finally:
            await target.close()
        new.rename(folder / DATABASE)
        sync_folder(folder)
        backend.save(folder)
    log.info("%d keys are in %s now", count, folder / DATABASE)
    return backend


def adopt(folder: Path) -> None:
    """Put a restored content in the place of the store that was in use; what is killed meanwhile is done again."""
    restored = folder / RESTORED_DATABASE
    if not restored.exists():
        return
    Backend().save(folder)
    remove_database(folder / DATABASE)
    restored.rename(folder / DATABASE)
    sync_folder(folder)


async def tidy(folder: Path, backend: Backend) -> None:
    """Remove what the store that is not in use left, at the start of a manager."""
    if backend.store == "etcd":
        remove_database(folder / DATABASE)
        return
    remove_database(folder / NEW_DATABASE)
    if (folder / FILE).exists():
        await clear(folder, Settings.load(folder).client)


async def clear(folder: Path, client: str) -> None:
    """End the member and remove all that it has. Raises StoreError: something else listens at its address."""
    (folder / FILE).unlink(missing_ok=True)
    await stopped(client)
    _remove_data(folder / DATA)


async def stopped(client: str) -> None:
    """Wait until a member whose file is gone has ended. Raises StoreError: something else listens at its address."""
    deadline = time.monotonic() + STOP_SECONDS
    while await _listens(client):
        if time.monotonic() > deadline:
            raise StoreError(f"another program listens at {client}, where etcd is to be; choose another port")
        await asyncio.sleep(0.05)


def _remove_data(data: Path) -> None:
    """Remove a member's data; out of the way first, for a member that is ending still makes files in its folder."""
    for left in data.parent.glob(f"{data.name}.gone-*"):
        shutil.rmtree(left, ignore_errors=True)
    if data.exists():
        gone = data.with_name(f"{data.name}.gone-{secrets.token_hex(4)}")
        data.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def new_identity(folder: Path, name: str, cluster: str, addresses: Addresses) -> Authority:
    """Return a new authority for the members alone; this one's certificate is in its place.

    The certificate is renewed by `members.certificate`.
    """
    now = datetime.now(UTC)
    authority = Authority.create(cluster, now)
    key, request = new_request()
    hosts = {_host(addresses.peer), _host(addresses.client)}
    subject = Subject(Role.MANAGER, name, cluster, [address_name(host) for host in sorted(hosts)])
    certificate = authority.sign(request, subject, now, MEMBER_LIFE)
    Identity(certificate, key, authority.pem).store(folder / IDENTITY)
    return authority


async def members_authority(store: Store, codec: Codec) -> Authority:
    """Return the authority of the members' certificates. Raises StoreError."""
    found = await store.get(AUTHORITY)
    if found is None:
        raise StoreError("the store has no authority for etcd's members")
    certificate, begin, key = codec.opened(found).partition(b"-----BEGIN PRIVATE KEY-----")
    return Authority.load(certificate, begin + key)


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def remove_database(path: Path) -> None:
    """Remove a store's file, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True


async def _opened(backend: Backend, folder: Path) -> Store:
    """Open the member's store as soon as it answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await backend.open(folder)
        except StoreUnavailableError as error:
            if time.monotonic() > deadline:
                text = f"etcd did not start within {START_SECONDS:.0f} s ({error}); see the log of the node"
                raise StoreError(text) from None
        await asyncio.sleep(0.1)


def _renumbered(codec: Codec, item: KeyValue) -> bytes:
    """Return a key's value for a store whose numbers are others."""
    if not item.key.startswith(OBJECTS):
        return item.value
    kind, identity = parse_key(item.key)
    message = codec.decode(kind, "", item)
    meta = getattr(message, "meta", None)
    if meta is None or not meta.spec_after:
        return item.value
    meta.spec_after = 0
    meta.ClearField("version")
    return codec.put(kind, identity, message).value
