"""The container's root on kernels before 6.5, which take an overlay's layers by mount(2) alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import errno, os, sys
from pycompose.worker.runtime import mounts
home = sys.argv[1]
if sys.argv[2] == "old":
    def refuse(kind, source, data, attributes=0):
        raise OSError(errno.EINVAL, "as before 6.5")
    mounts.new_filesystem = refuse
rootfs = {"lower": [f"{home}/layer-{number}" for number in range(12)], "upper": f"{home}/upper", "work": f"{home}/work"}
root = mounts.overlay(rootfs, f"{home}/place")
print(*sorted(os.listdir(os.open(".", os.O_RDONLY, dir_fd=root))))
os.close(os.open("written", os.O_CREAT | os.O_WRONLY, dir_fd=root))
print(os.listdir(f"{home}/upper"), os.listdir(f"{home}/place"))
"""


def test_many_layers_on_old_and_new_kernels(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"layer-{number}").mkdir()
        (tmp_path / f"layer-{number}" / f"file-{number:02}").touch()
    for name in ("place", "work", "upper"):
        (tmp_path / name).mkdir()
    for kernel in ("old", "new"):
        command = ["unshare", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path), kernel]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files, leftovers = done.stdout.splitlines()
        assert files.split()[:12] == [f"file-{number:02}" for number in range(12)]
        assert leftovers == "['written'] []"
        (tmp_path / "upper" / "written").unlink()
