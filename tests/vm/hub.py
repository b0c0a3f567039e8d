"""An Ethernet hub between guests: what one sends, the others get, unless they are cut off.

QEMU sends each frame of a guest as one UDP datagram on loopback (`-netdev dgram`, qemu(1)).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection

FRAME = 65_536


class Hub:
    """A port for each guest, by name; runs in a thread until it is closed."""

    def __init__(self, names: Collection[str]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._ports = {name: _free() for name in names}
        self._apart: frozenset[str] = frozenset()
        threading.Thread(target=self._carry, daemon=True).start()

    def device(self, name: str, number: int) -> list[str]:
        """Return QEMU's arguments for a guest's network card.

        Args:
            name: the guest's.
            number: the last byte of its hardware address.
        """
        hub, own = self._socket.getsockname()[1], self._ports[name]
        ends = f"remote.type=inet,remote.host=127.0.0.1,remote.port={hub}"
        ends += f",local.type=inet,local.host=127.0.0.1,local.port={own}"
        return [
            "-netdev", f"dgram,id=hub,{ends}",
            "-device", f"virtio-net-pci,netdev=hub,mac=52:54:00:00:00:{number:02x},romfile=",
        ]  # fmt: skip

    def cut(self, *apart: str) -> None:
        """Let these guests and the others hear nothing of each other; without names: all hear all again."""
        self._apart = frozenset(apart)

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _carry(self) -> None:
        names = {port: name for name, port in self._ports.items()}
        while True:
            try:
                frame, (_, port) = self._socket.recvfrom(FRAME)
            except OSError:
                return
            sender = names.get(port, "")
            for name, other in self._ports.items():
                if name != sender and (name in self._apart) == (sender in self._apart):
                    try:
                        self._socket.sendto(frame, ("127.0.0.1", other))
                    except OSError:  # a guest that is off
                        continue


def _free() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
