"""From Compose files to API objects: a file in, the spec out, and every refusal with its place."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pycompose.compose.convert import Desired, convert
from pycompose.compose.convert.desired import order
from pycompose.compose.convert.places import attribute
from pycompose.compose.loader import LoadError, MemoryFiles, load
from pycompose.proto.v1 import container_pb2, service_pb2


class Files:
    """A machine in a dict."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files

    def caller(self) -> tuple[int, int]:
        return 1000, 1001


def desired(text: str, files: Mapping[str, bytes] | None = None) -> Desired:
    memory = MemoryFiles({"/p/compose.yaml": text})
    return convert(load(["/p/compose.yaml"], files=memory, environment={"HOME": "/root"}), Files(files or {}))


def one(body: str, rest: str = "", files: Mapping[str, bytes] | None = None) -> service_pb2.ServiceSpec:
    return desired(f"services:\n  web:\n    image: nginx\n    {body}\n{rest}", files).services["web"]


def refusal(body: str, rest: str = "", files: Mapping[str, bytes] | None = None) -> str:
    with pytest.raises(LoadError) as caught:
        one(body, rest, files)
    return str(caught.value)


def test_a_minimal_service() -> None:
    spec = one("command: echo hi")
    assert (spec.project, spec.name, spec.replicated.replicas) == ("p", "web", 1)
    assert spec.task.container.image == "nginx"
    assert list(spec.task.container.command.args) == ["echo", "hi"]
    assert not spec.task.container.HasField("entrypoint")
    assert [network.network for network in spec.task.networks] == ["p_default"]
    assert spec.task.restart.condition == service_pb2.RESTART_CONDITION_NONE
    assert not spec.HasField("update")


def test_an_empty_command_is_not_an_absent_one() -> None:
    spec = one("command: []")
    assert spec.task.container.HasField("command")
    assert not spec.task.container.command.args


def test_labels_of_dockers_tools() -> None:
    labels = one("labels: {own: x}").task.container.labels
    assert labels["own"] == "x"
    assert labels["com.docker.compose.project"] == "p"
    assert labels["com.docker.compose.service"] == "web"
    assert labels["com.docker.compose.oneoff"] == "False"
    assert labels["com.docker.compose.project.config_files"] == "/p/compose.yaml"
    assert len(labels["com.docker.compose.config-hash"]) == 64


def test_the_hash_tells_templates_apart() -> None:
    key = "com.docker.compose.config-hash"
    first, same, other = one("user: a"), one("user: a"), one("user: b")
    scaled = one("user: a\n    scale: 3")
    assert first.task.container.labels[key] == same.task.container.labels[key]
    assert first.task.container.labels[key] == scaled.task.container.labels[key]
    assert first.task.container.labels[key] != other.task.container.labels[key]


def test_ports() -> None:
    spec = one('ports: ["8080:80", "127.0.0.1:53:53/udp", "9000-9002:90", "3000"]')
    ports = spec.endpoint.ports
    assert [(port.published_port, port.published_port_end, port.target_port) for port in ports] == [
        (8080, 0, 80),
        (53, 0, 53),
        (9000, 9002, 90),
        (0, 0, 3000),
    ]
    assert ports[1].protocol == service_pb2.PROTOCOL_UDP
    assert ports[1].host_ip == "127.0.0.1"


def test_ports_with_other_network_modes() -> None:
    found = desired("services: {a: {image: x, network_mode: host, ports: ['80:80']}}")
    assert not found.services["a"].endpoint.ports
    assert "has no effect" in found.warnings[0]
    assert found.services["a"].task.network_mode == "host"


def test_volumes_of_all_kinds() -> None:
    body = """volumes:
      - ./d:/d:ro
      - db:/db
      - /anon
      - {type: tmpfs, target: /t, tmpfs: {size: 10m, mode: 0700}}
    tmpfs: ["/run:size=1m,mode=755"]"""
    mounts = one(body, "volumes: {db: {}}").task.container.mounts
    kinds = [(mount.type, mount.source, mount.target) for mount in mounts]
    assert kinds == [
        (container_pb2.MOUNT_TYPE_BIND, "/p/d", "/d"),
        (container_pb2.MOUNT_TYPE_VOLUME, "p_db", "/db"),
        (container_pb2.MOUNT_TYPE_VOLUME, "", "/anon"),
        (container_pb2.MOUNT_TYPE_TMPFS, "", "/t"),
        (container_pb2.MOUNT_TYPE_TMPFS, "", "/run"),
    ]
    assert mounts[0].read_only
    assert mounts[0].create_host_path
    assert (mounts[3].tmpfs_size_bytes, mounts[3].tmpfs_mode) == (10 << 20, 0o700)
    assert (mounts[4].tmpfs_size_bytes, mounts[4].tmpfs_mode) == (1 << 20, 0o755)


def test_volumes_from_names_containers() -> None:
    text = "services: {a: {image: x, volumes: [/v]}, b: {image: x, volumes_from: ['a:ro', 'container:c']}}"
    found = desired(text).services["b"].task.container
    assert [(one_.source, one_.read_only) for one_ in found.volumes_from] == [
        ("service:a", True),
        ("container:c", False),
    ]
    assert not found.mounts


def test_secrets_and_configs() -> None:
    rest = "secrets: {s: {file: ./s}, e: {environment: HOME}}\nconfigs: {c: {content: 'at $$HOME'}}"
    body = "secrets: [s, {source: e, target: /x, uid: '5', mode: 0400}]\n    configs: [c]"
    found = desired(f"services:\n  web:\n    image: nginx\n    {body}\n{rest}", {"/p/s": b"top"})
    assert found.secrets["p_s"].data == b"top"
    assert found.secrets["p_e"].data == b"/root"
    assert found.configs["p_c"].data == b"at $HOME"
    container = found.services["web"].task.container
    assert [(one_.name, one_.target, one_.uid, one_.mode) for one_ in container.secrets] == [
        ("p_s", "/run/secrets/s", "", 0),
        ("p_e", "/x", "5", 0o400),
    ]
    assert container.configs[0].target == "/c"


@pytest.mark.parametrize(
    ("body", "condition", "attempts"),
    [
        ("restart: always", service_pb2.RESTART_CONDITION_ANY, 0),
        ("restart: 'no'", service_pb2.RESTART_CONDITION_NONE, 0),
        ("restart: on-failure:5", service_pb2.RESTART_CONDITION_ON_FAILURE, 5),
        ("restart: unless-stopped", service_pb2.RESTART_CONDITION_UNLESS_STOPPED, 0),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", 2, 2),
        ("deploy: {restart_policy: {delay: 3s}}", service_pb2.RESTART_CONDITION_ANY, 0),
    ],
)
def test_restart_policies(body: str, condition: int, attempts: int) -> None:
    policy = one(body).task.restart
    assert (policy.condition, policy.max_attempts) == (condition, attempts)


def test_healthcheck() -> None:
    check = one("healthcheck: {test: curl x, interval: 1m30s, retries: 4}").task.container.healthcheck
    assert list(check.test) == ["CMD-SHELL", "curl x"]
    assert (check.interval.seconds, check.retries) == (90, 4)
    assert not check.HasField("timeout")
    assert list(one("healthcheck: {disable: true}").task.container.healthcheck.test) == ["NONE"]
    restart = one("deploy: {restart_policy: {condition: any}}").task.container.healthcheck
    assert restart.on_unhealthy == container_pb2.ON_UNHEALTHY_RESTART


def test_resources_from_both_places() -> None:
    limits = one("mem_limit: 1g\n    cpus: 1.5\n    pids_limit: 7").task.container.resources.limits
    assert (limits.memory_bytes, limits.nano_cpus, limits.pids) == (1 << 30, 1_500_000_000, 7)
    limits = one("deploy: {resources: {limits: {cpus: '0.5', memory: 50M}}}").task.container.resources.limits
    assert (limits.memory_bytes, limits.nano_cpus) == (50 << 20, 500_000_000)


def test_order_of_updates() -> None:
    start, stop = service_pb2.UPDATE_ORDER_START_FIRST, service_pb2.UPDATE_ORDER_STOP_FIRST
    check = "healthcheck: {test: x}"
    assert one(check).update.order == start
    assert not one(f"{check}\n    volumes: ['vol:/v']", "volumes: {vol: }").HasField("update")
    assert one(f"{check}\n    volumes: ['vol:/v:ro']", "volumes: {vol: }").update.order == start
    shared = f"{check}\n    volumes: ['vol:/v']\n    x-shared-volume: true"
    assert one(shared, "volumes: {vol: }").update.order == start
    text = "services: {a: {image: x, volumes: ['vol:/v'], deploy: {update_config: {order: start-first}}}}\n"
    text += "volumes: {vol: }"
    found = desired(text)
    assert found.services["a"].update.order == stop
    assert "updated stop-first" in found.warnings[0]


@pytest.mark.parametrize(
    ("monitor", "check", "warned"),
    [
        ("5s", "{test: x, interval: 2s, retries: 3, start_period: 1s}", True),
        ("7s", "{test: x, interval: 2s, retries: 3, start_period: 1s}", False),
        ("1m", "{test: x}", True),
        ("1s", "{disable: true}", False),
    ],
)
def test_an_update_that_is_watched_too_shortly_is_warned_of(monitor: str, check: str, warned: bool) -> None:
    found = desired(
        f"services: {{a: {{image: x, healthcheck: {check}, deploy: {{update_config: {{monitor: {monitor}}}}}}}}}"
    )
    assert any("services.a.deploy.update_config.monitor" in text for text in found.warnings) is warned


def test_dependencies_come_first() -> None:
    text = """
services:
  a:
    image: x
    depends_on:
      b: {condition: service_healthy, restart: true}
      c: {condition: service_started, required: false}
  b: {image: x, depends_on: [c]}
  c: {image: x}
"""
    found = desired(text)
    assert list(found.services) == ["c", "b", "a"]
    dependencies = found.services["a"].dependencies
    assert [(one_.service, one_.restart, one_.required) for one_ in dependencies] == [
        ("b", True, True),
        ("c", False, False),
    ]


def test_order_survives_cycles() -> None:
    assert order({"a": frozenset("b"), "b": frozenset("a"), "c": frozenset()}) == ["c", "a", "b"]


def test_networks() -> None:
    text = """
services:
  a: {image: x, networks: {front: {aliases: [w]}, ext: }, links: ["b:database"]}
  b: {image: x, networks: [front]}
networks:
  front: {internal: true, ipam: {config: [{subnet: 10.1.0.0/24}]}}
  ext: {external: true, name: outside}
"""
    found = desired(text)
    assert list(found.external_networks) == ["outside"]
    assert found.networks["p_front"].internal
    assert found.networks["p_front"].subnets[0].subnet == "10.1.0.0/24"
    assert [network.network for network in found.services["a"].task.networks] == ["outside", "p_front"]
    assert dict(found.services["a"].task.container.links) == {"database": "b"}


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ("gpus: all", "4:5: services.web.gpus", "this node has none to give"),
        ("x-cron: '* * * * *'", "4:5: services.web.x-cron", "not there yet"),
        ("restart: sometimes", "4:5: services.web.restart", "no restart policy"),
        ("deploy: {mode: hourly}", "4:14: services.web.deploy.mode", "unsupported mode"),
        ("networks: {default: {mac_address: 02:42:ac:11:00:02}}\n    scale: 2", "services.web", "fixed mac_address"),
        ("mem_limit: 1m", "4:5: services.web.mem_limit", "the least is 6m"),
        ("volumes: ['/var/run/docker.sock:/s']", "4:15: services.web.volumes[0]", "Docker API is not there"),
        ("x-on-unhealthy: maybe", "4:5: services.web.x-on-unhealthy", "want restart or ignore"),
        (
            "volumes: [{type: bind, source: /no, target: /x, bind: {create_host_path: false}}]",
            "services.web.volumes[0]",
            "bind source /no does not exist",
        ),
    ],
)
def test_refusals_have_a_place(body: str, place: str, message: str) -> None:
    text = refusal(body)
    assert place in text
    assert message in text
    assert "/p/compose.yaml" in text


def test_missing_secret_file_is_an_error_with_its_place() -> None:
    text = refusal("secrets: [s]", "secrets:\n  s:\n    file: ./none")
    assert "/p/compose.yaml:7:5: secrets.s.file: /p/none: No such file" in text


def test_all_problems_are_reported_at_once() -> None:
    text = refusal("gpus: all\n    mem_limit: 1m")
    assert "gpus" in text
    assert "mem_limit" in text


def test_the_deploy_sections_restart_policy_wins() -> None:
    policy = one("restart: always\n    deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}").task.restart
    assert (policy.condition, policy.max_attempts) == (service_pb2.RESTART_CONDITION_ON_FAILURE, 2)


def test_a_near_x_key_is_pointed_out() -> None:
    found = desired("services: {a: {image: x, x-shared-volumes: true, x-mine: 1}}")
    assert len(found.warnings) == 1
    assert 'did you mean "x-shared-volume"?' in found.warnings[0]


def test_seccomp_profiles_are_read() -> None:
    spec = one("security_opt: ['seccomp:./prof.json', 'no-new-privileges:true']", files={"/p/prof.json": b"{}"})
    assert list(spec.task.container.security_opt) == ["seccomp={}", "no-new-privileges=true"]


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("spec.endpoint.ports[1].published_port", ("services", "web", "ports", 1)),
        ("spec.task.container.mounts[0].source", ("services", "web", "volumes", 0)),
        ("spec.task.container.image", ("services", "web", "image")),
        ("spec.dependencies[0].service", ("services", "web", "depends_on")),
        ("spec.name", ("services", "web")),
    ],
)
def test_fields_of_the_api_lead_back_to_the_file(field: str, path: tuple[str | int, ...]) -> None:
    assert attribute("web", field) == path
