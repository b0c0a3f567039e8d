"""NodeService: this machine's node, asked on this machine; how it comes into a cluster and out of it."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.proto import ports
from pycompose.proto.refusal import BlockedError, UnreachableError
from pycompose.proto.renewal import validity
from pycompose.proto.tls import Identity
from pycompose.proto.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
    task_pb2,
)
from pycompose.worker.agent.membership import Membership, folder

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent
    from pycompose.worker.agent.joining import Invitation

MANAGER_SECONDS, HEAR_SECONDS, STOP_SECONDS, LOOK_SECONDS = 10.0, 10.0, 120.0, 0.05
NAMED = 5


class NodeCalls(node_service_pb2_grpc.NodeServiceServicer):
    """Serves one agent's."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._changing = asyncio.Lock()

    async def GetLocal(
        self, request: node_service_pb2.GetLocalRequest, context: Any
    ) -> node_service_pb2.GetLocalResponse:
        """Return what the node is."""
        return self._local()

    def _local(self) -> node_service_pb2.GetLocalResponse:
        agent = self._agent
        here = Membership.load(agent.state)
        found = node_service_pb2.GetLocalResponse(
            node_id=agent.node_id(),
            hostname=agent.hostname,
            role=here.role,
            cluster_id=here.cluster_id,
            cluster_name=here.cluster_name,
            advertise_address=here.advertise,
            managers=agent.managers.addresses() if here.cluster_id else (),
            session=agent.session.target,
            problem=agent.problem(),
            tasks=len(agent.runners),
            containers_running=sum(
                runner.record.state == task_pb2.TASK_STATE_RUNNING for runner in agent.runners.values()
            ),
            starting_anew=here != agent.membership,
        )
        if here.cluster_id:
            try:
                ends = validity(Identity.load(folder(agent.state)).certificate)[1]
                found.certificate_ends.FromDatetime(ends)
            except (OSError, ValueError) as error:
                found.problem = f"this node's certificate cannot be read: {error}"
        return found

    # Joining.

    async def JoinCluster(
        self, request: node_service_pb2.JoinClusterRequest, context: Any
    ) -> node_service_pb2.JoinClusterResponse:
        """Join; nothing has changed when that fails."""
        from pycompose.worker.agent.joining import Invitation, join  # cryptography, which a single node does without

        agent = self._agent
        async with self._changing:
            self._check_settled()
            invitation = Invitation.parse(request.invitation)
            if not Membership.load(agent.state).cluster_id:
                await self._check_free(invitation)
            await join(
                agent.state,
                invitation,
                agent.node_id(),
                agent.description(),
                request.advertise_address,
                port=request.port or ports.WORKER,
                listen=request.listen_address,
            )
            agent.session.last(True)  # the worker that starts anew has the next one
            agent.moved.set()
            return node_service_pb2.JoinClusterResponse(node=self._local())

    def _check_settled(self) -> None:
        if Membership.load(self._agent.state) != self._agent.membership:
            raise UnreachableError("the node joined or left just now, and its worker is starting anew; try again")
        if self._agent.around:
            raise BlockedError(
                "this is an ordinary user's node, which other machines do not reach; a cluster takes root's nodes: "
                "sudo pycompose node join",
                "ROOTLESS",
            )

    async def _check_free(self, invitation: Invitation) -> None:
        """Raise BlockedError when this machine has something of its own that would be left behind."""
        agent = self._agent
        async with grpc.aio.insecure_channel(f"unix:{agent.run_dir}/api.sock") as channel:
            try:
                if await self._is_own(channel, invitation):
                    return
                stub = control_pb2_grpc.ControlServiceStub(channel)
                services = await stub.ListServices(control_pb2.ListServicesRequest(), timeout=MANAGER_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise UnreachableError(
                    "this machine's manager does not answer, which knows whether the node has projects of its own "
                    f"({error.details()}); look at pycompose node status"
                ) from None
        names = {one.spec.project or one.spec.name for one in services.services}
        names |= {runner.task.project or runner.task.name for runner in agent.runners.values()}
        if names:
            raise BlockedError(
                f"this node has projects or containers of its own: {_some(names)}; take them down first (pycompose -p "
                "NAME down, pycompose rm -f NAME), or make a cluster of this node and let others join it (pycompose "
                "cluster init)",
                "OWN_PROJECTS",
                ", ".join(sorted(names)),
            )

    async def _is_own(self, channel: grpc.aio.Channel, invitation: Invitation) -> bool:
        """Whether the invitation is to the cluster that this machine's manager is of. Raises BlockedError."""
        import ssl

        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        try:
            found = await stub.GetCluster(cluster_pb2.GetClusterRequest(), timeout=MANAGER_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
        pems = [f"{begin}{part}" for part in found.authorities.decode().split(begin)[1:]]
        ders = [ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)] + "\n") for pem in pems]
        if any(invitation.token.is_of(der) for der in ders):
            return True
        raise BlockedError(
            f"this machine's manager is of another cluster already, {found.cluster.spec.name}; a node is of one",
            "CLUSTER",
        )

    # Leaving.

    async def LeaveCluster(
        self, request: node_service_pb2.LeaveClusterRequest, context: Any
    ) -> node_service_pb2.LeaveClusterResponse:
        """Leave: tell the managers, stop what is here, forget the certificate."""
        agent = self._agent
        async with self._changing:
            self._check_settled()
            here = agent.membership
            if not here.cluster_id:
                raise BlockedError("this node is of no cluster", "SINGLE")
            if here.role == "manager":
                raise BlockedError(
                    f"this node is a manager of cluster {here.cluster_name}, and the cluster's managers do not leave; "
                    "make a worker of it first: pycompose node demote",
                    "MANAGER",
                )
            if request.drain:
                await self._drained()
            names = [runner.task.name for runner in agent.runners.values()]
            if names and not request.force:
                raise BlockedError(
                    f"tasks of the cluster are here: {_some(names)}; let them move first (pycompose node leave "
                    "--drain), or stop them with the node (--force)",
                    "TASKS",
                )
            heard = agent.removed or await self._said()
            if not heard and not request.force:
                raise UnreachableError(
                    "no manager answers, so that none would hear that this node leaves; with --force it leaves all "
                    "the same, and pycompose node rm on a manager forgets it"
                )
            agent.session.last(True)
            await self._stopped()
            await agent.close_elsewhere()
            (folder(agent.state) / "node.json").unlink(missing_ok=True)
            shutil.rmtree(folder(agent.state), ignore_errors=True)
            agent.moved.set()
            return node_service_pb2.LeaveClusterResponse(heard=heard)

    async def _drained(self) -> None:
        """Wait until the tasks are on other nodes; the caller says how long. Raises UnreachableError."""
        agent = self._agent
        if not agent.session.target:
            raise UnreachableError("no manager answers that could move this node's tasks; try again, or use --force")
        agent.say_leaving(drain=True)
        while agent.runners:
            await asyncio.sleep(LOOK_SECONDS)

    async def _said(self) -> bool:
        """Tell a manager that the node leaves; returns whether one has heard it: it ends the session."""
        agent = self._agent
        if not agent.session.target:
            return False
        agent.session.last(True)
        agent.say_leaving(drain=False)
        try:
            async with asyncio.timeout(HEAR_SECONDS):
                while agent.session.target:
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            agent.session.last(False)
            return False
        return True

    async def _stopped(self) -> None:
        """Stop and remove the tasks that are here; what takes too long is removed by the worker that starts anew."""
        agent = self._agent
        agent.want_nothing()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while agent.runners:
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return


def _some(names: set[str] | list[str]) -> str:
    """Return some of the names, for people."""
    every = sorted(names)
    rest = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + rest
