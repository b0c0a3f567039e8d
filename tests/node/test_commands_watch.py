"""watch on a real node: files reconciled at the start, one action for many writes, restarts that keep the output."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node.whole import CLI, Node, until

FILE = """
name: dev
services:
  web:
    image: test/busybox
    command: sh -c 'echo started; trap "exit 0" TERM; while :; do sleep 0.05; done'
    user: worker
    develop:
      watch:
        - {action: sync, path: ./site, target: /dev/shm/site, ignore: [cache/, "*.tmp"], initial_sync: true}
        - {action: sync+restart, path: ./conf/app.conf, target: /srv/app.conf}
  other:
    image: test/busybox
    command: sh -c 'echo other started; trap "exit 0" TERM; while :; do sleep 0.05; done'
    attach: false
    develop:
      watch:
        - action: sync+exec
          path: ./more
          target: /srv/more
          exec: {command: sh -c 'echo ran >> /srv/hooked', working_dir: /srv}
"""


class Lines:
    """A running pycompose and what it prints, line by line."""

    def __init__(self, node: Node, *words: str) -> None:
        self.process = subprocess.Popen(
            node.on_machine(*CLI, *words),
            env=node.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait(self, text: str, times: int = 1) -> None:
        until(lambda: sum(text in line for line in self.lines) >= times, what=lambda: "\n".join(self.lines))

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def following(node: Node, *words: str) -> Iterator[Lines]:
    lines = Lines(node, *words)
    try:
        yield lines
    finally:
        lines.process.kill()
        lines.process.wait()


@pytest.fixture(scope="module")
def dev(shared: Node) -> Iterator[Node]:
    for name in ("site/deep", "site/cache", "conf", "more"):
        (shared.folder / name).mkdir(parents=True)
    (shared.folder / "site" / "index").write_text("first")
    (shared.folder / "site" / "cache" / "old").write_text("not for the container")
    (shared.folder / "conf" / "app.conf").write_text("a=1")
    (shared.folder / "more" / "one").write_text("1")
    shared.write(FILE)
    yield shared
    shared.compose("down", "-v", "--timeout", "1")


def content(node: Node, service: str, path: str) -> str:
    return node.cli("exec", "-T", service, "cat", path).stdout


def test_files_are_reconciled_and_followed(dev: Node) -> None:
    site = dev.folder / "site"
    with following(dev, "watch") as lines:
        lines.wait("dev-web-1: 2 of 2 files brought up to date")
        lines.wait("dev-other-1: 1 of 1 files brought up to date")
        assert content(dev, "web", "/dev/shm/site/index") == "first"
        assert dev.exec("web", "ls", "/dev/shm/site").split() == ["index"]
        assert dev.exec("web", "stat", "-c", "%u:%g", "/dev/shm/site/index").strip() == "1000:1001"

        started = time.monotonic()
        (site / "deep" / "page").write_text("second")
        lines.wait("web: 1 path synced (page)")
        assert content(dev, "web", "/dev/shm/site/deep/page") == "second"
        assert time.monotonic() - started < 30

        (site / "note.tmp").write_text("ignored")
        (site / "cache" / "new").write_text("ignored")
        os.remove(site / "index")
        (site / "made").mkdir()
        (site / "made" / "inside").write_text("third")
        until(lambda: content(dev, "web", "/dev/shm/site/made/inside") == "third")
        until(lambda: not dev.cli("exec", "-T", "web", "ls", "/dev/shm/site/index").stdout)
        assert dev.exec("web", "sh", "-c", "ls /dev/shm/site /dev/shm/site/cache 2>&1 || true").count("tmp") == 0

        (dev.folder / "more" / "two").write_text("2")
        lines.wait("other: sh -c echo ran >> /srv/hooked: done")
        assert content(dev, "other", "/srv/hooked") == "ran\n"
        assert lines.end() == 0
    # edited while nobody looked
    (site / "deep" / "page").write_text("while nobody looked")
    with following(dev, "watch", "--no-up") as lines:
        lines.wait("dev-web-1: 1 of 3 files brought up to date")
        assert content(dev, "web", "/dev/shm/site/deep/page") == "while nobody looked"


def test_many_writes_are_one_action_and_the_output_goes_on(dev: Node) -> None:
    before = dev.containers()
    with following(dev, "up", "--watch") as lines:
        lines.wait("watching")
        pause = threading.Event()
        path: Path = dev.folder / "conf" / "app.conf"
        for number in range(100):
            path.write_text(f"a={number}")
            pause.wait(0.01)
        lines.wait("web: restarted")
        lines.wait("web-1  | started", times=1)
        time.sleep(1)
        assert sum("web: restarted" in line for line in lines.lines) == 1, lines.lines
        assert content(dev, "web", "/srv/app.conf") == "a=99"
        path.write_text("again")
        lines.wait("web: restarted", times=2)
        lines.wait("web-1  | started", times=2)
        assert not any("exited with code" in line for line in lines.lines)
        assert not any("other started" in line for line in lines.lines)
        after = dev.containers()
        assert {name: one["ID"] for name, one in after.items()} == {name: one["ID"] for name, one in before.items()}
        assert lines.end() == 130
    assert all(one["State"] == "exited" for one in dev.containers().values())


def test_what_cannot_be_followed_is_said(dev: Node) -> None:
    dev.write("name: none\nservices: {one: {image: test/busybox}}\n", "none.yaml")
    done = dev.cli("-f", "none.yaml", "watch")
    assert (done.returncode, "nothing to watch" in done.stderr) == (1, True)
    rebuild = "services: {one: {image: i, develop: {watch: [{action: rebuild, path: ./site}]}}}"
    dev.write(f"name: none\n{rebuild}\n", "rebuild.yaml")
    done = dev.cli("-f", "rebuild.yaml", "watch")
    assert done.returncode == 1
    assert "services.one.develop.watch[0]" in done.stderr
    assert "the service has no build section" in done.stderr


def test_a_change_rebuilds(dev: Node) -> None:
    (dev.folder / "made").mkdir()
    (dev.folder / "made" / "Dockerfile").write_text("FROM test/busybox\nCOPY word /word\nCMD sleep 1000\n")
    (dev.folder / "made" / "word").write_text("one")
    watch = "{watch: [{action: rebuild, path: ./made/word}]}"
    dev.write(
        f"name: made\nservices: {{one: {{build: ./made, stop_grace_period: 0s, develop: {watch}}}}}\n", "made.yaml"
    )
    with following(dev, "-f", "made.yaml", "watch") as lines:
        lines.wait("watching")
        assert dev.compose("-f", "made.yaml", "exec", "-T", "one", "cat", "/word") == "one"
        (dev.folder / "made" / "word").write_text("two")
        until(lambda: dev.cli("-f", "made.yaml", "exec", "-T", "one", "cat", "/word").stdout == "two")
        assert lines.end() == 0
    dev.compose("-f", "made.yaml", "down", "-t", "0")
