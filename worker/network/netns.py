"""Network namespaces (network_namespaces(7)): make, enter, keep as files, drop.

A namespace is entered by one thread only (setns(2) is per thread). A bind mount of ``/proc/thread-self/ns/net``
on a file keeps it alive without a process; the files lie on a private tmpfs of ours, so that the mounts do not
spread to other mount namespaces. Dropping is unmounting: the kernel then removes the links by itself.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pycompose.worker.network.errors import KernelRefused

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_PRIVATE, _MNT_DETACH = 0x1000, 1 << 18, 2
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise KernelRefused(f"{what}: {os.strerror(errno)}") from OSError(errno, os.strerror(errno))


def enter(descriptor: int) -> None:
    """Move the calling thread to a network namespace (setns(2))."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET), "cannot enter a network namespace")


@contextmanager
def inside(descriptor: int, home: int) -> Iterator[None]:
    """The calling thread is in ``descriptor``'s namespace, and in ``home`` again afterwards."""
    enter(descriptor)
    try:
        yield
    finally:
        enter(home)


@contextmanager
def visiting(path: Path, home: int) -> Iterator[None]:
    """The same for a namespace that is kept in a file."""
    descriptor = open_file(path)
    try:
        with inside(descriptor, home):
            yield
    finally:
        os.close(descriptor)


def current() -> int:
    """Descriptor of the calling thread's namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def make(home: int) -> int:
    """A new namespace's descriptor; the calling thread ends in ``home``."""
    _check(_libc.unshare(_CLONE_NEWNET), "cannot make a network namespace (unshare)")
    try:
        return current()
    finally:
        enter(home)


def mount_home(directory: Path) -> None:
    """Make ``directory`` a private tmpfs for namespace files, unless it is one already (from an earlier run)."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.path.ismount(directory):
        return
    _check(_libc.mount(b"pycompose", os.fsencode(directory), b"tmpfs", 0, b"mode=0700"), f"mount {directory}")
    _check(_libc.mount(None, os.fsencode(directory), None, _MS_PRIVATE, None), f"make {directory} private")


def unmount_home(directory: Path) -> None:
    """Undo ``mount_home``."""
    if os.path.ismount(directory):
        _check(_libc.umount2(os.fsencode(directory), _MNT_DETACH), f"unmount {directory}")
    with suppress(OSError):
        directory.rmdir()


def keep(descriptor: int, path: Path) -> None:
    """Bind the namespace on a new file."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o400))
    source = f"/proc/self/fd/{descriptor}".encode()
    try:
        _check(_libc.mount(source, os.fsencode(path), None, _MS_BIND, None), f"bind a namespace on {path}")
    except KernelRefused:
        path.unlink()
        raise


def drop(path: Path) -> None:
    """Unmount and remove a namespace's file; nothing happens when it is gone already."""
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def open_file(path: Path | str) -> int:
    """Descriptor of a namespace kept in a file."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def sysctl(name: str, value: str) -> None:
    """Set ``/proc/sys/net/<name>`` of the calling thread's namespace; a missing one is no error."""
    with suppress(FileNotFoundError):
        descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)


def forward6() -> None:
    """Let the calling thread's namespace forward IPv6; interfaces that learn from routers go on to (accept_ra 2).

    Source: kernel Documentation/networking/ip-sysctl.rst, ``forwarding`` and ``accept_ra``.
    """
    if read_sysctl("ipv6/conf/all/forwarding") == "1":
        return
    for name in os.listdir("/proc/sys/net/ipv6/conf"):
        if read_sysctl(f"ipv6/conf/{name}/accept_ra") == "1":
            sysctl(f"ipv6/conf/{name}/accept_ra", "2")
    sysctl("ipv6/conf/all/forwarding", "1")


def read_sysctl(name: str) -> str:
    """``/proc/sys/net/<name>`` of the calling thread's namespace, without the newline."""
    return Path(f"/proc/sys/net/{name}").read_text().strip()
