"""Talking to a node: a channel to the manager, errors as messages, and a node that starts itself.

The client is synchronous (grpcio's blocking stubs; streams are read in threads), which starts quicker than an event
loop. It knows nothing of YAML.
"""

from pycompose.compose.client.connection import Client, target_of
from pycompose.compose.client.errors import (
    ApiError,
    ClientError,
    DryRunError,
    NodeError,
    NotRunningError,
    NotThereError,
)
from pycompose.compose.client.links import Target

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "DryRunError",
    "NodeError",
    "NotRunningError",
    "NotThereError",
    "Target",
    "target_of",
]
