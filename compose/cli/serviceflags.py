"""The flags of `service create` and `service update`: docker service's, each said by an attribute of the Compose file.

Two tables are the whole of them. `SETTINGS` are those with one value, the same for both commands. `LISTS` are those of
which a service has several: `--env` of create is `--env-add` and `--env-rm` of update. `servicespec.change` carries
them out on a spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.execute import variables
from pycompose.compose.cli.flags import option
from pycompose.compose.cli.flagwords import csv, pairs_of

F = TypeVar("F", bound=Callable[..., Any])
_CONTAINER = "task.container."


@dataclass(frozen=True)
class Setting:
    """A flag with one value.

    Attributes:
        names: "--user -u".
        attribute: path of the attribute in a service of a Compose file.
        field: path of the spec's field that it becomes.
        help: one line.
        kind: of click's option.
        words: the value is a command line: its words are the attribute's.
    """

    names: str
    attribute: str
    field: str
    help: str
    kind: Any = str
    words: bool = False

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.names.split()[0].lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Many:
    """A flag of which a service has several.

    Attributes:
        names: of create; update has --NAME-add and --NAME-rm.
        field: path of the spec's list or mapping.
        help: one line.
        key: by which --NAME-rm finds an item.
        attribute: of a service of a Compose file that reads the words; "": `read` does.
        read: makes items of the words.
        same: what two items have in common of which the later one counts; None: the key.
    """

    names: str
    field: str
    help: str
    key: Callable[[Any], str] = str
    attribute: str = ""
    read: Callable[[Sequence[str]], Any] = list
    same: Callable[[Any], object] | None = None

    @property
    def name(self) -> str:
        """The parameter's name in create; of update with _add or _rm."""
        return self.long.lstrip("-").replace("-", "_")

    @property
    def long(self) -> str:
        """The long name in create."""
        return self.names.split()[0]


_Pos = click.IntRange(min=0)


def _policy(kind: str) -> list[Setting]:
    """The flags of an update's or a rollback's course."""
    where = f"deploy.{kind}_config"
    actions = "pause, continue" + (", rollback" if kind == "update" else "")
    told = "an update" if kind == "update" else "a rollback"
    rows: tuple[tuple[str, str, Any], ...] = (
        ("parallelism", f"Tasks that {told} changes at a time; 0: all (default 1).", _Pos),
        ("delay", "Time between them (default 0s).", str),
        ("failure-action", f"When one fails: {actions} (default pause).", str),
        ("max-failure-ratio", "Part of them that may fail (default 0).", float),
        ("monitor", "How long a new one is watched (default 5s).", str),
        ("order", "start-first or stop-first (default stop-first).", str),
    )
    return [
        Setting(f"--{kind}-{name}", f"{where}.{name}".replace("-", "_"), f"{kind}.{name}".replace("-", "_"), text, form)
        for name, text, form in rows
    ]


_CHECK = _CONTAINER + "healthcheck."
_LIMITS, _RESERVED = _CONTAINER + "resources.limits.", _CONTAINER + "resources.reservations."
SETTINGS = (
    Setting("--endpoint-mode", "deploy.endpoint_mode", "endpoint.mode", "vip or dnsrr (default vip)."),
    Setting("--entrypoint", "entrypoint", _CONTAINER + "entrypoint", "Program in place of the image's.", words=True),
    Setting("--health-cmd", "healthcheck.test", _CHECK + "test", "Command that tells whether it is healthy."),
    Setting("--health-interval", "healthcheck.interval", _CHECK + "interval", "Time between checks."),
    Setting("--health-retries", "healthcheck.retries", _CHECK + "retries", "Failures that make it unhealthy.", _Pos),
    Setting("--health-start-period", "healthcheck.start_period", _CHECK + "start_period", "Time to start in."),
    Setting("--health-timeout", "healthcheck.timeout", _CHECK + "timeout", "Time for one check."),
    Setting("--hostname", "hostname", _CONTAINER + "hostname", "Host name."),
    Setting("--init", "init", _CONTAINER + "init", "Run a small init as PID 1.", bool),
    Setting("--limit-cpu", "deploy.resources.limits.cpus", _LIMITS + "nano_cpus", "CPUs that it may use.", float),
    Setting("--limit-memory", "deploy.resources.limits.memory", _LIMITS + "memory_bytes", "Memory limit: 512m."),
    Setting(
        "--limit-pids", "deploy.resources.limits.pids", _LIMITS + "pids", "Most processes (default 0 = unlimited).", int
    ),
    Setting("--log-driver", "logging.driver", _CONTAINER + "logging.driver", "Where output goes: json-file or none."),
    Setting("--read-only", "read_only", _CONTAINER + "read_only", "Mount the root file system read-only.", bool),
    Setting(
        "--replicas-max-per-node",
        "deploy.placement.max_replicas_per_node",
        "task.placement.max_replicas_per_node",
        "Most tasks on one node (default 0 = unlimited).",
        _Pos,
    ),
    Setting(
        "--reserve-cpu", "deploy.resources.reservations.cpus", _RESERVED + "nano_cpus", "CPUs to set aside.", float
    ),
    Setting(
        "--reserve-memory", "deploy.resources.reservations.memory", _RESERVED + "memory_bytes", "Memory to set aside."
    ),
    Setting(
        "--restart-condition",
        "deploy.restart_policy.condition",
        "task.restart.condition",
        "Restart after: none, on-failure, any (default any).",
    ),
    Setting("--restart-delay", "deploy.restart_policy.delay", "task.restart.delay", "Pause before it (default 5s)."),
    Setting(
        "--restart-max-attempts",
        "deploy.restart_policy.max_attempts",
        "task.restart.max_attempts",
        "Restarts before giving up; 0: no limit.",
        _Pos,
    ),
    Setting("--restart-window", "deploy.restart_policy.window", "task.restart.window", "Time in which attempts count."),
    *_policy("rollback"),
    Setting(
        "--stop-grace-period",
        "stop_grace_period",
        _CONTAINER + "stop_grace_period",
        "Time to end in before it is killed (default 10s).",
    ),
    Setting("--stop-signal", "stop_signal", _CONTAINER + "stop_signal", "Signal that asks it to end."),
    Setting("--tty -t", "tty", _CONTAINER + "tty", "Allocate a terminal.", bool),
    *_policy("update"),
    Setting("--user -u", "user", _CONTAINER + "user", "User: NAME|UID[:GROUP|GID]."),
    Setting("--workdir -w", "working_dir", _CONTAINER + "working_dir", "Directory to start in."),
)
ARGS = Setting("--args", "command", _CONTAINER + "command", "Program's arguments.", words=True)


def _files(words: Iterable[str]) -> list[dict[str, Any]]:
    """Secrets and configs: NAME, or source=NAME,target=PATH,uid=,gid=,mode=0440."""
    found = []
    for word in words:
        fields = csv(word, "source")
        known = {"src": "source", "dst": "target"}
        fields = {known.get(key, key): value for key, value in fields.items()}
        entry: dict[str, Any] = {"name": fields.pop("source", ""), "target": fields.pop("target", "")}
        entry |= {key: fields.pop(key) for key in ("uid", "gid") if key in fields}
        try:
            entry["mode"] = int(fields.pop("mode", "0"), 8)
        except ValueError:
            raise UsageError(f"{word}: mode is no octal number such as 0440") from None
        if fields or not entry["name"]:
            raise UsageError(f"{word}: want NAME, or source=NAME,target=PATH,uid=,gid=,mode=")
        found.append(entry)
    return found


def _networks(words: Iterable[str]) -> list[dict[str, Any]]:
    found = []
    for word in words:
        fields = csv(word, "name")
        if set(fields) - {"name", "alias"} or not fields.get("name"):
            raise UsageError(f"--network {word}: want NAME, or name=NAME,alias=OTHER")
        found.append({"network": fields["name"], "aliases": fields.get("alias", "").split()})
    return found


def _spreads(words: Iterable[str]) -> list[str]:
    for word in words:
        if not word.startswith("spread="):
            raise UsageError(f"--placement-pref {word}: want spread=node.labels.NAME")
    return [word.removeprefix("spread=") for word in words]


def _amounts(words: Iterable[str]) -> dict[str, int]:
    found = {}
    for key, value in pairs_of(words).items():
        if not value.isdigit():
            raise UsageError(f"--generic-resource {key}={value}: want KIND=NUMBER, for example gpu=2")
        found[key] = int(value)
    return found


def _before(sign: str) -> Callable[[str], str]:
    return lambda text: text.partition(sign)[0]


def host_of(text: str) -> str:
    return text.replace("=", ":", 1).partition(":")[0]


MANY = (
    Many("--config", _CONTAINER + "configs", "Config as a file.", lambda one: str(one.name), read=_files),
    Many("--constraint", "task.placement.constraints", "Where it may run: node.labels.disk==ssd."),
    Many("--container-label", _CONTAINER + "labels", "Label of containers: KEY=VALUE.", read=pairs_of),
    Many("--dns", _CONTAINER + "dns", "Name server."),
    Many("--dns-option", _CONTAINER + "dns_options", "Option of resolv.conf."),
    Many("--dns-search", _CONTAINER + "dns_search", "Search domain."),
    Many("--env -e", _CONTAINER + "env", "Variable: KEY=VALUE, or KEY for the caller's.", _before("="), read=variables),
    Many("--generic-resource", _RESERVED + "generic", "Countable resource to set aside: gpu=2.", read=_amounts),
    Many("--group", _CONTAINER + "groups", "Further group."),
    Many("--host", _CONTAINER + "extra_hosts", "Line of /etc/hosts: HOST:ADDRESS.", host_of),
    Many("--label -l", "labels", "Label of the service: KEY=VALUE.", read=pairs_of),
    Many(
        "--mount", _CONTAINER + "mounts", "Mount: type=bind,source=…,target=…", lambda one: str(one.target), "volumes"
    ),
    Many("--network", "task.networks", "Network to join.", lambda one: str(one.network), read=_networks),
    Many("--placement-pref", "task.placement.spread", "What to spread over: spread=node.labels.zone.", read=_spreads),
    Many(
        "--publish -p",
        "endpoint.ports",
        "Port: 8080:80/tcp.",
        lambda one: str(one.target_port),
        "ports",
        same=lambda one: (one.target_port, one.published_port, one.protocol, one.host_ip),
    ),
    Many("--secret", _CONTAINER + "secrets", "Secret as a file.", lambda one: str(one.name), read=_files),
    Many("--sysctl", _CONTAINER + "sysctls", "Kernel parameter: KEY=VALUE.", read=pairs_of),
    Many("--ulimit", _CONTAINER + "ulimits", "Limit: nofile=SOFT[:HARD].", lambda one: str(one.name), "ulimits"),
)
_PLAIN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--cap-add", "Add a capability.", {"multiple": True}),
    ("--cap-drop", "Drop a capability.", {"multiple": True}),
    ("--log-opt", "Option of the log: max-size=10m.", {"multiple": True}),
    ("--no-healthcheck", "No health check, also not the image's.", {"is_flag": True}),
    ("--credential-spec", "Not possible: that is of Windows.", {}),
    ("--isolation", "Accepted when it says default.", {}),
    ("--max-concurrent", "Tasks of a job at a time (default equal to --replicas).", {"type": _Pos}),
    ("--with-registry-auth", "Give nodes your account of the image's registry.", {"is_flag": True}),
    ("--no-resolve-image", "Leave it to the node to find the image.", {"is_flag": True}),
)


def _option(names: str, help_: str, kind: Any) -> Callable[[F], F]:
    extra: dict[str, Any] = {"is_flag": True, "default": None} if kind is bool else {"type": kind}
    return option(*names.split(), help=help_, **extra)


def _common(function: F) -> F:
    for name, help_, extra in reversed(_PLAIN):
        function = option(name, help=help_, **extra)(function)
    for setting in reversed(SETTINGS):
        function = _option(setting.names, setting.help, setting.kind)(function)
    return function


def creating(function: F) -> F:
    """Add the flags of create; the command gets their values by name."""
    for many in reversed(MANY):
        function = option(*many.names.split(), many.name, multiple=True, help=many.help)(function)
    function = option("--env-file", multiple=True, metavar="FILE", help="Variables from a file.")(function)
    return _common(function)


def updating(function: F) -> F:
    """Add the flags of update; the command gets their values by name."""
    for many in reversed(MANY):
        gone = many.help.partition(":")[0].rstrip(".")
        function = option(f"{many.long}-rm", multiple=True, metavar="NAME", help=f"Remove: {gone}.")(function)
        function = option(f"{many.long}-add", multiple=True, help=f"Add or replace. {many.help}")(function)
    function = _option(ARGS.names, ARGS.help, ARGS.kind)(function)
    return _common(function)
