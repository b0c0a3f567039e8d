"""The command line of ``pycompose-runtime``: arguments in, one line on standard error and in the log on failure.

Exit status: of the container's program for ``run`` and ``exec``; 1 for a failure, 255 for one of ``exec``,
as runc has them. argparse, because a runtime is started once per container and its start is part of the cost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import pycompose
from pycompose.proto import vocabulary
from pycompose.worker.runtime.command.containers import Containers
from pycompose.worker.runtime.command.resources import FLAGS
from pycompose.worker.runtime.errors import ConfigError, RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

ROOT = "/run/pycompose-runtime"


class Parser(argparse.ArgumentParser):
    """Errors become ConfigError, so that they take the one way out."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="pycompose-runtime", description="Run containers from OCI bundles.", allow_abbrev=False)
    top.add_argument("--root", default="", help=f"where containers' state is kept (default {ROOT}, or your own)")
    top.add_argument("--log", default="", help="write errors to this file too")
    top.add_argument("--log-format", choices=("text", "json"), default="text", help="form of the log")
    top.add_argument("--debug", action="store_true", help="accepted as runc's")
    top.add_argument(
        "--systemd-cgroup",
        action="store_true",
        help="let systemd make the cgroups; linux.cgroupsPath is then slice:prefix:name",
    )
    version = f"pycompose-runtime {pycompose.__version__}\nspec: 1.2.0"
    top.add_argument("-v", "--version", action="version", version=version)
    commands = top.add_subparsers(dest="verb", metavar="COMMAND", parser_class=Parser)
    _lifecycle(commands)
    _looking(commands)
    _changing(commands)
    return top


def _command(commands: argparse._SubParsersAction[Parser], name: str, text: str, *, ident: bool = True) -> Parser:
    made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    if ident:
        made.add_argument("id", metavar="CONTAINER")
    return made


def _lifecycle(commands: argparse._SubParsersAction[Parser]) -> None:
    for name, text in (("create", "create a container"), ("run", "create, start and wait for a container")):
        made = _command(commands, name, text)
        made.add_argument("-b", "--bundle", default=".", help="the bundle's directory (default: the current one)")
        made.add_argument("--console-socket", default="", help="socket that gets the terminal's master")
        made.add_argument("--pid-file", default="", help="write the first process's pid to this file")
        made.add_argument("--no-pivot", action="store_true", help="chroot in place of pivot_root (refused)")
        made.add_argument("--no-new-keyring", action="store_true", help="keep the caller's session keyring")
        made.add_argument("--preserve-fds", type=int, default=0, metavar="N", help="pass N further descriptors")
        if name == "run":
            made.add_argument("-d", "--detach", action="store_true", help="do not wait for the container")
            made.add_argument("--keep", action="store_true", help="do not delete the container when it has ended")
            made.add_argument("--no-subreaper", action="store_true", help="do not adopt the container's orphans")
        else:
            made.set_defaults(detach=True)
    _command(commands, "start", "run the program of a created container")
    kill = _command(commands, "kill", "send a signal to a container (default TERM)")
    kill.add_argument("signal", nargs="?", default="TERM")
    kill.add_argument("-a", "--all", action="store_true", help="to all its processes")
    delete = _command(commands, "delete", "release what a container holds")
    delete.add_argument("-f", "--force", action="store_true", help="kill it first; no error when it is not there")


def _looking(commands: argparse._SubParsersAction[Parser]) -> None:
    _command(commands, "state", "print a container's state")
    listing = _command(commands, "list", "list containers", ident=False)
    listing.add_argument("-f", "--format", choices=("table", "json"), default="table")
    listing.add_argument("-q", "--quiet", action="store_true", help="ids alone")
    ps = _command(commands, "ps", "list a container's processes")
    ps.add_argument("-f", "--format", choices=("table", "json"), default="table")
    ps.add_argument("options", nargs=argparse.REMAINDER, help="for ps(1)")
    events = _command(commands, "events", "print a container's usage and out-of-memory events")
    events.add_argument("--interval", default="5s", help="between statistics (default 5s)")
    events.add_argument("--stats", action="store_true", help="print statistics once")
    spec = _command(commands, "spec", "write a config.json to start from", ident=False)
    spec.add_argument("-b", "--bundle", default=".")
    spec.add_argument("--rootless", action="store_true", help="for an ordinary user")
    _command(commands, "features", "print what this runtime can do", ident=False)


def _changing(commands: argparse._SubParsersAction[Parser]) -> None:
    execute = _command(commands, "exec", "run a further process in a container", ident=False)
    execute.add_argument("--console-socket", default="")
    execute.add_argument("--cwd", default="", help="working directory")
    execute.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    execute.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    execute.add_argument("-u", "--user", default="", metavar="UID[:GID]")
    execute.add_argument("-g", "--additional-gids", action="append", type=int, default=[], metavar="GID")
    execute.add_argument("-p", "--process", default="", metavar="FILE", help="OCI process as JSON")
    execute.add_argument("-d", "--detach", action="store_true")
    execute.add_argument("--pid-file", default="")
    execute.add_argument("--process-label", default="", help="SELinux label")
    execute.add_argument("--apparmor", default="", help="AppArmor profile")
    execute.add_argument("--no-new-privs", action="store_true")
    execute.add_argument("-c", "--cap", action="append", default=[], help="add a capability")
    execute.add_argument("--preserve-fds", type=int, default=0, metavar="N")
    execute.add_argument("--cgroup", default="", help="a cgroup below the container's (refused)")
    execute.add_argument("--ignore-paused", action="store_true")
    execute.add_argument("id", metavar="CONTAINER")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM")
    _command(commands, "pause", "freeze a container's processes")
    _command(commands, "resume", "let them go on")
    update = _command(commands, "update", "change a container's limits")
    update.add_argument(
        "-r", "--resources", default="", metavar="FILE", help='OCI linux.resources as JSON ("-": stdin)'
    )
    for flag, (_, _, kind) in FLAGS.items():
        update.add_argument(f"--{flag}", type=kind)
    for name in ("checkpoint", "restore"):
        made = _command(commands, name, "not supported", ident=False)
        made.add_argument("rest", nargs=argparse.REMAINDER)


def _unsupported(options: argparse.Namespace) -> None:
    """Refuse what cannot be honoured, before anything is done."""
    if options.verb in ("checkpoint", "restore"):
        raise ConfigError(f"{options.verb}: not supported: this runtime does not drive criu")
    for flag in ("no_pivot", "cgroup"):
        if getattr(options, flag, False):
            raise ConfigError(f"--{flag.replace('_', '-')}: not supported by this runtime")
    if getattr(options, "preserve_fds", 0) < 0:
        raise ConfigError("--preserve-fds: a number from 0 on")


def perform(options: argparse.Namespace) -> int:
    """Carry out one command; returns the exit status."""
    _unsupported(options)
    options.warn = lambda message: say(options, "warning", message)
    known = Containers(options.root or own_root(os.geteuid(), os.environ))
    if options.verb in ("create", "run"):
        return _create_or_run(known, options)
    if options.verb in _LOOKING:
        return _look(known, options)
    if options.verb == "delete":
        return _delete(known, options)
    found = known.get(options.id)
    if options.verb == "exec":
        from pycompose.worker.runtime.command import execute

        return execute.execute(found, options)
    from pycompose.worker.runtime.command import lifecycle, resources

    if options.verb == "start":
        lifecycle.start(found)
    elif options.verb == "kill":
        lifecycle.kill(found, signal_number(options.signal), everyone=options.all)
    else:
        with found.locked():
            status = found.status()
            if options.verb == "update":
                if status not in ("created", "running", "paused"):
                    raise ConfigError(f"cannot update container {found.id}: it is {status}")
                found.limit(resources.wanted(options))
            elif status != {"pause": "running", "resume": "paused"}[options.verb]:
                raise ConfigError(f"cannot {options.verb} container {found.id}: it is {status}")
            else:
                found.cgroup.freeze(options.verb == "pause")
    return 0


def _create_or_run(known: Containers, options: argparse.Namespace) -> int:
    from pycompose.worker.runtime.command import lifecycle

    options.preserve_fds += int(os.environ.get("LISTEN_FDS") or 0)
    if options.verb == "run":
        return lifecycle.run(known, options)
    lifecycle.create(known, options)
    return 0


def _delete(known: Containers, options: argparse.Namespace) -> int:
    from pycompose.worker.runtime.command import lifecycle
    from pycompose.worker.runtime.errors import NoSuchContainer

    try:
        found = known.get(options.id)
    except NoSuchContainer:
        if options.force:
            return 0
        raise
    for warning in lifecycle.delete(found, force=options.force):
        say(options, "warning", warning)
    return 0


_LOOKING = ("state", "list", "ps", "events", "spec", "features")


def _look(known: Containers, options: argparse.Namespace) -> int:
    from pycompose.worker.runtime.command import reports

    verbs: dict[str, Callable[[], None]] = {
        "state": lambda: reports.state(known.get(options.id)),
        "list": lambda: reports.listing(known, options.format, quiet=options.quiet),
        "ps": lambda: reports.ps(known.get(options.id), options.format, options.options),
        "events": lambda: reports.events(known.get(options.id), seconds(options.interval), once=options.stats),
        "spec": lambda: reports.spec(options.bundle, rootless=options.rootless),
        "features": reports.features,
    }
    verbs[options.verb]()
    return 0


def own_root(uid: int, environment: Mapping[str, str]) -> str:
    """Where state is kept unless ``--root`` says so; an ordinary user's lies where the user's sockets do.

    Raises:
        ConfigError: nobody said where that is.
    """
    if uid == 0:
        return ROOT
    if not environment.get("XDG_RUNTIME_DIR"):
        raise ConfigError("--root: required, since XDG_RUNTIME_DIR is not set")
    return f"{environment['XDG_RUNTIME_DIR']}/pycompose-runtime"


def signal_number(text: str) -> int:
    """The number of "9", "KILL", "SIGKILL" or "SIGRTMIN+3"; 0 is sent to nobody, and only asks (kill(2)).

    Raises:
        ConfigError: there is no such signal.
    """
    found = 0 if text == "0" else vocabulary.signal_number(text)
    if found is None:
        raise ConfigError(f"there is no signal {text!r}; see signal(7)")
    return found


def seconds(text: str) -> float:
    """Seconds of "5s", "500ms", "1m".

    Raises:
        ConfigError: it is something else.
    """
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * factor
    raise ConfigError(f"--interval {text!r}: use a duration such as 5s")


def say(options: argparse.Namespace | None, level: str, message: str) -> None:
    """One line on standard error, and one in the log."""
    line = message.replace("\n", "; ")
    sys.stderr.write(f"pycompose-runtime: {level}: {line}\n")
    if options is None or not options.log:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if options.log_format == "json":
        text = json.dumps({"level": level, "msg": line, "time": now})
    else:
        text = f'time="{now}" level={level} msg={json.dumps(line)}'
    try:
        with open(options.log, "a") as file:
            file.write(text + "\n")
    except OSError as error:
        sys.stderr.write(f"pycompose-runtime: error: --log {options.log}: {(error.strerror or '').lower()}\n")


def main() -> int:
    """Entry point; returns the exit status."""
    options = None
    try:
        options = parser().parse_args()
        if not options.verb:
            parser().print_help()
            return 0
        return perform(options)
    except RuntimeFault as error:
        say(options, "error", str(error))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        say(options, "error", f"{what}{(error.strerror or str(error)).lower()}")
    except KeyboardInterrupt:
        return 130
    return 255 if options is not None and options.verb == "exec" else 1
