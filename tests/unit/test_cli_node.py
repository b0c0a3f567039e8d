"""The command line against a real manager and a worker that only pretends: what users type, and what they see.

The pretended worker takes a task's image name as its script: "sleep" runs on, "exit3" ends with 3, "healthy" and
"unhealthy" have a healthcheck, "broken" cannot be executed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from pycompose.compose.cli import main
from pycompose.proto.v1 import (
    access_pb2,
    access_pb2_grpc,
    container_pb2,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    node_pb2,
    service_pb2,
    task_pb2,
)

IMAGES = ("sleep", "exit0", "exit3", "healthy", "unhealthy", "broken")


class PretendedWorker(access_pb2_grpc.TaskAccessServiceServicer, image_pb2_grpc.ImageServiceServicer):
    """A worker without containers: states move as its script says."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.templates: dict[tuple[str, int], service_pb2.TaskSpec] = {}
        self.tasks: dict[str, task_pb2.TaskStatus] = {}
        self.specs: dict[str, task_pb2.Task] = {}
        self.signals: list[tuple[str, str]] = []
        self.channel = grpc.insecure_channel(f"unix:{run}/api.sock")
        self.server = grpc.server(ThreadPoolExecutor(16))
        access_pb2_grpc.add_TaskAccessServiceServicer_to_server(self, self.server)
        image_pb2_grpc.add_ImageServiceServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{run}/worker.sock")
        self.server.start()
        threading.Thread(target=self._session, daemon=True).start()

    def close(self) -> None:
        self.out.put(None)
        self.channel.close()
        self.server.stop(0)

    def _session(self) -> None:
        hello = dispatcher_pb2.SessionHello(
            node_id="n" * 25,
            description=node_pb2.NodeDescription(
                hostname="here",
                platform="linux/amd64",
                resources=container_pb2.ResourceAmounts(nano_cpus=2 * 10**9, memory_bytes=4 << 30),
                access_address=f"unix:{self.run}/worker.sock",
            ),
        )
        self.out.put(dispatcher_pb2.SessionRequest(hello=hello))
        stub = dispatcher_pb2_grpc.DispatcherServiceStub(self.channel)
        try:
            for answer in stub.Session(iter(self.out.get, None)):
                for change in answer.assignments.changes:
                    if change.WhichOneof("object") == "template":
                        self.templates[change.template.service_id, change.template.revision] = change.template.spec
                    elif change.WhichOneof("object") == "task":
                        if change.remove:
                            self.tasks.pop(change.task.id, None)
                        else:
                            self._take(change.task)
        except grpc.RpcError:
            pass

    def _take(self, task: task_pb2.Task) -> None:
        self.specs[task.id] = task
        status = self.tasks.setdefault(task.id, task_pb2.TaskStatus(state=task_pb2.TASK_STATE_ACCEPTED))
        if task.desired_state == task_pb2.DESIRED_STATE_REMOVED:
            self._end(status, task_pb2.TASK_STATE_REMOVE, 137)
        elif task.desired_state == task_pb2.DESIRED_STATE_STOPPED:
            if status.state == task_pb2.TASK_STATE_RUNNING:
                self._end(status, task_pb2.TASK_STATE_SHUTDOWN, 143)
        elif task.desired_state == task_pb2.DESIRED_STATE_CREATED:
            status.state = task_pb2.TASK_STATE_READY
        elif status.run == 0 or task.run_request > status.run_request:
            self._begin(task, status)
        status.run_request = task.run_request
        self._say(task.id)

    def _begin(self, task: task_pb2.Task, status: task_pb2.TaskStatus) -> None:
        script = self.templates[task.service_id, task.revision].container.image
        status.run += 1
        status.state = task_pb2.TASK_STATE_RUNNING
        status.pid = 4711
        status.started_at.GetCurrentTime()
        status.ClearField("exit_code")
        if script in ("healthy", "unhealthy"):
            status.health = getattr(task_pb2, f"HEALTH_STATE_{script.upper()}")
        if script == "broken":
            status.error = 'exec: "nothing": not found in the image'
            self._end(status, task_pb2.TASK_STATE_FAILED, 127)
        elif script.startswith("exit"):
            code = int(script[4:])
            self._end(status, task_pb2.TASK_STATE_FAILED if code else task_pb2.TASK_STATE_COMPLETE, code)

    def _end(self, status: task_pb2.TaskStatus, state: task_pb2.TaskState.ValueType, code: int) -> None:
        status.state, status.exit_code, status.pid = state, code, 0
        status.health = task_pb2.HEALTH_STATE_UNSPECIFIED
        status.finished_at.GetCurrentTime()

    def _say(self, task_id: str) -> None:
        status = task_pb2.TaskStatus()
        status.CopyFrom(self.tasks[task_id])
        status.since.GetCurrentTime()
        update = dispatcher_pb2.TaskStatusUpdate(task_id=task_id, status=status)
        self.out.put(dispatcher_pb2.SessionRequest(status=dispatcher_pb2.StatusBatch(tasks=[update])))

    # -- what the manager passes on -----------------------------------------------------------

    def InspectImage(self, request: Any, context: Any) -> Any:
        if request.image.removeprefix("sha256:") not in IMAGES:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no such image: {request.image}")
        name = request.image.removeprefix("sha256:")
        image = image_pb2.Image(id=f"sha256:{name}", references=[f"{name}:latest"], size_bytes=12_345_678)
        return image_pb2.InspectImageResponse(image=image, json=json.dumps({"Id": image.id}))

    def ListImages(self, request: Any, context: Any) -> Any:
        return image_pb2.ListImagesResponse(images=[self.InspectImage(_Named(name), context).image for name in IMAGES])

    def PullImage(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNAVAILABLE, "registry registry.test does not answer; is the name right?")
        yield

    def ReadLogs(self, request: Any, context: Any) -> Iterator[Any]:
        for task_id in request.task_ids:
            entry = access_pb2.LogEntry(task_id=task_id, stream=access_pb2.OUTPUT_STREAM_STDOUT, data=b"hello\n")
            entry.time.GetCurrentTime()
            yield access_pb2.ReadLogsResponse(entries=[entry])
        while request.follow and not request.until_exit and context.is_active():
            time.sleep(0.05)

    def Exec(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        start = next(requests).start
        yield access_pb2.ExecResponse(started=access_pb2.ExecStarted(pid=1))
        yield access_pb2.ExecResponse(stdout=" ".join([*start.args, *start.env]).encode() + b"\n")
        yield access_pb2.ExecResponse(exited=access_pb2.ExecExited(exit_code=42))

    def SignalTask(self, request: Any, context: Any) -> Any:
        self.signals.append((request.task_id, request.signal))
        self._end(self.tasks[request.task_id], task_pb2.TASK_STATE_FAILED, 137)
        self._say(request.task_id)
        return access_pb2.SignalTaskResponse()


class _Named:
    def __init__(self, image: str) -> None:
        self.image = image


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretendedWorker]:
    root = tmp_path_factory.mktemp("n")
    state, run = root / "s", root / "r"
    run.mkdir()
    environment = {**os.environ, "PYCOMPOSE_STATE_DIR": str(state), "PYCOMPOSE_RUN_DIR": str(run)}
    with open(root / "log", "wb") as log:
        manager = subprocess.Popen([sys.executable, "-m", "pycompose.manager"], env=environment, stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + 20
        while not (run / "api.sock").exists():
            assert manager.poll() is None, (root / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker = PretendedWorker(run)
        yield worker
        worker.close()
    finally:
        manager.send_signal(signal.SIGTERM)
        manager.wait(10)


@pytest.fixture
def cli(node: PretendedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Iterator[Any]:
    """Return a function that runs a command line: (status, stdout, stderr)."""
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(node.run))
    monkeypatch.delenv("PYCOMPOSE_HOST", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    project = f"p{abs(hash(str(tmp_path))) % 10**8}"

    def run(*words: str, file: str | None = None) -> tuple[int, str, str]:
        if file is not None:
            (tmp_path / "compose.yaml").write_text(f"name: {project}\n{file}")
        capfdbinary.readouterr()
        status = main.run(words)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    run.project = project  # type: ignore[attr-defined]
    yield run
    if (tmp_path / "compose.yaml").exists():
        main.run(["-p", project, "down", "-v"])


WEB = """
services:
  web:
    image: sleep
    command: [run, web]
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 2}
  db: {image: healthy, volumes: ["data:/data"]}
volumes: {data: {}}
"""


def test_up_ps_and_down(cli: Any) -> None:
    status, out, err = cli("up", "-d", file=WEB)
    assert status == 0, err
    assert f"Container {cli.project}-web-2  Started" in err
    status, out, _ = cli("ps", "--format", "json")
    rows = json.loads(out)
    assert [row["Name"] for row in rows] == [f"{cli.project}-{name}" for name in ("db-1", "web-1", "web-2")]
    assert rows[0]["Health"] == "healthy"
    assert rows[1]["State"] == "running"
    status, out, _ = cli("ps")
    assert out.splitlines()[0].split() == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    assert '"run web"' in out
    assert cli("ps", "--services")[1].split() == ["db", "web"]
    status, out, err = cli("down")
    assert status == 0, err
    assert f"Container {cli.project}-web-1  Removed" in err
    assert err.index("web-1  Removed") < err.index("db-1  Removed")
    assert f"{cli.project}_data" in err.splitlines()[-1]
    assert cli("ps", "-q")[1] == ""


def test_up_twice_changes_nothing(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    before = cli("ps", "-q", "--no-trunc")[1]
    assert cli("plan")[0] == 0
    status, _, err = cli("up", "-d")
    assert status == 0, err
    assert cli("ps", "-q", "--no-trunc")[1] == before


def test_only_what_changed_is_recreated(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    before = set(cli("ps", "-q", "--no-trunc")[1].split())
    status, out, _ = cli("plan", file=WEB.replace("[run, web]", "[run, other]"))
    assert status == 3
    assert "recreate  service web" in out
    assert "command: run web → run other" in out
    status, _, err = cli("up", "-d")
    assert status == 0, err
    after = set(cli("ps", "-q", "--no-trunc")[1].split())
    assert len(before & after) == 1
    assert len(after) == 3


def test_scale_up_and_down(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    assert cli("scale", "web=4")[0] == 0
    assert len(cli("ps", "-q", "web")[1].split()) == 4
    assert cli("up", "-d", "--scale", "web=1")[0] == 0
    assert len(cli("ps", "-q", "web")[1].split()) == 1
    assert cli("up", "-d", "--scale", "nothing=1")[0] == 1


def test_stop_and_start_keep_containers(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    before = cli("ps", "-q", "--no-trunc")[1]
    status, _, err = cli("stop")
    assert status == 0
    assert err.index("web-1  Stopped") < err.index("db-1  Stopping")
    assert cli("ps", "-q")[1] == ""
    assert "Exited (143)" in cli("ps", "-a")[1]
    status, _, err = cli("start")
    assert status == 0
    assert err.index("db-1  Healthy") < err.index("web-1  Started")
    assert cli("ps", "-q", "--no-trunc")[1] == before
    assert cli("restart", "web")[0] == 0
    assert cli("ps", "-q", "--no-trunc")[1] == before


def test_a_stopped_project_is_started_by_up(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    before = cli("ps", "-q", "--no-trunc")[1]
    cli("stop")
    status, _, err = cli("up", "-d")
    assert status == 0, err
    assert cli("ps", "-q", "--no-trunc")[1] == before


def test_create_then_start(cli: Any) -> None:
    assert cli("create", file=WEB)[0] == 0
    assert "Created" in cli("ps", "-a")[1]
    status, _, err = cli("up", "-d")
    assert status == 0, err
    assert len(cli("ps", "-q")[1].split()) == 3


def test_failures_name_the_reason(cli: Any) -> None:
    status, _, err = cli("up", "-d", file="services: {one: {image: broken}}\n")
    assert status == 1
    assert 'exec: "nothing": not found in the image' in err
    assert "pycompose down    takes it away" in err
    cli("down")
    text = "services: {a: {image: sleep, depends_on: {b: {condition: service_healthy}}}, b: {image: unhealthy}}\n"
    status, _, err = cli("up", "-d", file=text)
    assert status == 1
    assert f"service a cannot start: it depends on b, and {cli.project}-b-1 is unhealthy" in err
    cli("down")
    text = "services: {a: {image: exit3}}\n"
    assert cli("up", "-d", file=text)[0] == 0
    cli("down")
    status, _, err = cli("up", "--wait", file=text)
    assert status == 1
    assert "exited (3)" in err


def test_one_shots_count_as_ready(cli: Any) -> None:
    text = """
services:
  app: {image: sleep, depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {image: exit0}
"""
    status, _, err = cli("up", "--wait", file=text)
    assert status == 0, err


def test_missing_image_names_the_place(cli: Any, tmp_path: Path) -> None:
    status, _, err = cli("up", "-d", file="services:\n  one:\n    image: absent:1\n")
    assert status == 1
    assert f"{tmp_path}/compose.yaml:4:5: services.one.image: image absent:1" in err
    assert "registry registry.test does not answer" in err
    assert cli("ps", "-aq")[1] == ""
    status, _, err = cli("up", "-d", file="services:\n  one:\n    build: .\n")
    assert f"{tmp_path}/compose.yaml:4:5: services.one.build" in err
    assert f"{tmp_path}/Dockerfile: No such file or directory" in err


def test_port_conflicts_name_the_holder(cli: Any, tmp_path: Path) -> None:
    text = 'services:\n  one: {image: sleep, ports: ["18080:80"]}\n  two:\n    image: sleep\n    ports: ["18080:81"]\n'
    status, _, err = cli("up", "-d", file=text)
    assert status == 1
    assert f"{tmp_path}/compose.yaml:6:" in err
    assert "18080" in err
    assert "one" in err


def test_placement_that_cannot_be(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycompose.compose.cli.follow.PLACING_SECONDS", 0.3)
    text = "services: {one: {image: sleep, deploy: {placement: {constraints: ['node.labels.disk == ssd']}}}}\n"
    status, _, err = cli("up", "-d", file=text)
    assert status == 4
    assert "could not be placed" in err


def test_attached_up_follows_and_ends(cli: Any) -> None:
    text = "services: {a: {image: exit3}}\n"
    status, out, err = cli("up", file=text)
    assert status == 0, err
    assert "a-1  | hello\n" in out
    assert "exited with code 3" in out
    cli("down")
    text = "services: {a: {image: exit3, depends_on: [b]}, b: {image: sleep}}\n"
    status, out, err = cli("up", "--exit-code-from", "a", file=text)
    assert status == 3, err
    assert "Exited (143)" in cli("ps", "-a")[1]


def test_interrupted_up_stops_everything(cli: Any) -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    status, out, err = cli("up", file=WEB)
    assert status == 130
    assert "Gracefully stopping" in err
    assert "web-1  | hello" in out
    assert cli("ps", "-q")[1] == ""


def test_logs_exec_and_kill(cli: Any, node: PretendedWorker) -> None:
    cli("up", "-d", file=WEB)
    status, out, _ = cli("logs", "web")
    assert sorted(out.splitlines()) == ["web-1  | hello", "web-2  | hello"]
    assert cli("logs", "--no-log-prefix", "--index", "1", "web")[1] == "hello\n"
    status, out, err = cli("exec", "-T", "-e", "A=b", "web", "echo", "--flag", "x")
    assert (status, out) == (42, "echo --flag x A=b\n"), err
    status, _, err = cli("exec", "nothing", "true")
    assert status == 1
    assert 'no service "nothing"' in err
    assert cli("kill", "-s", "SIGUSR1", "db")[0] == 0
    assert node.signals[-1][1] == "SIGUSR1"


def test_run_exits_with_the_status(cli: Any) -> None:
    text = "services: {job: {image: exit3, depends_on: [db]}, db: {image: sleep}}\n"
    status, out, err = cli("run", "--rm", "-T", "job", "x", file=text)
    assert (status, out) == (3, "hello\n"), err
    assert cli("ps", "-a", "--services")[1].split() == ["db"]
    status, _, err = cli("run", "--rm", "-T", "-p", "x:y", "job")
    assert status == 2, err


def test_orphans_are_named_and_removed_on_request(cli: Any) -> None:
    cli("up", "-d", file="services: {a: {image: sleep}, b: {image: sleep}}\n")
    status, _, err = cli("up", "-d", file="services: {a: {image: sleep}}\n")
    assert status == 0
    assert "which the files do not know: b" in err
    assert cli("up", "-d", "--remove-orphans")[0] == 0
    assert cli("ps", "--services")[1].split() == ["a"]


def test_groups(cli: Any) -> None:
    cli("up", "-d", file=WEB)
    out = cli("container", "ls", "--filter", f"project={cli.project}", "--format", "{{.Names}} {{.Status}}")[1]
    assert f"{cli.project}-db-1 Up Less than a second (healthy)" in out or "(healthy)" in out
    name = f"{cli.project}-web-1"
    state = cli("container", "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", name)[1]
    assert state == "running 4711\n"
    assert cli("container", "stop", name)[1] == f"{name}\n"
    assert cli("container", "start", name)[0] == 0
    assert f"{cli.project}_default" in cli("network", "ls")[1]
    assert json.loads(cli("network", "inspect", f"{cli.project}_default")[1])[0]["Containers"]
    assert cli("volume", "ls", "-q", "--filter", f"project={cli.project}")[1] == f"{cli.project}_data\n"
    assert "2/2" in cli("service", "ls", "--filter", f"project={cli.project}")[1]
    assert cli("service", "ps", f"{cli.project}/web")[0] == 0
    assert "sleep" in cli("image", "ls")[1]
    assert "here" in cli("node", "ls")[1]
    assert "the node runs" in cli("node", "status")[1]
    assert cli("network", "rm", f"{cli.project}_default")[0] == 1
    assert "12.35MB" in cli("images")[1]
    assert cli("ls", "-q")[1].split() == [cli.project]


def test_secrets_change_their_services(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("one")
    text = "services: {a: {image: sleep, secrets: [s]}, b: {image: sleep}}\nsecrets: {s: {file: ./s.txt}}\n"
    assert cli("up", "-d", file=text)[0] == 0
    assert cli("plan")[1] == ""
    (tmp_path / "s.txt").write_text("two")
    status, out, _ = cli("plan")
    assert status == 3
    assert f"update    secret {cli.project}_s" in out
    assert "recreate  service a" in out
    assert "service b" not in out


def test_no_node(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path / "none"))
    status, _, err = cli("-p", "x", "ps")
    assert status == 1
    assert err == (
        f"error: no node answers at {tmp_path}/none/api.sock; start it with pycompose up or pycompose node start\n"
    )
    assert cli("node", "status")[0] == 3


EVERY_COMMAND = (
    "attach web",
    "commit web new:1",
    "config -o written.yaml",
    "cp web:/file written",
    "create",
    "down -v --rmi all",
    "exec web true",
    "export -o written web",
    "kill",
    "pause",
    "pull",
    "restart",
    "rm -fs",
    "run --rm web true",
    "run -d web true",
    "scale web=4",
    "start",
    "stop",
    "unpause",
    "up",
    "up -d --force-recreate",
    "up -d --scale web=3 --remove-orphans",
    "container stop CONTAINER",
    "container rm -f CONTAINER",
    "container exec CONTAINER true",
    "container kill CONTAINER",
    "image rm sleep",
    "image prune -af",
    "network create other",
    "network prune -f",
    "volume create other",
    "volume prune -af",
    "service create sleep",
    "service scale PROJECT/web=5",
    "service rm PROJECT/web",
    "node update --availability drain self",
    "node stop",
)


def test_a_dry_run_changes_nothing(cli: Any, node: PretendedWorker, tmp_path: Path) -> None:
    """The objects of the manager and the worker's tasks are the same before and after, and no file was written."""
    cli("up", "-d", file=WEB)
    worker = {task: status.SerializeToString(deterministic=True) for task, status in node.tasks.items()}
    signals = list(node.signals)

    def objects() -> list[str]:
        lists = ("ps -a --no-trunc --format {{.ID}}{{.State}}", "network ls", "volume ls", "service ls -q", "node ls")
        return [cli(*words.split())[1] for words in lists]

    before, files = objects(), sorted(tmp_path.rglob("*"))
    for line in EVERY_COMMAND:
        words = line.replace("CONTAINER", f"{cli.project}-web-1").replace("PROJECT", cli.project).split()
        status, out, err = cli("--dry-run", *words)
        assert status == 0, (line, out, err)
        assert "Traceback" not in err, line
        cut = 2 if words[0] in ("container", "image", "network", "volume", "service", "node") else 1
        assert cli(*words[:cut], "--dry-run", *words[cut:])[0] == 0, line
    assert objects() == before
    assert sorted(tmp_path.rglob("*")) == files
    assert {task: status.SerializeToString(deterministic=True) for task, status in node.tasks.items()} == worker
    assert node.signals == signals
