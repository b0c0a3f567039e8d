"""Calls on nodes, and on the manager itself."""

from __future__ import annotations

import os

import pycompose
from pycompose.manager.control.api import Api, ServicerContext, name_of
from pycompose.manager.control.validate import shape
from pycompose.manager.model import CLUSTER, CLUSTER_ID, NODE, TASK, Object, object_key
from pycompose.manager.store import Compare, Delete, Operation
from pycompose.proto.refusal import BlockedError, InvalidError, NotFoundError
from pycompose.proto.v1 import control_pb2, node_pb2


class NodeCalls:
    """Get, List, Update and Remove of nodes; GetManager."""

    api: Api

    async def GetNode(
        self, request: control_pb2.GetNodeRequest, context: ServicerContext
    ) -> control_pb2.GetNodeResponse:
        """Return one node; the manager's own when none is named."""
        await self.api.fresh(request.stale_ok)
        if request.node:
            return control_pb2.GetNodeResponse(node=self.api.find(NODE, request.node))
        nodes = list(self.api.cache.all(NODE))
        own = self.api.cache.get(NODE, self.api.own()) or (nodes[0] if len(nodes) == 1 else None)
        if own is None:
            raise NotFoundError("node", "(own)", "no worker has connected yet; look at `pycompose node status`")
        return control_pb2.GetNodeResponse(node=own)

    async def ListNodes(
        self, request: control_pb2.ListNodesRequest, context: ServicerContext
    ) -> control_pb2.ListNodesResponse:
        """Return nodes by host name."""
        await self.api.fresh(request.stale_ok)
        found, token = self.api.list(NODE, request)
        return control_pb2.ListNodesResponse(nodes=found, version=self.api.version(), next_page_token=token)

    async def UpdateNode(
        self, request: control_pb2.UpdateNodeRequest, context: ServicerContext
    ) -> control_pb2.UpdateNodeResponse:
        """Replace a node's availability and labels."""

        if wrong := shape(request.spec):
            raise InvalidError(wrong)

        def change(copy: Object) -> list[Operation]:
            role = copy.spec.role
            copy.spec.CopyFrom(request.spec)
            copy.spec.role = request.spec.role or role
            return []

        await self.api.fresh()
        await self._check_role(self.api.require(NODE, request.node_id), request.spec.role, request.force)
        node = await self.api.update(NODE, request.node_id, request.version, change)
        return control_pb2.UpdateNodeResponse(node=node)

    async def _check_role(self, node: Object, role: int, force: bool) -> None:
        """Raise BlockedError when a node cannot get a role."""
        managing, manager = self.api.managing, node_pb2.NODE_ROLE_MANAGER
        if role == manager and node.spec.role != manager and managing is None:
            text = "the cluster's state is in a file of its only manager" if self.api.store.name == "sqlite" else ""
            raise BlockedError(
                f"there can be no further manager: {text or 'its etcd is not its own'}; make the cluster with "
                "pycompose cluster init, without --store",
                "STORE",
                node.id,
            )
        if role == node_pb2.NODE_ROLE_WORKER and managing is not None:
            await managing.check_removal(node.id, force)

    async def RemoveNode(
        self, request: control_pb2.RemoveNodeRequest, context: ServicerContext
    ) -> control_pb2.RemoveNodeResponse:
        """Forget a node; with force its tasks are given up."""
        await self.api.fresh()
        node: Object = self.api.require(NODE, request.node_id)
        if node.status.state == node_pb2.NODE_STATE_READY and not request.force:
            raise BlockedError(f"node {name_of(NODE, node)} is up; stop it first, or use force", "NODE_UP", node.id)
        if self.api.managing is not None:
            await self.api.managing.check_removal(node.id, request.force)
            await self.api.managing.remove(node.id)
            await self.api.fresh()
            node = self.api.require(NODE, request.node_id)
        operations: list[Operation] = [Delete(object_key(NODE, node.id))]
        operations += [Delete(object_key(TASK, task.id)) for task in self.api.cache.tasks_of_node(node.id)]
        size = self.api.store.max_operations
        compare = Compare(object_key(NODE, node.id), node.meta.version.number)
        for start in range(0, len(operations), size):
            part = operations[start : start + size]
            if await self.api.commit([compare] if start == 0 else [], part) is not None:
                raise BlockedError(f"node {name_of(NODE, node)} changed in between; try again", "CHANGED", node.id)
        return control_pb2.RemoveNodeResponse()

    async def GetManager(
        self, request: control_pb2.GetManagerRequest, context: ServicerContext
    ) -> control_pb2.GetManagerResponse:
        """Return version and identity of this manager."""
        cluster = self.api.cache.get(CLUSTER, CLUSTER_ID)
        return control_pb2.GetManagerResponse(
            cluster_id=cluster.id if cluster else "",
            cluster_name=cluster.spec.name if cluster else "",
            version=pycompose.__version__,
            store=self.api.store.name,
            store_version=self.api.version(),
            pid=os.getpid(),
        )
