"""Talking to a node: a channel to the manager, errors as messages, and a node that starts itself.

The client is synchronous (grpcio's blocking stubs; streams are read in threads), which starts quicker than an event
loop. It knows nothing of YAML.
"""

from pycompose.compose.client.connection import Client, default_host
from pycompose.compose.client.errors import (
    ApiError,
    ClientError,
    DryRunError,
    NodeError,
    NotRunningError,
    NotThereError,
)

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "DryRunError",
    "NodeError",
    "NotRunningError",
    "NotThereError",
    "default_host",
]
