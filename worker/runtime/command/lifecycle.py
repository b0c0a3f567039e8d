"""create, start, kill, delete, and ``run``, which is all of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time

from pycompose.worker.runtime import cgroups, container, namespaces, syscalls, userns
from pycompose.worker.runtime import state as disk
from pycompose.worker.runtime.command import bundle, console, containers, hooks, listeners
from pycompose.worker.runtime.command.containers import Container, Containers
from pycompose.worker.runtime.errors import ConfigError, RuntimeFault, StartError, WrongState
from pycompose.worker.runtime.root import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator
    from typing import Any

    from pycompose.worker.runtime.command.scope import Scope

#: Below each hierarchy, where linux.cgroupsPath is absent or relative.
CGROUP_PARENT = "/pycompose-runtime"


class Held(container.Stages):
    """What the first process does between its steps: hooks, and waiting for ``start``.

    Messages to ``create``: {"built"}, answered by the OCI state, then {"ready"}.
    """

    def __init__(self, config: dict[str, Any], listener: socket.socket, scope: Scope | None) -> None:
        self.config, self.scope = config, scope
        self.hooks: dict[str, list[dict[str, Any]]] = config.get("hooks") or {}
        self.process: dict[str, Any] = config["process"]
        self.listener = listener

    def entering(self, progress: Progress) -> None:
        """Have systemd make the cgroup, which it does around a process only."""
        if self.scope is not None:
            from pycompose.worker.runtime.command import scope as scopes

            progress.step = f"start {self.scope.unit}"
            # as systemd sees it: in a pid namespace of its own the process calls itself 1
            scopes.start(self.scope, self.config, int(os.readlink("/proc/self")))

    def built(self, progress: Progress) -> None:
        """Let the runtime's hooks run, then run those of the container's namespaces."""
        progress.channel.send(b'{"built": true}')
        answer = progress.channel.recv(1 << 20)
        if not answer:
            os._exit(125)
        progress.step = "run createContainer hooks"
        hooks.run_all("createContainer", self.hooks.get("createContainer") or [], json.loads(answer))

    def kept(self) -> list[int]:
        """Where ``start`` connects."""
        return [self.listener.fileno()]

    def pivoted(self, progress: Progress) -> None:
        """Say that the container is created; go on when ``start`` connects."""
        container.find_program(os.fsencode(self.process["args"][0]), container.environment(self.process))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, _leave)  # PID 1 of a namespace gets only signals that it handles
        progress.channel.send(b'{"ready": true}')
        progress.channel.close()
        connection, _ = self.listener.accept()
        self.listener.close()
        progress.channel = connection
        progress.step = "run startContainer hooks"
        state = json.loads(connection.recv(1 << 20))
        hooks.run_all("startContainer", self.hooks.get("startContainer") or [], state)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _frame: object) -> None:
    os._exit(128 + number)


def create(known: Containers, options: Namespace) -> tuple[Container, int]:
    """Make a container from a bundle; its program does not run yet.

    Args:
        known: the runtime's containers.
        options: id, bundle, pid_file, no_new_keyring, preserve_fds, and warn, which is told what is left out.

    Returns:
        The container, and the master of its terminal (-1: it has none).

    Raises:
        RuntimeFault: nothing of the container is left.
    """
    place = os.path.realpath(options.bundle)
    config = bundle.load(place, options.warn)
    if os.environ.get("LISTEN_FDS"):  # sockets of systemd's, passed on as it does (sd_listen_fds(3))
        passed = [f"LISTEN_FDS={os.environ['LISTEN_FDS']}", "LISTEN_PID=1"]
        config["process"]["env"] = [*(config["process"].get("env") or []), *passed]
    if options.systemd_cgroup:
        from pycompose.worker.runtime.command import scope as scopes

        scopes.check()
    terminal = bool(config["process"].get("terminal"))
    console.check(terminal=terminal, detached=options.detach, console_socket=options.console_socket)
    directory = known.reserve(options.id)
    made: Container | None = None
    try:
        new = _new(directory, place, config, systemd=options.systemd_cgroup)
        if new.cgroup.processes():  # they are another's: nothing of this container is undone
            raise WrongState(f"cgroup {new.known['cgroup']} has processes in it; choose another linux.cgroupsPath")
        made = new
        if not options.systemd_cgroup:
            made.cgroup.create((config.get("linux") or {}).get("resources") or {})
        master = _first_process(made, config, options)
        if options.console_socket:
            console.hand_over(options.console_socket, master)
            master = -1
        if options.pid_file:
            disk.write_atomically(options.pid_file, str(made.known["pid"]), 0o644)
    except BaseException:
        if made is not None:
            _destroy(made, config)
        containers.remove(directory)
        raise
    return made, master


def _new(directory: str, place: str, config: dict[str, Any], *, systemd: bool) -> Container:
    ident, path = os.path.basename(directory), (config.get("linux") or {}).get("cgroupsPath") or ""
    scope = None
    if systemd:
        from pycompose.worker.runtime.command import scope as scopes

        scope = scopes.named(path, ident)
    path = scope.cgroup if scope else path or ("" if os.geteuid() else ident)
    disk.write_atomically(f"{directory}/config.json", json.dumps(config))
    os.mkdir(f"{directory}/rootfs")
    made = Container(directory, {})
    made.save(
        ociVersion=config["ociVersion"],
        id=ident,
        pid=0,
        pid_start=0,
        bundle=place,
        annotations=config.get("annotations") or {},
        rootfs=config["root"]["path"],
        cgroup=path if path.startswith("/") or not path else f"{CGROUP_PARENT}/{path}",
        slice=scope.slice if scope else "",
        unit=scope.unit if scope else "",
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        owner=os.getuid(),
        started=False,
    )
    return made


def _launch(made: Container, config: dict[str, Any], options: Namespace) -> dict[str, Any]:
    linux = dict(config.get("linux") or {})
    profile = linux.pop("seccomp", None)
    compiled = None
    if profile:
        from pathlib import Path

        from pycompose.worker.runtime import seccomp

        compiled = seccomp.compiled(profile, Path(made.directory).parent / ".seccomp")
    root = config["root"]
    return {
        "config": {**config, "linux": linux},
        "rootfs": {"lower": [root["path"]], "upper": None, "readonly": False},
        "mountpoint": f"{made.directory}/rootfs",
        "cgroup": made.known["cgroup"],
        "seccomp": compiled,
        "outlives_parent": True,
        "preserve_fds": options.preserve_fds,
        "new_keyring": "" if options.no_new_keyring else f"_ses.{made.id}",
    }


def _first_process(made: Container, config: dict[str, Any], options: Namespace) -> int:
    """Fork the first process and follow it until it waits for ``start``; returns its terminal's master or -1."""
    launch = _launch(made, config, options)
    linux = config.get("linux") or {}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with in_directory(made.directory):
        listener.bind(containers.SOCKET)
        os.chmod(containers.SOCKET, 0o600)
    listener.listen(1)
    plan = namespaces.Plan(linux.get("namespaces") or [], linux.get("timeOffsets"))
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stdio = None if config["process"].get("terminal") else (0, 1, 2)
    scope = None
    if made.known["unit"]:
        from pycompose.worker.runtime.command import scope as scopes

        scope = scopes.Scope(made.known["slice"], made.known["unit"])
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    with namespaces.for_children(plan), userns.adopting(plan.user is not None):
        pid = os.fork()
        if pid == 0:
            mine.close()
            container.run(launch, theirs, stdio, Held(config, listener, scope))
        theirs.close()
        if plan.user is not None:
            pid = userns.follow(mine, pid)
    listener.close()
    made.save(pid=pid, pid_start=disk.start_time(pid))
    try:
        return _until_ready(made, config, mine)
    except BaseException:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise
    finally:
        mine.close()


def _until_ready(made: Container, config: dict[str, Any], channel: socket.socket) -> int:
    master = -1
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 65536, 1)
        if not message:
            raise StartError("the container's first process was killed before it was ready")
        report = json.loads(message)
        if fds:
            master = fds[0]
        elif "error" in report:
            raise StartError(report["error"], report.get("code", 125))
        elif "built" in report:
            devices = (config.get("linux") or {}).get("netDevices")
            if devices:
                from pycompose.worker.runtime.command import netdevices

                netdevices.move_all(devices, made.known["pid"])
            state = made.oci_state("creating", made.known["pid"])
            for kind in ("prestart", "createRuntime"):
                hooks.run_all(kind, (config.get("hooks") or {}).get(kind) or [], state)
            channel.send(json.dumps(made.oci_state("creating", made.known["pid"])).encode())
        else:
            return master


@contextlib.contextmanager
def in_directory(path: str) -> Iterator[None]:
    """Work in a directory for a moment: a socket's address holds 108 bytes only (unix(7))."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def start(found: Container) -> None:
    """Let a created container run its program.

    Raises:
        WrongState: it is not in the state created.
        StartError: a hook failed, or the program cannot be executed; the container is stopped then.
    """
    with found.locked():
        status = found.status()
        if status != "created":
            raise WrongState(f"cannot start container {found.id}: it is {status}, not created")
        pid = int(found.known["pid"])
        state = found.oci_state("created")
        with in_directory(found.directory), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(containers.SOCKET)
            connection.send(json.dumps(state).encode())
            while answer := connection.recv(65536):
                report = json.loads(answer)
                if "error" in report:
                    raise StartError(report["error"], report.get("code", 125))
                listeners.serve(connection, report, pid, found.config()["linux"]["seccomp"], state)
        found.save(started=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{found.directory}/{containers.SOCKET}")
        try:
            wanted = (found.config().get("hooks") or {}).get("poststart") or []
            hooks.run_all("poststart", wanted, found.oci_state("running", pid))
        except RuntimeFault:
            kill_all(found)
            raise


def kill(found: Container, number: int, *, everyone: bool) -> None:
    """Send a signal to the first process, or to all.

    Raises:
        WrongState: the container is neither created nor running.
    """
    status = found.status()
    if everyone and status == "stopped":
        _signal(found, number)
        return
    if status not in ("created", "running", "paused"):
        raise WrongState(f"cannot send a signal to container {found.id}: it is {status}")
    shares_pids = not any(entry["type"] == "pid" for entry in (found.config().get("linux") or {}).get("namespaces", ()))
    if everyone or (shares_pids and number == signal.SIGKILL):
        _signal(found, number)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.known["pid"], number)
    if number == signal.SIGKILL and status == "paused":
        found.cgroup.freeze(False)


def _signal(found: Container, number: int) -> None:
    """To every process of the container."""
    if number == signal.SIGKILL:
        found.cgroup.kill()
        return
    for pid in found.cgroup.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(found: Container) -> None:
    """Kill every process of the container and wait until they are gone, at most 10 s."""
    with contextlib.suppress(RuntimeFault):
        found.cgroup.freeze(False)
    for _ in range(2000):
        inside, first = found.cgroup.processes(), found.pid
        if not inside and not first:
            return
        found.cgroup.kill()
        if first:
            cgroups.kill_each([first])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.005)


def delete(found: Container, *, force: bool) -> list[str]:
    """Release everything that the container holds; returns warnings.

    Raises:
        WrongState: it is not stopped, and ``force`` is not given.
    """
    with found.locked():
        status = found.status()
        if status not in ("stopped", "created") and not force:
            raise WrongState(
                f"cannot delete container {found.id}: it is {status}, not stopped; kill it, or use --force"
            )
        config = found.config()
        _release(found)
        state = found.oci_state("stopped")
        containers.remove(found.directory)
    return _poststop(config, state)


def _destroy(made: Container, config: dict[str, Any]) -> None:
    """Undo a creation that failed."""
    _release(made)
    _poststop(config, made.oci_state("stopped"))


def _release(found: Container) -> None:
    kill_all(found)
    if found.known.get("unit"):
        from pycompose.worker.runtime.command import scope as scopes

        scopes.stop(found.known["unit"])
    found.cgroup.remove()


def _poststop(config: dict[str, Any], state: dict[str, Any]) -> list[str]:
    warnings = []
    for number, hook in enumerate((config.get("hooks") or {}).get("poststop") or ()):
        try:
            hooks.run(f"hook poststop[{number}] {hook['path']}", hook, state)
        except RuntimeFault as error:
            warnings.append(str(error))
    return warnings


def run(known: Containers, options: Namespace) -> int:
    """create and start; then, unless detached, wait, delete, and return the program's exit status.

    ``options.warn`` is told what failed without making a failure of the whole: hooks of the kind poststop.
    """
    if not options.detach and not options.no_subreaper:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    made, master = create(known, options)
    pid = int(made.known["pid"])
    try:
        start(made)
        if options.detach:
            return 0
        with contextlib.ExitStack() as stack:
            joined = stack.enter_context(console.Joined(master)) if master >= 0 else None
            code = console.wait(pid, lambda number: os.kill(pid, number), joined)
    except BaseException:
        _remove(made, options.warn)
        raise
    if not options.keep:
        _remove(made, options.warn)
    return code


def _remove(made: Container, warn: Callable[[str], None]) -> None:
    with contextlib.suppress(RuntimeFault):
        for warning in delete(made, force=True):
            warn(warning)


__all__ = ["ConfigError", "create", "delete", "in_directory", "kill", "kill_all", "run", "start"]
