"""exec: a further process in a container that runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket

from pycompose.worker.runtime import enter, namespaces, syscalls, userns
from pycompose.worker.runtime import state as disk
from pycompose.worker.runtime.command import bundle, console, listeners, schema
from pycompose.worker.runtime.command.containers import Container
from pycompose.worker.runtime.errors import ConfigError, StartError, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def execute(found: Container, options: Namespace) -> int:
    """Run the process; returns its exit status, 0 when detached.

    Args:
        found: the container.
        options: the flags of ``exec``.

    Raises:
        WrongState: the container does not run, or is paused and ``--ignore-paused`` is not given.
        ConfigError: the process is not well described.
        StartError: its program cannot be executed.
    """
    status = found.status()
    if status not in ("created", "running", "paused"):
        raise WrongState(f"cannot exec in container {found.id}: it is {status}")
    if status == "paused" and not options.ignore_paused:
        raise WrongState(f"cannot exec in container {found.id}: it is paused; resume it, or use --ignore-paused")
    process = describe(found.config()["process"], options)
    terminal = bool(process.get("terminal"))
    console.check(terminal=terminal, detached=options.detach, console_socket=options.console_socket)
    pid, master = _fork(found, process, options)
    if options.console_socket:
        console.hand_over(options.console_socket, master)
    if options.pid_file:
        disk.write_atomically(options.pid_file, str(pid), 0o644)
    if options.detach:
        return 0

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    with contextlib.ExitStack() as stack:
        joined = stack.enter_context(console.Joined(master)) if terminal else None
        return console.wait(pid, send, joined)


def describe(own: dict[str, Any], options: Namespace) -> dict[str, Any]:
    """The OCI process: of ``--process``, or the container's own with what the flags change.

    Raises:
        ConfigError: names the file and key, or the flag.
    """
    if options.process:
        read = bundle.read_json(options.process)
        try:
            schema.check(read, schema.PROCESS)
            bundle.check_process(read, options.warn)
        except ConfigError as error:
            raise ConfigError(f"{options.process}: {error}") from None
        return {**read, "terminal": bool(read.get("terminal")) or options.tty}
    if not options.command:
        raise ConfigError("exec: no program given; name one after the container, or use --process FILE")
    process: dict[str, Any] = json.loads(json.dumps(own)) | {"args": options.command, "terminal": options.tty}
    process["env"] = [*(process.get("env") or []), *options.env]
    if options.cwd:
        process["cwd"] = options.cwd
    if options.user:
        uid, colon, gid = options.user.partition(":")
        if not uid.isdigit() or (colon and not gid.isdigit()):
            raise ConfigError(f"--user {options.user!r}: use UID or UID:GID")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    if options.additional_gids:
        process.setdefault("user", {})["additionalGids"] = options.additional_gids
    if options.no_new_privs:
        process["noNewPrivileges"] = True
    for name in options.cap:
        for kind in ("bounding", "effective", "permitted"):
            process.setdefault("capabilities", {}).setdefault(kind, []).append(name)
    if options.apparmor:
        process["apparmorProfile"] = options.apparmor
    if options.process_label:
        process["selinuxLabel"] = options.process_label
    bundle.check_process(process, options.warn)
    return process


def _fork(found: Container, process: dict[str, Any], options: Namespace) -> tuple[int, int]:
    """Returns the process's pid in the machine's numbers, and its terminal's master or -1."""
    terminal = bool(process.get("terminal"))
    size = process.get("consoleSize")
    first = int(found.known["pid"])
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    entered = namespaces.open_all(first)
    root = os.open(f"/proc/{first}/root", os.O_PATH | os.O_CLOEXEC)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    with userns.adopting(True):
        pid = os.fork()
        if pid == 0:
            mine.close()
            enter.run(
                process,
                theirs,
                cgroup=found.cgroup,
                seccomp=_filter(found),
                namespaces=entered,
                root=root,
                linux=found.config().get("linux") or {},
                stdio=() if terminal else (0, 1, 2),
                terminal=terminal,
                window=(size["height"], size["width"]) if size else None,
                preserve_fds=options.preserve_fds,
            )
        theirs.close()
        pid = userns.follow(mine, pid)
    for fd in (root, *(fd for fd, _ in entered)):
        os.close(fd)
    return pid, _until_exec(mine, pid, found)


def _filter(found: Container) -> str | None:
    profile = (found.config().get("linux") or {}).get("seccomp")
    if not profile:
        return None
    from pathlib import Path

    from pycompose.worker.runtime import seccomp

    return seccomp.compiled(profile, Path(found.directory).parent / ".seccomp")


def _until_exec(channel: socket.socket, pid: int, found: Container) -> int:
    master = -1
    with channel:
        while True:
            message, fds, _, _ = socket.recv_fds(channel, 65536, 1)
            if not message:
                return master
            if fds:
                master = fds[0]
                continue
            report = json.loads(message)
            if "listener" in report:
                profile = found.config()["linux"]["seccomp"]
                listeners.serve(channel, report, pid, profile, found.oci_state("running"))
                continue
            os.waitpid(pid, 0)
            raise StartError(report["error"], report.get("code", 125))
