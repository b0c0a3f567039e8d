"""The cluster's authority changes, and no connection ends for it.

Two changes of the cluster's object, each of which all nodes have to follow before the next comes:

=========  ==========  ====================  ================================================
phase      signs       is believed           goes on when
=========  ==========  ====================  ================================================
settled    the old     the old
spreading  the old     the old, the next     every node believes both
renewing   the new     the new, the retired  every node has a certificate of the new authority
settled    the new     the new
=========  ==========  ====================  ================================================

So whoever shows a certificate of the new authority shows it to nodes that believe it already, and the old authority
goes when nobody has a certificate of it any more. What a node has is in its description; it renews as soon as its
manager tells it another word (`proto.trust`). A manager renews its own as soon as it sees the object. Certificates of
clients that the old authority signed end with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509

from pycompose.manager.ca import Authority, RequestError
from pycompose.manager.cluster.identity import Trusted
from pycompose.manager.control.api import Api
from pycompose.manager.leadership import Leadership
from pycompose.manager.model import CLUSTER, CLUSTER_ID, NODE, object_key
from pycompose.manager.store import Compare, StoreError
from pycompose.proto.v1 import cluster_pb2, node_pb2

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
WORDS = {
    cluster_pb2.AUTHORITY_PHASE_UNSPECIFIED: "settled",
    cluster_pb2.AUTHORITY_PHASE_SPREADING: "spreading",
    cluster_pb2.AUTHORITY_PHASE_RENEWING: "renewing",
}
#: A person's authority has to live on for at least as long.
LEAST_LIFE = timedelta(days=365)


def phase(cluster: cluster_pb2.Cluster) -> cluster_pb2.AuthorityPhase.ValueType:
    """Return how far a change of the authority is."""
    if cluster.HasField("next_authority"):
        return cluster_pb2.AUTHORITY_PHASE_SPREADING
    if cluster.retired_authority:
        return cluster_pb2.AUTHORITY_PHASE_RENEWING
    return cluster_pb2.AUTHORITY_PHASE_UNSPECIFIED


def begin(cluster: cluster_pb2.Cluster, authority: Authority) -> None:
    """Begin a change to an authority. Changes `cluster`, which is settled."""
    cluster.next_authority.certificate, cluster.next_authority.key = authority.pem, authority.key_pem


def advance(cluster: cluster_pb2.Cluster) -> None:
    """Go on to the next phase. Changes `cluster`."""
    if cluster.HasField("next_authority"):
        cluster.retired_authority = cluster.authority.certificate
        cluster.authority.CopyFrom(cluster.next_authority)
        cluster.ClearField("next_authority")
    else:
        cluster.ClearField("retired_authority")


def waits_for(nodes: Iterable[node_pb2.Node], wanted: str) -> list[str]:
    """Return the host names of nodes that are behind; those that left are none. `wanted`: what all are to show."""
    behind = [node for node in nodes if not node.status.left and node.description.trust != wanted]
    return sorted(node.description.hostname or node.id for node in behind)


def brought(certificate: bytes, key: bytes, now: datetime) -> Authority:
    """Return a person's own authority. Raises RequestError: it cannot be this cluster's, and why."""
    authority = Authority.load(certificate, key)
    ends = authority.certificate.not_valid_after_utc
    if now < authority.certificate.not_valid_before_utc or ends < now + LEAST_LIFE:
        raise RequestError(
            f"the authority's certificate has to be valid from now on for a year; it ends at {ends:%Y-%m-%d}"
        )
    try:
        usage = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return authority
    if not usage.key_cert_sign:
        raise RequestError("the authority's certificate may sign no others (keyUsage lacks keyCertSign, RFC 5280)")
    return authority


class Rotation:
    """Takes a change of the authority on, on the manager that leads.

    Args:
        api: store and cache.
        trusted: what nodes are to show.
        leadership: of this manager.
    """

    def __init__(self, api: Api, trusted: Trusted, leadership: Leadership) -> None:
        self._api, self._trusted, self._leadership = api, trusted, leadership

    def waiting(self) -> list[str]:
        """Return the host names of the nodes that a change waits for."""
        return waits_for(self._api.cache.all(NODE), self._trusted())

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            cluster = self._api.cache.get(CLUSTER, CLUSTER_ID)
            if cluster is None or not phase(cluster) or not self._leadership.leads() or self.waiting():
                continue
            try:
                await self.advance(cluster)
            except StoreError as error:
                log.info("the authority's change cannot go on yet: %s", error)

    async def advance(self, cluster: cluster_pb2.Cluster) -> bool:
        """Go on from a cluster as it is in the cache; False: it is another by now. Raises StoreError."""
        made = cluster_pb2.Cluster()
        made.CopyFrom(cluster)
        advance(made)
        done = await self._put(made, cluster)
        if done:
            log.info("the authority's change goes on: %s", WORDS[phase(made)])
        return done

    async def begin(self, cluster: cluster_pb2.Cluster, authority: Authority | None) -> bool:
        """Begin a change to an authority, None: a new one. Returns and raises as `advance`."""
        made = cluster_pb2.Cluster()
        made.CopyFrom(cluster)
        begin(made, authority or Authority.create(cluster.id, datetime.now(UTC)))
        return await self._put(made, cluster)

    async def _put(self, made: cluster_pb2.Cluster, before: cluster_pb2.Cluster) -> bool:
        self._api.stamp(made, new=False)
        same = Compare(object_key(CLUSTER, CLUSTER_ID), before.meta.version.number)
        put = self._api.codec.put(CLUSTER, CLUSTER_ID, made)
        return await self._api.commit([same], [put]) is None
