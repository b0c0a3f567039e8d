"""What must be so before a cluster's state can move to an etcd of its own."""

from __future__ import annotations

import asyncio
import subprocess

from pycompose.manager.cluster.listening import Listening, why_not
from pycompose.manager.member import check_program
from pycompose.manager.store import StoreError
from pycompose.proto.refusal import BlockedError


async def check_etcd(listening: Listening) -> None:
    """Raise BlockedError when etcd is missing or loses data, or cannot listen where it is to."""
    try:
        await asyncio.to_thread(check_program)
    except (StoreError, OSError, subprocess.SubprocessError) as error:
        text = f"{error}; or keep the state of this one manager in a file: --store sqlite"
        raise BlockedError(text, "ETCD") from None
    places = (
        (listening.address, listening.etcd_peer_port, "--etcd-peer-port"),
        ("127.0.0.1", listening.etcd_client_port, "--etcd-client-port"),
    )
    for address, port, flag in places:
        if reason := why_not(address, port):
            raise BlockedError(f"{reason}; choose another with {flag}, or stop what listens there", "PORT_TAKEN")
