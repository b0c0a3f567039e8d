"""This machine's node as a command: its log, its systemd unit (with a pretended systemctl), and how it is found."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pycompose.compose.cli import main
from pycompose.compose.client import node as local
from pycompose.compose.client import unit
from pycompose.worker.node import logfile
from pycompose.worker.node.notify import Notifier

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with directories of its own, as root."""
    monkeypatch.setenv("PYCOMPOSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def command(*words: str) -> tuple[int, str, str]:
        status = main.run(words)
        out, err = capsys.readouterr()
        return status, out, err

    return command


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd whose systemctl writes down what it was asked; `fail` in the folder makes it fail."""
    folder = tmp_path / "systemd"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ ! -e {folder}/fail ] || {{ echo "it is broken" >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(unit, "PATH", str(folder / "pycompose.service"))
    monkeypatch.setattr(unit, "RUNNING", str(folder))
    return folder


def test_install_writes_a_unit_and_uninstall_takes_it_away(run: Run, systemd: Path, tmp_path: Path) -> None:
    status, out, _ = run("node", "install")
    assert status == 0
    assert out == f"{systemd}/pycompose.service is written: the node runs, and starts with the machine\n"
    text = (systemd / "pycompose.service").read_text()
    assert f"ExecStart={sys.executable} -m pycompose.worker.node\n" in text
    assert f"PYCOMPOSE_RUN_DIR={tmp_path}/run\n" in text
    asked = (systemd / "asked").read_text().splitlines()
    assert asked == ["daemon-reload", "enable pycompose.service", "restart pycompose.service"]
    status, out, _ = run("node", "uninstall")
    assert status == 0
    assert "containers go on running" in out
    assert not (systemd / "pycompose.service").exists()
    assert run("node", "uninstall")[1] == f"there is no {systemd}/pycompose.service\n"


def test_an_installed_unit_is_what_starts_the_node(run: Run, systemd: Path, tmp_path: Path) -> None:
    run("node", "install")
    (systemd / "asked").write_text("")
    local.start(str(tmp_path / "run" / "api.sock"), lambda text: None)
    assert (systemd / "asked").read_text() == "start pycompose.service\n"
    # a node with other directories is another node
    assert not unit.installed("/elsewhere")
    (systemd / "fail").touch()
    status, _, err = run("node", "start")
    assert status == 1
    assert err == (
        "error: the node did not start; systemctl start pycompose.service: it is broken; "
        "pycompose node logs says more\n"
    )


def test_without_systemd_or_root(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "RUNNING", str(tmp_path / "none"))
    monkeypatch.setattr(unit, "PATH", str(tmp_path / "none.service"))
    assert "this machine does not run systemd; pycompose node start" in run("node", "install")[2]
    assert run("node", "install", "--print")[1].startswith("# written by: pycompose node install\n[Unit]\n")


def test_a_users_unit_is_for_the_users_systemd(
    run: Run, systemd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
    status, _, err = run("node", "install")
    assert status == 1
    assert "no systemd of yours runs here" in err
    (tmp_path / "session/systemd").mkdir(parents=True)
    (tmp_path / "session/systemd/private").touch()
    status, out, _ = run("node", "install")
    assert status == 0
    place = tmp_path / "config/systemd/user/pycompose.service"
    assert out.startswith(f"{place} is written: the node runs, and starts when you log in; ")
    assert "loginctl enable-linger" in out
    text = place.read_text()
    assert f"StandardError=append:{tmp_path}/state/log/node.log\n" in text
    assert "WantedBy=default.target\n" in text
    assert unit.installed(f"{tmp_path}/run")
    asked = (systemd / "asked").read_text().splitlines()
    assert asked == ["--user daemon-reload", "--user enable pycompose.service", "--user restart pycompose.service"]
    assert "is removed and the node stopped" in run("node", "uninstall")[1]
    assert not place.exists()


def test_logs(run: Run, tmp_path: Path) -> None:
    status, _, err = run("node", "logs")
    assert status == 1
    assert err.startswith(f"error: there is no log at {tmp_path}/state/log/node.log; ")
    log = tmp_path / "state" / "log" / "node.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert run("node", "logs", "-n", "2")[1] == "line 98\nline 99\n"
    assert len(run("node", "logs")[1].splitlines()) == 50


def test_following_the_log_goes_on_after_it_was_cut(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "state" / "log" / "node.log"
    log.parent.mkdir(parents=True)
    log.write_text("old\n" * 10)
    words = [sys.executable, "-m", "pycompose.compose.cli.main", "node", "logs", "-f", "-n", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "old\n"
        with log.open("a") as out:
            out.write("new\n")
        assert child.stdout.readline() == "new\n"
        logfile.rotate(log, limit=0)
        with log.open("a") as out:
            out.write("x\n")
        assert child.stdout.readline() == "x\n"
        child.terminate()


def test_a_log_is_kept_short(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    out = log.open("a")
    for number in range(6):
        out.write(f"{number}" * 100)
        out.flush()
        assert logfile.is_written_by(log, out.fileno())
        assert logfile.rotate(log, limit=50)
        assert not logfile.rotate(log, limit=50)
    out.close()
    assert [path.read_text()[:1] for path in sorted(tmp_path.iterdir())] == ["", "5", "4", "3"]
    assert not logfile.is_written_by(log, 0)


def test_status_of_a_node_that_does_not_run(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("node", "status")
    assert status == 3
    assert out.splitlines()[0] == "the node does not run; pycompose up or pycompose node start starts it"
    status, out, _ = run("node", "status", "--format", "json")
    assert status == 3
    assert json.loads(out)["running"] is False
    assert run("node", "stop")[:2] == (0, "the node does not run\n")


def test_systemd_is_told_once_when_the_node_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, socket.socket(socket.AF_UNIX) as api:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        systemd.setblocking(False)
        notifier.ready(str(tmp_path / "api"))
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        api.bind(str(tmp_path / "api"))
        api.listen()
        notifier.ready(str(tmp_path / "api"))
        notifier.ready(str(tmp_path / "api"))
        notifier.stopping()
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"STOPPING=1"]
