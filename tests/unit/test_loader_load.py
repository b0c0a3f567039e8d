"""From files to the project: forms, merging, extends, include, profiles, variables, output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycompose.compose.loader import (
    MemoryFiles,
    NoComposeFileError,
    Project,
    default_environment,
    discover_files,
    load,
    render_json,
    render_yaml,
)


def project(*texts: str, more: dict[str, str] | None = None, **options: Any) -> Project:
    names = [f"/p/{number}.yaml" for number in range(len(texts))]
    files = MemoryFiles({**dict(zip(names, texts, strict=True)), **(more or {})})
    return load(names, files=files, **options)


def web(*texts: str, **options: Any) -> Any:
    return project(*(f"services:\n  web: {text}\n" for text in texts), **options).services["web"]


def test_canonical_form() -> None:
    loaded = project(
        "services:\n  web:\n    image: x\n    command: echo 'a b' $$HOME\n    ports: ['127.0.0.1:80-81:80-81', 53]\n"
        "    volumes: ['v:/d:ro', './s:/s', /anon]\n    environment: [A=1, B]\n    mem_limit: 1.5g\n"
        "    healthcheck: {test: 'true', interval: 90s}\n    x-cron: '*/5 * * * *'\n"
        "volumes: {vv: , }\n".replace("v:/d", "vv:/d"),
        environment={"B": "b"},
    )
    assert loaded.name == "p"
    service = loaded.services["web"]
    assert service["command"] == ["echo", "a b", "$HOME"]
    assert service["environment"] == {"A": "1", "B": "b"}
    assert service["mem_limit"] == "1610612736"
    assert service["healthcheck"] == {"test": ["CMD-SHELL", "true"], "interval": "1m30s"}
    assert [(port.get("host_ip"), port["target"], port.get("published")) for port in service["ports"]] == [
        ("127.0.0.1", 80, "80"),
        ("127.0.0.1", 81, "81"),
        (None, 53, None),
    ]
    assert [(one["type"], one.get("source"), one["target"]) for one in service["volumes"]] == [
        ("volume", "vv", "/d"),
        ("bind", "/p/s", "/s"),
        ("volume", None, "/anon"),
    ]
    assert service["networks"] == {"default": None}
    assert loaded.model["networks"] == {"default": {"name": "p_default", "ipam": {}}}
    assert loaded.model["volumes"] == {"vv": {"name": "p_vv"}}
    assert service["x-cron"] == "*/5 * * * *"
    assert loaded.position(("services", "web", "ports", 1)) == ("/p/0.yaml", 5, 13)


def test_output_of_config() -> None:
    loaded = project("services:\n  web:\n    image: x\n    labels: {a: '<$$>', b: 'yes'}\n    x-y: 1\nx-top: [1]\n")
    shown = json.loads(render_json(loaded))
    assert shown["services"]["web"]["labels"] == {"a": "<$$>", "b": "yes"}
    assert "x-y" not in shown["services"]["web"]
    assert "\\u003c$$\\u003e" in render_json(loaded)
    assert render_yaml(loaded) == (
        'name: p\nservices:\n  web:\n    image: x\n    labels:\n      a: <$$>\n      b: "yes"\n'
        "    networks:\n      default: null\n    x-y: 1\nnetworks:\n  default:\n    name: p_default\nx-top:\n  - 1\n"
    )


@pytest.mark.parametrize(
    ("base", "over", "key", "expected"),
    [
        ("{image: x, command: [a]}", "{command: [b]}", "command", ["b"]),
        ("{image: x, environment: {A: 1, B: 2}}", "{environment: [B=3]}", "environment", {"A": "1", "B": "3"}),
        ("{image: x, cap_add: [A]}", "{cap_add: [A, B]}", "cap_add", ["A", "B"]),
        ("{image: x, hostname: h}", "{hostname: }", "hostname", "h"),
        ("{image: x, labels: {a: 1}}", "{labels: !override {b: 2}}", "labels", {"b": "2"}),
        ("{image: x, labels: {a: 1}}", "{labels: !reset null}", "labels", None),
        ("{image: x, labels: {a: 1, b: 2}}", "{labels: {a: !reset null}}", "labels", {"b": "2"}),
        ("{image: x, dns: 1.1.1.1}", "{dns: [2.2.2.2]}", "dns", ["1.1.1.1", "2.2.2.2"]),
        (
            "{image: x, logging: {driver: a, options: {x: y}}}",
            "{logging: {driver: b}}",
            "logging",
            {"driver": "b"},
        ),
        (
            "{image: x, ulimits: {nofile: 1}}",
            "{ulimits: {nofile: {soft: 2, hard: 3}}}",
            "ulimits",
            {"nofile": {"soft": 2, "hard": 3}},
        ),
    ],
)
def test_merge(base: str, over: str, key: str, expected: Any) -> None:
    assert web(base, over).get(key) == expected


def test_ports_and_volumes_replace_by_target() -> None:
    merged = web(
        "{image: x, ports: ['80:80', '81:81'], volumes: ['./a:/a']}", "{ports: ['80:80'], volumes: ['./b:/a']}"
    )
    assert [port["published"] for port in merged["ports"]] == ["80", "81"]
    assert [volume["source"] for volume in merged["volumes"]] == ["/p/b"]


def test_extends_from_another_file_resolves_its_paths_there() -> None:
    base = "services:\n  base:\n    extends: root\n    volumes: ['./d:/d']\n  root: {image: r, environment: {A: 1}}\n"
    got = web("{extends: {file: sub/base.yaml, service: base}, environment: {B: 2}}", more={"/p/sub/base.yaml": base})
    assert got["image"] == "r"
    assert got["environment"] == {"A": "1", "B": "2"}
    assert got["volumes"][0]["source"] == "/p/sub/d"


def test_include_is_its_own_project() -> None:
    inner = "services:\n  db: {image: 'db:${V}', volumes: ['./d:/d']}\n"
    loaded = project(
        "include: [sub/compose.yaml]\nservices: {web: {image: 'web:${V}', depends_on: [db]}}\n",
        more={"/p/sub/compose.yaml": inner, "/p/sub/.env": "V=inner", "/p/.env": "W=1"},
        environment={},
    )
    assert loaded.services["db"]["image"] == "db:inner"
    assert loaded.services["web"]["image"] == "web:"
    assert loaded.services["db"]["volumes"][0]["source"] == "/p/sub/d"


def test_profiles_and_selection() -> None:
    text = (
        "services:\n  web: {image: x, depends_on: [db]}\n  db: {image: y}\n"
        "  debug: {image: z, profiles: [dev]}\n  other: {image: o}\n"
    )
    assert set(project(text).services) == {"web", "db", "other"}
    assert set(project(text).disabled_services) == {"debug"}
    assert "debug" in project(text, profiles=["dev"]).services
    assert "debug" in project(text, environment={"COMPOSE_PROFILES": "a, dev"}).services
    assert set(project(text, services=["web"]).services) == {"web", "db"}
    assert set(project(text, services=["debug"]).services) == {"debug"}


def test_precedence_of_variables() -> None:
    files = {"/p/.env": "A=dotenv\nB=dotenv\n", "/p/one.env": "X=1\nY=${A}\n", "/p/two.env": "X=2\nZ='$A'\n"}
    got = web(
        "{image: '$A-$B', env_file: [one.env, two.env, {path: no.env, required: false}], environment: {Z: z, B: }}",
        more=files,
        environment={"A": "shell"},
    )
    assert got["image"] == "shell-dotenv"
    assert got["environment"] == {"B": "dotenv", "X": "2", "Y": "shell", "Z": "z"}


def test_project_name() -> None:
    text = "name: In-File\nservices: {a: {image: '${COMPOSE_PROJECT_NAME}'}}\n"
    assert project(text).services["a"]["image"] == "in-file"
    assert project(text, environment={"COMPOSE_PROJECT_NAME": "env"}).name == "env"
    assert project(text, project_name="flag", environment={"COMPOSE_PROJECT_NAME": "env"}).name == "flag"


def test_secret_values_never_enter_the_model() -> None:
    loaded = project(
        "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {environment: TOKEN}}\n", environment={"TOKEN": "hush"}
    )
    assert loaded.secret_values == {"s": "hush"}
    assert "hush" not in render_json(loaded) + render_yaml(loaded)
    assert loaded.services["a"]["secrets"] == [{"source": "s", "target": "/run/secrets/s"}]


def test_discovery() -> None:
    files = MemoryFiles({"/a/compose.yaml": "", "/a/compose.override.yml": "", "/a/b/c/x": "", "/z/f.yaml": ""})
    assert discover_files("/a/b/c", {}, files) == ["/a/compose.yaml", "/a/compose.override.yml"]
    assert discover_files("/a", {"COMPOSE_FILE": "../z/f.yaml"}, files) == ["/z/f.yaml"]
    with pytest.raises(NoComposeFileError, match="no configuration file found in /z"):
        discover_files("/z", {}, files)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1 # c\nB: two\nexport C=3\n# x\nD\n", {"A": "1", "B": "two", "C": "3", "D": "d"}),
        ("A='$D #'\nB=\"x\\n$D\"\nC=$D$A\n", {"A": "$D #", "B": "x\nd", "C": "d$D #"}),
        ('A="two\nlines"\r\nB=x\r\n', {"A": "two\nlines", "B": "x"}),
        ('A="\\$D \\"q\\""\n', {"A": '$D "q"'}),
    ],
)
def test_dotenv(text: str, expected: dict[str, str]) -> None:
    got = default_environment("/p", {"D": "d"}, files=MemoryFiles({"/p/.env": text}))
    assert got == {**expected, "D": "d"}


def test_a_port_that_an_override_publishes_again_is_told_with_both_places() -> None:
    loaded = project(
        "services:\n  web:\n    image: x\n    ports: ['80:80', '81:81']\n",
        "services:\n  web:\n    ports:\n      - '8080:80'\n",
    )
    assert loaded.warnings == (
        "/p/1.yaml:4:9: services.web.ports: publishes container port 80 as 8080 in addition to 80 (/p/0.yaml:4:13); "
        "to publish only this one, write ports: !override",
    )
    replaced = project(
        "services: {web: {image: x, ports: ['80:80']}}\n", "services: {web: {ports: !override ['8080:80']}}\n"
    )
    assert replaced.warnings == ()


def test_a_port_of_this_machine_that_two_services_want() -> None:
    loaded = project(
        "services:\n  a: {image: x, ports: ['80:1', '127.0.0.1:90:1']}\n"
        "  b: {image: x, ports: ['127.0.0.1:80:2', '127.0.0.2:90:2', '80:3/udp']}\n"
    )
    assert loaded.warnings == (
        '/p/0.yaml:3:25: services.b.ports: port 80 of this machine is published by service "a" too '
        "(/p/0.yaml:2:25); only one of them can have it",
    )
