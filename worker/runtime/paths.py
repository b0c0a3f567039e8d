"""Paths inside a container's root, walked by descriptor.

The image decides what its symbolic links say, so a path of the container is never opened as a
string of the host: openat2(2) with RESOLVE_IN_ROOT keeps every component, link and ``..``
below the root's descriptor, also while the container changes the tree under us.
"""

from __future__ import annotations

import errno
import os
import stat

from pycompose.worker.runtime import syscalls


def open_in_root(root: int, path: bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open ``path`` as seen from a process whose root is ``root``.

    Args:
        root: descriptor of the root directory.
        path: absolute or relative, both mean below the root.
        flags: as of open(2); O_CLOEXEC is added.
        mode: for O_CREAT.

    Raises:
        OSError: as open(2); EXDEV or ELOOP where the path cannot stay inside.
    """
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    for _ in range(64):
        try:
            return syscalls.openat2(root, path or b".", flags, mode, resolve)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a rename raced with the walk (openat2(2)): try again
                raise
    raise OSError(errno.EAGAIN, "the path keeps changing", path)


def make_directories(root: int, path: bytes, mode: int = 0o755) -> int:
    """mkdir -p below ``root``; returns an O_PATH descriptor of the directory.

    A dangling symbolic link on the way is followed inside the root and its target made there.
    """
    current = os.dup(root)
    walked: list[bytes] = []
    left = _parts(path)
    links = 0
    while left:
        part = left.pop(0)
        if part == b"..":
            walked = walked[:-1]
            os.close(current)
            current = open_in_root(root, b"/" + b"/".join(walked), os.O_PATH | os.O_DIRECTORY)
            continue
        following = b"/" + b"/".join([*walked, part])
        try:
            opened = open_in_root(root, following, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            try:
                os.mkdir(part, mode, dir_fd=current)
            except FileExistsError:
                links += 1
                if links > 40:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                target = os.readlink(part, dir_fd=current)
                left = _parts(target) + left
                if target.startswith(b"/"):
                    walked = []
                    os.close(current)
                    current = os.dup(root)
                continue
            opened = open_in_root(root, following, os.O_PATH | os.O_DIRECTORY)
        os.close(current)
        current = opened
        walked.append(part)
    return current


def _parts(path: bytes) -> list[bytes]:
    return [piece for piece in path.split(b"/") if piece and piece != b"."]


def make_target(root: int, path: bytes, *, directory: bool) -> int:
    """A descriptor of the mount point ``path``, made (with its parents) where it is missing."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    if directory:
        return make_directories(root, path)
    parent_path, _, name = path.rstrip(b"/").rpartition(b"/")
    parent = make_directories(root, parent_path)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent))
    finally:
        os.close(parent)
    return open_in_root(root, path)


def is_directory(fd: int) -> bool:
    """Whether the descriptor is a directory's."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
