"""Calls on networks, volumes, secrets, configs and projects: small objects with a name, refused while in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycompose.manager.control import validate
from pycompose.manager.control.api import Api, ServicerContext, name_of, without_data
from pycompose.manager.control.services import volumes_of
from pycompose.manager.model import (
    CONFIG,
    NETWORK,
    PROJECT,
    SECRET,
    SERVICE,
    TASK,
    VOLUME,
    Kind,
    Object,
    name_key,
    object_key,
)
from pycompose.manager.store import Compare, Delete, Operation
from pycompose.proto.refusal import BlockedError, InvalidError
from pycompose.proto.v1 import control_pb2, network_pb2, project_pb2, secret_pb2, volume_pb2

#: How long a new volume waits for the data of a removed one of the same name to be deleted.
REMOVAL_SECONDS = 10.0


class ObjectCalls:
    """Create, Get, List, Update and Remove of the small kinds."""

    api: Api

    # What the kinds share.

    async def _new(self, kind: Kind, message: Object, wrong: list[validate.Violation]) -> Object:
        if found := wrong or validate.shape(message.spec):
            raise InvalidError(found)
        await self.api.fresh()
        async with self.api.checking:
            return await self.api.create(kind, message)

    async def _one(self, kind: Kind, text: str, stale_ok: bool) -> Object:
        await self.api.fresh(stale_ok)
        return self.api.find(kind, text)

    async def _all(self, kind: Kind, request: Any) -> tuple[list[Object], str]:
        await self.api.fresh(request.stale_ok)
        return self.api.list(kind, request)

    async def _replace(self, kind: Kind, identity: str, request: Any, wrong: list[validate.Violation]) -> Object:
        def change(copy: Object) -> list[Operation]:
            named = [("spec.name", "the name cannot be changed; create another")]
            wrong_name = named if copy.spec.name != request.spec.name else []
            if found := wrong + wrong_name or validate.shape(request.spec):
                raise InvalidError(found)
            copy.spec.CopyFrom(request.spec)
            return []

        await self.api.fresh()
        return await self.api.update(kind, identity, request.version, change)

    async def _relabel(self, kind: Kind, identity: str, request: Any) -> Object:
        """Update an object of which only the labels may change."""

        def change(copy: Object) -> list[Operation]:
            fields = [f.name for f in copy.spec.DESCRIPTOR.fields if f.name != "labels"]
            other = [name for name in fields if getattr(copy.spec, name) != getattr(request.spec, name)]
            if other:
                what = f"{', '.join(other)} of {kind.name} {copy.spec.name} cannot be changed, only labels can"
                raise BlockedError(f"{what}; remove it and create another", "IMMUTABLE", f"spec.{other[0]}")
            if found := validate.shape(request.spec):
                raise InvalidError(found)
            copy.spec.CopyFrom(request.spec)
            return []

        await self.api.fresh()
        return await self.api.update(kind, identity, request.version, change)

    async def _delete(self, kind: Kind, identity: str, users: Callable[[Object], list[str]]) -> None:
        await self.api.fresh()
        async with self.api.checking:
            current = self.api.find(kind, identity)
            _refuse_used(kind, current, users(current))
            operations: list[Operation] = [Delete(object_key(kind, current.id))]
            if kind.unique is not None:
                operations.append(Delete(name_key(kind, kind.unique(current))))
            compare = Compare(object_key(kind, current.id), current.meta.version.number)
            if await self.api.commit([compare], operations) is not None:
                raise BlockedError(f"{kind.name} {name_of(kind, current)} changed in between; try again", "CHANGED")

    def _services(self, uses: Callable[[Object], bool]) -> list[str]:
        services = self.api.cache.all(SERVICE)
        return sorted(f"{s.spec.project}/{s.spec.name}".lstrip("/") for s in services if uses(s))

    # Networks.

    async def CreateNetwork(
        self, request: control_pb2.CreateNetworkRequest, context: ServicerContext
    ) -> control_pb2.CreateNetworkResponse:
        """Create a network."""
        network = network_pb2.Network(id=self.api.new_id(), spec=request.spec)
        created = await self._new(NETWORK, network, validate.network(request.spec))
        return control_pb2.CreateNetworkResponse(network=created)

    async def GetNetwork(
        self, request: control_pb2.GetNetworkRequest, context: ServicerContext
    ) -> control_pb2.GetNetworkResponse:
        """Return one network."""
        return control_pb2.GetNetworkResponse(network=await self._one(NETWORK, request.network, request.stale_ok))

    async def ListNetworks(
        self, request: control_pb2.ListNetworksRequest, context: ServicerContext
    ) -> control_pb2.ListNetworksResponse:
        """Return networks by project and name."""
        found, token = await self._all(NETWORK, request)
        return control_pb2.ListNetworksResponse(networks=found, version=self.api.version(), next_page_token=token)

    async def UpdateNetwork(
        self, request: control_pb2.UpdateNetworkRequest, context: ServicerContext
    ) -> control_pb2.UpdateNetworkResponse:
        """Replace a network's labels."""
        changed = await self._relabel(NETWORK, request.network_id, request)
        return control_pb2.UpdateNetworkResponse(network=changed)

    async def RemoveNetwork(
        self, request: control_pb2.RemoveNetworkRequest, context: ServicerContext
    ) -> control_pb2.RemoveNetworkResponse:
        """Remove a network that nothing uses."""

        def users(network: Object) -> list[str]:
            name = network.spec.name
            names = self._services(lambda s: any(a.network == name for a in s.spec.task.networks))
            tasks = self.api.cache.all(TASK)
            return names or [t.name for t in tasks if any(a.network_id == network.id for a in t.attachments)]

        await self._delete(NETWORK, request.network_id, users)
        return control_pb2.RemoveNetworkResponse()

    # Volumes.

    async def CreateVolume(
        self, request: control_pb2.CreateVolumeRequest, context: ServicerContext
    ) -> control_pb2.CreateVolumeResponse:
        """Create a volume."""
        wrong = validate.name(request.spec.name)
        if request.spec.driver not in ("", "local"):
            wrong.append(("spec.driver", f"there is no volume driver {request.spec.driver!r}; use local"))
        volume = volume_pb2.Volume(id=request.spec.name, spec=request.spec)
        await self._until_removed(volume.id)
        return control_pb2.CreateVolumeResponse(volume=await self._new(VOLUME, volume, wrong))

    async def _until_removed(self, volume_id: str) -> None:
        """Wait for the nodes to delete the data of a volume that was removed. Raises BlockedError."""
        await self.api.fresh()
        if await self.api.cache.until(lambda: not removing(self.api.cache.get(VOLUME, volume_id)), REMOVAL_SECONDS):
            return
        places: Object = self.api.require(VOLUME, volume_id).locations
        nodes = ", ".join(sorted(place.node_id[:12] for place in places))
        text = f"volume {volume_id} was removed, and its data is not deleted yet on {nodes}; try again when they are up"
        raise BlockedError(text, "REMOVING", volume_id)

    async def GetVolume(
        self, request: control_pb2.GetVolumeRequest, context: ServicerContext
    ) -> control_pb2.GetVolumeResponse:
        """Return one volume."""
        return control_pb2.GetVolumeResponse(volume=await self._one(VOLUME, request.volume, request.stale_ok))

    async def ListVolumes(
        self, request: control_pb2.ListVolumesRequest, context: ServicerContext
    ) -> control_pb2.ListVolumesResponse:
        """Return volumes by project and name."""
        found, token = await self._all(VOLUME, request)
        return control_pb2.ListVolumesResponse(volumes=found, version=self.api.version(), next_page_token=token)

    async def UpdateVolume(
        self, request: control_pb2.UpdateVolumeRequest, context: ServicerContext
    ) -> control_pb2.UpdateVolumeResponse:
        """Replace a volume's labels."""
        changed = await self._relabel(VOLUME, request.volume_id, request)
        return control_pb2.UpdateVolumeResponse(volume=changed)

    async def RemoveVolume(
        self, request: control_pb2.RemoveVolumeRequest, context: ServicerContext
    ) -> control_pb2.RemoveVolumeResponse:
        """Remove a volume that nothing uses: first the nodes' data, then the volume."""
        await self.api.fresh()
        async with self.api.checking:
            volume = self.api.find(VOLUME, request.volume_id)
            _refuse_used(VOLUME, volume, self._services(lambda s: volume.id in volumes_of(s.spec)))

            def change(copy: Object) -> bool:
                before = bool(copy.removing)
                copy.removing = True
                return not before

            await self.api.edit(VOLUME, [volume.id], change)
        return control_pb2.RemoveVolumeResponse()

    # Secrets.

    async def CreateSecret(
        self, request: control_pb2.CreateSecretRequest, context: ServicerContext
    ) -> control_pb2.CreateSecretResponse:
        """Create a secret."""
        wrong = validate.name(request.spec.name) + validate.data(len(request.spec.data), validate.SECRET_LIMIT)
        created = await self._new(SECRET, secret_pb2.Secret(id=self.api.new_id(), spec=request.spec), wrong)
        return control_pb2.CreateSecretResponse(secret=without_data(created))

    async def GetSecret(
        self, request: control_pb2.GetSecretRequest, context: ServicerContext
    ) -> control_pb2.GetSecretResponse:
        """Return one secret without its data."""
        found = await self._one(SECRET, request.secret, request.stale_ok)
        return control_pb2.GetSecretResponse(secret=without_data(found))

    async def ListSecrets(
        self, request: control_pb2.ListSecretsRequest, context: ServicerContext
    ) -> control_pb2.ListSecretsResponse:
        """Return secrets without their data."""
        found, token = await self._all(SECRET, request)
        return control_pb2.ListSecretsResponse(secrets=found, version=self.api.version(), next_page_token=token)

    async def UpdateSecret(
        self, request: control_pb2.UpdateSecretRequest, context: ServicerContext
    ) -> control_pb2.UpdateSecretResponse:
        """Replace a secret; tasks made from now on read it."""
        wrong = validate.data(len(request.spec.data), validate.SECRET_LIMIT)
        changed = await self._replace(SECRET, request.secret_id, request, wrong)
        return control_pb2.UpdateSecretResponse(secret=without_data(changed))

    async def RemoveSecret(
        self, request: control_pb2.RemoveSecretRequest, context: ServicerContext
    ) -> control_pb2.RemoveSecretResponse:
        """Remove a secret that nothing uses."""

        def users(secret: Object) -> list[str]:
            name = secret.spec.name
            return self._services(lambda s: any(r.name == name for r in s.spec.task.container.secrets))

        await self._delete(SECRET, request.secret_id, users)
        return control_pb2.RemoveSecretResponse()

    # Configs.

    async def CreateConfig(
        self, request: control_pb2.CreateConfigRequest, context: ServicerContext
    ) -> control_pb2.CreateConfigResponse:
        """Create a config."""
        wrong = validate.name(request.spec.name) + validate.data(len(request.spec.data), validate.CONFIG_LIMIT)
        created = await self._new(CONFIG, secret_pb2.Config(id=self.api.new_id(), spec=request.spec), wrong)
        return control_pb2.CreateConfigResponse(config=created)

    async def GetConfig(
        self, request: control_pb2.GetConfigRequest, context: ServicerContext
    ) -> control_pb2.GetConfigResponse:
        """Return one config."""
        return control_pb2.GetConfigResponse(config=await self._one(CONFIG, request.config, request.stale_ok))

    async def ListConfigs(
        self, request: control_pb2.ListConfigsRequest, context: ServicerContext
    ) -> control_pb2.ListConfigsResponse:
        """Return configs by project and name."""
        found, token = await self._all(CONFIG, request)
        return control_pb2.ListConfigsResponse(configs=found, version=self.api.version(), next_page_token=token)

    async def UpdateConfig(
        self, request: control_pb2.UpdateConfigRequest, context: ServicerContext
    ) -> control_pb2.UpdateConfigResponse:
        """Replace a config; tasks made from now on read it."""
        wrong = validate.data(len(request.spec.data), validate.CONFIG_LIMIT)
        changed = await self._replace(CONFIG, request.config_id, request, wrong)
        return control_pb2.UpdateConfigResponse(config=changed)

    async def RemoveConfig(
        self, request: control_pb2.RemoveConfigRequest, context: ServicerContext
    ) -> control_pb2.RemoveConfigResponse:
        """Remove a config that nothing uses."""

        def users(config: Object) -> list[str]:
            name = config.spec.name
            return self._services(lambda s: any(r.name == name for r in s.spec.task.container.configs))

        await self._delete(CONFIG, request.config_id, users)
        return control_pb2.RemoveConfigResponse()

    # Projects.

    async def CreateProject(
        self, request: control_pb2.CreateProjectRequest, context: ServicerContext
    ) -> control_pb2.CreateProjectResponse:
        """Remember a project."""
        project = project_pb2.Project(id=request.spec.name, spec=request.spec)
        created = await self._new(PROJECT, project, validate.name(request.spec.name))
        return control_pb2.CreateProjectResponse(project=created)

    async def GetProject(
        self, request: control_pb2.GetProjectRequest, context: ServicerContext
    ) -> control_pb2.GetProjectResponse:
        """Return one project."""
        return control_pb2.GetProjectResponse(project=await self._one(PROJECT, request.project, request.stale_ok))

    async def ListProjects(
        self, request: control_pb2.ListProjectsRequest, context: ServicerContext
    ) -> control_pb2.ListProjectsResponse:
        """Return projects by name."""
        found, token = await self._all(PROJECT, request)
        return control_pb2.ListProjectsResponse(projects=found, version=self.api.version(), next_page_token=token)

    async def UpdateProject(
        self, request: control_pb2.UpdateProjectRequest, context: ServicerContext
    ) -> control_pb2.UpdateProjectResponse:
        """Replace what is remembered of a project."""
        changed = await self._replace(PROJECT, request.project_id, request, [])
        return control_pb2.UpdateProjectResponse(project=changed)

    async def RemoveProject(
        self, request: control_pb2.RemoveProjectRequest, context: ServicerContext
    ) -> control_pb2.RemoveProjectResponse:
        """Forget a project."""

        def users(project: Object) -> list[str]:
            return [s.spec.name for s in self.api.cache.services_of_project(project.id) if not s.removing]

        await self._delete(PROJECT, request.project_id, users)
        return control_pb2.RemoveProjectResponse()


def removing(volume: Object | None) -> bool:
    """Whether a volume is there only until its data is deleted."""
    return volume is not None and bool(volume.removing)


def _refuse_used(kind: Kind, item: Object, users: list[str]) -> None:
    if users:
        some = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        raise BlockedError(
            f"{kind.name} {name_of(kind, item)} is in use by {some}; remove or change that first", "IN_USE", some
        )
