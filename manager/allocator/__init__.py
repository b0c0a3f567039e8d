"""The allocator: subnets, addresses, virtual addresses and published ports.

It knows who has what (told of each change of the store; only the leader decides), and hands out what is free. A
released address rests before it is given again, so that a peer's stale connection never meets a stranger. Conflicts
name the holder.

=============  =====================================================
``networks``   subnets and VNIs of networks, addresses on them
``pools``      subnets carved from pools; one network's addresses
``ports``      published ports, of services and of single tasks
=============  =====================================================
"""

from pycompose.manager.allocator.networks import (
    ADDRESSED,
    Allocator,
    holder_of,
    mac_of,
    task_places,
    virtual_places,
)
from pycompose.manager.allocator.pools import AllocationError, Pools, gateway_of, ipv4_subnet
from pycompose.manager.allocator.ports import (
    PROTOCOLS,
    Held,
    PortBook,
    at_rest,
    down,
    fill_ports,
    own_range,
    port_conflict,
    ports_of_task,
    service_label,
    service_ports,
    serving,
    start_conflict,
    start_conflicts,
    task_ports,
)

__all__ = [
    "ADDRESSED",
    "PROTOCOLS",
    "AllocationError",
    "Allocator",
    "Held",
    "Pools",
    "PortBook",
    "at_rest",
    "down",
    "fill_ports",
    "gateway_of",
    "holder_of",
    "ipv4_subnet",
    "mac_of",
    "own_range",
    "port_conflict",
    "ports_of_task",
    "service_label",
    "service_ports",
    "serving",
    "start_conflict",
    "start_conflicts",
    "task_places",
    "task_ports",
    "virtual_places",
]
