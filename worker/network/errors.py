"""Exceptions of the network package.

::

    NetworkError
    ├── KernelRefused     netlink, namespace or nftables call failed
    ├── UnknownNetwork    an attachment names a network that the view does not hold
    ├── NotAttached       the container has no namespace here
    ├── PortTaken         a published port is held by another process or service
    ├── PortNotPublishable  the port's network has no way to the machine (internal)
    └── HelperGone        the nft helper or the resolver died or did not answer
"""

from __future__ import annotations


class NetworkError(Exception):
    """Base of all errors of this package; the message says what, where, and what to do."""


class KernelRefused(NetworkError):
    """The kernel refused an operation."""


class UnknownNetwork(NetworkError):
    """An attachment names a network that was never applied."""


class NotAttached(NetworkError):
    """The container has no network namespace on this node."""


class PortTaken(NetworkError):
    """A published port is in use; the message names the holder."""


class PortNotPublishable(NetworkError):
    """The network of a published port has no uplink."""


class HelperGone(NetworkError):
    """A helper process is not there."""
