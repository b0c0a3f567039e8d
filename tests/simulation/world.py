"""A manager and its workers in one thread, without clock, socket or disk: real cores, random events, one seed.

The store is a dictionary; the cache, the controller, the control API, the assignments and the status writer are the
manager's own. Workers are pretended: they follow their assignments, run, fail, restart and report, late or not at
all. Every step is written down, so that a failure can be read as a story and comes again with its seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.manager import states
from pycompose.manager.allocator import Pools, own_range, serving
from pycompose.manager.cache import Cache
from pycompose.manager.control import Api, ControlServicer
from pycompose.manager.dispatcher import assignments, statuses
from pycompose.manager.engine import Controller
from pycompose.manager.model import NETWORK, NODE, REVISION, SERVICE, TASK, Codec, object_key
from pycompose.manager.orchestrator import update
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import (
    Batch,
    Compare,
    Delete,
    Event,
    KeyValue,
    Operation,
    Put,
    Range,
    Revision,
    TransactionResult,
)
from pycompose.proto.refusal import Refusal
from pycompose.proto.v1 import control_pb2 as api
from pycompose.proto.v1 import dispatcher_pb2, network_pb2, node_pb2, service_pb2, task_pb2

T = task_pb2


class Rows:
    """The store: keys, revisions, and who hears of changes at once."""

    name, max_operations, epoch = "rows", 16, "simulated"

    def __init__(self) -> None:
        self.items: dict[str, tuple[bytes, int, int]] = {}
        self.number = 0
        self.hear: Callable[[Batch], None] = lambda batch: None

    def write(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        failed = [c.key for c in compares if self.items.get(c.key, (b"", 0, 0))[2] != c.mod_revision]
        assert len(operations) <= self.max_operations
        assert len({op.key for op in operations}) == len(operations)
        if failed:
            return TransactionResult(False, Revision(self.epoch, self.number), tuple(failed))
        number, events = self.number + 1, []
        for op in operations:
            old = self.items.get(op.key)
            if isinstance(op, Put):
                self.items[op.key] = (op.value, old[1] if old else number, number)
                events.append(Event(op.key, op.value, number, created=old is None))
            elif old is not None:
                del self.items[op.key]
                events.append(Event(op.key, None, number, previous=old[0]))
        if events:
            self.number = number
            self.hear(Batch(Revision(self.epoch, number), tuple(events)))
        return TransactionResult(True, Revision(self.epoch, self.number))

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        return self.write(compares, operations)

    async def revision(self) -> Revision:
        return Revision(self.epoch, self.number)

    async def get(self, key: str) -> KeyValue | None:
        item = self.items.get(key)
        return None if item is None else KeyValue(key, *item)

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        found = [KeyValue(k, *v) for k, v in sorted(self.items.items()) if k.startswith(prefix) and k > after]
        more = bool(limit) and len(found) > limit
        return Range(Revision(self.epoch, self.number), tuple(found[: limit or None]), more)


@dataclass
class Worker:
    """One node: what it was told and what its containers are."""

    node_id: str
    sent: assignments.Wanted = field(default_factory=dict)
    tasks: dict[str, T.Task] = field(default_factory=dict)
    status: dict[str, T.TaskStatus] = field(default_factory=dict)
    unsent: list[str] = field(default_factory=list)
    connected: bool = True


class World:
    """Everything. `step` does one random thing, `check` says what is wrong."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.chance = random.Random(seed)
        self.story: list[str] = []
        self.now = 1_000_000.0
        self.rows = Rows()
        self.codec = Codec(Sealer(bytes(32)))
        self.runner = asyncio.Runner()
        self.workers = {f"n{number}": Worker(f"n{number}") for number in range(nodes)}
        self.calm = False
        self.start_manager()
        for worker in self.workers.values():
            self.node(worker, node_pb2.NODE_STATE_READY)
        for name in ("front", "back"):
            spec = network_pb2.NetworkSpec(name=name, project="p")
            if name == "back":
                spec.subnets.add(subnet="10.9.0.0/28")  # room for 13 addresses
            self.call(self.control.CreateNetwork(api.CreateNetworkRequest(spec=spec), None))  # type: ignore[arg-type]

    # The manager.

    def start_manager(self) -> None:
        """A new process: everything in memory is new."""
        self.cache = Cache(self.rows, self.codec)  # type: ignore[arg-type]
        self.runner.run(self.cache.load())
        self.rows.hear = self.cache.apply
        self.controller = Controller(self.cache, self.codec, Pools(), self.rows.max_operations, self.new_id)
        self.cache.listen(lambda changes: self.controller.hear(changes, self.now))
        self.control = ControlServicer(Api(self.rows, self.cache, self.codec, lambda: self.now, self.new_id))  # type: ignore[arg-type]
        self.wake_at: float | None = None

    def new_id(self) -> str:
        return f"{self.chance.randrange(1 << 64):016x}"

    def engine(self, disturb: bool = False) -> None:
        """One pass; with `disturb` others write between its decision and its writes."""
        writes, self.wake_at = self.controller.decide(self.now)
        if disturb:
            self.report(self.some(list(self.workers.values())))
        stale = False
        for write in writes:
            if stale or not self.rows.write(write.compares, write.operations).succeeded:
                self.controller.refused(write)
                stale = stale or "" in write.concerns
            if disturb and self.chance.random() < 0.3:
                self.report(self.some(list(self.workers.values())))
            if disturb and self.chance.random() < 0.1:
                self.tell("the manager is killed amid a pass")
                self.start_manager()
                return

    def node(self, worker: Worker, state: int) -> None:
        node = node_pb2.Node(id=worker.node_id)
        current = self.cache.get(NODE, worker.node_id)
        if current is not None:
            node.CopyFrom(current)
        node.status.state = state  # type: ignore[assignment]
        node.description.hostname = f"host-{worker.node_id}"
        node.description.platform = "linux/amd64"
        self.rows.write([], [self.codec.put(NODE, worker.node_id, node)])

    # Workers.

    def assign(self, worker: Worker) -> None:
        """The worker hears what changed (or everything, when it connected anew)."""
        wanted = assignments.wanted(self.cache, worker.node_id)
        for change in assignments.difference(worker.sent, wanted):
            if change.WhichOneof("object") == "task":
                if change.remove:
                    worker.tasks.pop(change.task.id, None)
                else:
                    worker.tasks[change.task.id] = change.task
        worker.sent = wanted

    def work(self, worker: Worker) -> None:
        """The worker brings one of its tasks a step on."""
        names = sorted(worker.tasks.keys() | worker.status.keys())
        if not names:
            return
        task_id = self.some(names)
        task = worker.tasks.get(task_id)
        old = worker.status.get(task_id)
        status = T.TaskStatus()
        if old is not None:
            status.CopyFrom(old)
        if not self._advance(task, status):
            return
        status.since.FromNanoseconds(int(self.now * 1e9))
        self.tell(f"{worker.node_id}: {task.name if task else task_id[:12]} is {states.name(status.state)}")
        if status.state == T.TASK_STATE_REMOVE and task is None:
            del worker.status[task_id]
            return
        worker.status[task_id] = status
        worker.unsent.append(task_id)

    def _advance(self, task: T.Task | None, status: T.TaskStatus) -> bool:
        state, bad = status.state, not self.calm and self.chance.random() < 0.15
        if state == T.TASK_STATE_REMOVE:
            return task is None
        if task is None or task.desired_state == T.DESIRED_STATE_REMOVED:
            status.state = T.TASK_STATE_SHUTDOWN if state == T.TASK_STATE_RUNNING else T.TASK_STATE_REMOVE
            return True
        if state == T.TASK_STATE_UNSPECIFIED:
            status.state = T.TASK_STATE_ACCEPTED
            return True
        if task.desired_state == T.DESIRED_STATE_STOPPED:
            status.state = T.TASK_STATE_SHUTDOWN
            return state not in states.ENDED
        if task.desired_state == T.DESIRED_STATE_CREATED and state in (T.TASK_STATE_READY, *states.ENDED):
            return False
        asked = task.run_request > status.run_request
        if state == T.TASK_STATE_RUNNING and asked:
            status.state = T.TASK_STATE_SHUTDOWN
            return True
        if state in states.ENDED:
            if not asked and (self.calm or self.chance.random() < 0.5):
                return False
            if not asked and state == T.TASK_STATE_REJECTED:
                return False
            status.restarts = 0 if asked else status.restarts + 1
            status.state = T.TASK_STATE_STARTING
            return True
        if bad and state in (T.TASK_STATE_PREPARING, T.TASK_STATE_STARTING):
            status.state = T.TASK_STATE_REJECTED if state == T.TASK_STATE_PREPARING else T.TASK_STATE_FAILED
            status.run_request = task.run_request
            status.error = "bad luck"
            return True
        if state == T.TASK_STATE_RUNNING:
            if bad:
                status.state = self.some([T.TASK_STATE_FAILED, T.TASK_STATE_COMPLETE])
                status.finished_at.FromNanoseconds(int(self.now * 1e9))
            return bad
        status.state = {
            T.TASK_STATE_ACCEPTED: T.TASK_STATE_PREPARING,
            T.TASK_STATE_PREPARING: T.TASK_STATE_READY,
            T.TASK_STATE_READY: T.TASK_STATE_STARTING,
            T.TASK_STATE_STARTING: T.TASK_STATE_RUNNING,
        }[state]
        if status.state == T.TASK_STATE_RUNNING:
            status.run += 1
            status.run_request = task.run_request
            status.error = ""
            status.started_at.FromNanoseconds(int(self.now * 1e9))
        return True

    def report(self, worker: Worker) -> None:
        """The worker's words reach the store."""
        if not worker.connected:
            return
        unsent, worker.unsent = list(dict.fromkeys(worker.unsent)), []
        for task_id in unsent:
            if task_id in worker.status:
                self._store_status(worker, task_id)

    def _store_status(self, worker: Worker, task_id: str) -> None:
        write = statuses.task_write(self.cache, self.codec, worker.node_id, task_id, worker.status[task_id])
        if write is not None:
            assert self.rows.write([write[0]], [write[1]]).succeeded
        if worker.status[task_id].state == T.TASK_STATE_REMOVE and self.cache.get(TASK, task_id) is None:
            del worker.status[task_id]

    def connect(self, worker: Worker) -> None:
        """A new session: hello with all statuses, then everything anew."""
        worker.connected = True
        self.node(worker, node_pb2.NODE_STATE_READY)
        for task_id in list(worker.status):
            self._store_status(worker, task_id)
        worker.sent, worker.tasks, worker.unsent = {}, {}, []
        self.assign(worker)

    # Clients.

    def call(self, call: Any) -> Any:
        """A client's call; a refusal is an answer too."""

        async def limited() -> Any:
            async with asyncio.timeout(10):
                return await call

        try:
            return self.runner.run(limited())
        except Refusal as refusal:
            self.tell(f"  refused: {refusal.message}")
            return None

    def services(self) -> list[service_pb2.Service]:
        return sorted(self.cache.all(SERVICE), key=lambda service: str(service.spec.name))

    def create(self) -> None:
        names = {f"s{number}" for number in range(4)} - {service.spec.name for service in self.services()}
        if not names:
            return
        spec = service_pb2.ServiceSpec(name=self.some(sorted(names)), project="p")
        spec.task.container.image = "one"
        spec.task.restart.condition = service_pb2.RESTART_CONDITION_ANY
        mode = self.some(["replicated", "replicated", "replicated", "global", "job"])
        if mode == "replicated":
            spec.replicated.replicas = self.chance.randrange(6)
        elif mode == "global":
            getattr(spec, "global").SetInParent()
        else:
            spec.replicated_job.completions = self.chance.randrange(1, 5)
            spec.replicated_job.max_concurrent = self.chance.randrange(3)
        for name in self.chance.sample(["front", "back"], self.chance.randrange(3)):
            spec.task.networks.add(network=name)
        for _ in range(self.chance.randrange(3)):
            port = spec.endpoint.ports.add(target_port=self.chance.randrange(1, 100))
            port.published_port = self.some([0, 0, 8000, 8001])
            if port.published_port and self.chance.random() < 0.3:
                port.published_port_end = port.published_port + 3
            port.publish_mode = self.some([0, service_pb2.PUBLISH_MODE_HOST])
        self._update_config(spec)
        others = [service.spec.name for service in self.services()]
        if others and self.chance.random() < 0.3:
            spec.dependencies.add(service=self.some(others), required=True)
        self.tell(f"create {spec.name}: {mode}")
        self.call(self.control.CreateService(api.CreateServiceRequest(spec=spec), None))  # type: ignore[arg-type]

    def _update_config(self, spec: service_pb2.ServiceSpec) -> None:
        if self.chance.random() < 0.6:
            spec.update.parallelism = self.chance.randrange(3)
            spec.update.order = self.some([0, 1, 2])
            spec.update.failure_action = self.some([0, 1, 2, 3])
            spec.update.monitor.seconds = self.chance.randrange(5)
            spec.update.max_failure_ratio = self.some([0.0, 0.3])
            spec.update.delay.seconds = self.some([0, 0, 3])

    def change(self) -> None:
        services = self.services()
        if not services:
            return
        service = self.some(services)
        spec = service_pb2.ServiceSpec()
        spec.CopyFrom(service.spec)
        what = self.some(["image", "scale", "force", "remove", "back", "remove"])
        self.tell(f"{what} {spec.name}")
        if what == "remove":
            self.call(self.control.RemoveService(api.RemoveServiceRequest(service_id=service.id), None))  # type: ignore[arg-type]
            return
        if what == "back":
            request = api.RollbackServiceRequest(service_id=service.id, version=service.meta.version)
            self.call(self.control.RollbackService(request, None))  # type: ignore[arg-type]
            return
        if what == "image":
            spec.task.container.image = f"image-{self.chance.randrange(100)}"
            self._update_config(spec)
        elif what == "force":
            spec.force_recreate += 1
        elif spec.WhichOneof("mode") == "replicated":
            spec.replicated.replicas = self.chance.randrange(6)
        update = api.UpdateServiceRequest(service_id=service.id, version=service.meta.version, spec=spec)
        self.call(self.control.UpdateService(update, None))  # type: ignore[arg-type]

    def touch(self) -> None:
        tasks = sorted(self.cache.all(TASK), key=lambda task: (str(task.name), str(task.id)))
        if not tasks:
            return
        chosen = self.chance.sample(tasks, min(len(tasks), self.chance.randrange(1, 4)))
        verb = self.some(["Start", "Stop", "Restart", "Remove"])
        self.tell(f"{verb} {', '.join(task.name for task in chosen)}")
        request = getattr(api, f"{verb}TasksRequest")(task_ids=[task.id for task in chosen])
        self.call(getattr(self.control, f"{verb}Tasks")(request, None))

    # Time.

    def step(self) -> None:
        """One random thing."""
        worker = self.some(list(self.workers.values()))
        draw = self.chance.random()
        if draw < 0.42:
            self.work(worker)
        elif draw < 0.60:
            self.report(worker)
        elif draw < 0.70 and worker.connected:
            self.assign(worker)
        elif draw < 0.80:
            self.engine(disturb=self.chance.random() < 0.5)
        elif draw < 0.84:
            self.create()
        elif draw < 0.88:
            self.change()
        elif draw < 0.91:
            self.touch()
        elif draw < 0.94:
            self.now += self.some([0.1, 1.0, 5.0, 61.0])
            if self.wake_at is not None and self.now >= self.wake_at:
                self.controller.everything()
        elif draw < 0.97:
            self.tell(f"{worker.node_id} {'goes' if worker.connected else 'comes'}")
            if worker.connected:
                worker.connected = False
                self.node(worker, node_pb2.NODE_STATE_DOWN)
            else:
                self.connect(worker)
        else:
            self.tell("the manager is killed")
            self.start_manager()

    def settle(self, rounds: int = 2000) -> None:
        """Everything goes well until nothing changes any more."""
        self.calm = True
        self.tell("from now on all goes well")
        for worker in self.workers.values():
            self.connect(worker)
        quiet = 0
        for _ in range(rounds):
            before = self.rows.number
            self.now += 2.0
            self.controller.everything()
            while self.controller.dirty:
                self.engine()
                if self.rows.number == before:
                    break
            for worker in self.workers.values():
                self.assign(worker)
                for _ in range(2 * len(worker.tasks.keys() | worker.status.keys())):
                    self.work(worker)
                self.report(worker)
            quiet = quiet + 1 if self.rows.number == before else 0
            if quiet == 10:
                return
        raise AssertionError("it never comes to rest")

    # What must hold.

    def check(self) -> None:
        """Raises AssertionError."""
        tasks = list(self.cache.all(TASK))
        assert states.check_invariants(tasks) == []
        services = {service.id: service for service in self.cache.all(SERVICE)}
        held = {(v.network_id, v.address) for s in services.values() for v in s.endpoint.virtual_addresses}
        places = [(a.network_id, a.address.split("/")[0]) for t in tasks for a in t.attachments if a.address]
        assert not held & set(places), "a task has a service's virtual address"
        assert self.controller.allocator.holders().keys() == held | set(places)
        ports = [
            (port.protocol or 1, port.published_port)
            for service in services.values()
            for port in service.endpoint.ports
            if port.published_port and not own_range(port)
            if serving(service, self.cache.tasks_of_service(service.id))
        ]
        assert len(ports) == len(set(ports)), "two services publish one port"

    def check_rest(self) -> None:
        """What must hold once nothing changes any more."""
        self.check()
        for service in self.services():
            assert not service.removing, f"{service.spec.name} is still being removed"
            tasks = self.cache.tasks_of_service(service.id)
            assert all(task.desired_state != T.DESIRED_STATE_REMOVED for task in tasks), service.spec.name
            mode = service.spec.WhichOneof("mode")
            if mode == "replicated":
                wanted = set(range(1, service.spec.replicated.replicas + 1))
            elif mode == "global":
                wanted = set(self.workers)
            else:
                wanted = set(range(1, service.spec.replicated_job.completions + 1))
            found = {task.node_id if mode == "global" else task.slot for task in tasks}
            if mode == "replicated_job":
                assert found <= wanted, service.spec.name
            else:
                assert found == wanted, service.spec.name
            paused = service.update_status.state in update.PAUSED
            waits = any(task.status.state == T.TASK_STATE_PENDING for task in tasks)
            beside = service.update_status.state in update.MOVING and "old ones beside" in service.update_status.message
            if not paused and not waits and not beside:
                assert {task.revision for task in tasks} <= {service.revision}, service.spec.name
                assert len(tasks) == len(found), service.spec.name
            for task in tasks:
                if task.status.state == T.TASK_STATE_PENDING:
                    assert task.status.message, "a task waits and nobody says why"
        owners = {
            row.split(".")[0] for row in (key.rsplit("/", 1)[1] for key in self.rows.items if "/revision/" in key)
        }
        assert owners == {service.id for service in self.services()}, "templates of services that are gone"
        names = {key for key in self.rows.items if key.startswith("/name/service/")}
        assert names == {f"/name/service/p/{service.spec.name}" for service in self.services()}
        for worker in self.workers.values():
            placed = self.cache.tasks_of_node(worker.node_id)
            stored = {task.id for task in placed if task.status.state != T.TASK_STATE_PENDING}
            assert worker.status.keys() == stored, f"{worker.node_id} has containers that nobody knows"

    def some(self, items: Sequence[Any]) -> Any:
        return items[self.chance.randrange(len(items))]

    def tell(self, line: str) -> None:
        self.story.append(line)


__all__ = ["NETWORK", "REVISION", "Delete", "World", "dispatcher_pb2", "object_key"]
