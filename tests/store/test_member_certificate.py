"""A running etcd shows its renewed certificate to the next connection; the manager goes on by it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from store.test_moving import CLUSTER, addresses, create, living, renewed, secrets

from pycompose.manager.backend import Backend
from pycompose.manager.ca.trust import renewed as again
from pycompose.manager.member import IDENTITY, Settings
from pycompose.manager.members.certificate import MemberKeeper
from pycompose.manager.moving import MEMBER_LIFE, members_authority
from pycompose.proto.peer import peer_of_certificate
from pycompose.proto.renewal import validity
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE, KEY, Identity, new_request


def shown(folder: Path, client: str) -> bytes:
    """The certificate that etcd shows to a new connection."""
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / AUTHORITIES)
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    host, _, port = client.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain) as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def test_a_certificate_is_renewed_under_a_running_etcd(tmp_path: Path) -> None:
    async with living(tmp_path) as (process, control):
        before = await create(control, "before")
        await process.use_etcd("a" * 25, CLUSTER, addresses())
        await renewed(control, before.meta.version.epoch)
        files, client = process.folder / IDENTITY, Settings.load(process.folder).client
        first = Identity.load(files)
        assert validity(first.certificate)[1] < datetime.now(UTC) + MEMBER_LIFE + timedelta(hours=1)
        assert await asyncio.to_thread(shown, files, client) == first.certificate
        store = await Backend.load(process.folder).open(process.folder)
        try:
            authority = await members_authority(store, process._codec)
            key, request = new_request()
            now, subject = datetime.now(UTC), again(peer_of_certificate(first.certificate), first.certificate)
            short = Identity(authority.sign(request, subject, now, timedelta(minutes=30)), key, authority.pem)
            short.store(files)
            assert await asyncio.to_thread(shown, files, client) == short.certificate
            later = [now + timedelta(minutes=14)]
            keeper = MemberKeeper(process.folder, store, process._codec, lambda: later[0], lambda: 0.0)
            assert not await keeper.look()
            assert Identity.load(files) == short
            later[0] = now + timedelta(minutes=16)
            assert await keeper.look()
        finally:
            await store.close()
        second = Identity.load(files)
        assert second.certificate not in (first.certificate, short.certificate)
        assert await asyncio.to_thread(shown, files, client) == second.certificate
        assert peer_of_certificate(second.certificate) == peer_of_certificate(first.certificate)
        assert validity(second.certificate)[1] > now + MEMBER_LIFE
        assert set(await secrets(control)) == {"before"}
