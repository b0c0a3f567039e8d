"""Two commands that change one project: the later one waits for the earlier one, and says for whom."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from node.whole import CLI, Node, until

from pycompose.proto.v1 import control_pb2, control_pb2_grpc

FILE = """
name: locked
services:
  web: {image: test/busybox, command: sleep 1000, init: true}
"""
TOLD = "project locked is being changed by `pycompose up --wait` (process 4711 on elsewhere, for "


@contextmanager
def held(node: Node) -> Iterator[None]:
    """Somebody else changes the project."""
    with grpc.insecure_channel(f"unix:{node.folder}/run/api.sock") as channel:
        holder = control_pb2.ProjectHolder(command="pycompose up --wait", pid=4711, host="elsewhere")
        request = control_pb2.HoldProjectRequest(project="locked", holder=holder)
        call = control_pb2_grpc.ControlServiceStub(channel).HoldProject(request)
        assert next(iter(call)).held
        yield
        call.cancel()


def test_a_later_command_waits_or_refuses(shared: Node) -> None:
    shared.write(FILE)
    with held(shared):
        refused = shared.cli("up", "-d", "--lock-wait", "0")
        assert refused.returncode == 1
        assert f"error: {TOLD}" in refused.stderr
        assert "not waiting for it" in refused.stderr
        tired = shared.cli("down", "--lock-wait", "0.2")
        assert tired.returncode == 1
        assert "waited 0.2 s for it; a longer --lock-wait waits longer" in tired.stderr
        waiting = shared.begin(*CLI, "up", "-d")
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith(TOLD)
        interrupted = shared.begin(*CLI, "up", "-d")
        assert interrupted.stderr is not None
        assert interrupted.stderr.readline().startswith(TOLD)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(60) == 130
        interrupted.communicate()
        assert shared.containers() == {}
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert shared.containers()["locked-web-1"]["State"] == "running"
    with held(shared):
        assert shared.cli("-p", "another", "up", "-d").returncode == 0  # another project
    shared.compose("down", "-t", "0")
    shared.compose("-p", "another", "down", "-t", "0")


def test_two_at_once_both_do_their_work(shared: Node) -> None:
    shared.write(FILE)
    both = [shared.begin(*CLI, "up", "-d", "--scale", f"web={number}") for number in (2, 3)]
    for each in both:
        _, errors = each.communicate(timeout=90)
        assert each.returncode == 0, errors
    until(lambda: len(shared.containers()) in (2, 3))
    shared.compose("down", "-t", "0")
    assert shared.containers() == {}
