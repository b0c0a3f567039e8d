"""``python -m pycompose.worker.builder.program JOB``: a build's hands on files, in a process of its own.

Where it writes it has entered the root that it writes to (chroot(2)), and where it reads it reads below a descriptor
(openat2(2), RESOLVE_IN_ROOT): no link of a context or an image, and no name in an archive, leads out. JOB is JSON:

    do      digest: {"digest": …} of what the sources name, on standard output
            copy, folder: change the root `into`
            layer: what was changed, as a layer's tar, on standard output; paths of `skip` are removed before
            receive: unpack the tar of standard input into the folder `into`
    from    {"path": DIR} or {"lower": [DIR, …], "place": DIR}, the topmost layer first
    into    {"lower": …, "upper": DIR, "work": DIR, "place": DIR}; without "lower" the folder "upper" itself

An error is one JSON object on standard error: {"kind": "missing" | "failed" | "full", "message": text}, exit status 1.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tarfile
from typing import Any, NoReturn

from pycompose.worker.builder.copier import Copier
from pycompose.worker.builder.modes import changer
from pycompose.worker.builder.tree import Missing, Tree
from pycompose.worker.copying.tars import CHUNK, Failed, LayerPacker, Receiver, look_nothing_up
from pycompose.worker.runtime import mounts, syscalls


def open_from(root: dict[str, Any]) -> int:
    """Return a descriptor of the root that is read."""
    if "path" in root:
        return os.open(root["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _attached(mounts.overlay({"lower": root["lower"], "readonly": True}, root["place"]), root["place"])


def enter(root: dict[str, Any]) -> None:
    """Make the root that is written our own."""
    if root.get("lower"):
        descriptor = _attached(mounts.overlay(root, root["place"]), root["place"])
    else:
        descriptor = os.open(root["upper"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(descriptor)
    os.chroot(".")
    os.close(descriptor)


def _attached(made: int, place: str) -> int:
    descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(made, descriptor)
    os.close(descriptor)
    return made


def alone() -> None:
    """Take a mount namespace of our own, of which nobody else sees a mount."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=mounts.MS_PRIVATE, recursive=True, path=b"/")


def owner_of(numbers: list[int] | None) -> tuple[int, int] | None:
    """Return uid and gid as a pair."""
    return (numbers[0], numbers[1]) if numbers is not None else None


def copy(job: dict[str, Any]) -> None:
    """COPY or ADD."""
    alone()
    source = open_from(job["from"]) if job.get("from") else -1
    enter(job["into"])
    given = owner_of(job["owner"])
    owner = given if given or job["keep_owner"] else (0, 0)
    copier = Copier(owner, changer(job["mode"]) if job["mode"] else None, given)
    for name, text in job["files"]:
        copier.write(name, text, job["target"])
    if job["sources"]:
        tree = Tree(source, job["exclude"])
        copier.copy(tree, job["sources"], job["target"], parents=job["parents"], unpack=job["unpack"])


def folder(job: dict[str, Any]) -> None:
    """WORKDIR."""
    alone()
    enter(job["into"])
    Copier(owner_of(job["owner"])).folders(job["path"])


def digest(job: dict[str, Any]) -> None:
    """What the cache knows sources by."""
    alone()
    tree = Tree(open_from(job["from"]), job["exclude"])
    found = tree.digest(job["sources"], owners=job["keep_owner"])
    sys.stdout.buffer.write(json.dumps({"digest": found}).encode())


def layer(job: dict[str, Any]) -> None:
    """The tar of what was changed."""
    enter({"upper": job["upper"]})
    for path in job["skip"]:
        _forget(path)
    LayerPacker(sys.stdout.buffer, latest=job.get("latest")).run("/", ".")


def _forget(path: str) -> None:
    """Remove an empty file or folder that was made for a mount, and empty folders on the way that nobody else made."""
    try:
        status = os.lstat(path)
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        elif os.path.isfile(path) and not status.st_size:
            os.unlink(path)
    except OSError:
        return


def receive(job: dict[str, Any]) -> None:
    """A context."""
    enter(job["into"])
    Receiver((0, 0)).run(sys.stdin.buffer)
    while sys.stdin.buffer.read(CHUNK):
        pass


_JOBS = {"copy": copy, "folder": folder, "digest": digest, "layer": layer, "receive": receive}


def _fail(kind: str, message: str) -> NoReturn:
    os.write(2, json.dumps({"kind": kind, "message": message}).encode() + b"\n")
    os._exit(1)


def main() -> None:
    """Do the job of the command line."""
    job = json.loads(sys.argv[1])
    look_nothing_up()
    os.umask(0)
    try:
        _JOBS[job["do"]](job)
        sys.stdout.flush()
    except Missing as error:
        _fail("missing", error.source)
    except (Failed, ValueError) as error:
        _fail("failed", str(error))
    except OSError as error:
        kind = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
        where = f"{error.filename}: " if error.filename else ""
        _fail(kind, f"{where}{error.strerror or error}")
    except (tarfile.TarError, EOFError) as error:
        _fail("failed", f"the tar stream is damaged: {error}")
    os._exit(0)


if __name__ == "__main__":
    main()
