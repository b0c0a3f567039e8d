"""A service's virtual addresses and published ports."""

from __future__ import annotations

import logging

from pycompose.manager.allocator import AllocationError, fill_ports, service_label
from pycompose.manager.engine.overlay import Pass
from pycompose.manager.model import NETWORK, SERVICE
from pycompose.proto.v1 import service_pb2

log = logging.getLogger(__name__)


def with_endpoint(work: Pass, service: service_pb2.Service) -> service_pb2.Service:
    """Give the service its virtual addresses and ports; returns it as it will be."""
    if service.removing:
        return service
    endpoint = service_pb2.ServiceEndpoint(virtual_addresses=_addresses(work, service))
    try:
        endpoint.ports.extend(fill_ports(service, work.ports()))
    except AllocationError as error:
        log.warning("service %s: %s", service_label(service.spec), error)
        endpoint.ports.extend(service.endpoint.ports)
    if endpoint == service.endpoint:
        return service
    copy: service_pb2.Service = work.edit(SERVICE, service.id)
    copy.endpoint.CopyFrom(endpoint)
    work.put(SERVICE, service.id, copy)
    return copy


def _addresses(work: Pass, service: service_pb2.Service) -> list[service_pb2.VirtualAddress]:
    have = {virtual.network_id: virtual.address for virtual in service.endpoint.virtual_addresses}
    found: list[service_pb2.VirtualAddress] = []
    if service.spec.endpoint.mode == service_pb2.ENDPOINT_MODE_DNSRR:
        return found
    for attachment in service.spec.task.networks:
        network = work.cache.by_name(NETWORK, attachment.network)
        if network is None or not work.allocator.has_addresses(network.id):
            continue
        address = have.get(network.id, "")
        try:
            if not address:
                holder = f"the virtual address of {service_label(service.spec)}"
                address = work.allocator.address(network.id, holder, work.now).split("/")[0]
        except AllocationError as error:
            log.warning("service %s: %s", service_label(service.spec), error)
            continue
        found.append(service_pb2.VirtualAddress(network_id=network.id, address=address))
    return found
