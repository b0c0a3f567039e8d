"""Every attribute of a Compose file: its forms, its canonical form, and its place in the printed model.

This table is the specification as Docker Compose 2.40.3 enforces it. The order of keys is the order in which the
canonical model is printed. `x-` keys are allowed wherever keys are named. To support a new attribute, add it here.
"""

from __future__ import annotations

from pycompose.compose.loader.kinds import (
    BOOLEAN,
    INTEGER,
    LIST,
    MAPPING,
    NULL,
    NUMBER,
    STRING,
    WHOLE,
    Kind,
    kind,
    list_of,
    map_of,
    struct,
)

ANY = kind(STRING, NUMBER, INTEGER, BOOLEAN, NULL, MAPPING, LIST, canon="any")
TEXT = kind(STRING, canon="text")
BOOL = kind(BOOLEAN, STRING, canon="bool")
MAYBE_BOOL = BOOL.with_(keep="zero")
INT = kind(INTEGER, STRING, canon="int")
COUNT = INT.with_(canon="uint")
NUM = kind(NUMBER, STRING, canon="int")
FLOAT = kind(NUMBER, STRING, canon="float")
BYTES = kind(NUMBER, STRING, canon="bytes")
BYTES_INT = kind(INTEGER, STRING, canon="bytes")
DURATION = kind(STRING, canon="duration")
MAYBE_DURATION = DURATION.with_(keep="zero")
TEXTS = list_of(TEXT)
TEXT_SET = list_of(TEXT, unique=True)
TEXT_OR_SET = list_of(TEXT, STRING, unique=True)
TEXT_OR_LIST = list_of(TEXT, STRING)
_SCALAR = kind(STRING, NUMBER, BOOLEAN, NULL)
_LIST_OR_MAP = {"items": TEXT, "unique": True, "values": _SCALAR, "key_pattern": ".+"}
ENVIRONMENT = kind(LIST, MAPPING, canon="environment", **_LIST_OR_MAP)
LABELS = kind(LIST, MAPPING, canon="labels", **_LIST_OR_MAP)
PAIRS = kind(LIST, MAPPING, canon="pairs", **_LIST_OR_MAP)
OPTIONS = map_of(kind(STRING, NUMBER, canon="text"), canon="options")
LOG_OPTIONS = map_of(kind(STRING, NUMBER, NULL, canon="text"), canon="options")
STRINGS = map_of(TEXT, canon="options")
COMMAND = list_of(TEXT, STRING, NULL, canon="command", keep="always")
HOSTS = kind(
    LIST, MAPPING, items=TEXT, unique=True, canon="hosts", values=list_of(TEXT, STRING), key_pattern=".+", keep="zero"
)
NAME = r"\A[a-zA-Z0-9._-]+\Z"
FILE_MODE = kind(NUMBER, STRING, canon="mode", keep="zero")
ULIMITS = map_of(
    struct(
        {"soft": INT, "hard": INT},
        INTEGER,
        STRING,
        required=("soft", "hard"),
        canon="ulimit",
        keep="zero",
    ),
    key_pattern=r"\A[a-z]+\Z",
    open_keys=True,
)
MOUNTED_FILE = struct({"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": FILE_MODE}, STRING)
DEVICE_REQUEST_FIELDS = {
    "capabilities": TEXT_SET,
    "driver": TEXT,
    "count": kind(STRING, INTEGER, canon="device_count"),
    "device_ids": TEXT_SET,
    "options": PAIRS,
}
HOOK_FIELDS = {
    "command": COMMAND,
    "user": TEXT,
    "privileged": BOOL,
    "working_dir": TEXT,
    "environment": ENVIRONMENT,
}
HOOK = struct(HOOK_FIELDS, required=("command",))

BUILD = struct(
    {
        "context": TEXT,
        "dockerfile": TEXT,
        "dockerfile_inline": TEXT,
        "entitlements": TEXTS,
        "args": ENVIRONMENT,
        "provenance": kind(STRING, BOOLEAN, canon="text"),
        "sbom": kind(STRING, BOOLEAN, canon="text"),
        "ssh": kind(LIST, MAPPING, canon="ssh", **_LIST_OR_MAP),
        "labels": LABELS,
        "cache_from": TEXTS,
        "cache_to": TEXTS,
        "no_cache": BOOL,
        "additional_contexts": PAIRS,
        "pull": BOOL,
        "extra_hosts": HOSTS,
        "isolation": TEXT,
        "network": TEXT,
        "target": TEXT,
        "secrets": list_of(MOUNTED_FILE),
        "shm_size": BYTES_INT,
        "tags": TEXTS,
        "ulimits": ULIMITS,
        "platforms": TEXTS,
        "privileged": BOOL,
    },
    STRING,
    keep="zero",
)

DEVELOP = struct(
    {
        "watch": list_of(
            struct(
                {
                    "path": TEXT.with_(keep="always", default=""),
                    "action": kind(
                        STRING,
                        enum=("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
                        canon="text",
                    ),
                    "target": TEXT,
                    "exec": HOOK.with_(keep="always"),
                    "include": TEXT_OR_SET,
                    "ignore": TEXT_OR_SET,
                    "initial_sync": kind(BOOLEAN, canon="bool"),
                },
                required=("path", "action"),
            )
        )
    },
    NULL,
    keep="zero",
)

_THROTTLE_NAMES = {"path": "Path", "rate": "Rate", "weight": "Weight"}
_THROTTLE = list_of(
    struct(
        {"path": TEXT.with_(keep="always", default=""), "rate": BYTES_INT.with_(keep="always", default="0")},
        alone=True,
        json_names=_THROTTLE_NAMES,
    )
)
BLKIO = struct(
    {
        "weight": COUNT,
        "weight_device": list_of(
            struct(
                {"path": TEXT.with_(keep="always", default=""), "weight": COUNT.with_(keep="always", default=0)},
                alone=True,
                json_names=_THROTTLE_NAMES,
            )
        ),
        "device_read_bps": _THROTTLE,
        "device_read_iops": _THROTTLE,
        "device_write_bps": _THROTTLE,
        "device_write_iops": _THROTTLE,
    },
    alone=True,
    keep="zero",
)

DEPENDS_ON = map_of(
    struct(
        {
            "condition": kind(
                STRING,
                enum=("service_started", "service_healthy", "service_completed_successfully"),
                canon="text",
            ),
            "restart": BOOL,
            "required": kind(BOOLEAN, canon="bool", keep="always", default=False),
        },
        required=("condition",),
    ),
    LIST,
    items=TEXT,
    unique=True,
    key_pattern=NAME,
)

_UPDATE = struct(
    {
        "parallelism": COUNT.with_(keep="zero"),
        "delay": DURATION,
        "failure_action": TEXT,
        "monitor": DURATION,
        "max_failure_ratio": FLOAT,
        "order": kind(STRING, enum=("start-first", "stop-first"), canon="text"),
    },
    keep="zero",
)
_LIMITS = struct(
    {"cpus": FLOAT, "memory": kind(STRING, canon="bytes"), "pids": INT},
    keep="zero",
)
_RESERVATIONS = struct(
    {
        "cpus": FLOAT,
        "memory": kind(STRING, canon="bytes"),
        "devices": list_of(struct(DEVICE_REQUEST_FIELDS, required=("capabilities",), extensions=False)),
        "generic_resources": list_of(
            struct(
                {
                    "discrete_resource_spec": struct(
                        {
                            "kind": TEXT.with_(keep="always", default=""),
                            "value": NUM.with_(keep="always", default=0),
                        },
                        keep="zero",
                    )
                }
            )
        ),
    },
    keep="zero",
)
DEPLOY = struct(
    {
        "mode": TEXT,
        "replicas": INT.with_(keep="zero"),
        "labels": LABELS,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": struct({"limits": _LIMITS, "reservations": _RESERVATIONS}, keep="always"),
        "restart_policy": struct(
            {
                "condition": TEXT,
                "delay": MAYBE_DURATION,
                "max_attempts": COUNT.with_(keep="zero"),
                "window": MAYBE_DURATION,
            },
            keep="zero",
        ),
        "placement": struct(
            {
                "constraints": TEXTS,
                "preferences": list_of(struct({"spread": TEXT})),
                "max_replicas_per_node": COUNT,
            },
            keep="always",
        ),
        "endpoint_mode": TEXT,
    },
    NULL,
    keep="zero",
)

PORT = struct(
    {
        "name": TEXT,
        "mode": TEXT,
        "host_ip": TEXT,
        "target": COUNT,
        "published": kind(STRING, INTEGER, canon="text"),
        "protocol": TEXT,
        "app_protocol": TEXT,
    },
    WHOLE,
    STRING,
)

MOUNT = struct(
    {
        "type": kind(STRING, enum=("bind", "volume", "tmpfs", "cluster", "npipe", "image"), canon="text"),
        "source": TEXT,
        "target": TEXT,
        "read_only": BOOL,
        "consistency": TEXT,
        "bind": struct(
            {
                "selinux": kind(STRING, enum=("z", "Z"), canon="text"),
                "propagation": TEXT,
                "create_host_path": BOOL,
                "recursive": kind(STRING, enum=("enabled", "disabled", "writable", "readonly"), canon="text"),
            },
            keep="zero",
        ),
        "volume": struct({"labels": PAIRS, "nocopy": BOOL, "subpath": TEXT}, keep="zero"),
        "tmpfs": struct(
            {"size": kind(INTEGER, STRING, minimum=0, canon="bytes"), "mode": NUM.with_(canon="uint")},
            keep="zero",
        ),
        "image": struct({"subpath": TEXT}, keep="zero"),
    },
    STRING,
    required=("type",),
)

SERVICE_NETWORK = struct(
    {
        "aliases": TEXT_SET,
        "driver_opts": OPTIONS,
        "gw_priority": kind(NUMBER, canon="int"),
        "interface_name": TEXT,
        "ipv4_address": TEXT,
        "ipv6_address": TEXT,
        "link_local_ips": TEXT_SET,
        "mac_address": TEXT,
        "priority": kind(NUMBER, canon="int"),
    },
    NULL,
    keep="zero",
)

HEALTHCHECK = struct(
    {
        "test": list_of(TEXT, STRING, canon="health_test"),
        "timeout": MAYBE_DURATION,
        "interval": MAYBE_DURATION,
        "retries": NUM.with_(keep="zero", canon="uint"),
        "start_period": MAYBE_DURATION,
        "start_interval": MAYBE_DURATION,
        "disable": BOOL,
    },
    keep="zero",
)

SERVICE = struct(
    {
        "profiles": TEXT_SET,
        "annotations": PAIRS,
        "attach": MAYBE_BOOL,
        "build": BUILD,
        "develop": DEVELOP,
        "blkio_config": BLKIO,
        "cap_add": TEXT_SET,
        "cap_drop": TEXT_SET,
        "cgroup_parent": TEXT,
        "cgroup": kind(STRING, enum=("host", "private"), canon="text"),
        "cpu_count": kind(STRING, INTEGER, minimum=0, canon="int"),
        "cpu_percent": kind(STRING, INTEGER, minimum=0, maximum=100, canon="float"),
        "cpu_period": NUM,
        "cpu_quota": NUM,
        "cpu_rt_period": NUM,
        "cpu_rt_runtime": NUM,
        "cpus": FLOAT,
        "cpuset": TEXT,
        "cpu_shares": NUM,
        "command": COMMAND,
        "configs": list_of(MOUNTED_FILE),
        "container_name": TEXT.with_(pattern=r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
        "credential_spec": struct({"config": TEXT, "file": TEXT, "registry": TEXT}, keep="zero"),
        "depends_on": DEPENDS_ON,
        "deploy": DEPLOY,
        "device_cgroup_rules": TEXT_SET,
        "devices": list_of(struct({"source": TEXT, "target": TEXT, "permissions": TEXT}, STRING, required=("source",))),
        "dns": TEXT_OR_SET,
        "dns_opt": TEXT_SET,
        "dns_search": TEXT_OR_SET,
        "domainname": TEXT,
        "entrypoint": COMMAND,
        "provider": struct(
            {
                "type": TEXT,
                "options": map_of(
                    list_of(kind(STRING, NUMBER, BOOLEAN), STRING, NUMBER, BOOLEAN), canon="multi_options"
                ),
            },
            required=("type",),
            keep="zero",
        ),
        "environment": ENVIRONMENT,
        "env_file": list_of(
            struct(
                {"path": TEXT, "required": BOOL.with_(keep="always", default=False), "format": TEXT},
                STRING,
                required=("path",),
            ),
            STRING,
        ),
        "expose": list_of(kind(STRING, WHOLE, canon="text"), unique=True),
        "extends": struct({"file": TEXT, "service": TEXT}, STRING, required=("service",), keep="zero"),
        "external_links": TEXT_SET,
        "extra_hosts": HOSTS,
        "group_add": list_of(kind(STRING, NUMBER, canon="exact_text"), unique=True),
        "gpus": list_of(struct(DEVICE_REQUEST_FIELDS, extensions=False), STRING),
        "hostname": TEXT,
        "healthcheck": HEALTHCHECK,
        "image": TEXT,
        "init": MAYBE_BOOL,
        "ipc": TEXT,
        "isolation": TEXT,
        "labels": LABELS,
        "label_file": TEXT_OR_LIST,
        "links": TEXT_SET,
        "logging": struct({"driver": TEXT, "options": LOG_OPTIONS}, keep="zero"),
        "mem_limit": BYTES,
        "mem_reservation": BYTES_INT,
        "memswap_limit": BYTES,
        "mem_swappiness": BYTES_INT,
        "mac_address": TEXT,
        "models": map_of(
            struct({"endpoint_var": TEXT, "model_var": TEXT}, NULL, keep="zero"),
            LIST,
            items=TEXT,
            unique=True,
            key_pattern=NAME,
        ),
        "network_mode": TEXT,
        "networks": map_of(SERVICE_NETWORK, LIST, items=TEXT, unique=True, key_pattern=NAME),
        "oom_kill_disable": BOOL,
        "oom_score_adj": kind(STRING, INTEGER, minimum=-1000, maximum=1000, canon="int"),
        "pid": kind(STRING, NULL, canon="text"),
        "pids_limit": NUM,
        "platform": TEXT,
        "ports": list_of(PORT, unique=True),
        "privileged": BOOL,
        "pull_policy": TEXT.with_(
            pattern=r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+"
        ),
        "pull_refresh_after": TEXT.with_(printed=False),
        "read_only": BOOL,
        "restart": TEXT,
        "runtime": TEXT,
        "scale": INT.with_(keep="zero"),
        "secrets": list_of(MOUNTED_FILE),
        "security_opt": TEXT_SET,
        "shm_size": BYTES,
        "stdin_open": BOOL,
        "stop_grace_period": MAYBE_DURATION,
        "stop_signal": TEXT,
        "storage_opt": kind(MAPPING, canon="exact_options"),
        "sysctls": PAIRS,
        "tmpfs": TEXT_OR_SET,
        "tty": BOOL,
        "ulimits": ULIMITS,
        "use_api_socket": kind(BOOLEAN, canon="bool"),
        "user": TEXT,
        "userns_mode": TEXT,
        "uts": TEXT,
        "volumes": list_of(MOUNT, unique=True),
        "volumes_from": TEXT_SET,
        "working_dir": TEXT,
        "post_start": list_of(HOOK),
        "pre_stop": list_of(HOOK),
    }
)

_EXTERNAL = struct({"name": TEXT}, BOOLEAN, STRING, canon="bool")
NETWORK = struct(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": struct(
            {
                "driver": TEXT,
                "config": list_of(
                    struct(
                        {"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": STRINGS}, extensions=False
                    )
                ),
                "options": STRINGS.with_(keep="drop"),
            },
            keep="always",
        ),
        "external": _EXTERNAL,
        "internal": BOOL,
        "attachable": BOOL,
        "labels": LABELS,
        "enable_ipv4": MAYBE_BOOL,
        "enable_ipv6": MAYBE_BOOL,
    },
    NULL,
    keep="zero",
    default={},
)
VOLUME = struct(
    {"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": _EXTERNAL, "labels": LABELS},
    NULL,
    keep="zero",
    default={},
)
SECRET = struct(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "external": _EXTERNAL,
        "labels": LABELS,
        "driver": TEXT,
        "driver_opts": OPTIONS.with_(canon="exact_options"),
        "template_driver": TEXT,
    }
)
CONFIG = struct(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "content": TEXT,
        "external": _EXTERNAL,
        "labels": LABELS,
        "template_driver": TEXT,
    }
)
MODEL = struct(
    {"name": TEXT, "model": TEXT, "context_size": kind(INTEGER, canon="int"), "runtime_flags": TEXTS},
    required=("model",),
)
INCLUDE = list_of(struct({"path": TEXT_OR_SET, "env_file": TEXT_OR_SET, "project_directory": TEXT}, STRING, alone=True))

PROJECT = struct(
    {
        "version": TEXT.with_(keep="drop"),
        "name": TEXT,
        "include": INCLUDE.with_(keep="drop"),
        "services": map_of(SERVICE, key_pattern=NAME, keep="always", default={}),
        "networks": map_of(NETWORK, key_pattern=NAME, open_keys=True),
        "volumes": map_of(VOLUME, key_pattern=NAME),
        "secrets": map_of(SECRET, key_pattern=NAME),
        "configs": map_of(CONFIG, key_pattern=NAME),
        "models": map_of(MODEL, key_pattern=NAME, open_keys=True),
    }
)


def kind_at(path: tuple[str | int, ...]) -> Kind | None:
    """Return the kind of the attribute at `path`, None where keys are free of form."""
    found: Kind | None = PROJECT
    for step in path:
        if found is None:
            return None
        if isinstance(step, int):
            found = found.items
        else:
            found = (found.fields or {}).get(step) if found.fields is not None else found.values
    return found
