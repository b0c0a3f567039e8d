"""Which pages a fork had to copy for its work, so that the next fork copies them before its work comes.

All forks of the zygote have the same addresses and do the same work, so what one wrote to the next will write to: a
fault and a copied page each, some hundred of them, a quarter of the time a start takes. Nothing depends on it.

Source: proc_pid_maps(5), proc_pid_pagemap(5), madvise(2) "MADV_POPULATE_WRITE".
"""

from __future__ import annotations

import contextlib
import struct

from pycompose.worker.runtime import state, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE = 4096
_PRESENT, _FILE, _OURS_ALONE = 1 << 63, 1 << 61, 1 << 56
#: Mappings beyond this many bytes are not looked at: nothing of Python's is so large.
_LARGE = 1 << 26


def copied() -> list[tuple[int, int]]:
    """(address, bytes) of the pages of writable private memory that this process shares with no other."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for line in state.read("/proc/self/maps").splitlines():
            fields = line.split()
            start, _, end = fields[0].partition(b"-")
            first, past = int(start, 16), int(end, 16)
            if fields[1] != b"rw-p" or fields[-1] == b"[stack]" or past - first > _LARGE:
                continue
            pagemap.seek(first // SIZE * 8)
            data = pagemap.read((past - first) // SIZE * 8)
            found += runs(first, struct.unpack(f"={len(data) // 8}Q", data))
    return found


def runs(first: int, entries: Iterable[int]) -> list[tuple[int, int]]:
    """(address, bytes) of each run of pages that are copies. Pure.

    Args:
        first: address of the first page.
        entries: pagemap's 64 bits of it and the pages behind it.
    """
    found: list[tuple[int, int]] = []
    for number, entry in enumerate(entries):
        if entry & _PRESENT and entry & _OURS_ALONE and not entry & _FILE:
            address = first + number * SIZE
            if found and sum(found[-1]) == address:
                found[-1] = (found[-1][0], found[-1][1] + SIZE)
            else:
                found.append((address, SIZE))
    return found


def copy(wanted: Iterable[tuple[int, int]]) -> None:
    """Make these pages the caller's own now; what is not mapped here, or not by this kernel, is left out."""
    for address, length in wanted:
        with contextlib.suppress(OSError):
            syscalls.populate(address, length)
