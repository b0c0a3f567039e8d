"""The form of an OCI configuration, as a table, and a checker that names what is wrong.

Unknown keys are allowed: "runtimes MUST NOT generate an error for an unknown property"
(runtime-spec config.md, "Extensibility"). Values are checked for type and range only; what they
mean together is ``bundle``'s.
"""

from __future__ import annotations

from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WORDS = {str: "a string", bool: "true or false", dict: "an object", list: "a list"}


class Number:
    """An integer within bounds."""

    __slots__ = ("highest", "lowest")

    def __init__(self, lowest: int, highest: int) -> None:
        self.lowest, self.highest = lowest, highest


class Of:
    """A map from any string to values of one kind."""

    __slots__ = ("kind",)

    def __init__(self, kind: object) -> None:
        self.kind = kind


class Choice:
    """One of some words."""

    __slots__ = ("words",)

    def __init__(self, *words: str) -> None:
        self.words = words


U16, U32, U64 = Number(0, (1 << 16) - 1), Number(0, (1 << 32) - 1), Number(0, (1 << 64) - 1)
S32, S64 = Number(-(1 << 31), (1 << 31) - 1), Number(-(1 << 63), (1 << 63) - 1)
#: Go writes "no limit" as the largest unsigned number into signed fields too.
LIMIT = Number(-(1 << 63), (1 << 64) - 1)
STRINGS = [str]
#: A key that ends in "!" is required.
_MAPPING = {"containerID!": U32, "hostID!": U32, "size!": U32}
_HOOK = {"path!": str, "args": STRINGS, "env": STRINGS, "timeout": Number(1, (1 << 31) - 1)}
_THROTTLE = {"major!": S64, "minor!": S64, "rate!": U64}
_WEIGHT = Number(0, 1000)

PROCESS = {
    "terminal": bool,
    "consoleSize": {"height!": U16, "width!": U16},
    "user": {"uid": U32, "gid": U32, "umask": U32, "additionalGids": [U32]},
    "args": STRINGS,
    "env": STRINGS,
    "cwd!": str,
    "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), STRINGS),
    "rlimits": [{"type!": str, "soft!": LIMIT, "hard!": LIMIT}],
    "noNewPrivileges": bool,
    "apparmorProfile": str,
    "selinuxLabel": str,
    "oomScoreAdj": Number(-1000, 1000),
    "scheduler": {
        "policy!": str,
        "nice": S32,
        "priority": S32,
        "flags": STRINGS,
        "runtime": U64,
        "deadline": U64,
        "period": U64,
    },
    "ioPriority": {"class!": str, "priority": Number(0, 7)},
    "execCPUAffinity": {"initial": str, "final": str},
}

RESOURCES = {
    "devices": [{"allow!": bool, "type": Choice("a", "b", "c", ""), "major": S64, "minor": S64, "access": str}],
    "memory": {
        "limit": LIMIT,
        "reservation": LIMIT,
        "swap": LIMIT,
        "kernel": LIMIT,
        "kernelTCP": LIMIT,
        "swappiness": U64,
        "disableOOMKiller": bool,
        "useHierarchy": bool,
        "checkBeforeUpdate": bool,
    },
    "cpu": {
        "shares": U64,
        "quota": S64,
        "burst": U64,
        "period": U64,
        "realtimeRuntime": S64,
        "realtimePeriod": U64,
        "cpus": str,
        "mems": str,
        "idle": S64,
    },
    "pids": {"limit": S64},
    "blockIO": {
        "weight": _WEIGHT,
        "leafWeight": _WEIGHT,
        "weightDevice": [{"major!": S64, "minor!": S64, "weight": _WEIGHT, "leafWeight": _WEIGHT}],
        "throttleReadBpsDevice": [_THROTTLE],
        "throttleWriteBpsDevice": [_THROTTLE],
        "throttleReadIOPSDevice": [_THROTTLE],
        "throttleWriteIOPSDevice": [_THROTTLE],
    },
    "hugepageLimits": [{"pageSize!": str, "limit!": U64}],
    "network": {"classID": U32, "priorities": [{"name!": str, "priority!": U32}]},
    "rdma": Of({"hcaHandles": U32, "hcaObjects": U32}),
    "unified": Of(str),
}

CONFIG = {
    "ociVersion!": str,
    "process": PROCESS,
    "root": {"path!": str, "readonly": bool},
    "hostname": str,
    "domainname": str,
    "mounts": [
        {
            "destination!": str,
            "type": str,
            "source": str,
            "options": STRINGS,
            "uidMappings": [_MAPPING],
            "gidMappings": [_MAPPING],
        }
    ],
    "hooks": {
        kind: [_HOOK]
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "annotations": Of(str),
    "linux": {
        "namespaces": [{"type!": str, "path": str}],
        "uidMappings": [_MAPPING],
        "gidMappings": [_MAPPING],
        "timeOffsets": Of({"secs": S64, "nanosecs": Number(0, 999_999_999)}),
        "devices": [
            {
                "path!": str,
                "type!": Choice("c", "u", "b", "p"),
                "major": S64,
                "minor": S64,
                "fileMode": Number(0, 0o7777777),
                "uid": U32,
                "gid": U32,
            }
        ],
        "netDevices": Of({"name": str}),
        "cgroupsPath": str,
        "resources": RESOURCES,
        "rootfsPropagation": Choice(
            "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"
        ),
        "seccomp": {
            "defaultAction!": str,
            "defaultErrnoRet": U32,
            "architectures": STRINGS,
            "flags": STRINGS,
            "listenerPath": str,
            "listenerMetadata": str,
            "syscalls": [
                {
                    "names!": STRINGS,
                    "action!": str,
                    "errnoRet": U32,
                    "args": [{"index!": Number(0, 5), "value!": U64, "valueTwo": U64, "op!": str}],
                }
            ],
        },
        "sysctl": Of(str),
        "maskedPaths": STRINGS,
        "readonlyPaths": STRINGS,
        "mountLabel": str,
        "intelRdt": dict,
        "personality": {"domain!": Choice("LINUX", "LINUX32"), "flags": STRINGS},
    },
}


def check(value: Any, kind: object = CONFIG, where: str = "") -> None:
    """Hold a decoded JSON value against the table.

    Args:
        value: as json.loads gives it; null counts as absent.
        kind: an entry of the table.
        where: the key so far, for messages.

    Raises:
        ConfigError: names the key, what is expected there, and what was found.
    """
    if isinstance(kind, dict):
        _check_object(value, kind, where)
    elif isinstance(kind, list):
        _expect(value, list, where)
        for position, item in enumerate(value):
            check(item, kind[0], f"{where}[{position}]")
    elif isinstance(kind, Of):
        _expect(value, dict, where)
        for key, item in value.items():
            check(item, kind.kind, f"{where}.{key}")
    elif isinstance(kind, Choice):
        if value not in kind.words:
            raise ConfigError(f"{where}: {_show(value)} is not one of {', '.join(filter(None, kind.words))}")
    elif isinstance(kind, Number):
        _check_number(value, kind, where)
    elif isinstance(kind, type):
        _expect(value, kind, where)


def _check_object(value: Any, kind: dict[str, object], where: str) -> None:
    _expect(value, dict, where)
    for marked, inner in kind.items():
        key = marked.rstrip("!")
        path = f"{where}.{key}" if where else key
        if value.get(key) is not None:
            check(value[key], inner, path)
        elif marked.endswith("!"):
            raise ConfigError(f"{path}: required, but missing")


def _check_number(value: Any, kind: Number, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: a whole number is expected, not {_show(value)}")
    if not kind.lowest <= value <= kind.highest:
        raise ConfigError(f"{where}: {value} is out of range {kind.lowest} to {kind.highest}")


def _expect(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{where or 'the file'}: {WORDS[kind]} is expected, not {_show(value)}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
