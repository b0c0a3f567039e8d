"""`pre_start`: hooks as services that run once, before the service that has them."""

from __future__ import annotations

import textwrap

import pytest

from pycompose.compose.convert import Desired, convert
from pycompose.compose.labels import owner
from pycompose.compose.loader import LoadError, MemoryFiles, Project, load, render_yaml
from pycompose.compose.loader.init_services import with_init_services
from pycompose.proto.v1 import service_pb2 as pb

FILE = """
name: p
services:
  web:
    image: app
    entrypoint: [serve]
    command: [all]
    environment: {A: own, B: own}
    restart: always
    ports: ["80:80"]
    scale: 3
    volumes: [data:/data]
    networks: {default: {aliases: [www], ipv4_address: 10.9.8.7}}
    depends_on: {db: {condition: service_healthy}}
    pre_start:
      - {command: [migrate], user: "7", working_dir: /m, environment: {B: hook}}
      - {image: other, privileged: true}
  db: {image: db, healthcheck: {test: "true"}}
networks: {default: {ipam: {config: [{subnet: 10.9.8.0/24}]}}}
volumes: {data: {}}
"""


def project(text: str) -> Project:
    return load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": textwrap.dedent(text)}))


def desired(text: str) -> Desired:
    found = with_init_services(project(text.replace("scale: 3", "scale: 1")))
    return convert(found)


def waits(spec: pb.ServiceSpec) -> dict[str, str]:
    return {one.service: pb.DependencyCondition.Name(one.condition)[21:].lower() for one in spec.dependencies}


def test_hooks_run_one_after_another_before_the_service() -> None:
    services = desired(FILE).services
    assert list(services) == ["db", "web-pre-start-1", "web-pre-start-2", "web"]
    assert waits(services["web-pre-start-1"]) == {"db": "healthy"}
    assert waits(services["web-pre-start-2"]) == {"db": "healthy", "web-pre-start-1": "completed_successfully"}
    assert waits(services["web"]) == {"db": "healthy", "web-pre-start-2": "completed_successfully"}


def test_a_hook_has_what_its_service_has_but_what_it_changes() -> None:
    services = desired(FILE).services
    first, second = (services[f"web-pre-start-{number}"] for number in (1, 2))
    container = first.task.container
    assert (container.image, list(container.command.args), container.user) == ("app", ["migrate"], "7")
    assert list(container.entrypoint.args) == ["serve"]
    assert container.working_dir == "/m"
    assert dict(pair.split("=") for pair in container.env) == {"A": "own", "B": "hook"}
    assert [mount.target for mount in container.mounts] == ["/data"]
    assert first.task.restart.condition == pb.RESTART_CONDITION_NONE
    assert not first.endpoint.ports
    assert not first.task.networks[0].ipv4_address
    assert "www" not in first.task.networks[0].aliases
    assert first.replicated.replicas == 1
    assert (second.task.container.image, second.task.container.privileged) == ("other", True)
    assert not second.task.container.command.args
    assert not second.task.container.entrypoint.args


def test_a_hook_runs_again_when_its_service_changes() -> None:
    def template(text: str) -> pb.TaskSpec:
        text = text.replace("scale: 3", "scale: 2", 1).replace(", ipv4_address: 10.9.8.7", "")
        return convert(with_init_services(project(text))).services["web-pre-start-2"].task

    assert template(FILE) == template(FILE.replace("scale: 3", "scale: 5").replace("80:80", "8000-8009:80"))
    assert template(FILE) != template(FILE.replace("[all]", "[one]"))


def test_whose_a_service_is() -> None:
    services = desired(FILE).services
    found = {name: owner(name, spec.task.container.labels) for name, spec in services.items()}
    assert found == {"db": "db", "web": "web", "web-pre-start-1": "web", "web-pre-start-2": "web"}


def test_config_shows_what_is_written() -> None:
    shown = render_yaml(project(FILE))
    assert "pre_start:" in shown
    assert "web-pre-start" not in shown


def test_disabled_services_have_theirs_so_that_they_are_no_orphans() -> None:
    text = FILE.replace("    restart: always\n", "    restart: always\n    profiles: [later]\n")
    assert set(desired(text).kept) == {"web", "web-pre-start-1", "web-pre-start-2"}


@pytest.mark.parametrize(
    ("hook", "more", "said"),
    [
        ("per_replica: true", "", "services.web.pre_start[0].per_replica: a hook runs once for its service"),
        ("command: x", "  web-pre-start-1: {image: x}\n", "is run as service web-pre-start-1, which is there"),
        ("comand: x", "", 'services.web.pre_start[0].comand: unknown key; did you mean "command"?'),
    ],
)
def test_what_cannot_be(hook: str, more: str, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        with_init_services(project(f"services:\n  web: {{image: x, pre_start: [{{{hook}}}]}}\n{more}"))
    assert said in str(caught.value)
    assert "/p/compose.yaml:2:" in str(caught.value)


def test_a_project_without_hooks_is_left_as_it_is() -> None:
    plain = project("services: {a: {image: x}}")
    assert with_init_services(plain) is plain
