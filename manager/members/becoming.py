"""This node becomes a manager: its node.json says that it is to be one, and there is no store of a cluster here yet.

One of the managers is asked, by the certificate of this node's worker. What it gives is written down, the store's
place last: a process that is killed before asks again, and its first member is forgotten there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pycompose.manager.backend import FILE, Backend
from pycompose.manager.cluster.identity import FOLDER
from pycompose.manager.cluster.listening import FILE as LISTENING
from pycompose.manager.cluster.listening import Listening
from pycompose.manager.member import IDENTITY, Settings, check_program
from pycompose.manager.moving import clear
from pycompose.manager.store import StoreError, StoreUnavailableError
from pycompose.proto import PROTOCOL, ports
from pycompose.proto.files import replace
from pycompose.proto.tls import Identity, channel_credentials, expecting, name_of, new_request
from pycompose.proto.v1 import ca_pb2, ca_pb2_grpc

log = logging.getLogger(__name__)
ANSWER_SECONDS = 20.0


def is_to_be(place: Mapping[str, Any], folder: Path) -> bool:
    """Whether this node is to be a manager of a cluster, and its manager has nothing of it yet.

    Args:
        place: node.json; {} for a single node.
        folder: the manager's.
    """
    return place.get("role") == "manager" and not (folder / FILE).exists()


def listening_of(place: Mapping[str, Any]) -> Listening:
    """Return where a node's manager is to listen."""
    given = place.get("ports", {})
    return Listening(
        place["advertise"],
        place.get("listen") or Listening("").address,
        given.get("api", ports.API),
        given.get("join", ports.JOIN),
        given.get("worker", ports.WORKER),
        given.get("etcd_peer", ports.ETCD_PEER),
        given.get("etcd_client", ports.ETCD_CLIENT),
    )


class Becoming:
    """Args: state: the node's state directory; place: gives its node.json."""

    def __init__(self, state: Path, place: Mapping[str, Any]) -> None:
        self._state, self._folder, self._place = state, state / "manager", place
        self._listening = listening_of(place)
        #: Why it is no manager yet, for people.
        self.why = f"this node is just becoming a manager of cluster {place.get('cluster_name') or 'its'}"

    async def __call__(self) -> None:
        """Ask the managers, each once. Raises StoreUnavailableError: none lets it, now."""
        try:
            await asyncio.to_thread(check_program)
        except StoreError as error:
            raise self._not_yet(str(error)) from None
        said = "no other manager is known"
        addresses = [each for each in self._place.get("managers", ()) if each != self._listening.reached]
        for address in random.sample(addresses, len(addresses)):
            try:
                return await self._ask(address)
            except grpc.aio.AioRpcError as error:
                said = f"{address}: {error.details() or error.code().name}"
            except OSError as error:
                said = str(error)
        raise self._not_yet(said)

    def _not_yet(self, said: str) -> StoreUnavailableError:
        text = f"this node is to be a manager and is none yet ({said}); it tries on, and nothing that runs is stopped"
        if text != self.why:
            log.warning("%s", text)
        self.why = text
        return StoreUnavailableError(text)

    async def _ask(self, address: str) -> None:
        key, request = new_request()
        member_key, member_request = new_request()
        credentials = channel_credentials(Identity.load(self._state / "node"))
        options = [expecting(name_of("manager")), ("grpc.enable_http_proxy", 0)]
        asked = ca_pb2.BecomeManagerRequest(
            certificate_request=request,
            etcd_certificate_request=member_request,
            etcd_peer=self._listening.etcd.peer,
            protocol=PROTOCOL,
        )
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            given = await ca_pb2_grpc.CaServiceStub(channel).BecomeManager(asked, timeout=ANSWER_SECONDS)
        own = Identity(given.certificate, key, given.authorities)
        of_member = Identity(given.etcd_certificate, member_key, given.etcd_authorities)
        await self._write(given, own, of_member)

    async def _write(self, given: ca_pb2.BecomeManagerResponse, own: Identity, of_member: Identity) -> None:
        folder, etcd = self._folder, self._listening.etcd
        name = self._place["node_id"]
        await clear(folder, etcd.client)
        replace(folder / "key", given.data_key)
        own.store(folder / FOLDER)
        of_member.store(folder / IDENTITY)
        replace(folder / LISTENING, self._listening.encoded())
        members = dict(given.members)
        Settings(name, etcd.client, etcd.peer, members, joins=True, token=given.etcd_token, listen=etcd.listen).save(
            folder
        )
        Backend("etcd", (etcd.client,), name=name).save(folder)
        log.info("this node is a manager now, and gets its copy of the state")
