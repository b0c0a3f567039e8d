"""Attacks by mounts: ways that change while they are walked, places that others trust, masks that are none."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks.tools import STARTS, WORKER_STARTS, Record, capability, exchanging, mount, victim
from node.test_runtime_containers import Box, box
from oci.bundles import Bench, Config, all_of, setting

from pycompose.worker.runtime import oci
from pycompose.worker.runtime.errors import StartError

__all__ = ["box", "victim"]


@pytest.mark.attack("A05")
def test_a_mount_point_swapped_during_the_start(
    bench: Bench, tmp_path: Path, victim: Path, record_property: Record
) -> None:
    """The way to a mount point turns into a link that leads out while the mount is made."""
    record_property("starts", STARTS)
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (volume / "a").mkdir(parents=True)
    (volume / "x").symlink_to("/" + "../" * 12 + str(outside).lstrip("/"))
    change = all_of(mount("/vol", "bind", str(volume), "bind"), mount("/vol/a/b/c", "tmpfs", "tmpfs"))
    good = 0
    with exchanging(volume / "a", volume / "x"):
        for _ in range(STARTS):
            good += bench.run(change).code == 0
    escaped = bool(list(outside.iterdir()))
    assert not escaped
    assert good  # its benign twin: starts that met the real directory
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.attack("A05")
async def test_a_mount_point_swapped_while_the_worker_starts(
    box: Box, tmp_path: Path, victim: Path, record_property: Record
) -> None:
    """The same many times by the worker's zygote; one container swaps, others mount below a shared volume."""
    record_property("starts", WORKER_STARTS)
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (volume / "a").mkdir(parents=True)
    (volume / "x").symlink_to("/" + "../" * 12 + str(outside).lstrip("/"))
    mounts = [
        {"destination": "/vol", "type": "bind", "source": str(volume), "options": ["bind"]},
        {"destination": "/vol/a/b/c", "type": "tmpfs", "source": "tmpfs", "options": []},
    ]
    await box.create("racer", "true", mounts=mounts)
    good = 0
    with exchanging(volume / "a", volume / "x"):
        for _ in range(WORKER_STARTS):
            with contextlib.suppress(StartError):
                await box.runtime.start("racer")
                good += (await box.runtime.wait("racer")).code == 0
    assert not list(outside.iterdir())
    assert good
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.twin("A05")
def test_a_link_on_the_way_to_a_mount_point(bench: Bench, tmp_path: Path) -> None:
    """A link of the volume that leads elsewhere in the container is followed there."""
    (tmp_path / "to").symlink_to("/tmp")
    change = all_of(mount("/vol", "bind", str(tmp_path), "bind"), mount("/vol/to/there", "tmpfs", "tmpfs"))
    result = bench.run(change, "grep -c ' /tmp/there tmpfs' /proc/self/mounts")
    assert result.out == "1\n", result.err


@pytest.mark.attack("A07")
@pytest.mark.parametrize(
    "place",
    [
        "/proc",
        "//proc",
        "/proc/.",
        "/x/../proc",
        "/proc/self/attr",
        "/proc/sys/kernel",
        "/proc/1",
        "/dev/../proc/1",
        "/./proc",
        "/proc//self//attr",
        "/sys/../proc/sys",
    ],
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_of_ones_own_over_proc(bench: Bench, tmp_path: Path, place: str, kind: str) -> None:
    """A volume on or below /proc would take over what the runtime and the program trust."""
    (tmp_path / "own").mkdir()
    change = mount(place, kind, str(tmp_path / "own"), *(("bind",) if kind == "bind" else ()))
    result = bench.run(change, "echo started")
    assert "started" not in result.out
    assert result.code != 0
    if bench.name != "runc":
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.err


@pytest.mark.attack("A07")
@pytest.mark.parametrize("place", ["", "relative", "/" + "x" * 5000, "/with\0nul", "/", "/.", "/x/.."])
def test_destinations_that_are_none(bench: Bench, tmp_path: Path, place: str) -> None:
    """Empty, too long, with a NUL, or the root itself: refused in one line, or inside; nothing on the machine."""
    before = Path("/proc/self/mountinfo").read_text()
    result = bench.run(mount(place, "tmpfs", "tmpfs"), "echo started")
    assert Path("/proc/self/mountinfo").read_text() == before
    if bench.name != "runc" and place != "relative":
        assert "started" not in result.out
        assert (result.code, result.err.count("\n")) == (1, 1), result.err
        assert "Traceback" not in result.err


@pytest.mark.twin("A07")
def test_mounts_that_are_allowed(bench: Bench, tmp_path: Path) -> None:
    """/proc itself as procfs, and volumes elsewhere, also by tricky names."""
    change = all_of(mount("/x/../data", "tmpfs", "tmpfs"), mount("//deep//er", "tmpfs", "tmpfs"))
    assert bench.run(change, "grep -c -E ' /(data|deep/er) ' /proc/self/mounts").out == "2\n"


@pytest.mark.twin("A07")
@pytest.mark.parametrize("name", ["/a\\040b", "/a b", "/a\nb", "/\u00e9"])
def test_odd_names_are_names(bench: Bench, tmp_path: Path, name: str) -> None:
    """A backslash, a space, a newline: nothing of it is interpreted."""
    (tmp_path / "file").write_text("data")
    result = bench.run(
        all_of(mount(name, "bind", str(tmp_path), "bind"), setting("process.env", [f"N={name}", "PATH=/bin"])),
        'cat "$N/file"',
    )
    assert result.out == "data", result.err


@pytest.mark.attack("A08")
@pytest.mark.parametrize("null", ["a link to the victim", "missing", "a fifo"])
def test_a_masked_path_stays_masked(bench: Bench, victim: Path, tmp_path: Path, null: str) -> None:
    """/dev is the attacker's, so that what masks would be his file."""
    device = tmp_path / "dev"
    device.mkdir()
    if null == "a fifo":
        os.mkfifo(device / "null")
    elif null != "missing":
        (device / "null").symlink_to(victim)
    (bench.bundle / "rootfs/masked").write_text("MASKED\n")

    def change(config: Config) -> None:
        config["mounts"] = [entry for entry in config["mounts"] if not entry["destination"].startswith("/dev")]
        config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(device), "options": ["bind"]})
        config["mounts"].append(
            {"destination": str(victim), "type": "bind", "source": str(victim), "options": ["bind"]}
        )
        config["linux"]["maskedPaths"] = ["/masked"]
        config["linux"]["devices"] = []

    try:
        result = bench.run(change, "cat /masked; echo OVERWRITTEN > /masked; cat /masked")
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    finally:
        (bench.bundle / "rootfs/masked").unlink()
    assert "MASKED" not in result.out
    assert "VICTIM" not in result.out
    assert "OVERWRITTEN" not in result.out
    assert victim.read_text() == "VICTIM\n"


@pytest.mark.twin("A08")
def test_masks_with_an_honest_null(bench: Bench) -> None:
    """A masked file reads as empty, a masked folder is empty, and /dev/null is there to use."""
    root = bench.bundle / "rootfs"
    (root / "masked").write_text("MASKED\n")
    (root / "folder").mkdir()
    (root / "folder/file").write_text("MASKED\n")
    try:
        change = setting("linux.maskedPaths", ["/masked", "/folder", "/no/such"])
        script = "cat /masked; ls /folder; echo x > /dev/null && echo usable"
        assert bench.run(change, script).out == "usable\n"
    finally:
        (root / "masked").unlink()
        shutil.rmtree(root / "folder")


PORT = "net.ipv4.ip_unprivileged_port_start"
SETTING = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@pytest.mark.attack("A10")
def test_sysctls_are_set_inside_or_the_start_fails(bench: Bench, victim: Path) -> None:
    """/proc/sys of the root file system is the attacker's directory of links to the machine's settings."""
    place = bench.bundle / "rootfs/proc/sys/net/ipv4"
    place.mkdir(parents=True)
    (place / SETTING.name).symlink_to("/proc/sys/kernel/core_pattern")
    host = SETTING.read_text()
    try:
        result = bench.run(setting("linux.sysctl", {PORT: "81"}), f"cat {SETTING}")
        assert result.out == "81\n" or result.code != 0
    finally:
        shutil.rmtree(bench.bundle / "rootfs/proc/sys")
    assert SETTING.read_text() == host


@contextmanager
def covering(root: Path) -> Iterator[None]:
    """Mount what leads elsewhere over /proc of a root file system, and take it away, again and again."""
    stop = threading.Event()
    place = root / "proc"
    links = root.parent / "links"
    for name in ("sys/net/ipv4", "self/attr"):
        (links / name).mkdir(parents=True)
    (links / "sys/net/ipv4" / SETTING.name).symlink_to("/proc/sys/kernel/core_pattern")
    for name in ("exec", "current"):
        (links / "self/attr" / name).symlink_to("/proc/self/sched")

    def work() -> None:
        while not stop.is_set():
            subprocess.run(["mount", "--bind", str(links), str(place)], check=False)
            subprocess.run(["umount", "-l", str(place)], check=False)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(links)


@pytest.mark.attack("A10")
def test_proc_covered_while_a_sysctl_is_set(bench: Bench, victim: Path, record_property: Record) -> None:
    """The root's /proc is covered by links again and again, on the machine, while containers start."""
    record_property("starts", STARTS)
    host, wrong = SETTING.read_text(), []
    with covering(bench.bundle / "rootfs"):
        for _ in range(STARTS):
            result = bench.run(setting("linux.sysctl", {PORT: "81"}), f"cat {SETTING}")
            if result.code == 0 and result.out != "81\n":
                wrong.append(result.out)
    assert not wrong
    assert SETTING.read_text() == host


@pytest.mark.attack("A10")
async def test_proc_covered_while_the_worker_sets_a_sysctl(box: Box, victim: Path, record_property: Record) -> None:
    """The same many times by the worker's zygote."""
    record_property("starts", WORKER_STARTS)
    (box.directory / "lower/proc").mkdir()
    host, found = SETTING.read_text(), []
    await box.create("racer", "cat", str(SETTING), linux={"sysctl": {PORT: "81"}})
    with covering(box.directory / "lower"):
        for _ in range(WORKER_STARTS):
            box.log("racer").unlink(missing_ok=True)
            with contextlib.suppress(StartError):
                await box.runtime.start("racer")
                if (await box.runtime.wait("racer")).code == 0:
                    found.append(box.output("racer"))
    assert set(found) == {"81\n"}
    assert SETTING.read_text() == host


@pytest.mark.twin("A10")
def test_a_sysctl_of_a_namespace(bench: Bench) -> None:
    """What belongs to the container's own namespaces is set, and the machine's stays."""
    host = SETTING.read_text()
    assert bench.run(setting("linux.sysctl", {PORT: "82"}), f"cat {SETTING}").out == "82\n"
    assert SETTING.read_text() == host


@pytest.mark.attack("A14")
def test_masked_paths_cannot_be_uncovered(bench: Bench) -> None:
    """Every masked path that this machine has, by every way to it."""
    masked = [path for path in oci.DEFAULT_MASKED_PATHS if os.path.exists(path)]
    script = "; ".join(
        f"[ -d {path} ] && ls {path} | grep -q . && echo LISTED {path}; "
        f"[ -f {path} ] && grep -q . {path} && echo READ {path}; "
        f"umount {path} 2>/dev/null && echo UNMOUNTED {path}; "
        f"{{ cat /proc/self/root{path} /proc/1/root{path}; }} 2>/dev/null | grep -q . && echo READ BY ROOT {path}"
        for path in masked
    )
    result = bench.run(capability("CAP_DAC_OVERRIDE"), script + "; echo done")
    assert result.out == "done\n", result.out


@pytest.mark.twin("A14")
def test_what_is_not_masked_is_read(bench: Bench) -> None:
    """The rest of /proc and /sys is as programs need it, and a mask that is given twice is one mount."""
    look = "grep -q . /proc/cpuinfo && grep -q . /proc/meminfo && ls /sys/class >/dev/null"
    script = f"{look} && grep -c ' /masked ' /proc/self/mounts"
    (bench.bundle / "rootfs/masked").write_text("MASKED")
    try:
        result = bench.run(setting("linux.maskedPaths", ["/masked", "/masked"]), script)
        assert result.out in ("1\n", "2\n"), result.err
        if bench.name != "runc":
            assert result.out == "1\n"
    finally:
        (bench.bundle / "rootfs/masked").unlink()
