"""The daemons that are compared, each on a machine of its own with the same image: BusyBox from Debian."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.machine import Machine

IMAGE = "bench/busybox"
CGROUP = f"pycompose-bench-{os.getpid()}"


def until(condition: Callable[[], object], seconds: float, pause: float, what: str) -> None:
    """Wait for a condition, and fail with `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def root_archive(folder: Path) -> Path:
    """The tar of a root file system with BusyBox alone; the tree stays beside it."""
    root = folder / "root"
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin" / "busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(root), "-cf", str(folder / "root.tar"), "."], check=True)
    return folder / "root.tar"


class Node:
    """A node of pycompose; a context manager."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.run_dir, self._archive = folder / "run", archive
        self.machine = Machine(f"{CGROUP}-ours")
        self.tool = str(Path(sys.executable).with_name("pycompose"))
        self.env = {
            "PYCOMPOSE_STATE_DIR": str(folder / "state"),
            "PYCOMPOSE_RUN_DIR": str(self.run_dir),
            "PYCOMPOSE_CGROUP_PARENT": f"/{CGROUP}-ours",
            "PYCOMPOSE_INSTANCE": "b",
        }

    def __enter__(self) -> Node:
        self.machine.__enter__()
        try:
            self.run_dir.mkdir(parents=True)
            self.machine.run("mount", "-t", "tmpfs", "tmpfs", str(self.run_dir))  # as /run is
            self.pycompose("node", "start")
            self.pycompose("image", "import", str(self._archive), IMAGE)
        except BaseException:
            self.machine.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pycompose("node", "stop")
        finally:
            self.machine.__exit__()

    @property
    def api(self) -> str:
        """The socket of the API."""
        return f"{self.machine.root}{self.run_dir}/api.sock"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return int(json.loads(Path(f"{self.machine.root}{self.run_dir}/node.json").read_text())["pid"])

    def pycompose(self, *words: str, cwd: Path | None = None) -> str:
        """Run the command line."""
        return self.machine.run(self.tool, *words, env=self.env, cwd=cwd)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Docker:
    """dockerd with its containerd and a Swarm of one; a context manager."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.folder, self._archive = folder, archive
        self.machine = Machine(f"{CGROUP}-docker")
        self.socket = f"{folder}/docker.sock"
        self.env = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(folder)}
        found = list(Path(sys.prefix).glob("peers/lib/python*/site-packages/compose/docker-compose"))
        if not found:
            raise RuntimeError("Docker Compose is not installed; run this by make bench")
        self.compose_binary = str(found[0])

    def __enter__(self) -> Docker:
        self.folder.mkdir()
        self.machine.__enter__()
        try:
            self._start()
        except BaseException:
            self.machine.__exit__()
            raise
        return self

    def _start(self) -> None:
        command = self.machine.command(
            *("/usr/sbin/dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
            *("--pidfile", f"{self.folder}/pid", "--host", f"unix://{self.socket}"),
            *("--cgroup-parent", f"/{CGROUP}-docker"),
        )
        with open(self.folder / "log", "wb") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, 30, 0.1, f"dockerd answers (its log is {self.folder}/log)")
        self.docker("import", str(self._archive), IMAGE)
        self.docker("swarm", "init", "--advertise-addr", "127.0.0.1")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/version"))
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._daemon.terminate()
        try:
            self._daemon.wait(20)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self.machine.__exit__()

    @property
    def pid(self) -> int:
        """dockerd's process id; containerd is its child."""
        return int((self.folder / "pid").read_text())

    def docker(self, *words: str) -> str:
        """Run Debian's docker."""
        return self.machine.run("/usr/bin/docker", *words, env=self.env)

    def compose(self, *words: str, cwd: Path) -> str:
        """Run Docker Compose."""
        return self.machine.run(self.compose_binary, *words, env=self.env, cwd=cwd)

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """One request of the Engine API; `query` values are sent as JSON."""
        connection = _Connection(self.socket)
        try:
            text = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in query.items())
            headers = {"Content-Type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/v1.41{path}?{text}", data, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
            return json.loads(content) if content else None
        finally:
            connection.close()
