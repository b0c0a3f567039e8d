"""The worker's calls for managers and other nodes: TCP, mutual TLS, and the table of who may call what."""

from __future__ import annotations

from pathlib import Path

import grpc

from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, server_credentials
from pycompose.worker.access.refusals import translate


def new_remote_server(identity: Path, cluster_id: str, address: str) -> grpc.aio.Server:
    """Return a server that is not started.

    Args:
        identity: folder of the node's certificate; a renewed one is shown from the next connection on.
        cluster_id: certificates of others are refused.
        address: "HOST:PORT" to listen on.

    Raises: OSError: there is no certificate; RuntimeError: the address cannot be had.
    """
    server = new_server(Guard("the node's log", translate), Authorizer(lambda: cluster_id))
    server.add_secure_port(address, server_credentials(lambda: Identity.load(identity)))
    return server
