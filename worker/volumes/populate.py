"""``python -m pycompose.worker.volumes.populate SOURCE TARGET LAYER…``: fill a volume from an image's directory.

The image's root is mounted in a mount namespace of this process; SOURCE is opened inside of it (openat2(2),
RESOLVE_IN_ROOT), so that no link in the image leads out, and copied by descriptor.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

from pycompose.worker.runtime import paths

CLONE_NEWNS = 0x00020000


def main() -> int:
    """Copy; a missing source is an empty volume."""
    source, target, *layers = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        sys.stderr.write("cannot make a mount namespace\n")
        return 1
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    root = layers[0]
    if len(layers) > 1:
        root = tempfile.mkdtemp(prefix="pycompose-")
        subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={':'.join(layers)}", "overlay", root], check=True)
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        found = paths.open_in_root(descriptor, source.encode())
    except OSError:
        return 0
    here = f"/proc/{os.getpid()}/fd/{found}"
    status = 0
    if os.path.isdir(here):
        status = subprocess.run(["cp", "-a", f"{here}/.", target]).returncode
        like = os.stat(here)
        os.chown(target, like.st_uid, like.st_gid)
        os.chmod(target, like.st_mode & 0o7777)
    if len(layers) > 1:
        subprocess.run(["umount", "-l", root], check=False)
        shutil.rmtree(root, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
