"""A manager's socket behind ssh: each connection is one `ssh USER@HOST pycompose node dial-stdio`.

gRPC connects to a socket in a folder of ours; what is accepted there becomes ssh's own standard input and output, so no
byte passes through this process. ssh runs with BatchMode: it asks nothing, and says why when it would have to (ssh(1),
ssh_config(5)).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from pycompose.compose.client.addresses import Address
from pycompose.compose.client.errors import NodeError

CONNECT_SECONDS = 10
NOT_FOUND, FAILED = 127, 255
"""What ssh's status says: the other shell knows no such command; ssh itself failed."""


def command(address: Address) -> list[str]:
    """Return the command line for one connection."""
    words = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-T"]
    words += ["-p", str(address.port)] if address.port else []
    words += ["-l", address.user] if address.user else []
    host = f"-H unix://{_quoted(address.path)} " if address.path else ""
    return [*words, "--", address.host, f"pycompose {host}node dial-stdio"]


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)


class Tunnel:
    """A socket of this machine whose connections end at another's manager.

    Args:
        address: of kind ssh.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._folder = tempfile.mkdtemp(prefix="pycompose-ssh-")
        self.path = os.path.join(self._folder, "api.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._children: list[subprocess.Popen[bytes]] = []
        self._listening: list[threading.Thread] = []
        self._problem = ""
        threading.Thread(target=self._serve, daemon=True).start()

    def problem(self) -> str:
        """Return why the last connection failed, "" when ssh did not say."""
        deadline = time.monotonic() + CONNECT_SECONDS
        while not self._problem and any(one.is_alive() for one in self._listening) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._problem

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    child = subprocess.Popen(
                        command(self._address),
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=subprocess.PIPE,
                        start_new_session=True,  # Ctrl-C is for us to decide about
                    )
                except OSError as error:
                    self._problem = f"ssh cannot be run: {error.strerror}; install OpenSSH's client"
                    continue
                # before our end of the connection is closed: gRPC hears of its end only when all is in place
                self._children.append(child)
                self._listening.append(threading.Thread(target=self._listen, args=(child,), daemon=True))
                self._listening[-1].start()

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        """Keep what ssh says; it is small, and the end of it is enough."""
        said = b""
        assert child.stderr is not None
        for line in child.stderr:
            said = (said + line)[-4096:]
        status = child.wait()
        if status:
            self._problem = explained(self._address, status, said.decode(errors="replace").strip())


def explained(address: Address, status: int, said: str) -> str:
    """Return what went wrong with a connection, and what to do about it.

    Args:
        address: where it went.
        status: ssh's exit status.
        said: its standard error.
    """
    login = f"{address.user}@{address.host}" if address.user else address.host
    last = said.splitlines()[-1].strip() if said else f"ssh ended with status {status}"
    if status == NOT_FOUND:
        return f"{login} has no pycompose in the PATH of a shell that nobody logged in to; install it there"
    if status != FAILED:
        return f"{login}: {last.removeprefix('error: ')}"
    remedies = {
        "Host key verification failed": f"log in once by hand and look at its key: ssh {login}",
        "Permission denied": f"ssh may not ask here; give it a key that needs no password: ssh-copy-id {login}",
        "Connection refused": "no ssh server listens there",
        "Could not resolve": "the name is not known; write its address",
        "timed out": "the machine is off, or a firewall is between",
    }
    remedy = next((text for word, text in remedies.items() if word in said), f"try it by hand: ssh {login}")
    return f"ssh to {login}: {last}; {remedy}"


def copy_stdio(path: str) -> None:
    """Join standard input and output to a socket until either side ends.

    Args:
        path: of the socket.

    Raises:
        NodeError: nobody answers there.
    """
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(path)
    except PermissionError:
        raise NodeError(
            f"you may not talk to the node at {path}; log in as root, or join the group pycompose"
        ) from None
    except OSError:
        raise NodeError(f"no node answers at {path}; start it there: pycompose node start") from None

    def inward() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(0, 64 << 10):
                peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)

    threading.Thread(target=inward, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := peer.recv(64 << 10):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
