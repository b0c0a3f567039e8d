"""Network devices of the machine that a container gets: moved into its namespace, with their addresses.

Source: runtime-spec config-linux.md, "Network Devices".
"""

from __future__ import annotations

import os
import socket

from pycompose.worker.network import netlink
from pycompose.worker.network.errors import KernelRefused
from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def move_all(devices: dict[str, dict[str, Any]], pid: int) -> None:
    """Move devices to a process's network namespace; each is up there, under its new name.

    Args:
        devices: ``linux.netDevices``: the machine's name of each, and what it is called inside.
        pid: a process in the namespace.

    Raises:
        StartError: names the device; what was moved before goes with the namespace.
    """
    target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for name, settings in devices.items():
            try:
                _move(name, settings.get("name") or name, target, home)
            except KernelRefused as error:
                raise StartError(f"linux.netDevices.{name}: {error}") from None
            except OSError as error:
                raise StartError(f"linux.netDevices.{name}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(home)
        os.close(target)


def _move(name: str, inside: str, target: int, home: int) -> None:
    index = socket.if_nametoindex(name)
    with netlink.Netlink() as here:
        addresses = here.addresses(index)
        here.run([netlink.move_link(index, target, inside)])
    syscalls.setns(target, syscalls.CLONE_NEWNET)
    try:
        index = socket.if_nametoindex(inside)
        with netlink.Netlink() as there:
            there.run([*(netlink.add_address(index, address) for address in addresses), netlink.set_up(index)])
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
