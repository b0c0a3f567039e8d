"""The agent: owns runtime, images, networks, volumes, the session to the manager, and one runner a task."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import secrets
import socket
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

import pycompose
from pycompose.proto.v1 import dispatcher_pb2, node_pb2, task_pb2
from pycompose.worker.agent import desired as wishes
from pycompose.worker.agent import mounting
from pycompose.worker.agent.desired import Desired
from pycompose.worker.agent.events import Events
from pycompose.worker.agent.files import SecretsHome
from pycompose.worker.agent.ids import UserNamespaces
from pycompose.worker.agent.membership import Managers, Membership
from pycompose.worker.agent.network_view import view_of, without_peers
from pycompose.worker.agent.peers import NodePeers
from pycompose.worker.agent.record import Record, Records
from pycompose.worker.agent.renewing import Renewing
from pycompose.worker.agent.runner import Runner
from pycompose.worker.agent.session import Session
from pycompose.worker.agent.shared import Cgroups, SharedMemory
from pycompose.worker.builder.cache import Cache
from pycompose.worker.images import ImageStore
from pycompose.worker.images.peering import Peering
from pycompose.worker.images.registries import Registries
from pycompose.worker.images.spreading import Spreading
from pycompose.worker.images.store import architecture
from pycompose.worker.network import etcfiles, hostports
from pycompose.worker.network.manager import NodeNetwork
from pycompose.worker.network.model import NetworkSpec, NetworkView, Underlay
from pycompose.worker.network.spanning import underlay_of
from pycompose.worker.rootless import doors, known
from pycompose.worker.runtime import cgroups
from pycompose.worker.runtime.client import ExitStatus, Runtime
from pycompose.worker.volumes import VolumeError, Volumes

if TYPE_CHECKING:
    from pycompose.worker.access.remote import RemoteDoor

log = logging.getLogger(__name__)
AT_ONCE = 8
REMEMBER_SECONDS = 0.05


class Agent:
    """Args: state, run: the node's directories; cgroup_parent: where containers' cgroups are made."""

    def __init__(self, state: Path, run: Path, cgroup_parent: str = "/pycompose", instance: str = "") -> None:
        self.state, self.run_dir, self.cgroup_parent = state, run, cgroup_parent
        self.hostname = socket.gethostname()
        self.records = Records(state / "agent" / "tasks")
        self.runtime = Runtime(run / "containers", cgroup_parent, self._exited)
        self.build_cache = Cache(state / "images" / "build-cache.json")
        self.images = ImageStore(state / "images", self.build_cache.held())
        self.registries = Registries(self.images)
        self.spreading = Spreading(self.images.blobs)
        self.around = known.load(run)
        """What is around an ordinary user's node, None: this is root's."""
        open_port = partial(doors.ask, run / known.DOORS) if self.around else hostports.reserve
        self.network = NodeNetwork(run, instance, self._described_anew, open_port)
        self.volumes = Volumes(state / "volumes")
        self.secrets = SecretsHome(run / "secrets")
        self.desired = Desired()
        self.busy = asyncio.Semaphore(AT_ONCE)
        self.events = Events()
        #: The network of builds' commands, while there are any.
        self.build_network: NetworkSpec | None = None
        #: Set once a manager has said what should be here.
        self.informed = asyncio.Event()
        self.runners: dict[str, Runner] = {}
        self.shared_memory = SharedMemory(run / "shm")
        self.user_namespaces = UserNamespaces(run / "userns")
        self.cgroups = Cgroups(cgroup_parent, state / "agent" / "cgroups", users=self.around is not None)
        self.cgroup_version = 1 if cgroups.mounted()[0] else 2
        self.servers: tuple[str, ...] = ()
        self.search: tuple[str, ...] = ()
        self.recovered = asyncio.Event()
        #: The node was started, and no manager has accepted that yet.
        self.node_started = False
        self._dirty: set[str] = set()
        self._gone: dict[str, task_pb2.TaskStatus] = {}
        self._places: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._new_description = False
        self._retry: asyncio.Task[None] | None = None
        self._memory: asyncio.TimerHandle | None = None
        self._batches: asyncio.Queue[dispatcher_pb2.AssignmentBatch] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.membership = Membership.load(state)
        self.managers = Managers(state, run)
        peers = NodePeers(state, self.membership, self.managers, self.node_id)
        self.peering = Peering(self.images, self.registries.downloads, self.spreading, peers)
        #: This node's address for networks' frames, None: its networks are its own.
        self.underlay: Underlay | None = None
        self.renewing = Renewing(state, self.managers, renewed=self._described_anew)
        #: What listens for managers and other nodes.
        self.remote: RemoteDoor | None = None
        #: What listens on api.sock while this machine has no manager.
        self.elsewhere: grpc.aio.Server | None = None
        #: Set when this process made the node join or leave.
        self.moved = asyncio.Event()
        self._leaving: dispatcher_pb2.Leaving | None = None
        self._removed = ""
        self.session = Session(
            self.managers.targets,
            self._hello,
            self._accepted,
            self._outgoing,
            self._batches.put_nowait,
            self.managers.heard,
            self._wake,
            self.managers.connect,
            self._was_removed,
            self.renewing.told,
            self._to_be,
        )

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something beside."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Serve until cancelled; containers go on."""
        async with self.runtime:
            await self.secrets.open()
            with contextlib.suppress(OSError):
                self.servers, self.search = etcfiles.parse_resolv_conf(Path("/etc/resolv.conf").read_text())
            await self._recover()
            self.recovered.set()
            try:
                await asyncio.gather(self.session.run(), self._reconcile(), *self._renewal())
            finally:
                for task in [*self._tasks, *([self._retry] if self._retry is not None else [])]:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                if self._memory is not None:
                    self._memory.cancel()
                    self._remember()
                await self.network.close(remove_all=not self.runners)
                if not self.runners:
                    self._leave_nothing()

    def _leave_nothing(self) -> None:
        """No container is left: give back what the kernel keeps for the node itself."""
        self.secrets.unmount()
        self.user_namespaces.close()
        for path in cgroups.directories(self.cgroup_parent) if self.cgroup_parent else ():
            with contextlib.suppress(OSError):
                os.rmdir(path)

    async def _recover(self) -> None:
        """Find again what ran before this agent."""
        if self.membership.cluster_id and self.around is None:
            self.underlay = underlay_of(self.membership.advertise, self.membership.data_port)
        states = {state.id: state for state in await self.runtime.recover()}
        known = self.records.load()
        wishes.fold(self.desired, self._remembered())
        await self.network.start({task.id for task, _, _ in known}, view_of(self.desired, self.underlay))
        self.user_namespaces.keep_only(task.id for task, _, _ in known)
        for task, spec, record in known:
            runner = Runner(self, task, spec, record)
            self.runners[task.id] = runner
            state = states.get(task.id)
            if state is not None and record.created:
                del states[task.id]
                runner.found(state)
            else:
                runner.lost()
            self.spawn(runner.run())
        for container_id in states:
            await self.runtime.delete(container_id, force=True)
        for container_id in set(self.images.snapshots()) - self.runners.keys():
            await self.images.release(container_id)

    async def _reconcile(self) -> None:
        while True:
            batches = [await self._batches.get()]
            while not self._batches.empty():
                batches.append(self._batches.get_nowait())
            folded = wishes.fold(self.desired, *batches)
            if folded.network:
                await self.apply_networks()
            self.informed.set()
            for name in folded.volumes:
                volume = self.desired.volumes.get(name)
                if volume is not None and volume.removing:
                    self.spawn(self._remove_volume(name))
            for task_id in folded.tasks | (self.runners.keys() if folded.complete else set()):
                try:
                    self._want(task_id)
                except OSError as error:
                    log.error("task %s: %s", task_id[:12], error)

    async def apply_networks(self) -> None:
        """Make the networks as they should be; what fails is tried again every second."""
        if self._retry is not None and self._retry is not asyncio.current_task():
            self._retry.cancel()
        self._retry = None
        try:
            await self.network.apply(self._view())
            self._remember_soon()
            failed = bool(self.network.network_problems)
        except Exception:
            log.exception("the networks could not be made as they should be")
            failed = True
        if failed:
            self._retry = asyncio.create_task(self._apply_later())

    async def _apply_later(self) -> None:
        await asyncio.sleep(1)
        await self.apply_networks()

    def _view(self) -> NetworkView:
        view = view_of(self.desired, self.underlay)
        return view if self.build_network is None else replace(view, networks=(*view.networks, self.build_network))

    async def _remove_volume(self, name: str) -> None:
        """Delete a volume's data, however long something holds it."""
        while True:
            try:
                await self.volumes.remove(name)
            except (VolumeError, OSError) as error:
                log.error("volume %s cannot be removed yet: %s", name, error)
                await asyncio.sleep(1)
                continue
            self.report_volume(name, "")
            return

    def _remember_soon(self) -> None:
        if self._memory is None:
            self._memory = asyncio.get_running_loop().call_later(REMEMBER_SECONDS, self._remember)

    def _remember(self) -> None:
        """Write down what concerns networks, for an agent that starts before a manager does."""
        self._memory = None
        path = self.run_dir / "network" / "view.pb"
        temporary = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.write_bytes(wishes.network_part(self.desired).SerializeToString())
            os.rename(temporary, path)

    def _remembered(self) -> dispatcher_pb2.AssignmentBatch:
        try:
            return dispatcher_pb2.AssignmentBatch.FromString((self.run_dir / "network" / "view.pb").read_bytes())
        except (OSError, DecodeError):
            return dispatcher_pb2.AssignmentBatch(complete=True)

    def _want(self, task_id: str) -> None:
        task = self.desired.tasks.get(task_id)
        runner = self.runners.get(task_id)
        if task is None:
            if runner is not None and not runner.done:
                runner.task.desired_state = task_pb2.DESIRED_STATE_REMOVED
                runner.wake.set()
            self._gone.pop(task_id, None)
            return
        if task_id in self._gone:
            self.report(task_id)
            return
        if runner is None:
            spec = self.desired.template(task)
            if spec is None:
                log.error("task %s: its template was not sent", task_id[:12])
                return
            runner = self.runners[task_id] = Runner(self, task, spec, Record())
            self.spawn(runner.run())
            self.report(task_id)
            return
        runner.task = task
        runner.save()
        runner.wake.set()

    def _exited(self, container_id: str, status: ExitStatus) -> None:
        runner = self.runners.get(container_id)
        if runner is not None:
            runner.ended(status)

    # Reporting.

    def report(self, task_id: str) -> None:
        """Tell the manager a task's status soon."""
        runner = self.runners.get(task_id)
        if runner is not None and runner.done:
            self._gone[task_id] = runner.record.status()
            del self.runners[task_id]
        self._dirty.add(task_id)
        self._wake.set()

    def report_volume(self, name: str, mountpoint: str) -> None:
        """Tell the manager where a volume's data is ("": it is gone)."""
        self._places[name] = mountpoint
        self._wake.set()

    def _status(self, task_id: str) -> task_pb2.TaskStatus | None:
        runner = self.runners.get(task_id)
        return runner.record.status() if runner is not None else self._gone.get(task_id)

    def _batch(self, task_ids: set[str]) -> dispatcher_pb2.StatusBatch:
        batch = dispatcher_pb2.StatusBatch()
        for task_id in task_ids:
            status = self._status(task_id)
            if status is not None:
                batch.tasks.add(task_id=task_id, status=status)
        for name, mountpoint in self._places.items():
            batch.volumes.add(volume=name, mountpoint=mountpoint)
        self._places.clear()
        return batch

    def _outgoing(self) -> list[dispatcher_pb2.SessionRequest]:
        dirty, self._dirty = self._dirty, set()
        batch = self._batch(dirty)
        requests = []
        if batch.tasks or batch.volumes:
            requests.append(dispatcher_pb2.SessionRequest(status=batch))
        if self._new_description:
            self._new_description = False
            requests.append(dispatcher_pb2.SessionRequest(description=self.description()))
        if self._leaving is not None:
            requests.append(dispatcher_pb2.SessionRequest(leaving=self._leaving))
            self._leaving = None
        return requests

    def _described_anew(self) -> None:
        self._new_description = True
        self._wake.set()

    # Membership.

    def _renewal(self) -> list[Coroutine[Any, Any, None]]:
        return [self.renewing.run()] if self.membership.cluster_id else []

    @property
    def removed(self) -> bool:
        """Whether a manager said that this node is of its cluster no longer."""
        return bool(self._removed)

    def problem(self) -> str:
        """Return what is wrong with this node's place in its cluster; "": nothing."""
        return self._removed or self.renewing.problem or (self.remote.problem if self.remote else "")

    def say_leaving(self, *, drain: bool) -> None:
        """Tell the manager that this node leaves, or that its tasks are to move before it does."""
        self._leaving = dispatcher_pb2.Leaving(drain=drain)
        self._wake.set()

    def _was_removed(self, why: str) -> None:
        """This node is of its cluster no longer: what ran here runs elsewhere."""
        if not self._removed:
            log.error("%s; its tasks are stopped", why)
            self._removed = why
            self.want_nothing()

    def _to_be(self, role: node_pb2.NodeRole.ValueType) -> None:
        """A manager says what this node is to be: a manager's process comes or goes, and this worker starts anew."""
        word = {node_pb2.NODE_ROLE_WORKER: "worker", node_pb2.NODE_ROLE_MANAGER: "manager"}.get(role, "")
        if word and self.membership.cluster_id and word != self.membership.role:
            self.spawn(self._become(word))

    async def _become(self, role: str) -> None:
        await self.close_elsewhere()
        self.managers.become(role)
        self.moved.set()

    def want_nothing(self) -> None:
        """Stop and remove all tasks."""
        self._batches.put_nowait(dispatcher_pb2.AssignmentBatch(complete=True))

    async def close_elsewhere(self) -> None:
        """Make room on api.sock for a manager of this machine's own."""
        if self.elsewhere is not None:
            await self.elsewhere.stop(0.2)

    def _hello(self) -> dispatcher_pb2.SessionHello:
        self._dirty.clear()
        self._new_description = False
        everything = self._batch(self.runners.keys() | self._gone.keys())
        return dispatcher_pb2.SessionHello(
            node_id=self.node_id(),
            description=self.description(),
            status=everything,
            stopped_before_start=self._stopped_before() if self.node_started else (),
        )

    def _stopped_before(self) -> list[str]:
        """Tasks that were down by request when the node was started; what a manager said since then is not here yet."""
        stopped = task_pb2.DESIRED_STATE_STOPPED
        return [one.id for one in self.runners.values() if one.task.desired_state == stopped and one.record.run]

    def _accepted(self) -> None:
        self.node_started = False
        self._removed = ""

    def node_id(self) -> str:
        """Return this node's id, chosen at its first start."""
        path = self.state / "agent" / "node-id"
        if not path.exists():
            path.write_text("".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(25)))
        return path.read_text()

    def description(self) -> node_pb2.NodeDescription:
        """Return what this machine is."""
        release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
        found = node_pb2.NodeDescription(
            hostname=self.hostname,
            platform=f"linux/{architecture()}",
            engine_version=pycompose.__version__,
            kernel_version=os.uname().release,
            operating_system=release.get("PRETTY_NAME", "Linux"),
            cgroup_version=self.cgroup_version,
            access_address=self._access_address(),
            warnings=[
                *(self.around.warnings if self.around else ()),
                *self.network.warnings(),
                *without_peers(self.membership.advertise, self.underlay, member=bool(self.membership.cluster_id)),
            ],
            routes=self.network.foreign_routes(),
            trust=self.renewing.word() if self.membership.cluster_id else "",
            data_address=str(self.underlay.address) if self.underlay else "",
            data_port=self.underlay.port if self.underlay else 0,
        )
        found.resources.nano_cpus = (os.cpu_count() or 1) * 1_000_000_000
        found.resources.memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return found

    def _access_address(self) -> str:
        """Return where managers find this node's task access."""
        here = self.membership
        return f"{here.advertise}:{here.worker_port}" if here.cluster_id else f"unix:{self.run_dir}/worker.sock"

    # Questions of runners and of the access server.

    async def release_volumes(self, leaving: Runner) -> None:
        """A container goes: what only it used of volumes goes too, anonymous ones whole, named ones their mounts."""
        others = [runner.record for runner in self.runners.values() if runner is not leaving and not runner.done]
        mine = set() if leaving.task.keeps_volumes else {*leaving.record.volumes, *self._volumes_of_slot(leaving.task)}
        for name in mine:
            if not any(name in record.volumes for record in others):
                await self.volumes.remove(name)
        for name in leaving.record.named_volumes:
            if not any(name in record.named_volumes for record in others):
                await self.volumes.release(name)

    def _volumes_of_slot(self, task: task_pb2.Task) -> list[str]:
        prefix = mounting.slot_prefix(task)
        return [name for name in self.volumes.names() if name.startswith(prefix)]

    def network_path(self, container_id: str) -> Path:
        """Return the path of a container's network namespace."""
        return self.run_dir / "netns" / container_id

    def neighbour(self, task: task_pb2.Task, mode: str) -> Runner | None:
        """Return the runner that "service:NAME" or "container:ID" means."""
        kind, _, name = mode.partition(":")
        for runner in self.runners.values():
            other = runner.task
            if kind == "service" and (other.project, other.service_name) == (task.project, name):
                return runner
            if kind == "container" and (other.name == name or other.id.startswith(name)):
                return runner
        return None

    def port_problem(self, task: task_pb2.Task) -> str:
        """Return why a published port of the task's service cannot be had; "" when all are."""
        problems = self.network.port_problems.items()
        return next((text for port, text in problems if port.service_id == task.service_id), "")

    def oci_of(self, container_id: str) -> dict[str, Any]:
        """Return the container's OCI configuration."""
        path = self.runtime.state_dir / container_id / "config.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def in_use(self) -> dict[str, list[str]]:
        """Return image id -> names of the containers that use it."""
        users: dict[str, list[str]] = {}
        for runner in self.runners.values():
            for image_id in {runner.record.image_id, *runner.record.image_mounts} - {""}:
                users.setdefault(image_id, []).append(runner.task.name)
        return users
