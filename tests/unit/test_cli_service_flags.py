"""`service create` and `service update`: what each flag does to a spec, and what cannot be."""

from __future__ import annotations

import itertools
import shlex
from typing import Any

import click
import pytest

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.servicechange import create, update
from pycompose.compose.cli.serviceflags import MANY, SETTINGS
from pycompose.compose.cli.servicespec import change
from pycompose.proto.v1 import container_pb2, service_pb2


def values(command: click.Command, *words: str) -> dict[str, Any]:
    name = ["image"] if command is create else ["web"]
    return dict(command.make_context(command.name, [*words, *name]).params)


def created(*words: str) -> service_pb2.ServiceSpec:
    spec = service_pb2.ServiceSpec(name="web")
    spec.replicated.replicas = 1
    change(spec, values(create, *words))
    return spec


def updated(spec: service_pb2.ServiceSpec, *words: str) -> service_pb2.ServiceSpec:
    copy = service_pb2.ServiceSpec()
    copy.CopyFrom(spec)
    change(copy, values(update, *words))
    return copy


#: An example of each flag with one value, and the field as text afterwards.
EXAMPLES = {
    "endpoint_mode": ("dnsrr", service_pb2.ENDPOINT_MODE_DNSRR),
    "entrypoint": ("sh -c 'a b'", ["sh", "-c", "a b"]),
    "health_cmd": ("curl x", ["CMD-SHELL", "curl x"]),
    "health_interval": ("5s", 5),
    "health_retries": ("4", 4),
    "health_start_period": ("7s", 7),
    "health_timeout": ("2s", 2),
    "hostname": ("h", "h"),
    "limit_cpu": ("0.5", 500_000_000),
    "limit_memory": ("10m", 10 << 20),
    "limit_pids": ("9", 9),
    "log_driver": ("none", "none"),
    "replicas_max_per_node": ("2", 2),
    "reserve_cpu": ("0.25", 250_000_000),
    "reserve_memory": ("5m", 5 << 20),
    "restart_condition": ("on-failure", service_pb2.RESTART_CONDITION_ON_FAILURE),
    "restart_delay": ("3s", 3),
    "restart_max_attempts": ("6", 6),
    "restart_window": ("8s", 8),
    "stop_grace_period": ("1m30s", 90),
    "stop_signal": ("SIGINT", "SIGINT"),
    "user": ("1000", "1000"),
    "workdir": ("/srv", "/srv"),
} | {
    f"{kind}_{name}": example
    for kind in ("update", "rollback")
    for name, example in {
        "parallelism": ("3", 3),
        "delay": ("4s", 4),
        "failure_action": ("continue", service_pb2.UPDATE_FAILURE_ACTION_CONTINUE),
        "max_failure_ratio": ("0.5", 0.5),
        "monitor": ("9s", 9),
        "order": ("start-first", service_pb2.UPDATE_ORDER_START_FIRST),
    }.items()
}


def field(spec: service_pb2.ServiceSpec, path: str) -> Any:
    found: Any = spec
    for part in path.split("."):
        found = getattr(found, part)
    if hasattr(found, "args"):
        found = found.args
    if hasattr(found, "ToNanoseconds"):
        return found.ToNanoseconds() // 1_000_000_000
    return list(found) if hasattr(found, "append") else found


@pytest.mark.parametrize("setting", SETTINGS, ids=[one.name for one in SETTINGS])
def test_a_flag_with_one_value_sets_its_field_and_no_other(setting: Any) -> None:
    flag = setting.names.split()[0]
    word, wanted = EXAMPLES.get(setting.name, ("", True))
    words = [flag, word] if word else [flag]
    made = created(*words)
    assert field(made, setting.field) == wanted
    assert updated(created(), *words) == made
    # all others stay as they are, and a second change of the same flag is the last word
    full = created(*itertools.chain(*([f"--{name.replace('_', '-')}", word] for name, (word, _) in EXAMPLES.items())))
    assert updated(full, *words) == full if word else field(updated(full, *words), setting.field) is True
    if not word:
        assert field(updated(made, f"{flag}=false"), setting.field) is False


WORDS = shlex.split("""
    --env A=1 --env B=2 --label x=1 --container-label y=1 --network front -p 8080:80 -p 8081:80 -p 53:53/udp
    --mount type=volume,source=data,target=/data --mount type=tmpfs,target=/tmp --dns 1.1.1.1 --host db:10.0.0.1
    --dns-option ndots:1 --dns-search example --group adm --constraint node.labels.a==b
    --placement-pref spread=node.labels.z --generic-resource gpu=2 --secret source=key,target=/key,uid=5,mode=0400
    --config conf --sysctl net.core.somaxconn=9 --ulimit nofile=10:20 --cap-add NET_ADMIN --cap-drop CHOWN
    --log-opt max-size=1m
""")
CHANGES = shlex.split("""
    --env-add A=3 --env-rm B --label-add z=2 --label-rm x --mount-rm /tmp
    --mount-add type=bind,source=/srv,target=/data --publish-rm 80 --publish-add 9090:90 --network-add back
    --network-rm front --secret-rm key --host-rm db --group-rm adm --cap-drop NET_ADMIN --dns-rm 1.1.1.1
    --dns-search-rm example --dns-option-rm ndots:1 --constraint-rm node.labels.a==b --ulimit-rm nofile
    --placement-pref-rm spread=node.labels.z --generic-resource-rm gpu --config-add other
    --sysctl-add net.core.somaxconn=10 --container-label-rm y
""")


def test_lists_are_added_to_replaced_in_and_taken_from() -> None:
    made = created(*WORDS)
    container = made.task.container
    assert list(container.env) == ["A=1", "B=2"]
    assert [one.target for one in container.mounts] == ["/data", "/tmp"]
    assert [one.published_port for one in made.endpoint.ports] == [8080, 8081, 53]
    assert (container.secrets[0].name, container.secrets[0].uid, container.secrets[0].mode) == ("key", "5", 0o400)
    assert (container.ulimits[0].soft, container.ulimits[0].hard) == (10, 20)
    assert container.resources.reservations.generic == {"gpu": 2}
    assert container.logging.driver == "json-file"

    changed = updated(made, *CHANGES)
    container = changed.task.container
    assert list(container.env) == ["A=3"]
    assert dict(changed.labels) == {"z": "2"}
    assert [(one.type, one.source, one.target) for one in container.mounts] == [
        (container_pb2.MOUNT_TYPE_BIND, "/srv", "/data")
    ]
    assert [one.published_port for one in changed.endpoint.ports] == [53, 9090]
    assert [one.network for one in changed.task.networks] == ["back"]
    assert [one.name for one in container.configs] == ["conf", "other"]
    assert not list(container.secrets) + list(container.extra_hosts) + list(container.groups) + list(container.dns)
    assert not list(container.cap_add) + list(changed.task.placement.constraints) + list(changed.task.placement.spread)
    assert (list(container.cap_drop), dict(container.sysctls)) == (["CHOWN"], {"net.core.somaxconn": "10"})
    assert made == created(*WORDS)


def test_every_list_is_in_the_test_above() -> None:
    assert all({*many.names.split()} & {*WORDS} for many in MANY)
    assert all({f"{many.long}-add", f"{many.long}-rm"} & {*CHANGES} for many in MANY)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--health-interval", "soon"], "--health-interval: "),
        (["--limit-memory", "much"], "--limit-memory: "),
        (["--update-order", "sideways"], "--update-order: "),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck and --health-cmd contradict"),
        (["--credential-spec", "x"], "that is of Windows"),
        (["--isolation", "hyperv"], "that is of Windows"),
        (["--max-concurrent", "3"], "is of jobs"),
        (["--publish", "x:y"], "--publish: "),
        (["--mount", "type=bind,source=/a"], "want target=PATH"),
        (["--placement-pref", "zone"], "want spread="),
        (["--generic-resource", "gpu"], "want KIND=NUMBER"),
        (["--secret", "source=a,color=red"], "want NAME, or source=NAME"),
        (["--secret", "source=a,mode=9"], "octal"),
        (["--ulimit", "nofile"], "want NAME=SOFT"),
    ],
)
def test_what_cannot_be_is_said_with_the_flag(words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        created(*words)


def test_what_is_not_there_cannot_be_taken_away() -> None:
    with pytest.raises(UsageError, match="--env-rm A: the service has none of that name"):
        updated(created("--env", "B=1"), "--env-rm", "A")
    assert updated(created("--health-cmd", "x"), "--no-healthcheck").task.container.healthcheck.test == ["NONE"]
