"""A real manager in a process of its own, for tests that speak gRPC to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from pycompose.proto.v1 import control_pb2_grpc, service_pb2


@dataclass
class Manager:
    """`folder` has its state, its sockets and its log."""

    folder: Path
    process: subprocess.Popen[bytes]
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.target)
        self.control = control_pb2_grpc.ControlServiceStub(self.channel)

    @property
    def target(self) -> str:
        return f"unix:{self.folder}/run/api.sock"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal and start it again on the same state."""
        self.channel.close()
        self.process.send_signal(number)
        self.process.wait(10)
        self.process = launch(self.folder)
        self.__post_init__()
        wait_for(self)


def launch(folder: Path) -> subprocess.Popen[bytes]:
    places = {"PYCOMPOSE_STATE_DIR": str(folder / "state"), "PYCOMPOSE_RUN_DIR": str(folder / "run")}
    with open(folder / "log", "ab") as log:
        command = [sys.executable, "-m", "pycompose.manager"]
        return subprocess.Popen(command, env=os.environ | places, stderr=log, stdout=log)


def wait_for(manager: Manager) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            grpc.channel_ready_future(manager.channel).result(timeout=0.2)
            return
        except grpc.FutureTimeoutError:
            assert manager.process.poll() is None, manager.log()
            assert time.monotonic() < deadline, manager.log()


@contextmanager
def running_manager(folder: Path) -> Iterator[Manager]:
    manager = Manager(folder, launch(folder))
    try:
        wait_for(manager)
        yield manager
    finally:
        manager.channel.close()
        manager.process.terminate()
        manager.process.wait(10)


def details(error: grpc.RpcError) -> dict[str, Any]:
    """A refusal's google.rpc details by the names of their types."""
    encoded = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(encoded)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for item in status.details:
        name = item.type_url.rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        assert item.Unpack(message)
        found[name] = message
    return found


def violations(error: grpc.RpcError) -> dict[str, str]:
    """Field -> description of an INVALID_ARGUMENT."""
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    return {one.field: one.description for one in details(error)["BadRequest"].field_violations}


def spec(name: str, project: str = "", replicas: int = 1, **container: Any) -> service_pb2.ServiceSpec:
    """A small service."""
    made = service_pb2.ServiceSpec(name=name, project=project)
    made.replicated.replicas = replicas
    made.task.container.image = "test/busybox"
    for key, value in container.items():
        if isinstance(value, list):
            getattr(made.task.container, key).extend(value)
        else:
            setattr(made.task.container, key, value)
    return made
