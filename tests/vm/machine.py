"""A virtual machine with Debian's kernel, systemd and cgroups of version 2, in which the node's tests run.

    python tests/vm/machine.py [PYTEST ARGUMENT ...]

The root file system is made of Debian packages once and kept in tests/vm/.cache; the project and its Python packages
go into a second disk, made anew each time. What the guest prints comes to standard output; the exit status is the
tests' own. Always under software emulation (-accel tcg), which every machine has.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CACHE = HERE / ".cache"
PACKAGES = (
    "systemd-sysv dbus kmod linux-image-cloud-amd64 iproute2 nftables libnftables1 libseccomp2 tini runc uidmap "
    "busybox-static procps util-linux python3 ca-certificates"
)
UNIT = """[Unit]
Description=tests
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /project/tests/vm/inside.sh
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
ExecStopPost=/bin/systemctl poweroff --no-block
Delegate=yes
[Install]
WantedBy=multi-user.target
"""
MEMORY_MB, CORES, HOURS = 3072, 2, 2


def run(*words: str | Path, **options: object) -> None:
    subprocess.run([str(word) for word in words], check=True, **options)  # type: ignore[call-overload]


def base() -> Path:
    """The directory with root.ext4, vmlinuz and initrd.img, made when its recipe is new."""
    recipe = hashlib.sha256((PACKAGES + UNIT).encode()).hexdigest()[:16]
    place = CACHE / recipe
    if (place / "ready").exists():
        return place
    shutil.rmtree(CACHE, ignore_errors=True)
    place.mkdir(parents=True)
    root = place / "root"
    print("making the guest's root file system from Debian packages ...", flush=True)
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES.replace(' ', ',')}", "bookworm", root)
    (root / "etc/systemd/system/tests.service").write_text(UNIT)
    (root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/system/multi-user.target.wants/tests.service").symlink_to("/etc/systemd/system/tests.service")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n/dev/vdb /project ext4 defaults 0 2\n")
    (root / "project").mkdir()
    (root / "etc/hostname").write_text("guest\n")
    for name in ("vmlinuz", "initrd.img"):
        found = next((root / "boot").glob(f"{name}-*"))
        shutil.copy(found, place / name)
    disk(place / "root.ext4", root, 3072)
    shutil.rmtree(root)
    (place / "ready").touch()
    return place


def disk(path: Path, content: Path, megabytes: int) -> None:
    """An ext4 image with a directory's content."""
    run("mke2fs", "-q", "-t", "ext4", "-d", content, path, f"{megabytes}M", stdout=subprocess.DEVNULL)


def project(folder: Path, arguments: list[str]) -> Path:
    """The second disk: the project's files, its Python packages, and what pytest is to run."""
    copy = folder / "project"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, map(bytes.decode, files)):
        if (PROJECT / name).exists() or (PROJECT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy / name, follow_symlinks=False)
    packages = Path(sys.prefix) / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    shutil.copytree(packages, copy / ".site", ignore=shutil.ignore_patterns("__pycache__", "*.pth", "mypy*", "ruff*"))
    (copy / "tests/vm/arguments").write_text("\n".join(arguments) + "\n")
    image = folder / "project.ext4"
    disk(image, copy, 1536)
    return image


def boot(place: Path, image: Path, folder: Path) -> int:
    """Run the guest until it powers off; returns the tests' exit status."""
    console, result = folder / "console", folder / "result"
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", str(CORES), "-m", str(MEMORY_MB), "-nographic",
        "-no-reboot", "-nic", "none", "-kernel", str(place / "vmlinuz"), "-initrd", str(place / "initrd.img"),
        "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.unified_cgroup_hierarchy=1",
        "-drive", f"file={place / 'root.ext4'},format=raw,if=virtio,snapshot=on",
        "-drive", f"file={image},format=raw,if=virtio", "-monitor", "none",
        "-serial", f"file:{console}", "-serial", f"file:{result}",
    ]  # fmt: skip
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=HOURS * 3600, check=False)
    except subprocess.TimeoutExpired:
        print("the guest did not end in time")
    text = result.read_text(errors="replace") if result.exists() else ""
    print(text)
    if "guest: status " not in text:
        print(console.read_text(errors="replace")[-3000:])
        return 1
    return int(text.rsplit("guest: status ", 1)[1].split()[0])


def main(arguments: list[str]) -> int:
    place = base()
    with tempfile.TemporaryDirectory(prefix="pycompose-vm-") as name:
        folder = Path(name)
        return boot(place, project(folder, arguments), folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
