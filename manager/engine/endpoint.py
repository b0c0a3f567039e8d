"""A service's virtual addresses and published ports."""

from __future__ import annotations

import logging

from pycompose.manager import allocator as alloc
from pycompose.manager.allocator import AllocationError
from pycompose.manager.engine.overlay import Pass
from pycompose.manager.model import NETWORK, SERVICE
from pycompose.proto.v1 import service_pb2

log = logging.getLogger(__name__)


def with_endpoint(work: Pass, service: service_pb2.Service) -> service_pb2.Service:
    """Give the service its virtual addresses and ports."""
    if service.removing:
        return service
    endpoint = service_pb2.ServiceEndpoint()
    have = {virtual.network_id: virtual.address for virtual in service.endpoint.virtual_addresses}
    if service.spec.endpoint.mode != service_pb2.ENDPOINT_MODE_DNSRR:
        for attachment in service.spec.task.networks:
            network = work.cache.by_name(NETWORK, attachment.network)
            if network is None or not work.allocator.has_addresses(network.id):
                continue
            try:
                address = have.get(network.id) or work.allocator.address(
                    network.id, f"virtual address of {service.spec.name}", work.now
                )
            except AllocationError as error:
                log.warning("service %s: %s", service.spec.name, error)
                continue
            endpoint.virtual_addresses.add(network_id=network.id, address=address.split("/")[0])
    kept = {virtual.network_id for virtual in endpoint.virtual_addresses}
    for network_id, address in have.items():
        if network_id not in kept:
            work.allocator.release(network_id, address, work.now)
    used = {
        number
        for other in work.cache.all(SERVICE)
        if other.id != service.id
        for _, _, first, last in alloc.port_ranges(other)
        for number in range(first, last + 1)
    }
    endpoint.ports.extend(alloc.fill_ports(service.spec, service.endpoint, used))
    if endpoint == service.endpoint:
        return service
    copy: service_pb2.Service = work.edit(SERVICE, service.id)
    copy.endpoint.CopyFrom(endpoint)
    work.put(SERVICE, service.id, copy)
    return copy
