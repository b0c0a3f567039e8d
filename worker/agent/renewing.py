"""The node's certificate is renewed by one of its managers, with a new key, while the old one is still good.

Connections that are there stay as they are; each later one is made with the new certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc

from pycompose.proto.refusal import says_removed
from pycompose.proto.renewal import pause, renew_at, validity
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.trust import of_identity
from pycompose.proto.v1 import ca_pb2, ca_pb2_grpc
from pycompose.worker.agent.membership import Managers, folder

log = logging.getLogger(__name__)
#: How often it is looked whether the certificate is due, at least; how soon after a failure.
LOOK_SECONDS, AGAIN_SECONDS, ANSWER_SECONDS, BEHIND_SECONDS = 60.0, 5.0, 10.0, 0.5


def ended(identity: Identity, now: datetime) -> str:
    """Return what to do about a certificate that is good no more; "" while it is."""
    ends = validity(identity.certificate)[1]
    if now < ends:
        return ""
    return (
        f"this node's certificate ended at {ends:%Y-%m-%d %H:%M:%S} UTC, and no manager renewed it before; look at the "
        "clock, and if it is right let the node in anew: pycompose node leave --force here, pycompose node rm --force "
        "NODE and pycompose cluster token worker on a manager, and pycompose node join here"
    )


class Renewing:
    """Keeps one node's certificate good.

    Args:
        state: the node's state directory.
        managers: where its managers are.
        clock: the time now, UTC.
        chance: draws evenly from 0 to 1, once a certificate.
        renewed: hears that the certificate is new.
    """

    def __init__(
        self,
        state: Path,
        managers: Managers,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._managers, self._clock, self._chance = folder(state), managers, clock, chance
        self._share, self._renewed = chance(), renewed
        #: What the certificate is to be like, as a manager said last (see `proto.trust`); "": none did.
        self._wanted = ""
        self._told = asyncio.Event()
        #: What is wrong, and what to do about it; "": nothing.
        self.problem = ""

    async def run(self) -> None:
        """Renew the certificate whenever it is due, for ever."""
        while True:
            self._told.clear()
            pause_seconds = await self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), pause_seconds)

    def told(self, wanted: str) -> None:
        """Take note of what the certificate is to be like."""
        self._wanted = wanted
        self._told.set()

    def word(self) -> str:
        """Return what the certificate is like; "" when there is none."""
        try:
            return of_identity(Identity.load(self._folder))
        except (OSError, ValueError):
            return ""

    async def look(self) -> float:
        """Renew the certificate if it is due; returns for how many seconds to sleep."""
        try:
            identity = Identity.load(self._folder)
            now, due = self._clock(), renew_at(identity.certificate, self._share)
            if now < due and self._wanted in ("", of_identity(identity)):
                self.problem = ""
                return pause(due, now, LOOK_SECONDS)
            self.problem = ended(identity, now) or await self._renew(identity)
        except (OSError, ValueError) as error:
            self.problem = f"this node's certificate in {self._folder} cannot be read or written: {error}"
        if self.problem:
            log.error("%s", self.problem)
            return AGAIN_SECONDS
        # A manager that has not heard yet of what another one told gives a certificate like the one before.
        return 0 if self._wanted in ("", self.word()) else BEHIND_SECONDS

    async def _renew(self, before: Identity) -> str:
        """Return why no manager renews the certificate, "" when one has."""
        key, request = new_request()
        problem = "no manager is known"
        for target in self._managers.addresses():
            try:
                async with self._managers.connect(target) as channel:
                    stub = ca_pb2_grpc.CaServiceStub(channel)
                    answer = await stub.Renew(ca_pb2.RenewRequest(certificate_request=request), timeout=ANSWER_SECONDS)
            except grpc.aio.AioRpcError as error:
                if says_removed(error):
                    return error.details() or ""
                problem = f"{target}: {error.details()}"
                continue
            Identity(answer.certificate, key, answer.authorities).store(self._folder)
            self._share = self._chance()
            self._renewed()
            log.info("the node's certificate is new; it ends at %s", validity(answer.certificate)[1].isoformat())
            return ""
        ends = validity(before.certificate)[1]
        return f"this node's certificate ends at {ends:%Y-%m-%d %H:%M:%S} UTC and is not renewed yet: {problem}"
