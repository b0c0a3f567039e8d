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
