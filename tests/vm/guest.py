"""The guest: Debian's kernel, systemd and, unless told otherwise, cgroups of version 2.

The root file system is made of Debian packages once and kept in tests/vm/.cache; the project and its Python packages
go into a second disk. Always under software emulation (-accel tcg), which every machine has.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CACHE = HERE / ".cache"
PACKAGES = (
    "systemd-sysv dbus kmod linux-image-cloud-amd64 iproute2 nftables libnftables1 libseccomp2 tini runc uidmap "
    "busybox-static procps util-linux python3 ca-certificates apparmor criu libpam-systemd passt passwd etcd-server"
)
#: A package that a test installs there, from the guest's own store of packages.
OFFERED = "docker-registry"

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
#: One core: with more, emulated on a machine that others load too, the kernel waits for a core that does not come.
MEMORY_MB, CORES = 3072, 1
COMPILED = ("compose", "manager", "worker", "proto", "tests", ".site")
#: Without an end to waiting: on a loaded machine a disk comes late, and systemd would give the boot up.
FSTAB = "".join(
    f"/dev/{disk} {place} ext4 defaults,x-systemd.device-timeout=0 0 {turn}\n"
    for disk, place, turn in (("vda", "/", 1), ("vdb", "/project", 2))
)
#: An emulated timer may be late on a loaded machine: the kernel must not call it broken; after a panic QEMU ends.
BOOT = "no_timer_check panic=-1"
#: On the kernel's command line: version 1 of cgroups with the unified hierarchy beside it (systemd(1)).
HYBRID = "systemd.unified_cgroup_hierarchy=0"
UNIFIED = "systemd.unified_cgroup_hierarchy=1"


def run(*words: str | Path, **options: object) -> None:
    """Run a program that must succeed."""
    subprocess.run([str(word) for word in words], check=True, **options)  # type: ignore[call-overload]


def base() -> Path:
    """The directory with root.ext4, vmlinuz and initrd.img, made when its recipe is new."""
    recipe = hashlib.sha256((PACKAGES + OFFERED + UNIT + FSTAB).encode()).hexdigest()[:16]
    place = CACHE / recipe
    if (place / "ready").exists():
        return place
    shutil.rmtree(CACHE, ignore_errors=True)
    place.mkdir(parents=True)
    root = place / "root"
    print("making the guest's root file system from Debian packages ...", flush=True)
    offer = f'chroot "$1" sh -c "apt-get clean; apt-get install -qq --download-only --no-install-recommends {OFFERED}"'
    keep = ["--skip=cleanup/apt/lists,cleanup/apt/cache", f"--customize-hook={offer}"]
    run(
        "mmdebstrap", "--quiet", "--variant=minbase", *keep, f"--include={PACKAGES.replace(' ', ',')}", "bookworm", root
    )
    for link in (root / "etc/systemd/system").glob("*.wants/etcd*.service"):
        link.unlink()
    (root / "etc/systemd/system/tests.service").write_text(UNIT)
    (root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/system/multi-user.target.wants/tests.service").symlink_to("/etc/systemd/system/tests.service")
    (root / "etc/fstab").write_text(FSTAB)
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


def project(folder: Path, task: str) -> Path:
    """The second disk: the project's files, its Python packages, and the shell command that the guest is to run."""
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
    shutil.copytree(packages, copy / ".site", ignore=shutil.ignore_patterns("*.pth", "mypy*", "ruff*"))
    # compiling at each start of a program would be most of what an emulated machine does
    compiled = ("--invalidation-mode", "unchecked-hash", "-s", copy, "-p", "/project")
    run(sys.executable, "-m", "compileall", "-q", *compiled, *(copy / name for name in COMPILED))
    (copy / "tests/vm/task").write_text(task + "\n")
    image = folder / "project.ext4"
    disk(image, copy, 1536)
    shutil.rmtree(copy)
    return image


@dataclass
class Guest:
    """One guest: its disks, and the files that its serial ports write to.

    `root` is changed when `keep` is set; otherwise what the guest writes is gone with it. `serial` are further ports:
    /dev/ttyS2 and /dev/ttyS3 in the guest. `devices` are further arguments of QEMU's.
    """

    place: Path
    root: Path
    project: Path
    folder: Path
    keep: bool = False
    cgroups: str = UNIFIED
    serial: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ()
    memory_mb: int = MEMORY_MB

    @property
    def console(self) -> Path:
        """What the kernel and systemd say."""
        return self.folder / "console"

    @property
    def result(self) -> Path:
        """What the task prints."""
        return self.folder / "result"

    def command(self) -> list[str]:
        """QEMU's command line; a flush of the guest's reaches the image's file, anything before it may not."""
        ports = [word for path in (self.console, self.result, *self.serial) for word in ("-serial", f"file:{path}")]
        return [
            "qemu-system-x86_64", "-accel", "tcg", "-smp", str(CORES), "-m", str(self.memory_mb), "-nographic",
            "-no-reboot", *(self.devices or ("-nic", "none")), "-monitor", "none",
            "-kernel", str(self.place / "vmlinuz"), "-initrd", str(self.place / "initrd.img"),
            "-append", f"root=/dev/vda rw console=ttyS0 quiet {BOOT} {self.cgroups}",
            "-drive", f"file={self.root},format=raw,if=virtio,cache=writeback{'' if self.keep else ',snapshot=on'}",
            "-drive", f"file={self.project},format=raw,if=virtio,snapshot=on", *ports,
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        """Boot it; it dies with the caller."""
        for path in (self.console, self.result, *self.serial):
            path.unlink(missing_ok=True)
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.command()], stdin=subprocess.DEVNULL)

    def run(self, seconds: float, say: Callable[[str], None]) -> str:
        """Boot it and wait until it powers off or the time is over; what its task prints is told as it comes."""
        deadline, shown = time.monotonic() + seconds, 0
        with self.start() as process:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                shown = self._show(shown, say)
            if process.poll() is None:
                say(f"\nthe guest did not end in {seconds:.0f} s\n")
                process.kill()
        self._show(shown, say)
        return self.result.read_text(errors="replace") if self.result.exists() else ""

    def _show(self, shown: int, say: Callable[[str], None]) -> int:
        if not self.result.exists():
            return 0
        with open(self.result, "rb") as file:
            file.seek(shown)
            new = file.read()
        say(new.decode(errors="replace"))
        return shown + len(new)


def status(text: str) -> int | None:
    """The task's exit status, as the guest printed it; None: it did not come so far."""
    return int(text.rsplit("guest: status ", 1)[1].split()[0]) if "guest: status " in text else None


def words(arguments: Sequence[str]) -> str:
    """Arguments as one shell command."""
    import shlex

    return shlex.join(arguments)
