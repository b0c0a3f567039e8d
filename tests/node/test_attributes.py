"""Each attribute of a Compose file in a real container: the rows of ``attributes/*.yaml``, all in one ``up``.

Checks of a row, each a mapping with one of these keys and what is expected:

==============  =====================================================================================
exec            a shell script in the service's container: ``answer``, its whole output
machine         a shell script on the node's machine: ``answer``
elsewhere       a shell script on another machine: ``answer``
pycompose       a command line of pycompose, which must succeed
logs            the service of that name has printed ``answer``
task            a field of the service's first task: ``answer``, ``matches`` or ``has``; ``of``: another service's
inspect         a field of the service: ``answer`` or ``has`` (keys and values that it has at least)
oci             a field of the container's OCI configuration: ``has``
network …       the object of that name (also volume, secret, config): ``has`` by path
==============  =====================================================================================

In scripts ``@ID@`` and ``@PID@`` are the container's. Answers are compared without white space at their ends, and
waited for.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import yaml
from attributes import table
from attributes.world import World, around
from google.protobuf.json_format import MessageToDict
from node.whole import IMAGE, running, until

from pycompose.proto.v1 import control_pb2, control_pb2_grpc, secret_pb2

PROJECT = "attributes"
WAIT = 60
ROWS = table.rows()
ENDED = ("TASK_STATE_COMPLETE", "TASK_STATE_FAILED", "TASK_STATE_REJECTED", "TASK_STATE_SHUTDOWN")


@dataclass
class Up:
    """The project of all rows, up."""

    world: World
    rows: dict[str, table.Row]
    control: control_pb2_grpc.ControlServiceStub
    said: str = ""
    words: dict[str, str] = field(default_factory=dict)

    def fill(self, text: Any) -> Any:
        """Put what stands for ``@WORD@`` into a text, also one within lists and mappings."""
        return json.loads(_filled(json.dumps(text), self.words)) if text is not None else None

    def object(self, kind: str, name: str) -> dict[str, Any]:
        """Return an API object by name as plain data."""
        title = kind.capitalize()
        request = getattr(control_pb2, f"Get{title}Request")(**{kind: name})
        return _plain(getattr(getattr(self.control, f"Get{title}")(request), kind))

    def service(self, name: str) -> dict[str, Any]:
        """Return a service of the project as plain data."""
        return self.object("service", f"{PROJECT}/{name}")

    def task(self, name: str) -> dict[str, Any]:
        """Return a service's first task as plain data."""
        found = [one for one in self.tasks() if one["service_name"] == name]
        return min(found, key=lambda one: one.get("slot", 0)) if found else {}

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks of the project."""
        request = control_pb2.ListTasksRequest(page_size=1000) if _has_pages() else control_pb2.ListTasksRequest()
        return [_plain(task) for task in self.control.ListTasks(request).tasks if task.project == PROJECT]

    def output(self, name: str) -> str:
        """Return what all containers of a service have printed."""
        printed = []
        for task in self.tasks():
            if task["service_name"] == name:
                path = self.world.node.folder / "state" / "agent" / "tasks" / task["id"] / "log.json"
                lines = path.read_text().splitlines() if path.exists() else []
                printed += [json.loads(line)["log"] for line in lines]
        return "".join(printed).replace("\r\n", "\n").strip()


def _has_pages() -> bool:
    return "page_size" in control_pb2.ListTasksRequest.DESCRIPTOR.fields_by_name


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"@([A-Z_0-9]+)@", lambda match: words.get(match[1], match[0]), text)


def _plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _dig(found: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        if isinstance(found, list):
            found = found[int(step)]
        elif isinstance(found, dict):
            found = found.get(step)
    return found


def compose_file(rows: list[table.Row], words: dict[str, str]) -> str:
    """The Compose file of all rows."""
    wide = {"ipam": {"config": [{"subnet": "10.77.0.0/16"}]}}
    project: dict[str, Any] = {"name": PROJECT, "version": "3.9", "services": {}, "networks": {"default": wide}}
    for row in rows:
        services = dict(row.others)
        if row.service is not None:
            own = {"command": ["sh", "-c", row.run.replace("$", "$$")]} if row.run else {}
            services[row.name] = own | row.service
        for name, service in services.items():
            common = {} if "extends" in service else {"image": IMAGE}
            project["services"][name] = common | {"stop_grace_period": "1s"} | service
        for section, values in row.top.items():
            if isinstance(values, dict):
                project.setdefault(section, {}).update(values)
            else:
                project.setdefault(section, []).extend(values)
    return _filled(yaml.safe_dump(project, sort_keys=False, width=1000), words)


@pytest.fixture(scope="module")
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All rows that were chosen, in one `up`."""
    own = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    chosen = [item.callspec.params["row"] for item in own]
    folder = tmp_path_factory.mktemp("attributes") / "node"
    variables = {"WORD": "secret word", "SUDO_UID": "4242", "SUDO_GID": "4243", "COMPOSE_PROFILES": "enabled"}
    with running(folder, variables) as node, around(node) as world:
        channel = grpc.insecure_channel(f"unix:{folder}/run/api.sock")
        found = Up(world, {row.name: row for row in chosen}, control_pb2_grpc.ControlServiceStub(channel))
        found.words = world.words()
        for row in chosen:
            _prepare(found, row)
        node.write(compose_file(chosen, found.words))
        done = node.cli("up", "-d", timeout=300)
        found.said = done.stderr
        assert found.tasks() or not chosen, done.stderr
        yield found
        node.compose("down", "-v", "-t", "0")
        channel.close()


def _prepare(up: Up, row: table.Row) -> None:
    for path, text in row.files.items():
        file = up.world.node.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(up.fill(text))
    for line in row.before:
        up.world.node.compose(*line.split())
    for name, content in (row.objects.get("secrets") or {}).items():
        up.control.CreateSecret(
            control_pb2.CreateSecretRequest(spec=secret_pb2.SecretSpec(name=name, data=content.encode()))
        )
    for name, content in (row.objects.get("configs") or {}).items():
        up.control.CreateConfig(
            control_pb2.CreateConfigRequest(spec=secret_pb2.ConfigSpec(name=name, data=content.encode()))
        )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_attribute(up: Up, row: table.Row) -> None:
    if row.warning is not None:
        assert row.warning in up.said
    if row.output is not None:
        wanted = up.fill(row.output).strip()
        _wait(lambda: up.output(row.name) == wanted, lambda: _failure(up, row.name, wanted))
    if row.matches is not None:
        pattern = up.fill(row.matches).strip()
        _wait(lambda: bool(re.fullmatch(pattern, up.output(row.name))), lambda: _failure(up, row.name, pattern))
    for check in row.checks:
        _check(up, row, check)


def _wait(holds: Any, what: Any) -> None:
    until(holds, WAIT, what)


def _failure(up: Up, name: str, wanted: object) -> str:
    task = up.task(name)
    status = {key: value for key, value in task.get("status", {}).items() if value}
    return f"wanted {wanted!r}, got {up.output(name)!r}; task: {status or up.said}"


def _check(up: Up, row: table.Row, check: dict[str, Any]) -> None:
    check = up.fill(check)
    kind = next(iter(check))
    subject = check[kind]
    if kind == "pycompose":
        up.world.node.compose(*subject.split())
    elif kind in ("exec", "machine", "elsewhere"):
        _script(up, row, kind, subject, check["answer"])
    else:
        last: list[Any] = [None]

        def holds() -> bool:
            last[0] = _look(up, check.get("of", row.name), kind, subject)
            return _fits(last[0], check)

        _wait(holds, lambda: f"{check}: found {last[0]!r}; {_failure(up, row.name, '')}")


def _script(up: Up, row: table.Row, kind: str, script: str, answer: str) -> None:
    if kind != "exec" and "@ID@" in script:
        script = script.replace("@ID@", up.task(row.name)["id"])
    done: list[subprocess.CompletedProcess[str]] = []

    def holds() -> bool:
        if kind == "exec":
            done[:] = [up.world.node.cli("exec", "-T", row.name, "sh", "-c", script)]
        elif kind == "machine":
            done[:] = [up.world.here(script)]
        else:
            done[:] = [up.world.there("sh", "-c", script)]
        return done[0].stdout.strip() == answer.strip()

    _wait(holds, lambda: f"{script}: {done[0].stdout!r} {done[0].stderr[-2000:]} {_failure(up, row.name, answer)}")


def _look(up: Up, name: str, kind: str, subject: str) -> Any:
    match kind:
        case "logs":
            return up.output(subject)
        case "task":
            return _dig(up.task(name), subject)
        case "inspect":
            return _dig(up.service(name), subject)
        case "oci":
            directory = up.world.node.folder / "run" / "containers" / up.task(name)["id"]
            return _dig(json.loads((directory / "config.json").read_text()), subject)
        case _:
            return up.object(kind, subject)


def _fits(found: Any, check: dict[str, Any]) -> bool:
    if "matches" in check:
        return bool(re.search(check["matches"], found or ""))
    if "has" in check:
        return all(
            (_dig(found, key) if key.startswith("spec.") else (found or {}).get(key)) == value
            for key, value in check["has"].items()
        )
    answer = check["answer"]
    return bool(found == (answer.strip() if isinstance(answer, str) else answer))
