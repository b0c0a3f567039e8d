"""One task's steps, carried out one after another; ``machine.decide`` says which."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.proto import vocabulary
from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2
from pycompose.worker.agent import files, health, hooks, machine, preparation, provision
from pycompose.worker.agent.machine import Step
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.agent.record import Record
from pycompose.worker.images import ImageError
from pycompose.worker.network.errors import NetworkError
from pycompose.worker.runtime.client import ContainerState, ExitStatus
from pycompose.worker.runtime.errors import RuntimeFault, StartError, WrongState
from pycompose.worker.volumes import VolumeError

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent

log = logging.getLogger(__name__)
REFUSALS = (SpecError, ImageError, NetworkError, VolumeError)
GIVER_LOOK_NS = 200_000_000


def now() -> int:
    """Return ns since the epoch."""
    return time.time_ns()


def signal_number(text: str) -> int:
    """Return the number of "SIGTERM", "TERM", "15" or "SIGRTMIN+3". Raises SpecError."""
    found = vocabulary.signal_number(text)
    if found is None:
        raise SpecError(f"there is no signal {text!r}; see signal(7)")
    return found


@dataclass
class Runner:
    """Owns one task of this node."""

    agent: Agent
    task: task_pb2.Task
    spec: service_pb2.TaskSpec
    record: Record
    running: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    done: bool = False
    #: What each start needs was made with the container just now.
    renewed: bool = False
    _health: asyncio.Task[None] | None = None
    _hooks: asyncio.Task[None] | None = None
    _hook_problem: str = ""

    @property
    def id(self) -> str:
        """The task's and the container's id."""
        return self.task.id

    @property
    def home(self) -> Path:
        """The task's directory."""
        return self.agent.records.home(self.id)

    @property
    def volatile(self) -> Path:
        """The task's directory for what a reboot may take."""
        return self.agent.secrets.directory / self.id

    @property
    def log_path(self) -> Path:
        """The current file of the container's log."""
        return self.home / "log.json"

    async def run(self) -> None:
        """Carry out steps until the task is removed."""
        try:
            self.save()
        except OSError as error:  # the disk is full
            with contextlib.suppress(OSError):
                self._reject(error)
        while not self.done:
            self.wake.clear()
            step = machine.decide(self.task, self.spec.restart, self.record, self.running, now())
            try:
                giver = preparation.waits_for(self) if step.step is Step.START else ""
                if giver:
                    self.say(f"waiting for {giver}, whose namespaces it shares, to run")
                    await self._wait(now() + GIVER_LOOK_NS)
                elif step.step is Step.WAIT:
                    self._say_next(step.until_ns)
                    await self._wait(step.until_ns)
                elif not self._may(step.step):
                    await self._wait_for_word()
                elif step.step in (Step.STOP, Step.REMOVE):  # wait for containers, most of the time
                    await getattr(self, f"_{step.step.value}")()
                elif step.step is not Step.CREATE or await self._provided():
                    async with self.agent.busy:
                        await getattr(self, f"_{step.step.value}")()
            except Exception as error:
                log.exception("task %s: %s", self.id[:12], step.step.value)
                with contextlib.suppress(OSError):  # the disk may be full: the state in memory is told all the same
                    self.tell(task_pb2.TASK_STATE_FAILED, error=f"{step.step.value} failed: {error}")
                await asyncio.sleep(1)

    def _may(self, step: Step) -> bool:
        """Whether a step can be taken: before a manager said what there should be, only what needs nothing new.

        A restart by policy needs no manager as long as the container's namespace, secrets and configs are there, which
        a reboot takes away.
        """
        if self.agent.informed.is_set() or step not in (Step.CREATE, Step.START):
            return True
        own = [str(number) for number in range(len(self.spec.container.secrets))]
        own += [f"config-{number}" for number in range(len(self.spec.container.configs))]
        if not self.spec.network_mode.startswith(("service:", "container:")):
            own += files.ETC_NAMES
        return (
            step is Step.START
            and all((self.volatile / name).exists() for name in own)
            and (self.spec.network_mode == "host" or self.agent.network.has(self.id))
        )

    async def _wait_for_word(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self.agent.informed, self.wake)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait(self, until_ns: int) -> None:
        self.renewed = False
        timeout = max(0.001, (until_ns - now()) / 1e9) if until_ns else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), timeout)

    def _say_next(self, until_ns: int) -> None:
        if self.record.next_restart_ns != until_ns and not self.running:
            self.record.next_restart_ns = until_ns
            self.save()
            self.agent.report(self.id)
        if (
            self.task.desired_state == task_pb2.DESIRED_STATE_STOPPED
            and not self.running
            and self.record.state in (task_pb2.TASK_STATE_ACCEPTED, task_pb2.TASK_STATE_READY)
        ):
            self.tell(task_pb2.TASK_STATE_SHUTDOWN)

    def save(self) -> None:
        """Write the record down."""
        self.agent.records.save(self.task, self.spec, self.record)

    def warn(self, text: str) -> None:
        """Note something of the spec that this node does without."""
        if text not in self.record.warnings:
            self.record.warnings.append(text)

    def say(self, message: str) -> None:
        """Report what is waited for, once."""
        if self.record.message != message:
            self.record.message = message
            self.save()
            self.agent.report(self.id)

    def tell(self, state: int, message: str = "", error: str = "") -> None:
        """Write a state down and report it."""
        self.record.state, self.record.message, self.record.error = state, message, error
        self.record.since_ns = now()
        try:
            if state != task_pb2.TASK_STATE_REMOVE:
                self.save()
        finally:
            self.agent.report(self.id)

    def happened(self, action: str, **attributes: str) -> None:
        """Tell listeners of events."""
        self.agent.events.tell(self.task, self.spec, action, **attributes)

    # Steps.

    async def _provided(self) -> bool:
        """Have the image on the node; False when the task has to be looked at again."""
        try:
            return await provision.provide(self)
        except REFUSALS as error:
            self._reject(error)
            return False

    def _reject(self, error: Exception) -> None:
        self.record.run_request = self.task.run_request
        self.tell(task_pb2.TASK_STATE_REJECTED, error=str(error))

    async def _create(self) -> None:
        self.record.run_request = max(self.record.run_request, 0)
        try:
            await preparation.prepare(self)
        except REFUSALS as error:
            self._reject(error)
            return
        self.record.created = True
        if self.record.run:  # made anew after a reboot: it is what it was
            self.save()
            return
        self.happened("create")
        self.tell(task_pb2.TASK_STATE_READY)

    async def _start(self) -> None:
        record = self.record
        by_policy = record.run_request >= self.task.run_request and record.run > 0
        if by_policy and machine.good_run(self.spec.restart, record):
            record.restarts = 0
        record.restarts = record.restarts + 1 if by_policy else 0
        record.run_request = max(record.run_request, self.task.run_request)
        record.next_restart_ns, record.start_failed = 0, False
        await self.agent.network.try_ports()
        problem = self.agent.port_problem(self.task)
        if problem:
            record.start_failed, record.finished_ns = True, now()
            self.tell(task_pb2.TASK_STATE_FAILED, error=problem)
            return
        self.tell(task_pb2.TASK_STATE_STARTING)
        try:
            joins = await preparation.renew(self)
            record.pid = await self.agent.runtime.start(self.id, joins)
        except (StartError, *REFUSALS) as error:
            record.start_failed, record.finished_ns = True, now()
            record.exit_code = error.exit_code if isinstance(error, StartError) else 125
            self.tell(task_pb2.TASK_STATE_FAILED, error=str(error))
            return
        self.running = True
        record.run += 1
        record.started_ns, record.exit_code, record.oom_killed = now(), None, False
        record.health, record.health_failures, record.health_checks, record.health_output = 0, 0, 0, ""
        self._watch_health()
        self.happened("start")
        if self.spec.container.post_start:
            # beside: a stop or a removal need not wait for a hook
            self._hooks = asyncio.create_task(self._post_start())
        else:
            self.tell(task_pb2.TASK_STATE_RUNNING)

    async def _post_start(self) -> None:
        problem = await hooks.run(self, "post_start", self.spec.container.post_start)
        if not self.running:
            return
        if not problem:
            self.tell(task_pb2.TASK_STATE_RUNNING)
            return
        self._hook_problem = problem
        with contextlib.suppress(RuntimeFault):
            await self.agent.runtime.kill(self.id, signal.SIGKILL)

    async def _stop(self) -> None:
        container = self.spec.container
        if self._hooks is not None:
            self._hooks.cancel()
        problem = await hooks.run(self, "pre_stop", container.pre_stop)
        if problem:
            log.warning("%s: %s", self.task.name, problem)
        image = self.agent.images.find(self.record.image_id)
        stop_signal = container.stop_signal or (
            (image.config.get("config") or {}).get("StopSignal") if image is not None else ""
        )
        grace = 10.0
        if self.task.HasField("stop_grace_period"):
            grace = self.task.stop_grace_period.ToNanoseconds() / 1e9
        elif container.HasField("stop_grace_period"):
            grace = container.stop_grace_period.ToNanoseconds() / 1e9
        number = signal_number(stop_signal or "SIGTERM")
        self.happened("kill", signal=str(number))
        with contextlib.suppress(WrongState):
            status = await self.agent.runtime.stop(self.id, number, grace)
            self.ended(status, asked=True)
            self.happened("stop")

    async def _remove(self) -> None:
        if self.running:
            await self._stop()
        if self._health is not None:
            self._health.cancel()
        async with self.agent.busy:
            await self._release()
        self.running, self.done = False, True
        if self.record.created:
            self.happened("destroy")
        self.tell(task_pb2.TASK_STATE_REMOVE)

    async def _release(self) -> None:
        """Give back everything that the container had."""
        agent = self.agent
        with contextlib.suppress(RuntimeFault):
            await agent.runtime.delete(self.id, force=True)
        await agent.network.detach(self.id)
        await agent.images.release(self.id)
        await agent.release_volumes(self)
        agent.secrets.close(self.id)
        agent.shared_memory.remove(self.id)
        agent.user_namespaces.remove(self.id)
        agent.cgroups.release(self.spec.container)
        agent.records.remove(self.id)

    # What happens by itself.

    def ended(self, status: ExitStatus, *, asked: bool = False) -> None:
        """Take note of a run's end, once."""
        if not self.running:
            return
        self.running = False
        if self._health is not None:
            self._health.cancel()
            self._health = None
        record = self.record
        record.pid, record.exit_code, record.oom_killed = 0, status.code, status.oom_killed
        record.finished_ns = status.finished_ns or now()
        record.health, record.paused = 0, False
        state = task_pb2.TASK_STATE_COMPLETE if status.code == 0 else task_pb2.TASK_STATE_FAILED
        if asked or self.task.desired_state == task_pb2.DESIRED_STATE_STOPPED:
            state = task_pb2.TASK_STATE_SHUTDOWN
        oom = status.oom_killed and state == task_pb2.TASK_STATE_FAILED
        error = "killed: out of memory; raise its memory limit" if oom else self._hook_problem or status.error
        self._hook_problem = ""
        if status.oom_killed:
            self.happened("oom")
        self.happened("die", exitCode=str(status.code))
        with contextlib.suppress(OSError):  # a full disk: what is known is told all the same
            self.tell(state, error=error)
        self.wake.set()

    def _watch_health(self) -> None:
        image = self.agent.images.find(self.record.image_id)
        settings = dict(image.config.get("config") or {}) if image is not None else {}
        check = health.check_of(self.spec.container, settings)
        if check is None:
            return

        async def probe(check: health.Check) -> tuple[bool, str]:
            code, output = await self.probe(self.process(list(check.test)), check.timeout)
            return code == 0, output

        # Before anything is reported: running without a health state means that there is no healthcheck.
        self.record.health = self.record.health or task_pb2.HEALTH_STATE_STARTING
        known = health.Health(self.record.health, self.record.health_failures, checks=self.record.health_checks)
        self._health = asyncio.create_task(health.watch(check, probe, self._healthy, time.monotonic, known))

    def _healthy(self, found: health.Health) -> None:
        record = self.record
        before = (record.health, record.health_failures)
        if record.health != found.state:
            self.happened(f"health_status: {health.WORDS[found.state]}")
        record.health, record.health_failures, record.health_output = found.state, found.failures, found.output
        record.health_checks = found.checks
        if before != (record.health, record.health_failures) or record.health == task_pb2.HEALTH_STATE_STARTING:
            self.save()
            self.agent.report(self.id)
        on = self.spec.container.healthcheck.on_unhealthy
        if found.state == task_pb2.HEALTH_STATE_UNHEALTHY and on == container_pb2.ON_UNHEALTHY_RESTART:
            self.agent.spawn(self.agent.runtime.kill(self.id, signal.SIGKILL))

    async def probe(self, process: dict[str, Any], timeout: float) -> tuple[int, str]:
        """Run a program (an OCI process) in the container; returns exit status and output (its end)."""
        try:
            session = await self.agent.runtime.exec(self.id, process)
        except RuntimeFault as error:
            return 126, str(error)
        output = b""
        try:
            async with asyncio.timeout(timeout):
                async for _, data in session:
                    output = (output + data)[-health.OUTPUT :]
                code = await session.wait()
        except TimeoutError:
            await session.signal(signal.SIGKILL)
            session.close()
            return 124, f"no answer within {timeout:g} s"
        return (code if code is not None else 1), output.decode("utf-8", "replace")

    def process(self, arguments: list[str]) -> dict[str, Any]:
        """Return an OCI process beside the container's own: its environment, user and rights."""
        config = self.agent.oci_of(self.id)
        return {**config["process"], "args": arguments, "terminal": False}

    def lost(self) -> None:
        """Go on without the container's directory: it was half made, or the machine has been restarted."""
        record = self.record
        record.created = False
        if record.state in (task_pb2.TASK_STATE_STARTING, task_pb2.TASK_STATE_RUNNING):
            killed = 128 + signal.SIGKILL
            self.running = True
            self.ended(
                ExitStatus(killed, signal.SIGKILL, False, record.started_ns, now(), "the machine has been restarted")
            )

    def found(self, state: ContainerState) -> None:
        """Go on after the agent was restarted, from what the runtime knows of the container."""
        record = self.record
        starting = record.state == task_pb2.TASK_STATE_STARTING
        if state.status in ("running", "paused"):
            record.pid, record.paused, record.state = state.pid, state.status == "paused", task_pb2.TASK_STATE_RUNNING
            if starting:
                record.run, record.started_ns = record.run + 1, state.started_ns or now()
                record.exit_code, record.oom_killed, record.health, record.health_failures = None, False, 0, 0
            self.running = True
            self._watch_health()
        elif state.exit is not None and starting and state.exit.error:
            record.start_failed, record.finished_ns, record.exit_code = True, now(), state.exit.code
            self.tell(task_pb2.TASK_STATE_FAILED, error=state.exit.error)
        elif state.exit is not None and (starting or record.state == task_pb2.TASK_STATE_RUNNING):
            record.run, record.started_ns = record.run + starting, state.exit.started_ns or record.started_ns
            self.running = True
            self.ended(state.exit)
