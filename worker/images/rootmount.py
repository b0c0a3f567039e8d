"""Entering a layer's root: an overlay of the layers below and the new one, in a mount namespace of this process.

Sources: mount_namespaces(7), pivot_root(2), fsconfig(2), mount(2), overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from pycompose.worker.runtime import owning, syscalls

MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
#: What later mounts of the same layers need not know about: each layer stays readable without its index.
OPTIONS = ("index=off", "redirect_dir=off", "metacopy=off")
#: In a user namespace: userxattr switches the others off by itself, and refuses to be told so (overlayfs.rst).
USERS_OPTIONS = ("index=off", "userxattr")
PAGE = 4096


def enter(home: str, lower: Sequence[str]) -> None:
    """Make the new layer over those below this process's root.

    Args:
        home: a directory with `fs`, `work` and `root`, relative to the current directory.
        lower: directories of the layers below, topmost first, relative to the current directory.

    Raises:
        OSError: the kernel refused.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(b"none", b"/", None, MS_REC | MS_PRIVATE)
    root = os.fsencode(f"{home}/root" if lower else f"{home}/fs")
    if lower:
        overlay(root, lower, f"{home}/fs", f"{home}/work")
    else:
        syscalls.mount(root, root, None, MS_BIND)
    os.chdir(root)
    syscalls.pivot_root(b".", b".")
    syscalls.umount(b".", syscalls.MNT_DETACH)
    os.chdir("/")


def overlay(target: bytes, lower: Sequence[str], upper: str, work: str) -> None:
    """Mount an overlay.

    The options of mount(2) have one page for all names; fsconfig(2) takes as many layers as overlayfs does, one by
    one, since Linux 6.5.
    """
    places = (f"upperdir={upper}", f"workdir={work}")
    options = OPTIONS if owning.machines_root() else USERS_OPTIONS
    data = ",".join((f"lowerdir={':'.join(lower)}", *places, *options)).encode()
    if len(data) < PAGE:
        syscalls.mount(b"overlay", target, b"overlay", 0, data)
        return
    context = syscalls.fsopen(b"overlay")
    for option in (*(f"lowerdir+={name}" for name in lower), *places, *options):
        key, _, value = option.partition("=")
        try:
            syscalls.fsconfig(context, key.encode(), value.encode() if value else None)
        except OSError as error:
            if error.errno == errno.EINVAL and key == "lowerdir+":
                raise OSError(errno.EINVAL, f"{len(lower)} layers take Linux 6.5 or later") from error
            raise
    syscalls.fscreate(context)
    made = syscalls.fsmount(context, 0)
    os.close(context)
    place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(made, place)
    os.close(place)
    os.close(made)
