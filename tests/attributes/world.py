"""What stands around the node of ``node/test_attributes.py``: another machine, directories to bind, images.

``Words`` are what ``@WORD@`` in the tables stands for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from node.whole import CLI, IMAGE, Node, until

#: Addresses of the node's machine and of the other one, on the link between them.
HERE4, THERE4 = "198.51.100.1", "198.51.100.2"
HERE6, THERE6 = "2001:db8:5::1", "2001:db8:5::2"
PARENT = "lan0"

FOLDER = Path(__file__).parent
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class World:
    """Args: node: as started."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._stack = contextlib.ExitStack()
        self.elsewhere = 0

    def __enter__(self) -> World:
        with self._stack as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self, stack: contextlib.ExitStack) -> None:
        other = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 3600"])
        stack.callback(_end, other)
        until(lambda: Path(f"/proc/{other.pid}/comm").read_text().strip() == "sleep")
        self.elsewhere = other.pid
        self._link("out0", [f"{HERE4}/24", f"{HERE6}/64"], [f"{THERE4}/24", f"{THERE6}/64"])
        self._link(PARENT, [], ["172.24.0.2/24"])
        # whence the networks of the node are reached that hide behind no address of its machine
        self.there("ip", "route", "add", "172.25.0.0/24", "via", HERE4)
        self._serve(stack, self._there(), "", "7777", "7778")
        self._serve(stack, self.node.on_machine(), "the machine", "7776")
        self._directories()
        self._programs()

    def _serve(self, stack: contextlib.ExitStack, place: list[str], *arguments: str) -> None:
        command = [*place, sys.executable, str(FOLDER / "peer.py"), *arguments]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        stack.callback(_end, server)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"

    def _link(self, name: str, here: list[str], there: list[str]) -> None:
        run = self.node.run
        assert (
            run("ip", "link", "add", name, "type", "veth", "peer", "far0", "netns", str(self.elsewhere)).returncode == 0
        )
        self.there("ip", "link", "set", "far0", "name", f"far-{name}")
        for addresses, do, link in ((here, run, name), (there, self.there, f"far-{name}")):
            do("ip", "link", "set", link, "up")
            for address in addresses:
                do("ip", "addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))

    def _there(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.elsewhere}/ns/net"]

    def there(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the other machine."""
        command = [*self._there(), *words]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment(), timeout=100)

    def here(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script on the node's machine."""
        return subprocess.run(
            self.node.on_machine("sh", "-c", script),
            capture_output=True, text=True, env=self.environment(), timeout=100,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The node's, with the programs for the tables."""
        own = self.node.environment()
        return own | {"PATH": f"{self.node.folder}/programs:{own['PATH']}"}

    def _directories(self) -> None:
        folder = self.node.folder
        script = """
            mkdir shared nested idmapped
            mount -t tmpfs none shared && mount --make-shared shared
            mount -t tmpfs none nested && mkdir nested/inner
            mount -t tmpfs none nested/inner && touch nested/inner/file
            touch idmapped/theirs && chown -R 4242:4243 idmapped
        """
        assert self.here(f"set -e; cd {folder}; {script}").returncode == 0

    def _programs(self) -> None:
        folder = self.node.folder / "programs"
        folder.mkdir()
        fetch = f"{sys.executable} {FOLDER}/fetch.py"
        texts = {"fetch": fetch, "fetch-udp": f"{fetch} --udp", "pycompose": " ".join(CLI)}
        for name, text in texts.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {text} "$@"\n')
            (folder / name).chmod(0o755)

    def words(self) -> dict[str, str]:
        """What ``@WORD@`` stands for."""
        folder = self.node.folder
        return {
            "FOLDER": str(folder),
            "STATE": str(folder / "state"),
            "SHARED": str(folder / "shared"),
            "NESTED": str(folder / "nested"),
            "IDMAP": str(folder / "idmapped"),
            "PYCOMPOSE": "pycompose",
            "CGROUP": self.node.cgroup,
            "HOSTNAME": socket.gethostname(),
            "NET": os.readlink(f"/proc/{self.node.machine.pid}/ns/net"),
            "IPC": os.readlink("/proc/self/ns/ipc"),
            "DISK": disk(),
            "ARCH": ARCHITECTURE,
            "MACHINE_ADDRESS": HERE4,
            "MACHINE_ADDRESS6": HERE6,
            "ELSEWHERE": THERE4,
            "ELSEWHERE6": THERE6,
            "DNS": THERE4,
            "PARENT": PARENT,
            "PYTHON": os.path.realpath(sys.executable),
            "PYTHON_HOME": sys.base_prefix,
        }


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def disk() -> str:
    """The name of a whole disk of this machine."""
    for path in sorted(Path("/sys/block").iterdir()):
        if int((path / "size").read_text()) and not path.name.startswith(("loop", "ram", "zram")):
            return path.name
    return "none"


SETTINGS = {
    "Entrypoint": ["echo", "entry"],
    "Cmd": ["from-cmd"],
    "Env": ["FROM_IMAGE=image", "FROM_IMAGE2=image"],
    "WorkingDir": "/srv",
    "User": "worker",
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["CMD", "test", "-e", "/tmp/well"], "Interval": 3_600_000_000_000},
}


def images(node: Node) -> None:
    """Give the node test/busybox with a web site, test/configured (settings of all kinds, data), test/layered."""
    root, archive = node.folder / "root", node.folder / "image.tar"
    scripts = root / "www" / "cgi-bin"
    scripts.mkdir(parents=True)
    for name, text in (
        ("who", "echo $REMOTE_ADDR | grep -oE '[0-9.]{7,}'"),
        ("gateway", "ip route | awk '/default/ {print $3}'"),
    ):
        (scripts / name).write_text(f"#!/bin/sh\necho; {text}\n")
        (scripts / name).chmod(0o755)
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    node.compose("image", "import", str(archive), IMAGE)
    for name in ("srv", "data"):
        (root / name).mkdir()
    (root / "data" / "seed").write_text("from the image\n")
    os.chown(root / "data", 1000, 1001)
    (root / "data").chmod(0o750)
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    configured = archive.read_bytes()
    for data in (
        _saved("test/configured", [configured], SETTINGS),
        _saved("test/layered", [_tar({"first/file": "1"}), _tar({"second/file": "2"})], {}),
    ):
        archive.write_bytes(data)
        node.compose("image", "load", "-i", str(archive))


def _saved(name: str, layers: list[bytes], settings: dict[str, Any]) -> bytes:
    """An archive as `docker save` writes it, of layers' tar files."""
    blobs = {f"{number}/layer.tar": data for number, data in enumerate(layers)}
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in blobs.values()]
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": list(blobs)}]
    texts = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    return _tar(texts | blobs)


def _tar(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@contextlib.contextmanager
def around(node: Node) -> Iterator[World]:
    """The world of a started node."""
    with World(node) as world:
        images(node)
        yield world
