"""The allocator: subnets, addresses, virtual addresses and published ports.

It holds who has what (filled from the cache at the start; only the leader writes), and hands out what is free. A
released address rests before it is given again, so that a peer's stale connection never meets a stranger. Conflicts
name the holder.

=============  =====================================================
``networks``   subnets and VNIs of networks, addresses on them
``pools``      subnets carved from pools; one network's addresses
``ports``      published ports, of services and of single tasks
=============  =====================================================
"""

from pycompose.manager.allocator.networks import Allocator, mac_of
from pycompose.manager.allocator.pools import AllocationError, Pools, gateway_of
from pycompose.manager.allocator.ports import PROTOCOLS, fill_ports, port_conflict, port_ranges, task_ports

__all__ = [
    "PROTOCOLS",
    "AllocationError",
    "Allocator",
    "Pools",
    "fill_ports",
    "gateway_of",
    "mac_of",
    "port_conflict",
    "port_ranges",
    "task_ports",
]
