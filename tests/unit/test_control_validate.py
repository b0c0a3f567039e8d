"""Every rule of the validation: the field that is wrong is named, and the words say what would be right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from unit.manager_process import spec

from pycompose.manager.control import validate
from pycompose.manager.control.validate import Known
from pycompose.proto.v1 import network_pb2, service_pb2
from pycompose.proto.v1.container_pb2 import ContainerSpec

SUBNET = network_pb2.IpamSubnet(subnet="10.1.0.0/24")
NET = network_pb2.Network(spec=network_pb2.NetworkSpec(name="net"), subnets=[SUBNET])
KNOWN = Known({"net": NET}, {"word"}, {"conf"})
Change = Callable[[service_pb2.ServiceSpec], object]


def field(path: str, value: object) -> Change:
    """A change of one field, by its path."""

    def change(made: service_pb2.ServiceSpec) -> None:
        *places, last = path.split(".")
        place = made
        for each in places:
            place = getattr(place, each)
        if isinstance(value, list):
            getattr(place, last).extend(value)
        elif isinstance(value, Duration):
            getattr(place, last).CopyFrom(value)
        else:
            setattr(place, last, value)

    return change


def attach(**fields: object) -> Change:
    return lambda made: made.task.networks.add(network="net", **fields)  # type: ignore[arg-type]


def port(**fields: object) -> Change:
    return lambda made: made.endpoint.ports.add(**{"target_port": 80, **fields})  # type: ignore[arg-type]


def mount(**fields: object) -> Change:
    return lambda made: made.task.container.mounts.add(**{"type": 1, "source": "/a", "target": "/b", **fields})  # type: ignore[arg-type]


def both(*changes: Change) -> Change:
    return lambda made: [change(made) for change in changes]


WRONG: list[tuple[Change, str, str]] = [
    (field("name", ""), "spec.name", "a name is needed"),
    (field("name", "a b"), "spec.name", "'a b' is no name"),
    (field("name", "x" * 300), "spec.name", "is no name"),
    (field("project", "-x"), "spec.project", "is no name"),
    (field("task.container.env", ["A=" + "x" * 2_000_000]), "spec", "bytes are more than the 1048576"),
    (field("task.container.user", "a\0b"), "spec.task.container.user", "NUL"),
    (field("task.container.env", ["A=1", "B=\0"]), "spec.task.container.env[1]", "NUL"),
    (lambda made: made.labels.update({"a": "\0"}), "spec.labels['a']", "NUL"),
    (field("endpoint.mode", 9), "spec.endpoint.mode", "use one of ENDPOINT_MODE_VIP"),
    (field("task.restart.delay", Duration(seconds=-1)), "spec.task.restart.delay", "0 s or more"),
    (field("task.container.stop_grace_period", Duration(nanos=-5)), "spec.task.container.stop_grace_period", "0 s"),
    (field("update.max_failure_ratio", float("nan")), "spec.update.max_failure_ratio", "no number"),
    (field("update.max_failure_ratio", 1.5), "spec.update.max_failure_ratio", "0 to 1"),
    (field("rollback.max_failure_ratio", -0.1), "spec.rollback.max_failure_ratio", "0 to 1"),
    (lambda made: made.ClearField("replicated"), "spec.replicated", "a mode is needed"),
    (field("replicated.replicas", 2_000_000), "spec.replicated.replicas", "more than 1000000"),
    (field("replicated_job.completions", 2_000_000), "spec.replicated_job.completions", "more than 1000000"),
    (field("task.container_name", "a/b"), "spec.task.container_name", "is no name"),
    (
        both(field("task.container_name", "db"), field("replicated.replicas", 2)),
        "spec.task.container_name",
        "can name one container, not 2",
    ),
    (field("task.network_mode", "bridge"), "spec.task.network_mode", "is not none, host"),
    (field("task.network_mode", "service:"), "spec.task.network_mode", "is not none, host"),
    (both(field("task.network_mode", "host"), attach()), "spec.task.networks", "leave one out"),
    (lambda made: made.task.networks.add(network="no"), "spec.task.networks[0].network", "create it first"),
    (both(attach(), attach()), "spec.task.networks[1].network", "name it once"),
    (attach(ipv4_address="10.1.0"), "spec.task.networks[0].ipv4_address", "is no IPv4 address"),
    (attach(ipv4_address="10.2.0.4"), "spec.task.networks[0].ipv4_address", "not in 10.1.0.0/24"),
    (attach(ipv6_address="10.1.0.4"), "spec.task.networks[0].ipv6_address", "is no IPv6 address"),
    (
        both(attach(ipv4_address="10.1.0.4"), field("replicated.replicas", 3)),
        "spec.task.networks[0].ipv4_address",
        "cannot serve 3 replicas",
    ),
    (attach(mac_address="02:42"), "spec.task.networks[0].mac_address", "02:42:ac:11:65:43"),
    (attach(aliases=["ok", "not ok"]), "spec.task.networks[0].aliases[1]", "no host name"),
    (attach(interface_name="a" * 16), "spec.task.networks[0].interface_name", "at most 15"),
    (port(target_port=0), "spec.endpoint.ports[0].target_port", "use 1 to 65535"),
    (port(published_port=70000), "spec.endpoint.ports[0].published_port", "0 to have one chosen"),
    (port(published_port=90, published_port_end=80), "spec.endpoint.ports[0].published_port_end", "from 90"),
    (port(published_port_end=80), "spec.endpoint.ports[0].published_port", "is needed"),
    (port(host_ip="localhost"), "spec.endpoint.ports[0].host_ip", "is no address"),
    (
        both(port(published_port=80), port(published_port=80)),
        "spec.endpoint.ports[1].published_port",
        "published by spec.endpoint.ports[0] already",
    ),
    (field("task.placement.constraints", ["node.labels.a = b"]), "spec.task.placement.constraints[0]", "'!='"),
    (field("task.placement.constraints", ["node.labels. == b"]), "spec.task.placement.constraints[0]", "node.id"),
    (field("task.placement.spread", ["zone"]), "spec.task.placement.spread[0]", "node.labels.NAME"),
    (lambda made: made.dependencies.add(), "spec.dependencies[0].service", "names no service"),
    (lambda made: made.dependencies.add(service="web"), "spec.dependencies[0].service", "cannot wait for itself"),
    (
        lambda made: [made.dependencies.add(service="db") for _ in range(2)],
        "spec.dependencies[1].service",
        "named twice",
    ),
    (field("task.container.image", ""), "spec.task.container.image", "redis:7"),
    (field("task.container.image", "a b"), "spec.task.container.image", "redis:7"),
    (field("task.container.env", ["=x"]), "spec.task.container.env[0]", "KEY=value"),
    (field("task.container.working_dir", "src"), "spec.task.container.working_dir", "begin it with /"),
    (field("task.container.hostname", "h" * 65), "spec.task.container.hostname", "the kernel takes 64"),
    (field("task.container.stop_signal", "SIGFOO"), "spec.task.container.stop_signal", "signal(7)"),
    (field("task.container.stop_signal", "99"), "spec.task.container.stop_signal", "signal(7)"),
    (field("task.container.oom_score_adj", 2000), "spec.task.container.oom_score_adj", "-1000 to 1000"),
    (
        lambda made: made.task.container.ulimits.add(name="nofile", soft=9, hard=8),
        "spec.task.container.ulimits[0].soft",
        "above the hard limit 8",
    ),
    (field("task.container.healthcheck.test", ["curl"]), "spec.task.container.healthcheck.test", "CMD-SHELL"),
    (field("task.container.healthcheck.test", ["CMD"]), "spec.task.container.healthcheck.test", "CMD-SHELL"),
    (lambda made: made.task.container.pre_stop.add(), "spec.task.container.pre_stop[0].command", "is needed"),
    (mount(target="b"), "spec.task.container.mounts[0].target", "is not absolute"),
    (both(mount(), mount(target="/b/")), "spec.task.container.mounts[1].target", "mounted by mounts[0] already"),
    (mount(type=0), "spec.task.container.mounts[0].type", "bind, volume, tmpfs or image"),
    (mount(source="./a"), "spec.task.container.mounts[0].source", "is not absolute"),
    (mount(type=2, subpath="a/../../b"), "spec.task.container.mounts[0].subpath", "leads out of the volume"),
    (lambda made: made.task.container.secrets.add(name="no"), "spec.task.container.secrets[0].name", "no secret"),
    (lambda made: made.task.container.configs.add(name="no"), "spec.task.container.configs[0].name", "no config"),
    (
        lambda made: made.task.container.secrets.add(name="word", target="../../etc/passwd"),
        "spec.task.container.secrets[0].target",
        "write the path in full",
    ),
    (
        lambda made: made.task.container.configs.add(name="conf", mode=0o70000),
        "spec.task.container.configs[0].mode",
        "at most 07777",
    ),
    (
        lambda made: made.task.container.configs.add(name="conf", uid="root"),
        "spec.task.container.configs[0].uid",
        "is no number",
    ),
    (
        field("task.container.resources.limits.memory_bytes", 1000),
        "spec.task.container.resources.limits.memory_bytes",
        "6 MiB",
    ),
    (
        field("task.container.resources.reservations.nano_cpus", -1),
        "spec.task.container.resources.reservations.nano_cpus",
        "is negative",
    ),
    (
        field("task.container.resources.memory_swappiness", 101),
        "spec.task.container.resources.memory_swappiness",
        "100",
    ),
    (field("task.container.resources.blkio_weight", 5), "spec.task.container.resources.blkio_weight", "10 to 1000"),
    (field("task.container.shm_size_bytes", -1), "spec.task.container.shm_size_bytes", "is negative"),
    (field("task.container.dns", ["dns.example"]), "spec.task.container.dns[0]", "name server"),
    (field("task.container.userns_mode", "keep-id"), "spec.task.container.userns_mode", "cannot be done"),
    (
        lambda made: made.task.container.MergeFrom(ContainerSpec(userns_mode="auto", privileged=True)),
        "spec.task.container.userns_mode",
        "auto cannot be combined with privileged",
    ),
    (
        lambda made: made.task.container.MergeFrom(ContainerSpec(userns_mode="auto", pid_mode="host")),
        "spec.task.container.userns_mode",
        "auto cannot be combined with pid_mode",
    ),
    (field("task.container.runtime", "runc"), "spec.task.container.runtime", "there is no runtime"),
]


@pytest.mark.parametrize(("change", "place", "words"), WRONG, ids=[f"{row[1]}-{n}" for n, row in enumerate(WRONG)])
def test_each_rule_names_the_field_and_what_would_be_right(change: Change, place: str, words: str) -> None:
    made = spec("web", "app")
    assert validate.service(made, KNOWN) == []
    change(made)
    found = validate.service(made, KNOWN)
    assert [text for path, text in found if path == place and words in text], found


def test_a_service_with_everything_is_fine() -> None:
    made = spec("web", "app", 3, env=["A=1", "B="], stop_signal="SIGRTMIN+3", working_dir="/x", hostname="h")
    made.task.networks.add(network="net", aliases=["a.b_c"], mac_address="02:42:ac:11:65:43", interface_name="eth9")
    made.endpoint.ports.add(target_port=80, published_port=8000, published_port_end=8003, host_ip="127.0.0.1")
    made.endpoint.ports.add(target_port=80, published_port=8000, protocol=service_pb2.PROTOCOL_UDP)
    made.endpoint.ports.add(target_port=80, published_port=8001, host_ip="127.0.0.2")
    made.endpoint.ports.add(target_port=81)
    made.task.placement.constraints.extend(["node.labels.a==b", "node.role != manager"])
    made.task.placement.spread.append("node.labels.zone")
    made.task.container.secrets.add(name="word", mode=0o400, uid="1000")
    made.task.container.ulimits.add(name="nofile", soft=-1, hard=-1)
    made.task.container.healthcheck.test.extend(["CMD-SHELL", "true"])
    made.update.max_failure_ratio = 0.5
    made.dependencies.add(service="db")
    assert validate.service(made, KNOWN) == []


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"subnet": "10.5"}, "spec.subnets[0].subnet", "10.5.0.0/16"),
        ({"subnet": "10.5.0.0/31"}, "spec.subnets[0].subnet", "shorter prefix"),
        ({"gateway": "10.5.0.1"}, "spec.subnets[0].subnet", "is needed"),
        ({"subnet": "10.5.0.0/24", "gateway": "10.6.0.1"}, "spec.subnets[0].gateway", "no address in 10.5.0.0/24"),
        ({"subnet": "10.5.0.0/24", "ip_range": "10.6.0.0/28"}, "spec.subnets[0].ip_range", "no part of 10.5.0.0/24"),
        ({"subnet": "10.5.0.0/24", "ip_range": "fd00::/80"}, "spec.subnets[0].ip_range", "no part of 10.5.0.0/24"),
        ({"subnet": "10.5.0.0/24", "aux_addresses": {"a": "x"}}, "spec.subnets[0].aux_addresses['a']", "no address"),
    ],
)
def test_networks(fields: dict[str, object], place: str, words: str) -> None:
    made = network_pb2.NetworkSpec(name="net")
    made.subnets.add(**fields)  # type: ignore[arg-type]
    assert [text for path, text in validate.network(made) if path == place and words in text]


def test_a_network_with_everything_is_fine() -> None:
    made = network_pb2.NetworkSpec(name="net", driver="overlay")
    made.subnets.add(subnet="10.5.0.0/16", gateway="10.5.0.9", ip_range="10.5.7.0/24", aux_addresses={"a": "10.5.0.8"})
    assert validate.network(made) == []
    made.driver = "bride"
    assert validate.network(made)[0][0] == "spec.driver"
