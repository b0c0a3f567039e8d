"""Mappings inside of a service: build, develop, deploy, ports, mounts and others (see `attributes`)."""

from __future__ import annotations

from pycompose.compose.loader.forms import (
    _LIST_OR_MAP,
    BOOL,
    BYTES_INT,
    COMMAND,
    COUNT,
    DURATION,
    ENVIRONMENT,
    FILE_MODE,
    FLOAT,
    HOSTS,
    INT,
    LABELS,
    MAYBE_DURATION,
    NAME,
    NUM,
    OPTIONS,
    PAIRS,
    TEXT,
    TEXT_OR_SET,
    TEXT_SET,
    TEXTS,
    ULIMITS,
)
from pycompose.compose.loader.kinds import (
    BOOLEAN,
    INTEGER,
    LIST,
    MAPPING,
    NULL,
    NUMBER,
    STRING,
    WHOLE,
    kind,
    list_of,
    map_of,
    struct,
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
PRE_START = struct({**HOOK_FIELDS, "image": TEXT, "per_replica": BOOL})

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
