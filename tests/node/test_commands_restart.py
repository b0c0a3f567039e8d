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
