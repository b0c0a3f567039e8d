"""Services of N replicas: how long until all run, and until all are gone; here and with Swarm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import grpc

from bench.daemons import IMAGE, Docker, Node, until
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, network_pb2, service_pb2, task_pb2

SLEEP = ("sleep", "86400")
#: PID 1 catches SIGTERM and goes on: only the end of the grace period ends it.
DEAF = ("sh", "-c", "trap : TERM; while :; do sleep 86400 & wait; done")
NETWORK = "bench"


class Ours:
    """Through the gRPC API, watched by a stream, as `pycompose up` does."""

    def __init__(self, node: Node) -> None:
        options = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"unix:{node.api}", options=options)
        self._control = control_pb2_grpc.ControlServiceStub(self._channel)
        spec = network_pb2.NetworkSpec(name=NETWORK)
        self._network = self._control.CreateNetwork(control_pb2.CreateNetworkRequest(spec=spec)).network.id

    def close(self) -> None:
        """Remove the network."""
        self._control.RemoveNetwork(control_pb2.RemoveNetworkRequest(network_id=self._network))
        self._channel.close()

    def _spec(self, replicas: int, command: Sequence[str], grace: int) -> service_pb2.ServiceSpec:
        spec = service_pb2.ServiceSpec(name="bench")
        spec.replicated.replicas = replicas
        spec.task.container.image = IMAGE
        spec.task.container.command.args.extend(command)
        spec.task.container.stop_grace_period.FromSeconds(grace)
        spec.task.networks.add(network=NETWORK)
        return spec

    def create(self, replicas: int, command: Sequence[str] = SLEEP, grace: int = 10) -> tuple[float, str]:
        """Seconds until all replicas run, and the service's id."""
        return self._until(self._spec(replicas, command, grace), task_pb2.TASK_STATE_RUNNING, replicas)

    def job(self) -> float:
        """Seconds for one container that runs `true`: from the request until nothing of it is left."""
        spec = self._spec(1, ("true",), 10)
        spec.replicated_job.completions = 1
        begin = time.perf_counter()
        _, service = self._until(spec, task_pb2.TASK_STATE_COMPLETE, 1)
        self.remove(service)
        return time.perf_counter() - begin

    def healthy(self, replicas: int) -> tuple[float, str]:
        """Seconds until all replicas are healthy, and the service's id; probed each second until then."""
        spec = self._spec(replicas, SLEEP, 10)
        check = spec.task.container.healthcheck
        check.test.extend(("CMD", "true"))
        check.interval.FromSeconds(30)
        check.start_period.FromSeconds(60)
        check.start_interval.FromSeconds(1)
        return self._until(spec, task_pb2.TASK_STATE_RUNNING, replicas, task_pb2.HEALTH_STATE_HEALTHY)

    def _until(
        self, spec: service_pb2.ServiceSpec, state: int, count: int, health: int | None = None
    ) -> tuple[float, str]:
        begin = time.perf_counter()
        service = self._control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service
        watch = self._watch(service.id)
        there: set[str] = set()
        for answer in watch:
            for event in answer.events:
                if event.task.status.state == state and health in (None, event.task.status.health):
                    there.add(event.task.id)
            if len(there) == count:
                break
        seconds = time.perf_counter() - begin
        watch.cancel()
        return seconds, service.id

    def _watch(self, service_id: str) -> Any:
        kinds = (control_pb2.OBJECT_KIND_SERVICE, control_pb2.OBJECT_KIND_TASK)
        return self._control.Watch(control_pb2.WatchRequest(kinds=kinds, service_ids=[service_id]))

    def remove(self, service_id: str) -> float:
        """Seconds until the service and all its tasks are gone (a task's row goes last, after its container)."""
        begin = time.perf_counter()
        watch = self._watch(service_id)
        left: set[str] = set()
        asked = False
        for answer in watch:
            for event in answer.events:
                kind = event.WhichOneof("object")
                identity = getattr(event, str(kind)).id
                if event.type == control_pb2.EVENT_TYPE_REMOVED:
                    left.discard(identity)
                else:
                    left.add(identity)
            if answer.synchronized and not asked:
                asked = True
                self._control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service_id))
            if asked and not left:
                break
        watch.cancel()
        return time.perf_counter() - begin


class Swarm:
    """Through the Engine API, polled every 20 ms (it has no watch of tasks); containers on Docker's bridge."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker

    def create(self, replicas: int, command: Sequence[str] = SLEEP, grace: int = 10) -> tuple[float, str]:
        """Seconds until all replicas run, and the service's id."""
        container = {"Image": IMAGE, "Args": list(command), "StopGracePeriod": grace * 1_000_000_000}
        spec = {
            "Name": "bench",
            "TaskTemplate": {"ContainerSpec": container},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        begin = time.perf_counter()
        service = self._docker.ask("POST", "/services/create", spec)["ID"]

        def running() -> bool:
            tasks = self._docker.ask("GET", "/tasks", filters={"service": [service]})
            return [task["Status"]["State"] for task in tasks].count("running") == replicas

        until(running, 300, 0.02, f"{replicas} replicas run in Swarm")
        return time.perf_counter() - begin, str(service)

    def remove(self, service_id: str) -> float:
        """Seconds until the service's containers are gone."""
        begin = time.perf_counter()
        self._docker.ask("DELETE", f"/services/{service_id}")
        wanted = {"label": [f"com.docker.swarm.service.id={service_id}"]}

        def gone() -> bool:
            return not self._docker.ask("GET", "/containers/json", all=True, filters=wanted)

        until(gone, 300, 0.02, "containers are gone in Swarm")
        return time.perf_counter() - begin
