"""The certificate by which this manager's etcd and its client talk: renewed while it is good.

etcd reads its files at each new connection, so that nothing there starts anew
(`tests/store/test_member_certificate.py`). This manager's own connection to it keeps the certificate that it was made
with; so the manager's life ends with the renewal, and the next one reads the new files.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pycompose.manager.ca import RequestError
from pycompose.manager.ca.trust import renewed
from pycompose.manager.member import IDENTITY
from pycompose.manager.model import Codec
from pycompose.manager.moving import MEMBER_LIFE, members_authority
from pycompose.manager.store import Store, StoreError, StoreUnavailableError
from pycompose.proto.peer import peer_of_certificate
from pycompose.proto.renewal import renew_at, validity
from pycompose.proto.tls import Identity, new_request

log = logging.getLogger(__name__)
LOOK_SECONDS = 600.0


class MemberKeeper:
    """Keeps it good.

    Args:
        folder: the manager's.
        store, codec: have the members' authority.
        clock: the time now.
        chance: draws evenly from 0 to 1.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        codec: Codec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._files, self._store, self._codec = folder / IDENTITY, store, codec
        self._clock, self._chance = clock, chance()

    async def run(self) -> None:
        """Renew it when it is due. Raises StoreUnavailableError: it is new, and the store is to be opened by it."""
        while True:
            try:
                renews = await self.look()
            except (StoreError, RequestError, OSError, ValueError) as error:
                log.error("the certificate of this manager's etcd could not be renewed: %s; trying again", error)
                renews = False
            if renews:
                raise StoreUnavailableError("the certificate for it is new")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Renew it if it is due; returns whether it was. Raises StoreError, RequestError, OSError, ValueError."""
        present = Identity.load(self._files)
        if self._clock() < renew_at(present.certificate, self._chance):
            return False
        authority = await members_authority(self._store, self._codec)
        key, request = new_request()
        subject = renewed(peer_of_certificate(present.certificate), present.certificate)
        made = authority.sign(request, subject, self._clock(), MEMBER_LIFE)
        Identity(made, key, authority.pem).store(self._files)
        log.info("the certificate of this manager's etcd is new; it ends at %s", validity(made)[1].isoformat())
        return True
