"""What the command line prints: words, tables, progress, and one message for every mistake."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pycompose.compose.cli import main, words
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.fitting import fit, short_ports, width_of
from pycompose.compose.cli.frames import physical
from pycompose.compose.cli.logprint import LogPrinter, colour_of, parse_time, stamp
from pycompose.compose.cli.ordering import levels
from pycompose.compose.cli.tables import fill, show, table
from pycompose.compose.cli.variables import table_of_variables
from pycompose.proto.v1 import access_pb2, service_pb2, task_pb2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (3 * 3600, "3 hours"),
        (3 * 86400, "3 days"),
        (30 * 86400, "4 weeks"),
        (400 * 86400, "13 months"),
        (900 * 86400, "2 years"),
    ],
)
def test_ages_as_docker_writes_them(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


def test_status_as_docker_writes_it() -> None:
    task = task_pb2.Task()
    task.status.state = task_pb2.TASK_STATE_RUNNING
    task.status.started_at.FromSeconds(100)
    assert words.status(task, 105.0) == "Up 5 seconds"
    task.status.health = task_pb2.HEALTH_STATE_STARTING
    assert words.status(task, 105.0) == "Up 5 seconds (health: starting)"
    task.status.paused = True
    assert words.status(task, 105.0) == "Up 5 seconds (Paused)"
    ended = task_pb2.Task()
    ended.status.state, ended.status.exit_code, ended.status.run = task_pb2.TASK_STATE_FAILED, 137, 1
    ended.status.finished_at.FromSeconds(100)
    ended.status.oom_killed = True
    assert words.status(ended, 220.0) == "Exited (137) 2 minutes ago (OOM killed)"
    ended.status.next_restart_at.FromSeconds(230)
    assert words.status(ended, 220.0) == "Restarting (137) 2 minutes ago"
    waiting = task_pb2.Task()
    waiting.status.state, waiting.status.message = task_pb2.TASK_STATE_PENDING, "waiting for db: healthy"
    assert (words.status(waiting, 0.0), words.reason(waiting)) == ("Pending", "waiting for db: healthy")


def test_ports_as_docker_writes_them() -> None:
    service = service_pb2.Service()
    service.endpoint.ports.add(published_port=8080, target_port=80)
    service.endpoint.ports.add(published_port=53, target_port=53, protocol=service_pb2.PROTOCOL_UDP, host_ip="::1")
    assert words.ports(service, task_pb2.Task()) == "[::1]:53->53/udp, 0.0.0.0:8080->80/tcp"


def test_tables_and_templates() -> None:
    assert table(["A", "LONG"], [["xx", "y"], ["z", ""]]) == "A    LONG\nxx   y\nz"
    rows = [{"Name": "web", "Labels": {"a.b": "c"}}]
    assert show("{{.Name}}:{{upper .Name}}", rows, {}) == "web:WEB"
    assert show("table {{.Name}}\\t{{json .Labels}}", rows, {"Name": "NAME"}) == 'NAME   LABELS\nweb    {"a.b": "c"}'
    assert fill('{{index .Labels "a.b"}}', rows[0]) == "c"
    assert json.loads(show("json", rows * 2, {})) == rows * 2
    assert [json.loads(line) for line in show("ndjson", rows * 2, {}).splitlines()] == rows * 2
    assert show("json", [], {}) == "[]"
    with pytest.raises(UsageError, match=r"no field .Nam in .Nam; known are .Name, .Labels"):
        fill("{{.Nam}}", rows[0])
    with pytest.raises(UsageError, match=r"--format jsn: want table, json, ndjson, or a template such as"):
        show("jsn", rows, {"Name": "NAME"})
    with pytest.raises(UsageError, match="cannot do"):
        fill("{{range .Name}}", rows[0])


ROWS = [
    {
        "Name": "shop-web-1",
        "Image": "example/web",
        "Command": '"python3 /app/web.py"',
        "Service": "web",
        "RunningFor": "2 minutes ago",
        "Status": "Up 2 minutes",
        "Ports": "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:53->53/udp",
        "Reason": "",
    },
    {
        "Name": "shop-api-1",
        "Image": "example/api",
        "Command": '""',
        "Service": "api",
        "RunningFor": "2 minutes ago",
        "Status": "Pending",
        "Ports": "",
        "Reason": "waiting for db: healthy (3 checks failed: connection refused by the server at 10.0.0.1)",
    },
]


def test_a_table_fits_the_screen_and_loses_no_reason() -> None:
    from pycompose.compose.cli.ps import COLUMNS

    whole = fit(ROWS, COLUMNS, None)
    assert len(whole) == 3
    assert whole[0].endswith("REASON")
    for width in (200, 120, 100, 80, 60, 40):
        lines = fit(ROWS, COLUMNS, width)
        assert all(width_of(line) <= width for line in lines), lines
        text = " ".join(" ".join(lines).split())
        assert "connection refused by the server" in text.replace(" ↳", "")
    assert fit(ROWS, COLUMNS, 80) == [
        "NAME         IMAGE         SERVICE   CREATED         STATUS         PORTS",
        "shop-web-1   example/web   web       2 minutes ago   Up 2 minutes   8080→80 +1",
        "shop-api-1   example/api   api       2 minutes ago   Pending",
        "  ↳ waiting for db: healthy (3 checks failed: connection refused by the server",
        "    at 10.0.0.1)",
    ]
    assert "REASON" not in fit(ROWS[:1], COLUMNS, None)[0]


def test_cells_cannot_break_a_table() -> None:
    lines = fit(
        [{"Name": "a\n\x1b[31mb", "Status": "ok"}, {"Name": "名前", "Status": "ok"}], {"Name": "N", "Status": "S"}, 80
    )
    assert lines == ["N              S", r"a\n\x1b[31mb   ok", "名前           ok"]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("0.0.0.0:80->80/tcp", "80→80"),
        ("0.0.0.0:80->80/tcp, [::]:80->80/tcp", "80→80"),
        ("127.0.0.1:80->80/tcp, 0.0.0.0:53->53/udp, *:9->9/tcp", "127.0.0.1:80→80 +2"),
        ("0.0.0.0:8000-8002->80-82/tcp", "8000-8002→80-82"),
    ],
)
def test_short_ports(text: str, short: str) -> None:
    assert short_ports(text) == short


def test_commands_are_cut_and_quoted_as_docker_does() -> None:
    assert words.command(["sh", "-c", "echo a b"]) == "\"sh -c 'echo a b'\""
    assert words.command(["sh", "-c", "echo one two three"], 20) == '"sh -c \'echo one two…"'


def test_plain_progress_is_a_line_a_change() -> None:
    out = io.StringIO()
    with Display("auto", stream=out) as display:
        display.set("Container a", "Waiting", "for db")
        display.set("Container a", "Waiting", "for db")
        display.set("Container a", "Started", state="done")
        display.tick()
    assert out.getvalue() == " Container a  Waiting for db\n Container a  Started\n"


class Terminal(io.StringIO):
    """A screen of some lines with its history: knows what the live view uses (ECMA-48: CUU, ED, CR)."""

    def __init__(self, columns: int, height: int) -> None:
        super().__init__()
        self.columns, self.height = columns, height
        self.lines, self.row, self.top = [""], 0, 0

    def write(self, text: str) -> int:
        for part in re.split(r"(\x1b\[\d*[A-Za-z]|\r|\n)", text):
            up = re.fullmatch(r"\x1b\[(\d+)A", part)
            if up:
                self.row -= int(up[1])
                assert self.row >= self.top, "the view was taller than the screen"
            elif part == "\x1b[J":
                self.lines[self.row :] = [""]
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
                self.top = max(self.top, self.row + 1 - self.height)
            elif part and part != "\r":
                assert len(part) <= self.columns, part
                self.lines[self.row] = part
        return len(text)

    @property
    def screen(self) -> list[str]:
        return [re.sub(r"\d+\.\ds$|[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "~", line) for line in self.lines if line]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal(50, 6)
    monkeypatch.setattr("pycompose.compose.cli.display._size", lambda stream: (found.columns, found.height))
    monkeypatch.setattr("pycompose.compose.cli.display.TICK", 0)
    return found


def test_the_live_view_is_never_taller_than_the_screen(terminal: Terminal) -> None:
    display = Display("tty", stream=terminal)
    for number in range(8):
        display.set(f"Container {number}", "Creating", "x" * 100)
        display.tick()
    assert terminal.screen[-1] == " … and 5 more"
    assert len(terminal.screen) == 5
    for number in range(8):
        display.set(f"Container {number}", "Started", state="done")
        display.tick()
    display.freeze()
    # what was finished first has left the view upwards, each line is there once
    assert [line.split()[2] for line in terminal.screen if "Container" in line] == list("01234567")
    assert terminal.screen[-5] == "[+] Running 8/8"


def test_output_flows_above_the_live_view(terminal: Terminal) -> None:
    display = Display("tty", stream=terminal)
    display.set("Container a", "Started", state="done")
    display.set("Container b", "Waiting", "for a to be healthy")
    display.tick()
    for number in range(9):
        with display.flow():
            terminal.write(f"line {number}\n")
    assert terminal.screen == [
        "line 0",
        " ✔ Container a  Started  ~",
        *(f"line {number}" for number in range(1, 9)),
        "[+] Running 1/2",
        " ~ Container b  Waiting for a to be healthy  ~",
    ]
    display.set("Container b", "Error", "no such thing as a very long reason that does not fit", state="failed")
    display.freeze()
    assert terminal.screen[-3:] == [
        " ✘ Container b  Error  ~",
        "    no such thing as a very long reason that does",
        "    not fit",
    ]
    assert not any("[+]" in line for line in terminal.screen)


def test_a_narrower_terminal_is_erased_whole(terminal: Terminal) -> None:
    assert physical([50, 20, 0], 25) == 4
    display = Display("tty", stream=terminal)
    display.set("Container a", "Creating")
    display.tick()
    terminal.columns = 20
    terminal.lines += [""] * 3
    terminal.row += 1
    display.freeze()


def test_log_prefixes_are_aligned_and_lines_never_mixed(capfdbinary: Any) -> None:
    printer = LogPrinter()
    printer.know("1", "web-1", "web")
    printer.know("2", "database-1", "database")
    parts = [("1", b"one "), ("2", b"x\n"), ("1", b"line\n"), ("2", b"prompt> ")]
    printer.entries(access_pb2.LogEntry(task_id=one, data=data) for one, data in parts)
    assert capfdbinary.readouterr().out == b"database-1  | x\nweb-1       | one line\n"
    printer.flush()
    assert capfdbinary.readouterr().out == b"database-1  | prompt> \n"
    assert colour_of("web") == colour_of("web")


def test_grep_prints_whole_lines_that_match(capfdbinary: Any) -> None:
    printer = LogPrinter(prefix=False, grep=re.compile(b"o.e"))
    parts = [b"on", b"e\n", b"two\n", b"one more\n", b"tone"]
    printer.entries(access_pb2.LogEntry(task_id="1", data=data) for data in parts)
    printer.flush()
    assert capfdbinary.readouterr().out == b"one\none more\ntone\n"


def test_the_output_of_one_container_is_not_held_back(capfdbinary: Any) -> None:
    printer = LogPrinter(prefix=False, at_once=True)
    printer.entries([access_pb2.LogEntry(task_id="1", data=b"password: ")])
    assert capfdbinary.readouterr().out == b"password: "


def test_times() -> None:
    assert parse_time("10m", 1000.0) == 400 * 10**9
    assert parse_time("2024-01-02T03:04:05.123456789Z", 0.0) == 1704164645_123456000
    assert parse_time("5.5", 0.0) == 5_500_000_000
    assert stamp(1704164645_000000001) == "2024-01-02T03:04:05.000000001Z"
    with pytest.raises(ValueError):
        parse_time("yesterday", 0.0)


def test_levels_stop_dependents_first() -> None:
    def make(name: str, *needs: str) -> service_pb2.Service:
        spec = service_pb2.ServiceSpec(name=name)
        for need in needs:
            spec.dependencies.add(service=need)
        return service_pb2.Service(id=name, spec=spec)

    services = [make("db"), make("web", "api"), make("api", "db", "gone"), make("x", "y"), make("y", "x")]
    found = [[one.spec.name for one in group] for group in levels(services)]
    assert found == [["x", "y"], ["web"], ["api"], ["db"]] or found[-1] == ["db"]
    assert [name for group in found for name in group].index("web") < [n for g in found for n in g].index("api")


def test_variables() -> None:
    assert table_of_variables({"a": ["$A ${B:-x} ${C:?no} $$D ${E+y}"]}).splitlines() == [
        "NAME                REQUIRED            DEFAULT VALUE       ALTERNATE VALUE",
        "A                   false                                   ",
        "B                   false               x                   ",
        "C                   true                                    ",
        "E                   false                                   y",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {web: {imge: x}}", 'did you mean "image"'),
        ("services: {web: {image: [x]}}", "services.web.image"),
        ("services: {web: {image: '${NO:?needed}'}}", "needed"),
        ("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}", "cycle"),
        ("services: {a: {image: x, networks: [none]}}", "none"),
        ("services: {a: {image: x, volumes: ['vol:/v']}}", "vol"),
        ("services: {a: {image: x, secrets: [s]}}", "s"),
        ("services: {a: {image: x, ports: ['a:b']}}", "services.a.ports"),
        ("services:\n\ta: {image: x}", "tab"),
        ("services: {a: {image: x, image: y}}", "image"),
    ],
)
def test_bad_files_give_one_message_with_a_place(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("PYCOMPOSE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "compose.yaml").write_text(text)
    assert main.run(["up", "-d"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert f"{tmp_path}/compose.yaml:" in captured.err
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "api.sock").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["upp"], 2, 'did you mean "up"?'),
        (["up", "--nothing"], 2, "--nothing"),
        (["up", "-d", "--abort-on-container-exit"], 2, "contradict one another"),
        (["up", "--build", "--no-build"], 2, "contradict one another"),
        (["up", "--scale", "web"], 2, "web=3"),
        (["build"], 1, "no configuration file found"),
        (["ps"], 1, "no configuration file found"),
        (["-f", "no.yaml", "config"], 1, "no such file"),
        (["logs", "--tail", "x"], 2, "--tail x: want a number of lines"),
        (["logs", "--grep", "("], 2, "--grep (: missing )"),
    ],
)
def test_bad_command_lines(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(arguments) == status
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")


def test_an_unexpected_exception_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("pycompose.compose.cli.version.json.dumps", broken)
    assert main.run(["version", "--format", "json"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected ZeroDivisionError: surprise; details in ")
    assert "Traceback" in Path(err.split()[-1]).read_text()


def test_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("pycompose.proto.places.RUN", str(tmp_path))  # root's node, which the user may only talk to
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path))
    assert main.run(["node", "start"]) == 1
    assert "takes root; run this once as root: sudo pycompose node start" in capsys.readouterr().err


def test_a_node_that_does_not_start_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYCOMPOSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("pycompose.compose.client.node.MODULE", "no_such_module")
    assert main.run(["node", "start"]) == 1
    err = capsys.readouterr().err
    assert "the node did not start (exit status 1)" in err
    assert str(tmp_path / "state/log/node.log") in err
    assert "no_such_module" in err


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m pycompose.compose.cli.main --help | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


class _Echo:
    """An exec whose program echoes its input, and ends when that is closed or it reads q."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, requests: Any) -> Any:
        first = next(requests)
        self.seen.append(f"start {' '.join(first.start.args)}")
        yield access_pb2.ExecResponse(started=access_pb2.ExecStarted(pid=1))
        for request in requests:
            kind = request.WhichOneof("message")
            self.seen.append(kind)
            if kind == "stdin":
                yield access_pb2.ExecResponse(stdout=request.stdin.upper())
            if kind == "stdin_closed" or (kind == "stdin" and b"q" in request.stdin):
                break
        yield access_pb2.ExecResponse(exited=access_pb2.ExecExited(exit_code=5))


def test_sessions_send_stdin_and_half_close(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    from pycompose.compose.client.session import Session

    reader, writer = os.pipe()
    saved = os.dup(0)
    os.dup2(reader, 0)
    try:
        echo = _Echo()
        start = access_pb2.ExecStart(args=["cat"], stdin=True)
        threading.Timer(0.1, lambda: (os.write(writer, b"hello\n"), os.close(writer))).start()
        outcome = Session(echo, access_pb2.ExecRequest, start, stdin=True, tty=False).run()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reader)
    assert outcome.status == 5
    assert capfdbinary.readouterr().out == b"HELLO\n"
    assert echo.seen == ["start cat", "stdin", "stdin_closed"]


def test_sessions_put_the_terminal_back() -> None:
    import termios

    master, slave = pty.openpty()
    saved = [os.dup(number) for number in (0, 1)]
    before = termios.tcgetattr(slave)
    raw: list[Any] = []
    try:
        from pycompose.compose.client.session import Session

        os.dup2(slave, 0)
        os.dup2(slave, 1)
        echo = _Echo()

        def typed() -> None:
            raw.append(termios.tcgetattr(slave))
            os.write(master, b"\x03q")

        threading.Timer(0.2, typed).start()
        stdin, sys.stdin = sys.stdin, os.fdopen(os.dup(slave))
        try:
            outcome = Session(echo, access_pb2.ExecRequest, access_pb2.ExecStart(tty=True), stdin=True, tty=True).run()
        finally:
            sys.stdin.close()
            sys.stdin = stdin
    finally:
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
            os.close(copy)
    assert outcome.status == 5
    assert "resize" in echo.seen
    assert not raw[0][3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert termios.tcgetattr(slave)[:4] == before[:4]
    assert os.read(master, 100) == b"\x03Q"
    os.close(master)
    os.close(slave)
