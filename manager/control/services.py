"""Calls on services. A change of the task template is a new revision; its template is stored beside the service."""

from __future__ import annotations

import asyncio

from pycompose.manager import states
from pycompose.manager.allocator import PortBook, at_rest, port_conflict, service_label
from pycompose.manager.cache import Cache
from pycompose.manager.control import validate
from pycompose.manager.control.api import Api, ServicerContext
from pycompose.manager.model import (
    ACCOUNT,
    CONFIG,
    NETWORK,
    REVISION,
    SECRET,
    SERVICE,
    TASK,
    VOLUME,
    Object,
    revision_id,
)
from pycompose.manager.orchestrator.actions import leaving
from pycompose.manager.store import Operation
from pycompose.proto.refusal import BlockedError, InvalidError, NotFoundError
from pycompose.proto.v1 import container_pb2, control_pb2, secret_pb2, service_pb2, task_pb2, volume_pb2

GONE_SECONDS = 30.0
ACCOUNT_CHARACTERS = 64 << 10
PAUSED = (service_pb2.UPDATE_STATE_PAUSED, service_pb2.UPDATE_STATE_ROLLBACK_PAUSED)


def counted(cache: Cache, service: Object) -> service_pb2.Service:
    """Return the service with its tasks counted."""
    copy = service_pb2.Service()
    copy.CopyFrom(service)
    every = cache.tasks_of_service(service.id)
    tasks = [task for task in every if not leaving(task)]
    counts = copy.counts
    copy.endpoint.ports_released = at_rest(service, every)
    mode = service.spec.WhichOneof("mode")
    if mode == "replicated":
        counts.desired = service.spec.replicated.replicas
    else:
        counts.desired = service.spec.replicated_job.completions if mode == "replicated_job" else len(tasks)
    counts.running = sum(task.status.state == task_pb2.TASK_STATE_RUNNING for task in tasks)
    counts.healthy = sum(states.up(task.status) for task in tasks)
    counts.completed = sum(task.status.state == task_pb2.TASK_STATE_COMPLETE for task in tasks)
    return copy


def port_book(cache: Cache) -> PortBook:
    """Return who holds which published port."""
    return PortBook(cache.all(SERVICE), cache.all(TASK), cache.tasks_of_service)


class ServiceCalls:
    """Create, Get, List, Update, Remove, and earlier revisions."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def _check(self, spec: service_pb2.ServiceSpec, own_id: str) -> list[Operation]:
        """Return operations that make missing volumes. Raises InvalidError, BlockedError."""
        cache = self.api.cache
        secrets, configs = ({item.spec.name for item in cache.all(kind)} for kind in (SECRET, CONFIG))
        networks = {network.spec.name: network for network in cache.all(NETWORK)}
        wrong = validate.service(spec, validate.Known(networks, secrets, configs))
        if wrong:
            raise InvalidError(wrong)
        conflict = port_conflict(spec, own_id, port_book(cache))
        if conflict:
            index, holder = conflict
            port = spec.endpoint.ports[index]
            raise BlockedError(
                f"port {port.published_port} is published by {holder} already; "
                f"choose another in {spec.name}'s ports, or stop {holder}",
                "PORT_TAKEN",
                f"spec.endpoint.ports[{index}]",
            )
        self._check_name(spec, own_id)
        return self._volumes(spec)

    def _check_name(self, spec: service_pb2.ServiceSpec, own_id: str) -> None:
        """Raises BlockedError when another service has the container's name."""
        name = spec.task.container_name
        for other in self.api.cache.all(SERVICE) if name else ():
            if other.id != own_id and other.spec.task.container_name == name and not other.removing:
                raise BlockedError(
                    f"container name {name} is used by {service_label(other.spec)} already; choose another, "
                    "or remove that service",
                    "NAME_TAKEN",
                    "spec.task.container_name",
                )

    def _volumes(self, spec: service_pb2.ServiceSpec) -> list[Operation]:
        operations: list[Operation] = []
        for name in sorted(volumes_of(spec)):
            known = self.api.cache.get(VOLUME, name)
            if known is None:
                volume = volume_pb2.Volume(id=name, spec=volume_pb2.VolumeSpec(name=name, project=spec.project))
                self.api.stamp(volume, new=True)
                operations.append(self.api.codec.put(VOLUME, name, volume))
            elif known.removing:
                raise BlockedError(f"volume {name} is being removed; try again in a moment", "REMOVING", name)
        return operations

    def _account(self, account: secret_pb2.RegistryAccount, service_id: str) -> list[Operation]:
        """Return what stores a service's account. Raises InvalidError."""
        one = account.credentials
        if not account.registry or not (one.username or one.identity_token):
            text = "needs the registry that it is for, and a name and password or a token"
            raise InvalidError([("account", text)])
        if max(map(len, (account.registry, one.username, one.password, one.identity_token))) > ACCOUNT_CHARACTERS:
            raise InvalidError([("account", f"a part of it has more than {ACCOUNT_CHARACTERS} characters")])
        row = secret_pb2.RegistryAccount(service_id=service_id, registry=account.registry, credentials=one)
        self.api.stamp(row, new=True)
        return [self.api.codec.put(ACCOUNT, service_id, row)]

    def _revision(self, service: service_pb2.Service) -> Operation:
        identity = revision_id(service.id, service.revision)
        row = control_pb2.ServiceRevision(revision=service.revision, task=service.spec.task)
        return self.api.codec.put(REVISION, identity, row)

    def _revisions(self, service_id: str) -> list[control_pb2.ServiceRevision]:
        """Return the service's kept templates, newest first."""
        rows = [self.api.cache.get(REVISION, row) for row in reversed(self.api.cache.revisions(service_id))]
        return [row for row in rows if row is not None]

    def _newest(self, service: service_pb2.Service) -> int:
        """Return the highest revision that the service ever had: a rollback makes a lower one the present."""
        return max([int(service.revision), *(int(row.revision) for row in self._revisions(service.id))])

    def _earlier(self, service: service_pb2.Service, revision: int) -> control_pb2.ServiceRevision:
        """Return the template to go back to. Raises NotFoundError, InvalidError."""
        kept = self._revisions(service.id)
        if revision == service.revision:
            raise InvalidError([("revision", f"{revision} is the present one; see ListServiceRevisions")])
        for row in kept:
            if row.revision == revision or (not revision and row.revision < service.revision):
                return row
        words = ", ".join(str(row.revision) for row in kept if row.revision != service.revision)
        name = f"{service.spec.name} {revision or 'before the present one'}"
        raise NotFoundError("revision", name, f"there are {words}" if words else "there is no other one")

    async def _until_gone(self, spec: service_pb2.ServiceSpec) -> None:
        """Wait for a service of this name that is on its way out. Raises BlockedError."""
        for _ in range(int(GONE_SECONDS / 0.05)):
            before = self.api.cache.by_name(SERVICE, f"{spec.project}/{spec.name}")
            if before is None or not before.removing:
                return
            await asyncio.sleep(0.05)
        raise BlockedError(f"service {spec.name} is still being removed; try again in a moment", "REMOVING", spec.name)

    async def CreateService(
        self, request: control_pb2.CreateServiceRequest, context: ServicerContext
    ) -> control_pb2.CreateServiceResponse:
        """Create a service."""
        await self.api.fresh()
        await self._until_gone(request.spec)
        async with self.api.checking:
            extra = self._check(request.spec, "")
            service = service_pb2.Service(id=self.api.new_id(), spec=request.spec, revision=1)
            extra += self._account(request.account, service.id) if request.HasField("account") else []
            created = await self.api.create(SERVICE, service, [*extra, self._revision(service)])
        return control_pb2.CreateServiceResponse(service=counted(self.api.cache, created))

    async def GetService(
        self, request: control_pb2.GetServiceRequest, context: ServicerContext
    ) -> control_pb2.GetServiceResponse:
        """Return one service."""
        await self.api.fresh(request.stale_ok)
        found = self.api.find(SERVICE, request.service)
        return control_pb2.GetServiceResponse(service=counted(self.api.cache, found))

    async def ListServices(
        self, request: control_pb2.ListServicesRequest, context: ServicerContext
    ) -> control_pb2.ListServicesResponse:
        """Return services by project and name."""
        await self.api.fresh(request.stale_ok)
        found, token = self.api.list(SERVICE, request)
        services = [counted(self.api.cache, service) for service in found]
        return control_pb2.ListServicesResponse(services=services, version=self.api.version(), next_page_token=token)

    async def UpdateService(
        self, request: control_pb2.UpdateServiceRequest, context: ServicerContext
    ) -> control_pb2.UpdateServiceResponse:
        """Replace a service's spec."""

        def change(service: service_pb2.Service) -> list[Operation]:
            _present(service)
            if (service.spec.project, service.spec.name) != (request.spec.project, request.spec.name):
                raise InvalidError([("spec.name", "project and name of a service cannot be changed; create another")])
            extra = self._check(request.spec, service.id)
            extra += self._account(request.account, service.id) if request.HasField("account") else []
            if new_template(service.spec, request.spec):
                service.revision = self._newest(service) + 1
                service.spec.CopyFrom(request.spec)
                service.ClearField("update_status")
                extra.append(self._revision(service))
            elif service.update_status.state in PAUSED:
                service.ClearField("update_status")  # a paused update goes on
            service.spec.CopyFrom(request.spec)
            return extra

        await self.api.fresh()
        async with self.api.checking:
            stored = await self.api.update(SERVICE, request.service_id, request.version, change)
        return control_pb2.UpdateServiceResponse(service=counted(self.api.cache, stored))

    async def RollbackService(
        self, request: control_pb2.RollbackServiceRequest, context: ServicerContext
    ) -> control_pb2.RollbackServiceResponse:
        """Make an earlier template the service's again."""

        def change(service: service_pb2.Service) -> list[Operation]:
            _present(service)
            row = self._earlier(service, request.revision)
            message = f"rollback from revision {service.revision} to {row.revision} was asked for"
            service.revision = row.revision
            service.spec.task.CopyFrom(row.task)
            service.update_status.Clear()
            service.update_status.state = service_pb2.UPDATE_STATE_ROLLING_BACK
            service.update_status.message = message
            service.update_status.started_at.FromNanoseconds(int(self.api.clock() * 1e9))
            return self._check(service.spec, service.id)

        await self.api.fresh()
        async with self.api.checking:
            stored = await self.api.update(SERVICE, request.service_id, request.version, change)
        return control_pb2.RollbackServiceResponse(service=counted(self.api.cache, stored))

    async def RemoveService(
        self, request: control_pb2.RemoveServiceRequest, context: ServicerContext
    ) -> control_pb2.RemoveServiceResponse:
        """Begin the end of a service."""
        await self.api.fresh()

        def change(service: Object) -> bool:
            before = bool(service.removing)
            service.removing = True
            return not before

        await self.api.edit(SERVICE, [request.service_id], change)
        return control_pb2.RemoveServiceResponse()

    async def ListServiceRevisions(
        self, request: control_pb2.ListServiceRevisionsRequest, context: ServicerContext
    ) -> control_pb2.ListServiceRevisionsResponse:
        """Return a service's templates, newest first."""
        await self.api.fresh()
        self.api.require(SERVICE, request.service_id)
        return control_pb2.ListServiceRevisionsResponse(revisions=self._revisions(request.service_id))


def _present(service: service_pb2.Service) -> None:
    """Raises BlockedError."""
    if service.removing:
        raise BlockedError(f"service {service.spec.name} is being removed", "REMOVING", service.id)


def volumes_of(spec: service_pb2.ServiceSpec) -> set[str]:
    """Return the named volumes that a service mounts."""
    mounts = spec.task.container.mounts
    return {mount.source for mount in mounts if mount.type == container_pb2.MOUNT_TYPE_VOLUME and mount.source}


def new_template(old: service_pb2.ServiceSpec, new: service_pb2.ServiceSpec) -> bool:
    """Return whether tasks of the old spec have to be replaced."""
    return bool(old.task != new.task or old.force_recreate != new.force_recreate)
