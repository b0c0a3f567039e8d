"""``python -m pycompose.worker.copying.program REQUEST``: hands on a container's files, in a process of its own.

The process enters the container's root (chroot(2)) before it touches a path: no symbolic link of the container, and no
name in a tar stream, leads out of it. Everything is imported before; owners are numbers, so no file of the container
tells names. REQUEST is JSON:

    view   {"pid": N}: the root of a running process with all its mounts (/proc/PID/root, proc(5));
           {"rootfs": {lower, upper, work}, "mounts": [...], "place": DIR}: the same of a container that does not run,
           mounted in a mount namespace of our own; without "mounts" the root file system alone, read-only.
           With "users" (uidMappings, gidMappings) the process becomes the root of the container's user namespace, so
           that owners are its numbers, and files are made and read with its rights
    do     stat, list, remove, pack, export (a tar on standard output), unpack (a tar from standard input), layer,
           changes
    path, paths, follow   as the call's
    owner  [uid, gid] of what is unpacked; null: as the stream says

An error is one JSON object on standard error: {"code": gRPC's name, "message": text}, and exit status 1.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import Any, NoReturn

from pycompose.worker.copying.tars import CHUNK, Failed, LayerPacker, Packer, Receiver, look_nothing_up
from pycompose.worker.runtime import mounts, paths, syscalls, userns
from pycompose.worker.runtime.root import bind

_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)


# The container's root.


def enter(view: dict[str, Any]) -> None:
    """Make the container's root ours, and its users."""
    users = users_of(view)
    if "pid" in view:
        root = os.open(f"/proc/{view['pid']}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    elif "upper" in view:
        root = os.open(view["upper"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        root = assemble(view, users)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    if users is not None:
        userns.enter(users.fd)


def users_of(view: dict[str, Any]) -> userns.Users | None:
    """Return the container's user namespace; of one that does not run, a new one with the same mappings."""
    if not view.get("users"):
        return None
    linux = dict(zip(("uidMappings", "gidMappings"), view["users"], strict=True))
    return userns.Users(f"/proc/{view['pid']}/ns/user" if "pid" in view else "", linux)


def assemble(view: dict[str, Any], users: userns.Users | None = None) -> int:
    """Mount the root of a container that does not run, where nobody else sees it; returns its descriptor."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=mounts.MS_PRIVATE, recursive=True, path=b"/")
    rootfs = view["rootfs"]
    if "mounts" not in view and rootfs.get("upper"):
        # only to be read: what the container writes meanwhile may or may not be seen
        rootfs = {"lower": [rootfs["upper"], *rootfs["lower"]], "readonly": True}
    root = mounts.overlay(rootfs, view["place"], users.layers() if users else -1)
    place = os.open(view["place"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(root, place)
    for mount in view.get("mounts", ()):
        options = mounts.MountOptions(mount.get("options") or [])
        if (options.bind or mount.get("type") == "bind") and os.path.exists(mount["source"]):
            made = bind(mount, users)
            with userns.making_files(users):
                mounts.mount_over(root, made, mount["destination"].encode())
            os.close(made)
    return root


# Out of the container.


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Return what is at a path."""
    path = request["path"]
    found = os.stat(path) if request["follow"] else os.lstat(path)
    target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
    return {"size": found.st_size, "mode": found.st_mode, "mtime_ns": found.st_mtime_ns, "target": target}


def entries(top: str) -> Iterator[dict[str, Any]]:
    """Yield what is at and below a path."""
    stack = ["."]
    os.lstat(top)
    while stack:
        name = stack.pop()
        path = top if name == "." else f"{top.rstrip('/')}/{name}"
        try:
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                stack += [os.path.normpath(f"{name}/{below}") for below in os.listdir(path)]
        except OSError:  # it went while we came
            continue
        yield {"path": name, "size": found.st_size, "mode": found.st_mode, "mtime_ns": found.st_mtime_ns}


def remove(path: str) -> None:
    """Remove a file, or a folder with all that is in it."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove(f"{path}/{name}")
    os.rmdir(path)


def changes(upper: int, below: int, skip: frozenset[str]) -> Iterator[dict[str, str]]:
    """Yield what an upper layer changes.

    Args:
        upper, below: descriptors of the upper layer and of the image's root.
        skip: absolute paths that are left out.
    """
    for path, _, _, folder in os.fwalk(".", dir_fd=upper, follow_symlinks=False):
        here = os.path.normpath("/" + path)
        for name in sorted(os.listdir(folder)):
            whole = f"{here.rstrip('/')}/{name}"
            if whole in skip:
                continue
            found = os.lstat(name, dir_fd=folder)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                yield {"path": whole, "kind": "deleted"}
            else:
                yield {"path": whole, "kind": "changed" if _exists(below, whole) else "added"}


def _exists(root: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root, path.encode("utf-8", "surrogateescape"), os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


# Requests.


def carry_out(request: dict[str, Any]) -> None:
    """Do what is asked. Raises Failed, OSError, tarfile.TarError."""
    work, skip = request["do"], frozenset(request.get("skip", ()))
    if work == "changes":
        upper = os.open(request["view"]["upper"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        below = assemble(request["view"])
        _answer(list(changes(upper, below, skip)))
        return
    enter(request["view"])
    if work == "stat":
        _answer(look(request))
    elif work == "pack":
        _pack(request)
    elif work == "list":
        for entry in entries(request["path"]):
            sys.stdout.buffer.write(json.dumps(entry).encode() + b"\n")
    elif work == "remove":
        for path in request["paths"]:
            remove(path)
    elif work == "export":
        Packer(sys.stdout.buffer, skip, os.lstat("/").st_dev).run("/", ".")
    elif work == "layer":
        LayerPacker(sys.stdout.buffer, skip).run("/", ".")
    else:
        os.chdir(request["path"])
        Receiver(request["owner"]).run(sys.stdin.buffer)
        while sys.stdin.buffer.read(CHUNK):
            pass


def _answer(found: Any) -> None:
    sys.stdout.buffer.write(json.dumps(found).encode())


def _pack(request: dict[str, Any]) -> None:
    path = "/" + request["path"].lstrip("/")
    inside = path.endswith("/.") or path == "/"
    real = os.path.realpath(path) if request["follow"] or path.endswith(("/", "/.")) else path
    os.lstat(real)
    Packer(sys.stdout.buffer).run(real, "." if inside else os.path.basename(path.rstrip("/")))


def _fail(code: str, message: str) -> NoReturn:
    os.write(2, json.dumps({"code": code, "message": message}).encode() + b"\n")
    os._exit(1)


def main() -> None:
    """Carry out the request of the command line."""
    request = json.loads(sys.argv[1])
    look_nothing_up()
    os.umask(0)
    try:
        carry_out(request)
        sys.stdout.flush()
    except Failed as error:
        _fail(error.code, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = "NOT_FOUND" if error.errno in _NOT_FOUND else "FAILED_PRECONDITION"
        _fail(code, f"{where}{error.strerror or error}")
    except (tarfile.TarError, EOFError) as error:
        _fail("INVALID_ARGUMENT", f"the tar stream is damaged: {error}")
    os._exit(0)


if __name__ == "__main__":
    main()
