"""Whose root this process is: the machine's, or that of a user namespace, in which some things are not to be had."""

from __future__ import annotations

import functools


@functools.cache
def machines_root() -> bool:
    """Whether this process is in the machine's own user namespace, by its map (user_namespaces(7)): 0 0 4294967295."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]
