"""Which pages a fork has copied."""

from __future__ import annotations

import ast
import ctypes
import mmap
import os

from pycompose.worker.runtime import pages

OURS = 1 << 63 | 1 << 56


def test_runs_of_copied_pages() -> None:
    file, shared, absent = OURS | 1 << 61, 1 << 63, 1 << 56
    entries = [OURS, OURS, shared, OURS, file, absent, OURS]
    assert pages.runs(0x10000, entries) == [(0x10000, 8192), (0x13000, 4096), (0x16000, 4096)]
    assert pages.runs(0, []) == []


def test_a_child_copies_what_it_writes_and_what_it_is_told_to() -> None:
    memory = mmap.mmap(-1, 16 * pages.SIZE, mmap.MAP_PRIVATE)
    memory[:] = b"x" * len(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            memory[5 * pages.SIZE] = 1
            written = numbers(address)
            pages.copy([(pages.SIZE, pages.SIZE), (address + 6 * pages.SIZE, 2 * pages.SIZE)])  # the first is not there
            os.write(writer, repr((written, numbers(address))).encode())
        finally:
            os._exit(0)
    os.wait()
    assert ast.literal_eval(os.read(reader, 100).decode()) == ([5], [5, 6, 7])
    os.close(reader), os.close(writer)


def numbers(address: int) -> list[int]:
    """Which of the 16 pages behind `address` the process shares with no other."""
    found = {page for start, length in pages.copied() for page in range(start, start + length, pages.SIZE)}
    return [number for number in range(16) if address + number * pages.SIZE in found]
