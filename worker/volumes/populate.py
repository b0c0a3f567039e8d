"""``python -m pycompose.worker.volumes.populate SOURCE TARGET LAYER…``: fill a volume from an image's directory.

The image's root is a detached mount of this process (open_tree(2), fsmount(2)), which nobody else sees and which goes
with it. SOURCE is opened inside of it (openat2(2), RESOLVE_IN_ROOT), so that no link in the image leads out, and
copied by descriptor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pycompose.worker.runtime import mounts, paths, syscalls


def main() -> int:
    """Copy; a missing source is an empty volume."""
    _die_with_parent()
    source, target, *layers = sys.argv[1:]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=mounts.MS_PRIVATE, recursive=True, path=b"/")
    root = mounts.overlay({"lower": layers, "readonly": True}, target)
    try:
        found = paths.open_in_root(root, source.encode())
    except OSError:
        return 0
    here = f"/proc/{os.getpid()}/fd/{found}"
    if not os.path.isdir(here):
        return 0
    status = subprocess.run(["cp", "-a", f"{here}/.", target], preexec_fn=_die_with_parent).returncode
    like = os.stat(here)
    os.chown(target, like.st_uid, like.st_gid)
    os.chmod(target, like.st_mode & 0o7777)
    return status


def _die_with_parent() -> None:
    """A copy must not go on behind the back of an agent that starts anew."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
