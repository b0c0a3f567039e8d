"""A node of an ordinary user: the same file and the same commands, and no root anywhere.

The user exists in this machine's /etc (a mount namespace's) alone; the machine has a network of loopback only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import CLI, IMAGE, Node, busybox, pids_in, until
from reach import reachable

import pycompose

#: Of this run alone: what a test leaves is found, and ended, by its user.
UID = GID = 70_000 + os.getpid()
SUBIDS = 1_660_000_000 + os.getpid() % 2_000 * 65_536
ETC = {
    "passwd": f"root:x:0:0::/root:/bin/sh\nrover:x:{UID}:{GID}::/home/rover:/bin/sh\n",
    "subuid": f"rover:{SUBIDS}:65536\n",
    "subgid": f"rover:{SUBIDS}:65536\n",
}
FILE = """
services:
  web:
    image: test/busybox
    command: sh -c 'hostname > /tmp/index.html; trap "exit 0" TERM; httpd -p 80 -h /tmp; while :; do sleep 0.1; done'
    deploy: {replicas: 2}
    ports: ["18199:80"]
    networks: [front, back]
    secrets: [word]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 200ms}
  client:
    image: test/busybox
    command: sh -c 'cat /run/secrets/word; getent hosts web && echo kept >> /data/file; sleep 1000'
    depends_on: {web: {condition: service_healthy}}
    networks: [back]
    secrets: [word]
    volumes: ["data:/data"]
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""
FETCH = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:18199/').read().decode().strip())"


class UsersNode(Node):
    """A machine on which commands are run by the user, without any variable of ours."""

    def environment(self) -> dict[str, str]:
        """What a login session has."""
        session = {"HOME": str(self.folder / "home"), "XDG_RUNTIME_DIR": str(self.folder / "session"), "WORD": "word"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYCOMPOSE_", "XDG_"))}
        return kept | session | {"PATH": os.environ["PATH"]} | self.variables

    def on_machine(self, *words: str) -> list[str]:
        """As the user."""
        return super().on_machine("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", *words)

    def pids(self) -> dict[str, int]:
        """As of any node, whose run directory is the session's."""
        return pids_in(self.folder / "session" / "pycompose")

    def log(self) -> str:
        """The end of the node's log."""
        path = self.folder / "home/.local/share/pycompose/log/node.log"
        return "".join(path.read_text().splitlines(keepends=True)[-25:]) if path.exists() else ""


def users_processes() -> list[int]:
    """All processes of the user and of the user's range."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            owner = os.stat(f"/proc/{pid}").st_uid
            status = Path(f"/proc/{pid}/status").read_text()
            owner = int(status.partition("\nUid:")[2].split()[0])
            if (owner == UID or SUBIDS <= owner < SUBIDS + 65_536) and "\nState:\tZ" not in status:
                found.append(int(pid))
    return found


def end_all() -> None:
    """End what a test left."""

    def none_left() -> bool:
        for pid in (left := users_processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    until(none_left, what=users_processes)


@pytest.fixture
def machine() -> Iterator[UsersNode]:
    """A machine with a user who has no node yet."""
    end_all()
    with tempfile.TemporaryDirectory(prefix="rootless-node-") as place:
        os.chmod(place, 0o755)
        folder = Path(place, "node")
        folder.mkdir()
        with machine_of(folder) as found:
            yield found


@contextlib.contextmanager
def machine_of(folder: Path) -> Iterator[UsersNode]:
    """Make it."""
    for name in ("home", "session", "etc"):
        (folder / name).mkdir(mode=0o700 if name != "etc" else 0o755)
    for name, text in ETC.items():
        (folder / "etc" / name).write_text(text)
    subprocess.run(["chown", "-R", f"{UID}:{GID}", str(folder)], check=True)
    sources = os.path.dirname(os.path.realpath(pycompose.__file__))
    links = [os.path.realpath(path) for path in Path(sources).iterdir() if path.is_symlink()]
    own = "\n".join(f"mount --bind {shlex.quote(str(folder / 'etc' / name))} /etc/{name}" for name in ETC)
    script = reachable(sys.prefix, sys.base_prefix, sources, *links, more=f"{own}\nip link set lo up")
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", "sleep", "3600"]
    keeper = subprocess.Popen(command)
    try:
        until(lambda: Path(f"/proc/{keeper.pid}/comm").read_text().strip() == "sleep" or keeper.poll() is not None)
        yield UsersNode(folder, keeper)
    finally:
        end_all()
        keeper.kill()
        keeper.wait()


def test_a_users_project_lives_and_ends(machine: UsersNode) -> None:
    machine.write(FILE)
    machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
    status = machine.compose("node", "status")
    assert "rootless" in status
    machine.compose("up", "-d", "--wait")
    before = machine.containers()
    assert set(before) == {"node-web-1", "node-web-2", "node-client-1"}
    until(lambda: len({machine.run(sys.executable, "-c", FETCH).stdout.strip() for _ in range(4)}) == 2)
    client = next(item["ID"] for name, item in before.items() if "client" in name)
    until(lambda: "| word" in machine.compose("logs", "client"))
    assert machine.compose("exec", "-T", "-u", "worker", "client", "id", "-u") == "1000\n"
    until(lambda: machine.exec("client", "cat", "/data/file") == "kept\n")

    machine.compose("stop", "client")
    machine.compose("start", "client")
    until(lambda: machine.exec("client", "cat", "/data/file") == "kept\nkept\n")
    assert machine.containers()["node-client-1"]["ID"] == client

    pids = machine.pids()
    os.kill(supervisor(machine), signal.SIGKILL)
    until(lambda: machine.cli("node", "status").returncode == 3)
    machine.compose("node", "start")
    until(lambda: len(machine.containers()) == 3)
    assert machine.pids() == pids
    until(lambda: machine.run(sys.executable, "-c", FETCH).returncode == 0)

    assert "containers go on running" in machine.compose("node", "stop")
    machine.compose("node", "start")
    assert machine.pids() == pids
    machine.compose("down", "-v")
    machine.compose("node", "stop")
    until(lambda: not users_processes(), what=users_processes)
    assert os.listdir(machine.folder / "session/pycompose") == ["rootless.lock"]


def supervisor(machine: UsersNode) -> int:
    """The node's supervisor."""
    return int(json.loads((machine.folder / "session/pycompose/node.json").read_text())["pid"])


def test_stop_containers_ends_everything_and_a_new_node_knows_them(machine: UsersNode) -> None:
    machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
    machine.write(
        "services: {one: {image: test/busybox, command: sleep 1000, volumes: ['data:/v']}}\nvolumes: {data: {}}\n"
    )
    machine.compose("up", "-d")
    machine.exec("one", "touch", "/v/here", "/there")
    machine.compose("node", "stop", "--stop-containers")
    until(lambda: not users_processes(), what=users_processes)
    machine.compose("up", "-d")
    machine.exec("one", "ls", "/v/here", "/there")
    machine.compose("down", "-v")


def test_layers_above_the_first(machine: UsersNode) -> None:
    """A file that a layer takes away stays away; a device in a layer is left out."""
    machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
    machine.write("services: {one: {image: test/busybox, command: sleep 1000}}")
    machine.compose("up", "-d")
    machine.exec("one", "sh", "-c", "rm /etc/group; rm -r /root; mkdir /root; touch /root/new")
    machine.compose("commit", "--pause=false", "one", "test/changed")
    machine.write("services: {one: {image: test/changed, command: sleep 1000}}")
    machine.compose("up", "-d")
    assert machine.exec("one", "ls", "/root") == "new\n"
    assert machine.cli("exec", "-T", "one", "test", "-e", "/etc/group").returncode == 1
    root = machine.folder / "root"
    os.mknod(root / "odd", 0o20_666, os.makedev(1, 3))
    subprocess.run(["tar", "-C", str(root), "-cf", str(machine.folder / "odd.tar"), "."], check=True)
    machine.compose("image", "import", str(machine.folder / "odd.tar"), "test/odd")
    machine.write("services: {one: {image: test/odd, command: sleep 1000}}")
    machine.compose("up", "-d")
    assert machine.cli("exec", "-T", "one", "test", "-e", "/odd").returncode == 1


def test_containers_keep_the_out_of_memory_score_that_a_user_cannot_lower(machine: UsersNode) -> None:
    """systemd starts a user's units with 200."""
    words = ["choom", "-n", "200", "--", "setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"]
    start = Node.on_machine(machine, *words, *CLI, "node", "start")
    done = subprocess.run(start, env=machine.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
    machine.write("services: {one: {image: test/busybox, command: sleep 1000}}")
    machine.compose("up", "-d", "--wait")
    assert machine.exec("one", "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj") == "200\n200\n"
    machine.compose("down")


def test_what_it_cannot_do_is_said(machine: UsersNode) -> None:
    machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
    service = "services: {one: {image: test/busybox, command: sleep 1000, PLACE}}"
    for asked, words in (
        ("mem_limit: 32m", "no cgroup is delegated"),
        ("cpus: 0.5", "no cgroup is delegated"),
        ("userns_mode: auto", "share one user namespace"),
        ("ports: ['80:80']", "net.ipv4.ip_unprivileged_port_start"),
    ):
        machine.write(service.replace("PLACE", asked))
        done = machine.cli("up", "-d", "--wait")
        assert done.returncode == 1
        assert words in done.stderr + done.stdout, asked
        machine.compose("down")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("printf '' > /etc/subuid", "usermod --add-subuids"),
        ("printf 'rover:9:1000' > /etc/subgid", "usermod --add-subgids"),
        ("mount --bind /dev/null $(readlink -f $(command -v newuidmap))", "apt-get install uidmap"),
        ("for tool in pasta slirp4netns; do mount --bind zero $(command -v $tool); done", "apt-get install passt"),
        ("mount --bind zero /proc/sys/user/max_user_namespaces", "sysctl user.max_user_namespaces"),
    ],
)
def test_what_is_missing_is_one_message(machine: UsersNode, missing: str, words: str) -> None:
    (machine.folder / "zero").write_text("0\n")
    done = subprocess.run(Node.on_machine(machine, "sh", "-c", missing), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = machine.cli("node", "start")
    assert said.returncode == 1
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert not users_processes()


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="this kernel has no tun devices")
@pytest.mark.parametrize("without", ["", "pasta"])
def test_a_container_gets_out_and_not_to_the_machines_loopback(machine: UsersNode, without: str) -> None:
    """The outside is a namespace with a web server; the machine reaches it over a link."""
    serve = f"ip link set lo up; exec {sys.executable} -m http.server 8000 --bind 0.0.0.0"
    outside = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", serve], cwd=machine.folder / "etc", stderr=subprocess.PIPE
    )
    local = subprocess.Popen(
        Node.on_machine(machine, sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lines = [
        "set -e",
        f"ip link add up0 type veth peer name up1 netns {outside.pid}",
        "ip address add 10.77.0.2/24 dev up0",
        "ip link set up0 up",
        f"nsenter --net=/proc/{outside.pid}/ns/net sh -c 'ip address add 10.77.0.1/24 dev up1; ip link set up1 up'",
        "ip route add default via 10.77.0.1",
        "mknod tun c 10 200; chmod 666 tun; mount --bind tun /dev/net/tun",
        f"for tool in {without}; do mount --bind /dev/null $(command -v $tool); done",
    ]
    try:
        until(lambda: Path(f"/proc/{outside.pid}/comm").read_text().startswith("python"))
        done = subprocess.run(Node.on_machine(machine, "sh", "-c", "\n".join(lines)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        machine.compose("image", "import", str(busybox(machine.folder)), IMAGE)
        assert f"network by {'slirp4netns' if without else 'pasta'}" in machine.compose("node", "status")
        machine.write("services: {one: {image: test/busybox, command: sleep 1000}}")
        machine.compose("up", "-d")
        until(lambda: "passwd" in machine.cli("exec", "-T", "one", "wget", "-qO-", "http://10.77.0.1:8000/").stdout)
        for address in ("10.0.2.2", "10.77.0.2"):
            said = machine.cli("exec", "-T", "one", "wget", "-T", "2", "-qO-", f"http://{address}:8000/")
            assert said.returncode != 0
    finally:
        for one in (outside, local):
            one.kill()
            one.wait()
