"""This manager's certificate: signed by the cluster's authority, which every manager has, and renewed by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pycompose.manager.ca import Authority, RequestError, Subject
from pycompose.manager.ca.authority import CERTIFICATE_LIFE
from pycompose.manager.ca.trust import Trust
from pycompose.manager.cache import Cache, Changes
from pycompose.manager.cluster.listening import Listening
from pycompose.manager.model import CLUSTER, CLUSTER_ID
from pycompose.proto.peer import Role
from pycompose.proto.renewal import pause, renew_at, validity
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.trust import of_identity
from pycompose.proto.v1 import cluster_pb2

log = logging.getLogger(__name__)
FOLDER = "tls"
#: How often it is looked whether the certificate is due, at least.
LOOK_SECONDS, AGAIN_SECONDS = 60.0, 5.0


def authority_of(cluster: cluster_pb2.Cluster) -> Authority:
    """Return a cluster's authority. Raises RequestError."""
    return Authority.load(cluster.authority.certificate, cluster.authority.key)


def life_of(cluster: cluster_pb2.Cluster) -> timedelta:
    """Return how long new certificates are valid."""
    given = cluster.spec.certificate_life.ToTimedelta()
    return given if given > timedelta() else CERTIFICATE_LIFE


def trust_of(cluster: cluster_pb2.Cluster) -> Trust:
    """Return what a cluster believes and signs with now. Raises RequestError."""
    secrets = {Role.WORKER: cluster.join_secrets.worker, Role.MANAGER: cluster.join_secrets.manager}
    given = {role: secret for role, secret in secrets.items() if secret}
    others = [one for one in (cluster.next_authority.certificate, cluster.retired_authority) if one]
    return Trust(cluster.id, cluster.spec.name, authority_of(cluster), given, others, life_of(cluster))


def issue(cluster: cluster_pb2.Cluster, node_id: str, listening: Listening, now: datetime) -> Identity:
    """Return a new key and certificate of this manager. Raises RequestError."""
    try:
        address = ipaddress.ip_address(listening.advertise)
        addresses: list[str | ipaddress.IPv4Address | ipaddress.IPv6Address] = [address]
    except ValueError:
        addresses = [listening.advertise]
    trust = trust_of(cluster)
    key, request = new_request()
    subject = Subject(Role.MANAGER, node_id, cluster.id, addresses)
    return Identity(trust.authority.sign(request, subject, now, trust.life), key, trust.believed)


class Trusted:
    """What nodes are to show now, in one word (see `proto.trust`); "" without a cluster. Args: cache: has it."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._of: cluster_pb2.Cluster | None = None
        self._word = ""

    def __call__(self) -> str:
        """Return the word."""
        cluster = self._cache.get(CLUSTER, CLUSTER_ID)
        if cluster is not self._of:
            self._of, self._word = cluster, trust_of(cluster).fingerprint if cluster is not None else ""
        return self._word


class Keeper:
    """The certificate on disk, and what renews it.

    Args:
        folder: the manager's.
        cache: has the cluster.
        node_id: gives this node's id.
        clock: the time now.
        chance: draws evenly from 0 to 1.
        renewed: hears that the certificate is new.
    """

    def __init__(
        self,
        folder: Path,
        cache: Cache,
        node_id: Callable[[], str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._cache, self._node_id, self._clock = folder, cache, node_id, clock
        self._chance, self._renewed = chance(), renewed
        self._identity: Identity | None = None
        self._changed = asyncio.Event()
        self._trusted = Trusted(cache)

    @property
    def files(self) -> Path:
        """The folder of the three files."""
        return self._folder / FOLDER

    def current(self) -> Identity:
        """Return the identity now. Raises OSError: there is none."""
        if self._identity is None:
            self._identity = Identity.load(self.files)
        return self._identity

    def forget(self) -> None:
        """Read the files again at the next use."""
        self._identity = None
        self._changed.set()

    def renew(self) -> None:
        """Have a new certificate now; nothing happens on a node without a cluster. Raises OSError, RequestError."""
        cluster = self._cache.get(CLUSTER, CLUSTER_ID)
        listening = Listening.load(self._folder)
        if cluster is None or listening is None:
            return
        made = issue(cluster, self._node_id(), listening, self._clock())
        made.store(self.files)
        self._identity = made
        self._renewed()
        log.info("the manager's certificate is new; it ends at %s", validity(made.certificate)[1].isoformat())

    def due_at(self) -> datetime:
        """Return when the certificate is old enough to be renewed.

        That is now, when it is not there, not to be read, or not by the cluster's present authority.
        """
        try:
            if of_identity(self.current()) != self._trusted():
                return self._clock()
            return renew_at(self.current().certificate, self._chance)
        except (OSError, ValueError):
            return self._clock()

    async def run(self) -> None:
        """Renew the certificate whenever it is due, for ever."""
        stop = self._cache.listen(self._heed)
        try:
            while True:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._look())
        finally:
            stop()

    def _heed(self, changes: Changes) -> None:
        if any(one.kind is CLUSTER for one in changes.items):
            self._changed.set()

    def _look(self) -> float:
        """Renew the certificate if it is due; returns for how many seconds to sleep."""
        if self._cache.get(CLUSTER, CLUSTER_ID) is None:
            return LOOK_SECONDS
        try:
            if self.due_at() <= self._clock():
                self.renew()
        except (OSError, RequestError) as error:
            log.error("the manager's certificate could not be renewed: %s; trying again", error)
            return AGAIN_SECONDS
        return pause(self.due_at(), self._clock(), LOOK_SECONDS)
