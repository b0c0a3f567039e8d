"""A container is restarted at once, also while its output is still being read."""

from __future__ import annotations

from node.whole import CLI, Node, until

FILE = """
name: again
services:
  web:
    image: test/busybox
    command: sh -c 'echo started; trap "exit 0" TERM; while :; do sleep 0.05; done'
"""


def test_restarts_one_after_another(shared: Node) -> None:
    shared.write(FILE)
    shared.compose("up", "-d")
    reader = shared.begin(*CLI, "attach", "--no-stdin", "web")
    try:
        for _ in range(5):
            shared.compose("restart", "web")
            found = shared.containers()["again-web-1"]
            assert found["State"] == "running", found
    finally:
        reader.kill()
        reader.communicate()
    until(lambda: shared.compose("logs", "--no-log-prefix", "web").count("started") == 6)
    shared.compose("down", "-t", "0")


ANONYMOUS = """
name: kept
services:
  db:
    image: test/busybox
    command: sh -c 'echo run >> /data/runs; exec sleep 1000'
    environment: {VERSION: "%s"}
    volumes: [/data]
    deploy: {replicas: 2}
"""


def test_a_new_container_takes_over_anonymous_volumes(shared: Node) -> None:
    def runs(index: int) -> int:
        words = ("exec", "-T", "--index", str(index), "db", "cat", "/data/runs")
        until(lambda: shared.compose(*words))
        return shared.compose(*words).count("run")

    shared.write(ANONYMOUS % "1")
    shared.compose("up", "-d")
    assert [runs(1), runs(2)] == [1, 1]
    shared.write(ANONYMOUS % "2")
    shared.compose("up", "-d")
    assert [runs(1), runs(2)] == [2, 2]
    shared.compose("up", "-d", "--force-recreate")
    assert [runs(1), runs(2)] == [3, 3]
    shared.compose("up", "-d", "--force-recreate", "--renew-anon-volumes")
    assert [runs(1), runs(2)] == [1, 1]
    shared.compose("up", "-d", "--scale", "db=1")
    until(lambda: len(shared.containers()) == 1)
    shared.compose("down", "-t", "0")
    until(lambda: not list((shared.folder / "state" / "volumes").iterdir()))


POLICIES = """
name: policies
services:
  always: {image: test/busybox, command: sleep 1000, init: true, restart: always}
  any: {image: test/busybox, command: sleep 1000, init: true, deploy: {restart_policy: {condition: any}}}
  unless: {image: test/busybox, command: sleep 1000, init: true, restart: unless-stopped}
  failure: {image: test/busybox, command: sleep 1000, init: true, restart: on-failure}
  never: {image: test/busybox, command: sleep 1000, init: true}
"""


def test_what_was_stopped_by_hand_comes_back_at_the_nodes_start_only_under_always(shared: Node) -> None:
    def states() -> dict[str, str]:
        return {name.split("-")[1]: one["State"] for name, one in shared.containers().items()}

    shared.write(POLICIES)
    shared.compose("up", "-d")
    shared.compose("stop", "-t", "0")
    assert set(states().values()) == {"exited"}
    agent = shared.daemons()["agent"]
    shared.kill("agent")  # the supervisor starts it again: no start of the node
    until(lambda: shared.daemons().get("agent", agent) != agent)
    assert set(states().values()) == {"exited"}
    shared.compose("node", "stop")
    shared.compose("node", "start")
    back = {"always": "running", "any": "running", "unless": "exited", "failure": "exited", "never": "exited"}
    until(lambda: states() == back, what=states)
    shared.compose("down", "-t", "0")


PUBLISHED = """
name: %s
services:
  web: {image: test/busybox, command: sleep 1000, init: true, restart: always, ports: ["18300:80"]}
"""


def test_a_stopped_service_gives_its_port_to_others_and_asks_for_it_when_it_starts(shared: Node) -> None:
    for name in ("first", "second"):
        shared.write(PUBLISHED % name, f"{name}.yaml")
    shared.compose("-f", "first.yaml", "up", "-d")
    taken = shared.cli("-f", "second.yaml", "up", "-d")
    assert taken.returncode == 1
    assert "port 18300 is published by service web of project first" in taken.stderr
    shared.compose("-f", "first.yaml", "stop", "-t", "0")
    listener = "import socket; socket.create_server(('', 18300)).close()"
    until(lambda: shared.run(CLI[0], "-c", listener).returncode == 0)
    shared.compose("-f", "second.yaml", "up", "-d")
    for words in (("up", "-d"), ("start",), ("restart",)):
        refused = shared.cli("-f", "first.yaml", *words)
        assert refused.returncode == 1, refused
        assert "port 18300 " in refused.stderr, refused.stderr
        assert "second" in refused.stderr, refused.stderr
    shared.compose("node", "stop")
    shared.compose("node", "start")
    assert shared.containers("-f", "first.yaml")["first-web-1"]["State"] == "exited"
    shared.compose("-f", "second.yaml", "down", "-t", "0")
    shared.compose("-f", "first.yaml", "start")
    assert shared.containers("-f", "first.yaml")["first-web-1"]["State"] == "running"
    assert shared.run(CLI[0], "-c", listener).returncode == 1
    shared.compose("-f", "first.yaml", "down", "-t", "0")


WAITS = """
name: waits
services:
  db: {image: test/busybox, command: sleep 1000, stop_signal: SIGKILL}
  web: {image: test/busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: [db]}
"""


def test_what_waits_for_a_stopped_service_is_not_started_for_ever(shared: Node) -> None:
    shared.write(WAITS)
    shared.compose("up", "-d")
    shared.compose("stop")
    done = shared.cli("start", "web")
    assert done.returncode == 1
    assert "service web depends on db, which is stopped; pycompose start db web" in done.stderr
    shared.compose("start", "db", "web")
    assert {one["State"] for one in shared.containers().values()} == {"running"}
    shared.compose("stop", "web")
    shared.compose("start", "web")
    shared.compose("down")
