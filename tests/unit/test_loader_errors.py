"""Messages: where, what, and what would be right; all of a file at once."""

from __future__ import annotations

import textwrap

import pytest

from pycompose.compose.loader import LoadError, MemoryFiles, load


def errors(text: str, **more: str) -> str:
    files = {"/p/compose.yaml": textwrap.dedent(text), **{f"/p/{name}.yaml": body for name, body in more.items()}}
    with pytest.raises(LoadError) as caught:
        load(["/p/compose.yaml"], files=MemoryFiles(files))
    return str(caught.value)


def test_all_errors_of_a_file_at_once() -> None:
    said = errors("""\
        services:
          web:
            image: [nginx]
            prots: ["80"]
            user: 1000
          api:
            image: api
            ports: ["80:http"]
            privileged: maybe
            mem_limit: lots
        network: {}
        """)
    assert said == textwrap.dedent("""\
        /p/compose.yaml:3:5: services.web.image: must be a string, not a list
                image: [nginx]
                ^
        /p/compose.yaml:4:5: services.web.prots: unknown key; did you mean "ports"?
                prots: ["80"]
                ^
        /p/compose.yaml:5:5: services.web.user: must be a string, not the number 1000; write "1000"
                user: 1000
                ^
        /p/compose.yaml:8:13: services.api.ports[0]: '80:http' is not a port: invalid container port 'http': \
it is a number from 1 to 65535, or a range of them; write [[IP:]HOST:]CONTAINER[/PROTOCOL]
                ports: ["80:http"]
                        ^
        /p/compose.yaml:9:5: services.api.privileged: 'maybe' is not a boolean
                privileged: maybe
                ^
        /p/compose.yaml:11:1: network: unknown key; did you mean "networks"?
            network: {}
            ^""")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {image: x, networks: [fornt]}", 'refers to undefined network "fornt"; did you mean "front"?'),
        ("a: {image: x, volumes: ['app/x:/y']}", "for a folder write ./app/x"),
        ("a: {image: x, secrets: [s]}", 'services.a.secrets[0]: refers to undefined secret "s"'),
        ("a: {image: x, depends_on: [b]}", 'services.a.depends_on.b: depends on undefined service "b"'),
        ("a: {}", "services.a: has neither an image nor a build context"),
        ("a: {image: x, mem_limit: lots}", "services.a.mem_limit: 'lots' is not a size in bytes"),
        ("a: {image: x, stop_grace_period: soon}", "'soon' is not a duration"),
        ('a: {image: x, command: "echo \'x"}', "a quote is not closed"),
        ("a: {image: x, scale: 2, container_name: one}", "a fixed container name allows one container"),
        ("a: {image: '${TAG:?set it}'}", "required variable TAG is missing a value: set it; set TAG in"),
        ("a: {image: x, environment: {D: 2001-01-01}}", "not a date; write it in quotes"),
        ("a: {extends: b}\n  b: {extends: a}", "services extend each other in a circle: a (/p/compose.yaml) -> b"),
        ("a: {extends: {file: no.yaml, service: x}}", "/p/no.yaml: no such file"),
        ("a: {image: x, env_file: no.env}", "env file /p/no.env not found"),
        ("a: {image: x, env_file: ''}", "services.a.env_file[0]: an env file without a path; name it or remove it"),
        ("a: {image: x, tmpfs: /t, volumes: ['vv:/t']}", "target /t already mounted as tmpfs[0]"),
    ],
)
def test_said(text: str, said: str) -> None:
    assert said in errors(f"services:\n  {text}\nnetworks: {{front: }}\nvolumes: {{vv: }}\n")


def test_cycle_is_printed_in_order() -> None:
    said = errors("""\
        services:
          a: {image: x, depends_on: [b]}
          b: {image: x, depends_on: [c]}
          c: {image: x, depends_on: [a]}
        """)
    assert said.startswith("/p/compose.yaml:4:30: services.c.depends_on.a: dependency cycle detected: a -> b -> c -> a")


def test_include_cycle() -> None:
    assert "include cycle detected: /p/compose.yaml -> /p/b.yaml -> /p/compose.yaml" in errors(
        "include: [b.yaml]\n", b="include: [compose.yaml]\n"
    )


def test_invalid_project_name() -> None:
    files = MemoryFiles({"/p/compose.yaml": "services: {a: {image: x}}"})
    with pytest.raises(LoadError, match=r'invalid project name .*did you mean "badname"'):
        load(["/p/compose.yaml"], project_name="Bad Name", files=files)
