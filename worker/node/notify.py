"""Telling systemd how far the node is: sd_notify(3)'s protocol, one datagram to NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Notifier:
    """Says READY=1 once; says nothing where no systemd asked."""

    def __init__(self) -> None:
        # not for the children: they would speak for the node
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._ready = False

    def ready(self, path: str) -> None:
        """Say that the node is ready as soon as something listens on the unix socket `path`."""
        if self._ready or not self._address:
            return
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(path)
            self._ready = True
            self._say("READY=1")

    def stopping(self) -> None:
        """Say that the node stops."""
        if self._address:
            self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(OSError):
            out.sendto(text.encode(), address)
