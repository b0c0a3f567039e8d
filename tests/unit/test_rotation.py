"""The authority changes in two steps, each of which every node follows before the next."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pycompose.manager.ca import Authority, RequestError, Subject
from pycompose.manager.cache import Change, Changes
from pycompose.manager.cluster.identity import trust_of
from pycompose.manager.cluster.rotation import advance, begin, brought, phase, waits_for
from pycompose.manager.dispatcher.assignments import touched
from pycompose.manager.model import CLUSTER, CLUSTER_ID
from pycompose.proto.peer import Role
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.trust import of_identity
from pycompose.proto.v1 import cluster_pb2, node_pb2

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN, NODE = "c" * 25, "n" * 25


def cluster() -> cluster_pb2.Cluster:
    authority = Authority.create(OWN, NOW)
    made = cluster_pb2.Cluster(id=OWN)
    made.authority.certificate, made.authority.key = authority.pem, authority.key_pem
    return made


def renewed(of: cluster_pb2.Cluster) -> Identity:
    """What a node has that was renewed now."""
    trust = trust_of(of)
    key, request = new_request()
    return Identity(trust.sign(request, Subject(Role.WORKER, NODE, OWN), NOW), key, trust.believed)


def believes(one: Identity, other: Identity) -> bool:
    """Whether the authority that signed the other's certificate is among those that the one believes."""
    shown = x509.load_pem_x509_certificate(other.certificate)
    for authority in x509.load_pem_x509_certificates(one.authorities):
        with suppress(InvalidSignature, ValueError):
            shown.verify_directly_issued_by(authority)
            return True
    return False


def test_nodes_of_one_step_and_the_next_believe_one_another() -> None:
    made = cluster()
    old = Authority.load(made.authority.certificate, made.authority.key)
    new = Authority.create(OWN, NOW)
    stages = [renewed(made)]
    assert phase(made) == cluster_pb2.AUTHORITY_PHASE_UNSPECIFIED
    begin(made, new)
    assert phase(made) == cluster_pb2.AUTHORITY_PHASE_SPREADING
    stages.append(renewed(made))
    advance(made)
    assert phase(made) == cluster_pb2.AUTHORITY_PHASE_RENEWING
    stages.append(renewed(made))
    advance(made)
    assert phase(made) == cluster_pb2.AUTHORITY_PHASE_UNSPECIFIED
    stages.append(renewed(made))
    for one, other in pairwise(stages):
        assert believes(one, other)
        assert believes(other, one)
    assert not believes(stages[3], stages[0])
    assert made.authority.certificate == new.pem
    assert not made.HasField("next_authority")
    assert old.pem not in trust_of(made).believed
    # A manager sees of each which step it is at.
    assert len({of_identity(one) for one in stages}) == 4
    assert of_identity(stages[3]) == trust_of(made).fingerprint


def test_every_session_hears_of_the_change() -> None:
    change = Change(CLUSTER, CLUSTER_ID, cluster(), cluster())
    assert touched(None, Changes(1, (change,))) is None  # type: ignore[arg-type]


def test_what_is_waited_for() -> None:
    nodes = []
    for name, word in (("behind", "old"), ("done", "new"), ("away", "")):
        node = node_pb2.Node(id=name * 5)
        node.description.hostname, node.description.trust = name, word
        nodes.append(node)
    gone = node_pb2.Node(id="gone")
    gone.status.left = True
    assert waits_for([*nodes, gone], "new") == ["away", "behind"]


def test_what_a_person_may_bring() -> None:
    good = Authority.create(OWN, NOW, timedelta(days=400))
    assert brought(good.pem, good.key_pem, NOW).pem == good.pem
    short = Authority.create(OWN, NOW, timedelta(days=300))
    with pytest.raises(RequestError, match="for a year; it ends at 2026-10-28"):
        brought(short.pem, short.key_pem, NOW)
    with pytest.raises(RequestError, match="do not belong together"):
        brought(good.pem, short.key_pem, NOW)
    key, request = new_request()
    leaf = good.sign(request, Subject(Role.WORKER, NODE, OWN), NOW, timedelta(days=399))
    with pytest.raises(RequestError, match="no authority's"):
        brought(leaf, key, NOW)
    with pytest.raises(RequestError, match="cannot be read"):
        brought(b"", b"", NOW)
