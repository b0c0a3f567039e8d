"""Attacks on the runtime itself while it starts or enters a container: its program, descriptors and modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks.conftest import FULL
from attacks.tools import begun, capability, digest, machine_python, python, victim
from oci.bundles import RUNTIMES, Bench, all_of, setting

from pycompose.worker.runtime import oci, users
from pycompose.worker.runtime.errors import ConfigError

__all__ = ["victim"]
EXECS = 200 if FULL else 20


@pytest.mark.attack("A01")
def test_the_interpreter_cannot_be_overwritten_at_start(bench: Bench, victim: Path) -> None:
    """A program that is `#!/proc/self/exe` becomes the runtime's own, and opens itself for writing."""
    before = digest(os.path.realpath(sys.executable))
    evil = bench.bundle / "rootfs/evil"
    evil.write_text(
        "#!/proc/self/exe\nimport os\ntry:\n    os.open('/proc/self/exe', os.O_WRONLY)\n    print('OPEN')\n"
        "except OSError:\n    print('read-only', os.statvfs('/proc/self/exe').f_flag & os.ST_RDONLY)\n"
    )
    evil.chmod(0o755)
    result = bench.run(all_of(machine_python, setting("process.args", ["/evil"])))
    assert "OPEN" not in result.out
    assert digest(os.path.realpath(sys.executable)) == before
    if bench.name != "runc":  # the peer is no Python: there the script is no program
        assert result.out == "read-only 1\n", result.err


@pytest.mark.twin("A01")
def test_scripts_run(bench: Bench) -> None:
    """A script of the image with an interpreter of its own."""
    script = bench.bundle / "rootfs/script"
    script.write_text("#!/bin/sh\necho it ran\n")
    script.chmod(0o755)
    assert bench.run(setting("process.args", ["/script"])).out == "it ran\n"


#: Looks at every process that comes, by all of /proc that shows what it is, until /stop is there.
HUNT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
own, found, first = os.getpid(), set(), os.stat("/").st_ino
os.close(os.open("/ready", os.O_CREAT | os.O_WRONLY))
while not os.path.exists("/stop"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in (1, own):
            continue
        place = "/proc/" + pid
        led = libc.ptrace(0x4206, int(pid), 0, 0) == 0
        if led:
            libc.ptrace(0x4207, int(pid), 0, 0)
            os.waitpid(int(pid), 0x40000000)
        try:
            exe = os.readlink(place + "/exe")
        except OSError:
            exe = ""
        users = exe.startswith("/bin/")
        for name in () if users else ("root", "cwd"):
            try:
                if os.stat(place + "/" + name).st_ino != first and "/bin/" not in os.readlink(place + "/exe"):
                    found.add("OUTSIDE BY " + name)
            except OSError:
                pass
        if exe and not users:
            found.add("PROGRAM SEEN")
        targets = [place + "/exe"] if exe and not users else []
        try:
            targets += [place + "/fd/" + n for n in os.listdir(place + "/fd") if int(n) > 2] if not users else []
        except OSError:
            pass
        for target in targets:
            try:
                kind = os.stat(target).st_mode & 0o170000
                if kind == 0o100000:
                    os.close(os.open(target, os.O_WRONLY))
                    found.add("WRITTEN")
            except OSError:
                pass
        if led:
            libc.ptrace(17, int(pid), 0, 0)
print(sorted(found))
"""


@contextmanager
def hunting(bench: Bench, *capabilities: str) -> Iterator[str]:
    """A container that hunts for what enters it; the file `caught` has what it caught."""
    root = bench.bundle / "rootfs"
    (root / "caught").touch()
    change = all_of(capability(*capabilities), python(HUNT))
    for name in ("stop", "ready"):
        (root / name).unlink(missing_ok=True)
    container = begun(bench, change)
    deadline = time.monotonic() + 60
    while not (root / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield container
    (root / "stop").touch()
    while json.loads(bench.call("state", container).out)["status"] != "stopped":
        assert time.monotonic() < deadline + 120
        time.sleep(0.02)
    bench.clear()
    for name in ("stop", "ready", "caught"):
        (root / name).unlink(missing_ok=True)


@pytest.mark.attack("A02")
@pytest.mark.parametrize("more", [(), ("CAP_SYS_PTRACE",)], ids=["default capabilities", "SYS_PTRACE"])
def test_what_enters_a_container_cannot_be_reached(bench: Bench, more: tuple[str, ...]) -> None:
    """A loop in the container tries every newcomer's program, descriptors and root, and ptrace, while `exec` runs."""
    output = bench.folder / "out"
    with hunting(bench, *more) as container:
        mine = bench.folder / "hunt"
        output.rename(mine)  # the container goes on writing there
        for _ in range(EXECS):
            assert bench.call("exec", container, "/bin/true").code == 0
    caught = mine.read_text()
    assert caught.startswith("[")
    assert "WRITTEN" not in caught
    assert "OUTSIDE" not in caught
    if not more:
        assert caught == "[]\n"


@pytest.mark.twin("A02")
def test_a_debugger_works(bench: Bench) -> None:
    """SYS_PTRACE is for the container's own processes."""
    script = (
        "import ctypes, os, signal\npid = os.fork()\nif pid == 0:\n    signal.pause()\n"
        "print(ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0), os.readlink(f'/proc/{pid}/exe') != '')\nos.kill(pid, 9)\n"
    )
    assert bench.run(all_of(capability("CAP_SYS_PTRACE"), python(script))).out == "0 True\n"


@pytest.mark.attack("A03")
@pytest.mark.parametrize("number", [*range(3, 64)] if FULL else [3, 4, 5, 6, 7, 8, 9, 12, 33, 63])
def test_a_working_directory_is_no_way_out(bench: Bench, number: int) -> None:
    """The runtime's descriptors as working directory, directly, by a link, as part of a program's path, and by exec."""
    link = bench.bundle / "rootfs/w"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/proc/self/fd/{number}")
    look = "pwd; cat ../../../../../../etc/passwd"
    for place in (f"/proc/self/fd/{number}", "/w"):
        result = bench.run(setting("process.cwd", place), look)
        assert "root:" not in result.out
    outside = f"/proc/self/fd/{number}/../../../../../../usr/bin/id"
    assert bench.run(setting("process.args", [outside])).code != 0
    container = begun(bench)
    result = bench.call("exec", "--cwd", f"/proc/self/fd/{number}", container, "cat", "../../../../../etc/passwd")
    assert "root:" not in result.out
    assert bench.call("exec", container, outside).code != 0
    link.unlink()


@pytest.mark.twin("A03")
def test_a_working_directory_by_a_link(bench: Bench) -> None:
    """A directory of the image by a link of the image, in run and exec."""
    link = bench.bundle / "rootfs/w"
    link.symlink_to("/tmp")
    try:
        assert bench.run(setting("process.cwd", "/w"), "pwd -P").out == "/tmp\n"
        assert bench.call("exec", "--cwd", "/w", begun(bench), "pwd").out == "/tmp\n"
    finally:
        link.unlink()


LOOK = "for f in /proc/self/fd/*; do readlink $f; done; true"


def strangers(text: str) -> list[str]:
    """What a list of descriptors has beside the three, and the one that reads the list."""
    return [line for line in text.splitlines() if not line.startswith(("pipe:", "/dev/null", "/proc/"))]


@pytest.mark.attack("A04")
def test_no_descriptor_leaks(bench: Bench) -> None:
    """What the caller holds open, / and a secret, does not reach the program of run and exec, nor init before start."""
    secret = bench.folder / "secret"
    secret.write_text("secret")
    place, file = os.open("/", os.O_RDONLY | os.O_DIRECTORY), os.open(secret, os.O_RDONLY)
    for fd in (place, file):
        os.set_inheritable(fd, True)

    def call(*words: str) -> str:
        command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), *words]
        null = subprocess.DEVNULL
        with open(bench.folder / "seen", "w+") as out:
            done = subprocess.run(command, cwd=bench.bundle, stdout=out, stderr=null, stdin=null, close_fds=False)
            assert done.returncode == 0
            out.seek(0)
            return out.read()

    try:
        bench.configure(None, LOOK)
        out = str(bench.folder / "seen")
        assert [line for line in strangers(call("run", bench.id())) if line != out] == []
        bench.configure(None, "sleep 1000")
        container = bench.id()
        call("create", container)
        first = json.loads(bench.call("state", container).out)["pid"]
        held = [os.readlink(f"/proc/{first}/fd/{number}") for number in os.listdir(f"/proc/{first}/fd")]
        allowed = ("pipe:", "socket:", "anon_inode:", "/dev/null", out)
        assert [each for each in held if not each.startswith(allowed) and "exec.fifo" not in each] == []
        call("start", container)
        assert [line for line in strangers(call("exec", container, "sh", "-c", LOOK)) if line != out] == []
    finally:
        os.close(place)
        os.close(file)


@pytest.mark.twin("A04")
def test_descriptors_that_are_meant_to_be_passed(bench: Bench) -> None:
    """--preserve-fds gives the program just those."""
    bench.configure(None, "cat <&3; test -e /proc/self/fd/4 && echo MORE; true")
    reading, writing = os.pipe()
    os.write(writing, b"passed\n")
    os.close(writing)
    words = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", "--preserve-fds", "1", bench.id()]
    done = subprocess.run(
        ["bash", "-c", 'exec 3<&"$0" 4</; exec "$@"', str(reading), *words],
        cwd=bench.bundle,
        pass_fds=(reading,),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    os.close(reading)
    assert done.stdout == "passed\n", done.stderr


@contextmanager
def poisoned(root: Path) -> Iterator[None]:
    """Modules and programs where Python and libc would look for them; each leaves a mark."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = ("_strptime", "traceback", "linecache", "pwd", "sitecustomize", "encodings/idna", "pycompose/__init__")
    prefixes = (
        f"usr/lib/{version}",
        f"usr/local/lib/{version}/site-packages",
        sys.base_prefix.lstrip("/") + f"/lib/{version}",
        str(Path(oci.__file__).parents[3]).lstrip("/"),
    )
    for path in [f"{prefix}/{name}.py" for prefix in prefixes for name in names]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("open('/pwned', 'w')\n")
    for name in ("tar", "gzip", "xz", "unpigz", "git", "newuidmap"):
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        (root / "usr/bin" / name).write_text("#!/bin/sh\ntouch /pwned\n")
        (root / "usr/bin" / name).chmod(0o755)
    before = set(os.listdir(root))
    try:
        yield
        assert not (root / "pwned").exists()
    finally:
        for name in before - {"bin", "tmp", "dev", "proc", "sys", "etc"}:
            shutil.rmtree(root / name, ignore_errors=True)


@pytest.mark.attack("A18")
def test_the_runtime_runs_nothing_of_the_image(bench: Bench) -> None:
    """Poisoned modules, programs and libraries in run, exec with a user, and starts that fail."""
    root = bench.bundle / "rootfs"
    with poisoned(root):
        container = begun(bench)
        assert bench.call("exec", "--user", "7", container, "true").code == 0
        assert bench.call("exec", container, "missing").code == 255
        bench.clear()
        assert bench.run(setting("process.args", ["missing"])).code == 1


@pytest.mark.attack("A18")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_the_runtime_opens_nothing_of_the_image(bench: Bench) -> None:
    """Traced: between the change of root and the program no process of the runtime opens a path."""
    trace = bench.folder / "trace"
    before = ("strace", "-f", "-qq", "-e", "trace=openat,open,pivot_root,execve", "-o", str(trace))
    bench.configure(setting("process.args", ["/bin/true"]))
    assert bench.call("run", bench.id(), before=before).code == 0
    lines = trace.read_text().splitlines()
    pivots = [number for number, line in enumerate(lines) if "pivot_root(" in line and line.endswith("= 0")]
    assert pivots
    pid = lines[pivots[-1]].split()[0]
    after = [line for line in lines[pivots[-1] + 1 :] if line.split()[0] == pid]
    program = next(number for number, line in enumerate(after) if 'execve("/bin/true"' in line)
    opened = [line for line in after[:program] if "open" in line and '"/proc/' not in line and '"/"' not in line]
    if bench.name != "runc":
        assert opened == []


@pytest.mark.twin("A18")
def test_programs_of_the_image_run_when_asked_for(bench: Bench) -> None:
    """What the image has is for its own programs."""
    root = bench.bundle / "rootfs"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/git").write_text("#!/bin/sh\necho own git\n")
    (root / "usr/bin/git").chmod(0o755)
    try:
        assert bench.run(setting("process.args", ["/usr/bin/git"])).out == "own git\n"
    finally:
        shutil.rmtree(root / "usr")


@pytest.mark.attack("A20")
def test_files_of_the_image_cannot_hang_the_runtime(bench: Bench) -> None:
    """Account files and the runtime's own source paths are FIFOs in the image."""
    root = bench.bundle / "rootfs"
    source = Path(oci.__file__).resolve()
    for path in (root / "etc/passwd", root / "etc/group", root / str(source).lstrip("/")):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    try:
        change = all_of(setting("process.user", {"uid": 1, "gid": 0}), setting("process.args", ["/bin/true"]))
        assert bench.run(change).code == 0
        assert bench.run(setting("process.args", ["missing"])).code == 1
        assert bench.call("exec", "--user", "1:1", begun(bench), "true").code == 0
    finally:
        (root / "etc/passwd").unlink()
        (root / "etc/group").unlink()
        shutil.rmtree(root / str(source).split("/")[1], ignore_errors=True)


def accounts(folder: Path, passwd: str = "", group: str = "") -> Path:
    """A layer with account files."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_text(passwd)
    (folder / "etc/group").write_text(group)
    return folder


@pytest.mark.attack("A20")
@pytest.mark.parametrize("kind", ["fifo", "zeros", "2 GB", "one line", "a link to the machine's", "a link to environ"])
def test_account_files_that_fool_or_hang(tmp_path: Path, kind: str) -> None:
    """What the worker reads of /etc/passwd for the name of a user: nothing is waited for, little is read."""
    layer = accounts(tmp_path / "layer")
    path = layer / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "2 GB":
        with path.open("wb") as file:
            file.truncate(2 << 30)
    elif kind == "one line":
        path.write_text("x" * (50 << 20))
    else:
        targets = {"zeros": "/dev/zero", "a link to environ": "/proc/self/environ"}
        path.symlink_to(targets.get(kind, "../../../../../../../../etc/passwd"))
    with pytest.raises(ConfigError, match="daemon"):
        users.resolve_in("daemon", (layer,))
    assert len(users.read_account_file((layer,), "/etc/passwd")) <= users.LIMIT


@pytest.mark.attack("A20")
@pytest.mark.parametrize("wanted", ["+0", "-1", "\u0660", "0x0", "4294967295", "4294967296", "9" * 20, "over"])
def test_numbers_that_are_none(tmp_path: Path, wanted: str) -> None:
    """No user string becomes root that does not say so; a number is never looked up as a name."""
    lines = "1000:x:0:0::/:\nover:x:4294967296:0::/:\nneg:x:-1:0::/:\n0x0:x:0x0:0::/:\n"
    layer = accounts(tmp_path / "layer", lines)
    with pytest.raises(ConfigError):
        users.resolve_in(wanted, (layer,))
    assert users.resolve_in("1000", (layer,)).uid == 1000


@pytest.mark.twin("A20")
def test_users_by_name(tmp_path: Path) -> None:
    """A name and its groups from the image's files, a number as it is, nothing as root."""
    layer = accounts(tmp_path / "layer", "ann:x:5:6::/home/ann:/bin/sh\n", "more:x:7:ann\n")
    assert users.resolve_in("ann", (layer,)) == users.User(5, 6, (7,), "/home/ann")
    assert users.resolve_in("9:8", (layer,)).as_process_user() == {"uid": 9, "gid": 8, "additionalGids": [8]}
    assert users.resolve_in("", (layer,)).uid == 0
