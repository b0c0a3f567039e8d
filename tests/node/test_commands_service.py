"""`service create` and `service update` on a real node."""

from __future__ import annotations

import json

from node.whole import Node, until


def spec(node: Node, name: str) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads(node.compose("service", "inspect", name))[0]["spec"]  # type: ignore[type-arg]
    return found


def test_a_service_is_made_changed_and_taken_back(shared: Node) -> None:
    made = ["--name", "one", "--replicas", "2", "--init", "-e", "A=1", "--limit-memory", "50m", "test/busybox"]
    shared.compose("service", "create", *made, "sleep", "1000")
    done = shared.cli("service", "update", "--env-add", "A=2", "--limit-memory", "60m", "--replicas", "3", "one")
    assert done.returncode == 0, done.stderr
    container = spec(shared, "one")["task"]["container"]
    assert container["env"] == ["A=2"]
    assert container["resources"]["limits"]["memory_bytes"] == str(60 << 20)
    rows = json.loads(shared.compose("service", "ls", "--format", "json"))
    assert [(row["Name"], row["Replicas"]) for row in rows] == [("one", "3/3")]
    for row in json.loads(shared.compose("service", "ps", "one", "--format", "json", "--no-trunc")):
        assert shared.compose("container", "exec", row["ID"], "sh", "-c", "echo $A").strip() == "2"
    shared.compose("service", "update", "--rollback", "one")
    assert spec(shared, "one")["task"]["container"]["env"] == ["A=1"]
    refused = shared.cli("service", "update", "--env-rm", "B", "one")
    assert (refused.returncode, "--env-rm B: the service has none of that name" in refused.stderr) == (2, True)
    shared.compose("service", "rm", "one")
    until(lambda: not json.loads(shared.compose("service", "ls", "--format", "json")))


def test_a_project_takes_a_change_back(shared: Node) -> None:
    shared.write("name: ours\nservices: {web: {image: test/busybox, command: sleep 1000, init: true}}\n")
    shared.compose("up", "-d")
    done = shared.cli("service", "update", "--env-add", "X=1", "ours/web")
    assert "the next up of project ours makes it again what the file says" in done.stderr
    assert shared.exec("web", "sh", "-c", "echo $X").strip() == "1"
    assert "environment.X" in shared.cli("plan").stdout
    shared.compose("up", "-d")
    assert shared.exec("web", "sh", "-c", "echo $X").strip() == ""
    shared.compose("down", "-t", "0")
