"""Which files change below some folders: by inotify(7) on Linux, by looking again and again elsewhere.

Both give sets of absolute paths that changed, came or went. `OVERFLOW` among them means that some were missed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import time
from collections.abc import Callable, Iterable
from typing import Protocol

OVERFLOW = ""
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_Q_OVERFLOW, _IGNORED, _ONLYDIR, _DONT_FOLLOW, _ISDIR = 0x4000, 0x8000, 0x1000000, 0x2000000, 0x40000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_HEADER = struct.Struct("iIII")
POLL_SECONDS = 0.5


class NotifyError(Exception):
    """The files cannot be followed; the message says why and what helps."""


class Notifier(Protocol):
    """Follows files until it is closed."""

    def read(self, timeout: float | None) -> set[str]:
        """Return paths that changed; none when `timeout` seconds went by."""
        ...

    def close(self) -> None:
        """End."""
        ...


def notifier(paths: Iterable[str], skip: Callable[[str], bool]) -> Notifier:
    """Return what follows files and folders.

    Args:
        paths: absolute; a file is followed also when an editor puts another one in its place.
        skip: whether a folder, by its path, is left out with all that is in it.

    Raises:
        NotifyError: the kernel's limits do not allow it.
    """
    return Inotify(paths, skip) if sys.platform == "linux" else Polling(paths, skip)


class Inotify:
    """Follows by inotify(7)."""

    def __init__(self, paths: Iterable[str], skip: Callable[[str], bool]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._skip = skip
        self._places: dict[int, str] = {}
        self._files: set[str] = set()
        self._roots: set[str] = set()
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        try:
            for path in paths:
                if os.path.isdir(path):
                    self._roots.add(path)
                    self._add(path)
                else:
                    self._files.add(path)
                    self._watch(os.path.dirname(path))
        except BaseException:
            self._close()
            raise

    def _checked(self, result: int, path: str) -> int:
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number == errno.ENOSPC:
            raise NotifyError(
                f"{path}: too many folders to follow; raise the limit: sysctl fs.inotify.max_user_watches=524288, "
                "or leave some out with ignore"
            )
        if number == errno.EMFILE:
            raise NotifyError("too many programs follow files; raise fs.inotify.max_user_instances with sysctl")
        raise OSError(number, os.strerror(number), path)

    def _add(self, folder: str) -> set[str]:
        """Follow a folder and those below it; return the files found in them."""
        found: set[str] = set()
        stack = [folder]
        while stack:
            here = stack.pop()
            if here not in self._roots and self._skip(here):
                continue
            if not self._watch(here):
                continue
            try:
                entries = list(os.scandir(here))
            except OSError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    found.add(entry.path)
        return found

    def _watch(self, folder: str) -> bool:
        flags = _WANTED | _ONLYDIR | _DONT_FOLLOW
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), flags)
        if watch < 0 and ctypes.get_errno() in (errno.ENOENT, errno.ENOTDIR):
            return False  # it went while we came
        self._places[self._checked(watch, folder)] = folder
        return True

    def read(self, timeout: float | None) -> set[str]:
        """Return paths that changed; none when `timeout` seconds went by, or it was closed."""
        ready, _, _ = select.select([self._fd, self._wake_read], [], [], timeout)
        if self._fd not in ready:
            return set()
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return set()
        found: set[str] = set()
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            name = data[offset + _HEADER.size : offset + _HEADER.size + length].rstrip(b"\0")
            offset += _HEADER.size + length
            found |= self._event(watch, mask, os.fsdecode(name))
        return found

    def _event(self, watch: int, mask: int, name: str) -> set[str]:
        if mask & _Q_OVERFLOW:
            return {OVERFLOW}
        if mask & _IGNORED:
            self._places.pop(watch, None)
            return set()
        place = self._places.get(watch)
        if place is None or not name:
            return set()
        path = os.path.join(place, name)
        if not any(path.startswith(root.rstrip("/") + "/") for root in self._roots):
            return {path} & self._files
        if not mask & _ISDIR:
            return {path}
        if mask & (_CREATE | _MOVED_TO):
            return self._add(path) | {path}
        return {path} if mask & (_DELETE | _MOVED_FROM) else set()

    def close(self) -> None:
        """End; a `read` that waits returns."""
        os.write(self._wake_write, b"x")

    def _close(self) -> None:
        for descriptor in (self._fd, self._wake_read, self._wake_write):
            os.close(descriptor)

    def __del__(self) -> None:
        try:
            self._close()
        except (OSError, AttributeError):
            return


class Polling:
    """Follows by comparing sizes and times every half second."""

    def __init__(self, paths: Iterable[str], skip: Callable[[str], bool]) -> None:
        self._paths, self._skip, self._closed = tuple(paths), skip, False
        self._known = self._look()

    def _look(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        stack = list(self._paths)
        while stack:
            here = stack.pop()
            try:
                if os.path.isdir(here) and not os.path.islink(here):
                    if here in self._paths or not self._skip(here):
                        stack += [entry.path for entry in os.scandir(here)]
                else:
                    status = os.lstat(here)
                    found[here] = (status.st_size, status.st_mtime_ns)
            except OSError:
                continue
        return found

    def read(self, timeout: float | None) -> set[str]:
        """Return paths that changed; none when `timeout` seconds went by, or it was closed."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            now = self._look()
            changed = {path for path in {*now, *self._known} if now.get(path) != self._known.get(path)}
            self._known = now
            left = POLL_SECONDS if end is None else min(POLL_SECONDS, end - time.monotonic())
            if changed or left <= 0:
                return changed
            time.sleep(left)
        return set()

    def close(self) -> None:
        """End."""
        self._closed = True
