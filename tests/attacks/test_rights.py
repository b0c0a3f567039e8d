"""Attacks with the rights that a container has, on those that it does not: groups, capabilities, devices, calls."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
from attacks.tools import ALL, begun, capability, machine_python, python
from oci.bundles import Bench, adding, all_of, setting

from pycompose.worker.runtime import oci, seccomp_default

DEFAULT_CAPABILITIES = "00000000a80425fb"
ADMIN = all_of(capability("CAP_SYS_ADMIN"), setting("linux.seccomp", seccomp_default.profile({"CAP_SYS_ADMIN"})))


@pytest.mark.attack("A12")
def test_cgroup_files_are_out_of_reach(bench: Bench) -> None:
    """Release_agent would run a program on the machine."""
    script = (
        "mkdir /tmp/c; mount -t cgroup -o rdma c /tmp/c 2>/dev/null && echo MOUNTED; "
        "unshare -UrmC sh -c 'mount -t cgroup -o rdma c /tmp/c' 2>/dev/null && echo MOUNTED; "
        "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.procs "
        "/sys/fs/cgroup/*/tasks /sys/fs/cgroup/memory/memory.limit_in_bytes; do "
        "{ echo 1 > $f; } 2>/dev/null && echo WRITTEN $f; done; mkdir /sys/fs/cgroup/*/child 2>/dev/null && echo MADE; "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; rmdir /tmp/c"
    )
    result = bench.run(setting("linux.resources.memory", {"limit": 67108864}), script)
    assert result.out == "67108864\n"


@pytest.mark.twin("A12")
def test_limits_hold_and_are_seen(bench: Bench) -> None:
    """The container reads its own limit, and what it takes beyond it is not given."""
    change = setting("linux.resources.memory", {"limit": 16777216, "swap": 16777216})
    assert bench.run(change, "head -c 1000 /dev/zero | wc -c; tail /dev/zero").code == 137


@pytest.mark.attack("A13")
@pytest.mark.parametrize("way", ["run", "exec"])
def test_capabilities_are_exact(bench: Bench, way: str) -> None:
    """Run and exec have Docker's default set, an ordinary user has none in effect."""
    show = "grep ^Cap /proc/self/status | tr -d '\\t'"
    for user, effective in (({"uid": 0, "gid": 0}, DEFAULT_CAPABILITIES), ({"uid": 1000, "gid": 1000}, "0" * 16)):
        if way == "run":
            result = bench.run(setting("process.user", user), show)
        else:
            bench.configure(setting("process.user", user), "sleep 1000")
            container = bench.id()
            bench.call("create", container)
            bench.call("start", container)
            result = bench.call("exec", container, "sh", "-c", show)
            bench.clear()
        found = dict(line.split(":") for line in result.out.split())
        assert found["CapInh"] == found["CapAmb"] == "0" * 16
        assert found["CapBnd"] == DEFAULT_CAPABILITIES
        assert found["CapEff"] == effective


@pytest.mark.attack("A13")
def test_exec_gets_no_more_than_the_container(bench: Bench) -> None:
    """A process that asks for all, ambient ones too, in a container that has one."""
    container = begun(bench, setting("process.capabilities", {kind: ["CAP_KILL"] for kind in ALL}))
    show = "grep ^Cap /proc/self/status | tr -d '\\t'"
    found = dict(line.split(":") for line in bench.call("exec", container, "sh", "-c", show).out.split())
    assert found == {
        "CapInh": "0" * 16, "CapAmb": "0" * 16, **dict.fromkeys(("CapPrm", "CapEff", "CapBnd"), "0000000000000020"),
    }  # fmt: skip


@pytest.mark.twin("A13")
def test_a_capability_that_is_asked_for_is_there(bench: Bench) -> None:
    """One more than by default works, one less does not."""
    script = "hostname other 2>/dev/null && hostname"
    assert bench.run(ADMIN, script).out == "other\n"
    assert bench.run(None, script).out == ""


@pytest.mark.attack("A15")
def test_no_new_privileges_and_groups(bench: Bench) -> None:
    """A setuid program stays the user; the daemon's own groups do not come along."""
    helper = bench.bundle / "rootfs/setuid-id"
    shutil.copy("/usr/bin/id", helper)
    helper.chmod(0o4755)
    user = setting("process.user", {"uid": 1000, "gid": 1000, "additionalGids": [27]})
    try:
        for option, effective in ((True, "1000"), (False, "0")):
            change = all_of(machine_python, user, setting("process.noNewPrivileges", option))
            assert bench.run(change, "id -G; exec /setuid-id -u").out == f"1000 27\n{effective}\n"
    finally:
        helper.unlink()


def with_capability(path: Path) -> None:
    """Give a program CAP_NET_ADMIN by its file (capabilities(7), VFS_CAP_REVISION_2, effective)."""
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 12, 0, 0, 0))


@pytest.mark.attack("A15")
def test_file_capabilities_under_no_new_privileges(bench: Bench) -> None:
    """A program whose file has a capability gains it only where the option is off, in run and exec."""
    helper = bench.bundle / "rootfs/own/grep"  # BusyBox goes by its name
    helper.parent.mkdir()
    shutil.copy("/bin/busybox", helper)
    helper.chmod(0o755)
    with_capability(helper)
    wanted = {kind: list(oci.DEFAULT_CAPABILITIES) for kind in ALL}
    wanted["bounding"].append("CAP_NET_ADMIN")
    words = ["/own/grep", "-E", "CapEff|NoNewPrivs", "/proc/self/status"]
    try:
        for option, effective in ((True, "0" * 16), (False, f"{1 << 12:016x}")):
            change = all_of(
                setting("process.user", {"uid": 1000, "gid": 1000}),
                setting("process.noNewPrivileges", option),
                setting("process.capabilities", wanted),
            )
            bench.configure(change, "sleep 1000")
            for result in (
                bench.run(all_of(change, setting("process.args", words))),
                bench.call("exec", begun(bench, change), *words),
            ):
                assert result.out.split() == ["CapEff:", effective, "NoNewPrivs:", str(int(option))], result.err
    finally:
        shutil.rmtree(helper.parent)


@pytest.mark.twin("A15")
def test_an_option_of_exec(bench: Bench) -> None:
    """A container without the option, and a process in it that has it."""
    container = begun(bench)
    look = ("grep", "NoNewPrivs", "/proc/self/status")
    assert bench.call("exec", container, *look).out.split()[1] == "0"
    assert bench.call("exec", "--no-new-privs", container, *look).out.split()[1] == "1"


#: /dev/mem, kmem, fuse, net/tun, kmsg
DEVICES = ((1, 1), (1, 2), (10, 229), (10, 200), (1, 11))


@pytest.mark.attack("A16")
def test_devices_are_closed(bench: Bench) -> None:
    """Nodes can be made, and not opened, before and after an update of limits."""
    disk = os.stat("/").st_dev
    numbers = [f"b {os.major(disk)} {os.minor(disk)}", *(f"c {major} {minor}" for major, minor in DEVICES)]
    tries = "; ".join(
        f"rm -f /tmp/n; mknod /tmp/n {number} && ( : < /tmp/n ) 2>/dev/null && echo OPENED {number}"
        for number in numbers
    )
    bench.configure(None, "sleep 1000")
    container = bench.id()
    bench.call("create", container)
    bench.call("start", container)
    assert (
        bench.call("exec", container, "sh", "-c", tries + "; rm -f /tmp/n; : < /dev/zero && echo fine").out == "fine\n"
    )
    assert bench.call("update", "--pids-limit", "42", container).code == 0
    assert (
        bench.call("exec", container, "sh", "-c", tries + "; rm -f /tmp/n; : < /dev/zero && echo fine").out == "fine\n"
    )


@pytest.mark.twin("A16")
def test_a_device_that_is_allowed(bench: Bench) -> None:
    """One that is given, for reading alone."""
    device = {"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
    rules = [
        *oci.default_config(["true"])["linux"]["resources"]["devices"],
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
    ]
    change = all_of(adding("linux.devices", device), setting("linux.resources.devices", rules))
    script = "( : < /dev/mine ) && echo read; ( : > /dev/mine ) 2>/dev/null && echo WRITTEN; true"
    result = bench.run(change, script)
    assert result.out == "read\n", result.err


#: System call (x86_64, the others' numbers are not tried) -> the errno that it must give with the default profile.
REFUSED = {
    "unshare": (272, 1),
    "mount": (165, 1),
    "setns": (308, 1),
    "bpf": (321, 1),
    "fsopen": (430, 1),
    "open_tree": (428, 1),
    "move_mount": (429, 1),
    "perf_event_open": (298, 1),
    "keyctl": (250, 1),
    "add_key": (248, 1),
    "userfaultfd": (323, 1),
    "open_by_handle_at": (304, 1),
    "io_uring_setup": (425, 1),
    "clone3": (435, 38),
    "kexec_load": (246, 1),
    "init_module": (175, 1),
    "an unknown one": (999, 38),
}


@pytest.mark.attack("A17")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_system_calls_are_refused(bench: Bench) -> None:
    """What Docker's default profile refuses, also by the x32 numbers; ENOSYS where a libc can fall back."""
    script = (
        "import ctypes, json\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"calls = { ({name: number for name, (number, _) in REFUSED.items()})!r}\nfound = {{}}\n"
        "for name, number in calls.items():\n    for bit in (0, 1 << 30):\n"
        "        result = libc.syscall(ctypes.c_long(number | bit), 0, 0, 0, 0, 0)\n"
        "        found[name + (' x32' if bit else '')] = ctypes.get_errno() if result < 0 else 'DONE'\n"
        "print(json.dumps(found))\n"
    )
    result = bench.run(python(script))
    assert result.code == 0, result.err
    found = json.loads(result.out)
    for name, (_, number) in REFUSED.items():
        assert found[name] == number, (name, found)
        assert found[f"{name} x32"] in (1, 38), (name, found)


#: i386 numbers of the same (int 0x80): what a 64-bit program reaches by the other gate.
GATE = {"mount": 21, "unshare": 310, "setns": 346, "bpf": 357, "keyctl": 288, "open_tree": 428, "kexec_load": 283}


@pytest.mark.attack("A17")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_the_gate_of_32_bits(bench: Bench) -> None:
    """The same calls by int 0x80, from machine code that a script makes."""
    script = (
        "import ctypes, json, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        # push rbx; mov eax, edi; xor ebx, ecx, edx, esi, edi; int 0x80; pop rbx; ret
        "code.write(bytes.fromhex('5389f831db31c931d231f631ffcd805bc3'))\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))\n"
        f"print(json.dumps({{name: call(number) for name, number in {GATE!r}.items()}}))\n"
    )
    result = bench.run(python(script))
    if result.code in (139, 159):
        return  # there is no such gate
    found = json.loads(result.out)
    assert set(found.values()) <= {-1, -38}, found


@pytest.mark.attack("A17")
def test_a_fresh_proc(bench: Bench) -> None:
    """A new mount of /proc, in namespaces of one's own, would be without masks."""
    script = "unshare -mrpf sh -c 'mount -t proc n /proc && echo MOUNTED' 2>/dev/null; grep Seccomp: /proc/self/status"
    assert bench.run(None, script).out.split() == ["Seccomp:", "2"]
    assert bench.call("exec", begun(bench), "sh", "-c", script).out.split() == ["Seccomp:", "2"]


@pytest.mark.twin("A17")
def test_calls_of_ordinary_programs(bench: Bench) -> None:
    """Threads, files, pipes, sockets, timers: a Python that uses them; and with CAP_SYS_ADMIN a mount."""
    script = (
        "import socket, subprocess, tempfile, threading, time\n"
        "t = threading.Thread(target=time.sleep, args=(0.01,)); t.start(); t.join()\n"
        "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n"
        "with tempfile.TemporaryFile(dir='/tmp') as f: f.write(b'x')\n"
        "print(subprocess.run(['/bin/sh', '-c', 'echo fine'], capture_output=True, text=True).stdout.strip())\n"
    )
    assert bench.run(python(script)).out == "fine\n"
    assert bench.run(ADMIN, "mount -t tmpfs t /tmp && echo mounted; umount /tmp").out == "mounted\n"
