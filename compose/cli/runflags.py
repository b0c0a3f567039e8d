"""The flags of `container run` and `container create`: docker run's, each said by an attribute of the Compose file.

`FLAGS` is the whole table; `options` makes click's options of it, `entry_of` a service entry of their values. What a
flag means is decided where the attribute is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.execute import variables
from pycompose.compose.cli.flags import option
from pycompose.compose.cli.flagwords import csv, gpus, mount_of, pairs_of, read_lines, ulimit

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_NETWORK = "bridge"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        names: "--cpu-shares -c".
        attribute: of a service, or two parts of a path: "healthcheck.interval"; "" for what `entry_of` treats itself.
        kind: "text", "number", "decimal", "many" or "flag".
        help: one line.
        default: of a number or flag.
        also: further names.
    """

    names: str
    attribute: str
    kind: str
    help: str
    default: Any = None
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.names.split()[0].lstrip("-").replace("-", "_")


FLAGS = (
    Flag("--add-host", "extra_hosts", "many", "Line of /etc/hosts: HOST:ADDRESS."),
    Flag("--attach -a", "", "many", "Streams to join: STDIN, STDOUT, STDERR."),
    Flag("--blkio-weight", "blkio_config.weight", "number", "Share of block I/O, 10 to 1000 (default 0).", 0),
    Flag("--blkio-weight-device", "blkio_config.weight_device", "many", "Share of one device: PATH:WEIGHT."),
    Flag("--cap-add", "cap_add", "many", "Add a capability."),
    Flag("--cap-drop", "cap_drop", "many", "Drop a capability."),
    Flag("--cgroup-parent", "cgroup_parent", "text", "Cgroup to be in."),
    Flag("--cgroupns", "cgroup", "text", "Cgroup namespace: host or private."),
    Flag("--cidfile", "", "text", "Write the container's id to a file."),
    Flag("--cpu-period", "cpu_period", "number", "Period of the CPU quota in microseconds."),
    Flag("--cpu-quota", "cpu_quota", "number", "CPU time in a period in microseconds."),
    Flag("--cpu-rt-period", "cpu_rt_period", "number", "Period of real-time scheduling in microseconds."),
    Flag("--cpu-rt-runtime", "cpu_rt_runtime", "number", "Real-time CPU time in a period in microseconds."),
    Flag("--cpu-shares -c", "cpu_shares", "number", "Share of CPU time."),
    Flag("--cpus", "cpus", "decimal", "Number of CPUs."),
    Flag("--cpuset-cpus", "cpuset", "text", "CPUs that may be used: 0-2,4."),
    Flag("--cpuset-mems", "", "text", "Memory nodes that may be used: 0,1."),
    Flag("--device", "devices", "many", "Device of the node: PATH[:PATH[:rwm]]."),
    Flag("--device-cgroup-rule", "device_cgroup_rules", "many", 'Rule for devices: "c 1:3 mr".'),
    Flag("--device-read-bps", "blkio_config.device_read_bps", "many", "Read limit: PATH:RATE[kb|mb|gb]."),
    Flag("--device-read-iops", "blkio_config.device_read_iops", "many", "Read limit: PATH:OPERATIONS."),
    Flag("--device-write-bps", "blkio_config.device_write_bps", "many", "Write limit: PATH:RATE[kb|mb|gb]."),
    Flag("--device-write-iops", "blkio_config.device_write_iops", "many", "Write limit: PATH:OPERATIONS."),
    Flag("--disable-content-trust", "", "flag", "Accepted (images are checked by digest; default true).", True),
    Flag("--dns", "dns", "many", "Name server."),
    Flag("--dns-option", "dns_opt", "many", "Option of resolv.conf.", also=("--dns-opt",)),
    Flag("--dns-search", "dns_search", "many", "Search domain."),
    Flag("--domainname", "domainname", "text", "NIS domain name."),
    Flag("--entrypoint", "", "text", "Program in place of the image's entrypoint."),
    Flag("--env -e", "", "many", "Set a variable: KEY=VALUE, or KEY for the caller's."),
    Flag("--env-file", "", "many", "Set variables from a file."),
    Flag("--expose", "expose", "many", "Port that the container listens on."),
    Flag("--gpus", "", "text", "GPUs: all, a number, or device=…"),
    Flag("--group-add", "group_add", "many", "Further group."),
    Flag("--health-cmd", "", "text", "Command that tells whether the container is healthy."),
    Flag("--health-interval", "healthcheck.interval", "text", "Time between checks (default 0s: the image's)."),
    Flag("--health-retries", "healthcheck.retries", "number", "Failures that make it unhealthy."),
    Flag("--health-start-period", "healthcheck.start_period", "text", "Time to start in (default 0s: the image's)."),
    Flag("--health-timeout", "healthcheck.timeout", "text", "Time for one check (default 0s: the image's)."),
    Flag("--hostname -h", "hostname", "text", "Host name."),
    Flag("--init", "init", "flag", "Run a small init as PID 1."),
    Flag("--interactive -i", "stdin_open", "flag", "Keep standard input open."),
    Flag("--ip", "", "text", "IPv4 address on the network."),
    Flag("--ip6", "", "text", "IPv6 address on the network."),
    Flag("--ipc", "ipc", "text", "IPC namespace: host, shareable, private, container:NAME."),
    Flag("--isolation", "", "text", "Accepted when it says default."),
    Flag("--kernel-memory", "", "text", "Not possible: the kernel gave it up."),
    Flag("--label -l", "", "many", "Set a label: KEY=VALUE."),
    Flag("--label-file", "", "many", "Set labels from a file."),
    Flag("--link", "", "many", "Not possible: names are found by DNS."),
    Flag("--link-local-ip", "", "many", "Link-local address."),
    Flag("--log-driver", "logging.driver", "text", "Where output goes: json-file or none."),
    Flag("--log-opt", "", "many", "Option of the log: max-size=10m."),
    Flag("--mac-address", "", "text", "MAC address on the network."),
    Flag("--memory -m", "mem_limit", "text", "Memory limit: 512m."),
    Flag("--memory-reservation", "mem_reservation", "text", "Soft memory limit."),
    Flag("--memory-swap", "memswap_limit", "text", "Memory and swap together; -1: no limit."),
    Flag("--memory-swappiness", "", "number", "0 to 100 (default -1: the node's).", -1),
    Flag("--mount", "", "many", "Mount: type=bind,source=…,target=…"),
    Flag("--name", "", "text", "Name of the container."),
    Flag("--network", "", "many", "Network to join: a name, host, none, container:NAME.", also=("--net",)),
    Flag("--network-alias", "", "many", "Further name on the network.", also=("--net-alias",)),
    Flag("--no-healthcheck", "", "flag", "No health check, also not the image's."),
    Flag("--oom-kill-disable", "oom_kill_disable", "flag", "Never kill it for want of memory."),
    Flag("--oom-score-adj", "oom_score_adj", "number", "Who is killed first, -1000 to 1000."),
    Flag("--pid", "pid", "text", "PID namespace: host or container:NAME."),
    Flag("--pids-limit", "pids_limit", "number", "Most processes; -1: no limit."),
    Flag("--platform", "platform", "text", "os/arch[/variant]."),
    Flag("--privileged", "privileged", "flag", "All capabilities and devices."),
    Flag("--publish -p", "ports", "many", "Publish a port: [[ADDRESS:]PORT:]PORT[/udp]."),
    Flag("--publish-all -P", "", "flag", "Publish all ports that the image exposes."),
    Flag("--pull", "", "text", "When to pull: always, missing, never (default missing)."),
    Flag("--read-only", "read_only", "flag", "Mount the root file system read-only."),
    Flag("--restart", "restart", "text", "no, on-failure[:N], always, unless-stopped (default no)."),
    Flag("--rm", "", "flag", "Remove the container when it ends."),
    Flag("--runtime", "runtime", "text", "OCI runtime."),
    Flag("--security-opt", "security_opt", "many", "Security option."),
    Flag("--shm-size", "shm_size", "text", "Size of /dev/shm."),
    Flag("--stop-signal", "stop_signal", "text", "Signal that asks it to end (default SIGTERM)."),
    Flag("--stop-timeout", "", "number", "Seconds before it is killed."),
    Flag("--storage-opt", "storage_opt", "many", "Option of the root file system."),
    Flag("--sysctl", "sysctls", "many", "Kernel parameter: KEY=VALUE."),
    Flag("--tmpfs", "tmpfs", "many", "Mount a tmpfs: PATH[:OPTIONS]."),
    Flag("--tty -t", "tty", "flag", "Allocate a terminal."),
    Flag("--ulimit", "", "many", "Resource limit: nofile=SOFT[:HARD]."),
    Flag("--user -u", "user", "text", "User: NAME|UID[:GROUP|GID]."),
    Flag("--userns", "userns_mode", "text", "User namespace: host, or auto for one of its own."),
    Flag("--uts", "uts", "text", "UTS namespace: host."),
    Flag("--volume -v", "", "many", "Mount a volume or folder: SOURCE:PATH[:ro]."),
    Flag("--volume-driver", "", "text", "Accepted when it says local."),
    Flag("--volumes-from", "volumes_from", "many", "Mounts of another container."),
    Flag("--workdir -w", "working_dir", "text", "Directory to start in."),
)
NAMES = {flag.attribute: flag.names.split()[0] for flag in FLAGS if flag.attribute} | {
    "volumes": "--volume or --mount",
    "networks": "--network",
    "healthcheck.test": "--health-cmd",
    "ulimits": "--ulimit",
    "environment": "--env",
    "labels": "--label",
}
_TYPES: dict[str, dict[str, Any]] = {
    "text": {},
    "number": {"type": int},
    "decimal": {"type": float},
    "many": {"multiple": True},
    "flag": {"is_flag": True},
}


def options(function: F) -> F:
    """Add all flags; the command gets their values by name."""
    for flag in reversed(FLAGS):
        extra: dict[str, Any] = {"default": flag.default} if flag.default is not None else {}
        kinds = _TYPES[flag.kind]
        function = option(*flag.names.split(), flag.name, also=flag.also, help=flag.help, **kinds, **extra)(function)
    return function


def entry_of(values: Mapping[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """Return a service entry without image, networks and mounts.

    Args:
        values: of the flags, by parameter name.
        command: program and arguments.

    Raises:
        UsageError: a flag asks for what cannot be.
    """
    _refuse(values)
    entry: dict[str, Any] = {}
    for flag in FLAGS:
        value = values[flag.name]
        if not flag.attribute or value in (None, (), False, flag.default):
            continue
        where, _, below = flag.attribute.partition(".")
        value = list(value) if flag.kind == "many" else str(value) if flag.kind == "decimal" else value
        if flag.kind == "many" and below:
            value = [_device(flag, one) for one in value]
        if below:
            entry.setdefault(where, {})[below] = value
        else:
            entry[where] = value
    for key in ("sysctls", "storage_opt"):
        if key in entry:
            entry[key] = pairs_of(entry[key])
    if command:
        entry["command"] = list(command)
    if values["entrypoint"] is not None:
        entry["entrypoint"] = [values["entrypoint"]] if values["entrypoint"] else []
    environment = [line for path in values["env_file"] for line in variables(read_lines("--env-file", path))]
    environment += variables(values["env"])
    if environment:
        entry["environment"] = pairs_of(environment)
    labels = [line for path in values["label_file"] for line in read_lines("--label-file", path)]
    if labels or values["label"]:
        entry["labels"] = pairs_of([*labels, *values["label"]])
    if values["ulimit"]:
        entry["ulimits"] = dict(ulimit(word) for word in values["ulimit"])
    if values["log_opt"]:
        entry.setdefault("logging", {}).setdefault("driver", "json-file")
        entry["logging"]["options"] = pairs_of(values["log_opt"])
    if values["stop_timeout"] is not None:
        entry["stop_grace_period"] = f"{values['stop_timeout']}s"
    if values["memory_swappiness"] != -1:
        entry["mem_swappiness"] = values["memory_swappiness"]
    if values["gpus"]:
        entry["gpus"] = gpus(values["gpus"])
    health(entry, values)
    return entry


def health(entry: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Complete the health check of an entry."""
    check = entry.get("healthcheck", {})
    if values["no_healthcheck"]:
        if check or values["health_cmd"]:
            raise UsageError("--no-healthcheck and the --health flags contradict one another")
        entry["healthcheck"] = {"disable": True}
    elif values["health_cmd"]:
        entry.setdefault("healthcheck", {})["test"] = ["CMD-SHELL", values["health_cmd"]]


def _refuse(values: Mapping[str, Any]) -> None:
    wrong = {
        "link": "--link: containers on one network find one another by name; use --network and --network-alias",
        "kernel_memory": "--kernel-memory: the kernel has no such limit any more; use --memory",
    }
    for key, text in wrong.items():
        if values.get(key):
            raise UsageError(text)
    if values["isolation"] not in (None, "", "default"):
        raise UsageError(f"--isolation {values['isolation']}: that is of Windows; leave it out")
    if values["volume_driver"] not in (None, "", "local"):
        raise UsageError(f"--volume-driver {values['volume_driver']}: there is only local; leave it out")


def network_of(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return (network mode, networks) of the flags; without any, the network that every container may join.

    Raises:
        UsageError: addresses or names are given that no network takes.
    """
    words = list(values["network"]) or [DEFAULT_NETWORK]
    own = {
        "aliases": list(values["network_alias"]),
        "ipv4_address": values["ip"],
        "ipv6_address": values["ip6"],
        "mac_address": values["mac_address"],
        "link_local_ips": list(values["link_local_ip"]),
    }
    own = {key: value for key, value in own.items() if value}
    if len(words) == 1 and (words[0] in ("none", "host") or words[0].startswith("container:")):
        if own:
            raise UsageError(f"--network {words[0]}: it takes no names and addresses of its own")
        return words[0], {}
    networks: dict[str, Any] = {}
    for word in words:
        fields = csv(word, "name")
        networks["bridge" if fields["name"] == "default" else fields["name"]] = {
            "aliases": fields.get("alias", "").split() or own.get("aliases", []),
            **{key: fields[word] for word, key in (("ip", "ipv4_address"), ("ip6", "ipv6_address")) if word in fields},
        }
    first = next(iter(networks))
    networks[first] = {**networks[first], **own}
    return "", {name: {key: value for key, value in one.items() if value} or None for name, one in networks.items()}


def mounts_of(values: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """Return (volumes as in a file, names of volumes) of -v and --mount.

    Raises:
        UsageError: one cannot be read.
    """
    found: list[Any] = []
    names: dict[str, None] = {}
    for word in values["volume"]:
        source, colon, _ = word.partition(":")
        if colon and source[:1] not in ("/", ".", "~", ""):
            names[source] = None
        found.append(word)
    for word in values["mount"]:
        mount = mount_of(word)
        if mount["type"] == "volume" and mount.get("source"):
            names[mount["source"]] = None
        found.append(mount)
    return found, list(names)


def click_pull() -> click.Choice[str]:
    """Return the words of --pull."""
    return click.Choice(["always", "missing", "never"])


def _device(flag: Flag, word: str) -> dict[str, Any]:
    path, colon, value = word.rpartition(":")
    if not colon or not path:
        raise UsageError(f"{flag.names.split()[0]} {word}: want PATH:VALUE")
    if flag.attribute.endswith("weight_device"):
        return {"path": path, "weight": int(value) if value.isdigit() else value}
    return {"path": path, "rate": value}
