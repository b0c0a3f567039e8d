"""From fork to exec: the steps of a container's first process, in their order.

``launch`` is what the agent wrote for the shim (``launch.json``): the OCI configuration without
its seccomp profile, the root's layers, the compiled filter's path. The process reports over
``channel`` (a socket pair that exec closes): nothing and end of file is success.

Everything is opened and resolved before pivot_root; afterwards nothing is imported and no path
of the container is opened but the program itself, by execve (DESIGN, decision 10).
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import termios

from pycompose.worker.runtime import cgroups, mounts, namespaces, owning, paths, state, syscalls, sysctls, userns
from pycompose.worker.runtime.capabilities import CapabilitySets, last_capability
from pycompose.worker.runtime.errors import ConfigError, StartError
from pycompose.worker.runtime.labels import Label
from pycompose.worker.runtime.root import Prepared, Progress, build, prepare, propagate
from pycompose.worker.runtime.scheduling import Scheduling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

LAST_CAPABILITY = last_capability()
INIT_PATHS = ("/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/bin/tini")
INIT_ANNOTATION = "pycompose.init"
_TIOCGPTPEER, _TIOCGPTN, _TIOCSPTLCK = 0x5441, 0x80045430, 0x40045431


class Stages:
    """What whoever forked the container wants done between its steps; by default nothing."""

    def entering(self, progress: Progress) -> None:
        """The configuration is read; the cgroup comes next."""

    def built(self, progress: Progress) -> None:
        """Namespaces and root are made; paths are still the machine's."""

    def kept(self) -> list[int]:
        """Descriptors that it needs once the root is the container's."""
        return []

    def pivoted(self, progress: Progress) -> None:
        """The root is the container's; the program comes next. May put another channel into ``progress``."""


def report(channel: socket.socket, error: BaseException, step: str) -> None:
    """Tell the shim why the start failed; never prints (a traceback would open files by path)."""
    code = getattr(error, "exit_code", 125)
    if isinstance(error, OSError):
        reason = error.strerror or str(error.errno)
        text = f"{step}: {reason}"
    else:
        text = str(error) if isinstance(error, StartError) else f"{step}: {error}"
    channel.send(json.dumps({"error": text, "code": code}).encode())


def run(
    launch: dict[str, Any], channel: socket.socket, stdio: tuple[int, int, int] | None, stages: Stages | None = None
) -> NoReturn:
    """The container's first process: never returns.

    Args:
        launch: see the module.
        channel: to the shim.
        stdio: descriptors for 0, 1, 2; None for a terminal, made in the container's devpts.
        stages: called between the steps.
    """
    progress = Progress(channel)
    try:
        _prepare(launch, stdio, progress, stages or Stages())
    except BaseException as error:
        report(progress.channel, error, progress.step)
    os._exit(125)


def _prepare(launch: dict[str, Any], stdio: tuple[int, int, int] | None, progress: Progress, stages: Stages) -> None:
    config: dict[str, Any] = launch["config"]
    linux: dict[str, Any] = config.get("linux") or {}
    process: dict[str, Any] = config["process"]
    plan = namespaces.Plan(linux.get("namespaces") or [], linux.get("timeOffsets"))
    user = Identity(process, linux.get("personality"))
    bound = not launch.get("outlives_parent")
    if bound:
        end_with_parent(progress.channel)
    progress.step = "read the seccomp filter"
    seccomp = state.read(launch["seccomp"]) if launch.get("seccomp") else b""
    init = _open_init(config)
    if stdio:
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
    stages.entering(progress)
    progress.step = "join the cgroup"
    cgroups.at(launch["cgroup"]).join()
    progress.step = "set the out-of-memory score"
    oom_score(process.get("oomScoreAdj"))
    prepared = None
    if os.geteuid():
        prepared = _descend_as_user(launch, plan, progress)
    else:
        _join(plan, progress)
        if plan.user is not None:
            prepared = _descend(launch, plan, user, progress)
    if bound and prepared is not None:  # this is another process, whose parent is the shim by now
        end_with_parent(progress.channel)
    if launch.get("new_keyring"):
        syscalls.join_session_keyring(launch["new_keyring"].encode())
    os.setsid()
    progress.step = "make namespaces"
    syscalls.unshare(plan.new)
    sysctls.write(config, plan, progress, plan.new if prepared else plan.new | plan.joined())
    root, consoles = build(launch, progress, prepared)
    if config.get("hostname") and plan.new & syscalls.CLONE_NEWUTS:
        progress.step = "set the host name"
        socket.sethostname(config["hostname"])
    if config.get("domainname") and plan.new & syscalls.CLONE_NEWUTS:
        progress.step = "set the domain name"
        syscalls.setdomainname(config["domainname"].encode())
    if process.get("terminal"):
        progress.step = "open a terminal"
        _terminal(root, consoles, process.get("consoleSize"), progress.channel, user.uid)
    progress.step = "mask paths"
    for path in dict.fromkeys(linux.get("maskedPaths") or ()):
        mounts.mask(root, path.encode())
    for path in dict.fromkeys(linux.get("readonlyPaths") or ()):
        mounts.make_readonly(root, path.encode())
    if (config.get("root") or {}).get("readonly"):
        syscalls.mount_setattr(root, set_=mounts.RDONLY)
    stages.built(progress)
    progress.step = "open the security label"
    user.label.open()
    progress.step = "pivot_root"
    mounts.pivot(root)
    progress.step = "set linux.rootfsPropagation"
    propagate(linux)
    first_fd = 3 + int(launch.get("preserve_fds") or 0)
    label = user.label.fd if user.label.fd >= 0 else None
    _close_all_but(first_fd, progress.channel.fileno(), init, label, *stages.kept())  # it may wait, and be looked at
    stages.pivoted(progress)
    enter_program(process, user, seccomp, init, progress, bound=bound, first_fd=first_fd)


def _descend(launch: dict[str, Any], plan: namespaces.Plan, user: Identity, progress: Progress) -> Prepared:
    """Do what takes the machine's rights, and go on as root of the container's user namespace, in another process."""
    progress.step = "make the user namespace"
    users = userns.Users(plan.user or "", launch["config"].get("linux") or {})
    sysctls.write(launch["config"], plan, progress, plan.joined())
    userns.raise_limits(user.rlimits)
    own_streams(*users.outside(user.uid, user.gid))
    prepared = prepare(launch, plan, users, progress)
    progress.step = "enter the user namespace"
    userns.descend(users, plan, progress.channel)
    os.close(users.fd)
    return prepared


def _descend_as_user(launch: dict[str, Any], plan: namespaces.Plan, progress: Progress) -> Prepared:
    """The same for an ordinary user, who has rights in the own user namespace only, and so does all of it there."""
    progress.step = "make the user namespace"
    users = userns.Users(plan.user or "", launch["config"].get("linux") or {})
    userns.descend(users, plan, progress.channel)
    _join(plan, progress)
    sysctls.write(launch["config"], plan, progress, plan.joined())
    return prepare(launch, plan, users, progress, ordinary=True)


def _join(plan: namespaces.Plan, progress: Progress) -> None:
    for flag, path in plan.join.items():
        progress.step = f"join the namespace {path}"
        namespaces.join_path(path, flag)


def end_with_parent(channel: socket.socket) -> None:
    """A lost shim ends its container (prctl(2), PR_SET_PDEATHSIG), also one that was lost before this was said.

    Args:
        channel: to the shim; nobody else holds its other end.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLHUP)
    if poll.poll(0):
        os._exit(125)


def own_streams(uid: int, gid: int) -> None:
    """Let the program open its pipes again by /dev/stdout and the like, whoever runs it."""
    for number in range(3):
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            os.fchown(number, uid, gid)


class Identity:
    """User, groups, capabilities, limits, share and label of a process, all worked out before they are needed."""

    __slots__ = ("capabilities", "gid", "groups", "label", "rlimits", "scheduling", "uid", "umask")

    def __init__(self, process: dict[str, Any], personality: dict[str, Any] | None = None) -> None:
        user = process.get("user") or {}
        self.uid, self.gid = int(user.get("uid", 0)), int(user.get("gid", 0))
        self.groups = [int(group) for group in user.get("additionalGids") or ()]
        self.umask = user.get("umask")
        self.capabilities = CapabilitySets(process.get("capabilities") or {}, LAST_CAPABILITY)
        self.scheduling, self.label = Scheduling(process, personality), Label(process)
        self.rlimits = []
        for limit in process.get("rlimits") or ():
            number = getattr(resource, limit["type"], None)
            if number is None:
                raise ConfigError(f"process.rlimits: {limit['type']!r} is not a limit; see getrlimit(2)")
            soft, hard = (_signed(limit[key]) for key in ("soft", "hard"))
            self.rlimits.append((number, (soft, hard)))


def _signed(value: int) -> int:
    return -1 if value < 0 or value >= 1 << 63 else value


def enter_program(
    process: dict[str, Any],
    user: Identity,
    seccomp: bytes,
    init: int | None,
    progress: Progress,
    *,
    bound: bool = False,
    first_fd: int = 3,
) -> None:
    """The last stage, shared with exec: limits, identity, filter, directory, program. Returns only by raising.

    Args:
        process: OCI ``process``.
        user: its identity.
        seccomp: the compiled filter; b"": none.
        init: descriptor of the init helper that runs the program.
        progress: its channel stays open until exec.
        bound: end with the parent process.
        first_fd: descriptors below it are the program's.
    """
    arguments = [os.fsencode(text) for text in process.get("args") or ()]
    variables = environment(process)
    if not arguments:
        raise StartError("no command specified", 125)
    progress.step = "set resource limits"
    for number, pair in user.rlimits:
        resource.setrlimit(number, pair)
    progress.step = "set scheduler and priorities"
    user.scheduling.apply()
    progress.step = "set the security label"
    user.label.apply()
    progress.step = "change to the user"
    user.capabilities.limit_bounding()
    no_new_privileges = bool(process.get("noNewPrivileges"))
    heed_signals()
    _close_all_but(first_fd, progress.channel.fileno(), init)  # before the filter, which may forbid close_range(2)
    if seccomp and not no_new_privileges:  # needs CAP_SYS_ADMIN, which is about to go
        _filter_calls(seccomp, progress)
    cwd = os.fsencode(process.get("cwd") or "/")
    reached = _chdir(cwd)  # as root first: a directory of root's may be meant
    user.capabilities.become(user.uid, user.gid, user.groups, user.umask)
    if not reached:
        progress.step = f"change to the working directory {process.get('cwd')}"
        os.chdir(cwd)
    if bound:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # another user id has cleared it
    if no_new_privileges:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if seccomp:
            _filter_calls(seccomp, progress)
    if init is not None:
        pairs = [key + b"=" + value for key, value in variables.items()]
        find_program(arguments[0], variables)
        syscalls.execveat(init, [b"init", b"--", *arguments], pairs)
    _exec(arguments, variables)


def _filter_calls(seccomp: bytes, progress: Progress) -> None:
    """Install a filter; a listener's number is told, and kept until the other side has taken it (pidfd_getfd(2))."""
    (flags,) = struct.unpack_from("=Q", seccomp)
    progress.step = "install the seccomp filter"
    listener = syscalls.set_seccomp_filter(seccomp[8:], flags)
    if listener:
        channel = progress.channel.fileno()
        os.write(channel, b'{"listener": %d}' % listener)
        if not os.read(channel, 64):
            os._exit(125)
        os.close(listener)


def heed_signals() -> None:
    """Give every signal its default action: what the daemon's starter ignored (nohup(1)) would be inherited."""
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def environment(process: dict[str, Any]) -> dict[bytes, bytes]:
    """The program's variables, HOME among them."""
    pairs = [os.fsencode(pair).split(b"=", 1) for pair in process.get("env") or () if "=" in pair]
    return {b"HOME": b"/"} | dict(pairs)


def _chdir(path: bytes) -> bool:
    try:
        os.chdir(path)
    except OSError:
        return False
    return True


def _close_all_but(first: int, *keep: int | None) -> None:
    for fd in sorted(fd for fd in keep if fd is not None):
        syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first, 0x7FFFFFFF)


def candidates(name: bytes, variables: dict[bytes, bytes]) -> list[bytes]:
    """Where a program may be: itself when it has a slash, else in each directory of its own PATH."""
    if b"/" in name:
        return [name]
    search = variables.get(b"PATH") or b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [(directory or b".") + b"/" + name for directory in search.split(b":")]


def find_program(name: bytes, variables: dict[bytes, bytes]) -> None:
    """Raise as exec would when no candidate can be executed (init would only report it as a status)."""
    last: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in candidates(name, variables):
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISREG(mode) and os.access(path, os.X_OK):
                return
            last = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            last = error
    raise exec_error(name, last)


def _exec(arguments: list[bytes], variables: dict[bytes, bytes]) -> None:
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in candidates(arguments[0], variables):
        try:
            os.execve(path, arguments, variables)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
    raise exec_error(arguments[0], failure)


def exec_error(name: bytes, error: OSError) -> StartError:
    """The failure of execve in Docker's words, with its exit status."""
    shown = name.decode("utf-8", "replace")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        place = "no such file or directory" if b"/" in name else "executable file not found in $PATH"
        return StartError(f'exec: "{shown}": {place}', 127)
    return StartError(f'exec: "{shown}": {(error.strerror or "").lower()}', 126)


def oom_score(value: int | None) -> None:
    """Set it; what is not asked for is 0, but stays as it is for an ordinary user, who may not lower it.

    systemd starts users' units with a higher one (systemd-user.conf(5), "DefaultOOMScoreAdjust=").
    """
    if value is None and (os.geteuid() or not owning.machines_root()):
        return
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, str(value or 0).encode())
    os.close(fd)


def _open_init(config: dict[str, Any]) -> int | None:
    """The init helper as a read-only detached mount, so that the container cannot write to it."""
    if (config.get("annotations") or {}).get(INIT_ANNOTATION) != "true":
        return None
    for path in INIT_PATHS:
        if os.path.exists(path):
            return os.open(path, os.O_PATH | os.O_CLOEXEC)
    raise ConfigError(f"init: none of {', '.join(INIT_PATHS)} exists; install the package tini")


def _terminal(root: int, consoles: list[int], size: dict[str, int] | None, channel: socket.socket, uid: int) -> None:
    """A pseudo terminal of the container's own devpts: the master goes to the shim, the slave becomes 0, 1, 2."""
    if not consoles:
        raise ConfigError("process.terminal needs a devpts mount in the configuration's mounts")
    master = os.open(b"ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=consoles[-1])
    slave = open_slave(master, size)
    os.fchown(slave, uid, -1)
    socket.send_fds(channel, [b'{"tty": true}'], [master])
    console = paths.make_target(root, b"/dev/console", directory=False)
    name = str(struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, b"\0" * 4))[0]).encode()
    made = mounts.clone(name, mounts.MountOptions(["bind"]), consoles[-1])
    syscalls.move_mount(made, console)
    for fd in (console, made, master, *consoles):
        os.close(fd)
    take_terminal(slave)


def open_slave(master: int, size: dict[str, int] | None) -> int:
    """Unlock a pseudo terminal and open its slave by descriptor (ioctl_tty(2), TIOCGPTPEER)."""
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    if size:
        set_window(master, size.get("height", 0), size.get("width", 0))
    return slave


def set_window(master: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def take_terminal(slave: int) -> None:
    """Make the terminal this session's controlling one, and standard input, output and error."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(slave, number)
    if slave > 2:
        os.close(slave)


_ = array  # socket.send_fds imports it lazily: it has to be loaded before pivot_root
