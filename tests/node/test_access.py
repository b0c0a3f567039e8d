"""Hands on tasks over gRPC on a real node: exec and attach as at a terminal, flow control, logs, refusals."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from node.whole import IMAGE, Node, until

from pycompose.proto.v1 import access_pb2 as pb
from pycompose.proto.v1 import access_pb2_grpc, control_pb2, control_pb2_grpc, service_pb2, task_pb2

MIB = 1 << 20
#: What a process may grow by while a reader stands still: windows, queues and pieces of a few hundred KiB each.
ROOM = 48 * MIB


class Api:
    """The node's API, and services made for a test."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.channel = grpc.insecure_channel(f"unix:{node.folder}/run/api.sock")
        self.control = control_pb2_grpc.ControlServiceStub(self.channel)
        self.access = access_pb2_grpc.TaskAccessServiceStub(self.channel)

    def service(self, name: str, script: str, replicas: int = 1, **container: Any) -> list[task_pb2.Task]:
        """Make a service; returns its tasks once they run."""
        spec = service_pb2.ServiceSpec(name=name)
        spec.replicated.replicas = replicas
        spec.task.container.image = IMAGE
        spec.task.container.command.args.extend(["sh", "-c", script])
        for key, value in container.items():
            setattr(spec.task.container, key, value)
        made = self.control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service
        running: list[task_pb2.Task] = []

        def look() -> bool:
            found = self.control.ListTasks(control_pb2.ListTasksRequest(service_ids=[made.id])).tasks
            running[:] = [task for task in found if task.status.run]
            return len(running) == replicas

        until(look)
        return sorted(running, key=lambda task: task.slot)

    def exec(self, task: task_pb2.Task, *args: str, **start: Any) -> Exec:
        return Exec(self.access.Exec, pb.ExecRequest, pb.ExecStart(task_id=task.id, args=args, **start))


class Exec:
    """One stream: what is sent is queued, what comes is read on demand."""

    def __init__(self, call: Any, request: Any, start: Any) -> None:
        self._request = request
        self._queue: queue.Queue[Any] = queue.Queue(4)
        self._queue.put(request(start=start))
        self.answers = call(iter(self._queue.get, None), timeout=100)
        self.out: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.exited: pb.ExecExited | None = None

    def send(self, timeout: float | None = None, **message: Any) -> None:
        self._queue.put(self._request(**message), timeout=timeout)

    def started(self) -> Any:
        answer = next(self.answers)
        assert answer.WhichOneof("message") == "started", answer
        return answer.started

    def read_until(self, word: bytes) -> None:
        while word not in self.out["stdout"]:
            self._take(next(self.answers))

    def finish(self) -> tuple[int, bytes]:
        for answer in self.answers:
            self._take(answer)
        assert self.exited is not None
        return self.exited.exit_code, self.out["stdout"]

    def _take(self, answer: Any) -> None:
        kind = answer.WhichOneof("message")
        if kind == "exited":
            self.exited = answer.exited
        elif kind != "started":
            self.out[kind] += getattr(answer, kind)


@pytest.fixture(scope="module")
def api(shared: Node) -> Iterator[Api]:
    found = Api(shared)
    yield found
    for service in found.control.ListServices(control_pb2.ListServicesRequest()).services:
        found.control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service.id))
    until(lambda: not found.control.ListServices(control_pb2.ListServicesRequest()).services)
    found.channel.close()


@pytest.fixture(scope="module")
def idle(api: Api) -> task_pb2.Task:
    return api.service("idle", "while :; do sleep 1; done")[0]


# -- exec ---------------------------------------------------------------------------------------------------


def test_exec_with_a_terminal_has_its_size_from_the_start_and_changes_it(api: Api, idle: task_pb2.Task) -> None:
    script = "trap 'stty size; exit 7' WINCH; stty size; while :; do sleep 0.1; done"
    run = api.exec(idle, "sh", "-c", script, tty=True, stdin=True, size=pb.TerminalSize(rows=33, columns=121))
    run.read_until(b"33 121")
    run.send(resize=pb.TerminalSize(rows=40, columns=80))
    assert run.finish() == (7, b"33 121\r\n40 80\r\n")


def test_exec_without_a_terminal_keeps_streams_apart(api: Api, idle: task_pb2.Task) -> None:
    run = api.exec(idle, "sh", "-c", "echo out; echo err >&2; exit 3", env=["A=1"], working_dir="/tmp")
    assert run.finish() == (3, b"out\n")
    assert run.out["stderr"] == b"err\n"
    run = api.exec(idle, "sh", "-c", 'echo "$A $PWD $(id -u)"', env=["A=b"], working_dir="/tmp", user="12")
    assert run.finish() == (0, b"b /tmp 12\n")


def test_the_end_of_input_is_not_the_end_of_output(api: Api, idle: task_pb2.Task) -> None:
    run = api.exec(idle, "sh", "-c", "wc -c; sleep 0.3; echo later", stdin=True)
    for _ in range(3):
        run.send(stdin=b"x" * 100_000)
    run.send(stdin_closed=pb.StdinClosed())
    assert run.finish() == (0, b"300000\nlater\n")


def test_signals_and_exit_statuses(api: Api, idle: task_pb2.Task) -> None:
    run = api.exec(idle, "sh", "-c", "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    run.read_until(b"ready")
    run.send(signal="USR1")
    assert run.finish() == (5, b"ready\ngot\n")
    run = api.exec(idle, "sleep", "100")
    run.started()
    run.send(signal="15")
    assert run.finish()[0] == 128 + 15
    missing = api.exec(idle, "no-such-program")
    assert missing.finish()[0] == 127
    assert missing.exited is not None
    assert "no-such-program" in missing.exited.error
    assert api.exec(idle, "/etc").finish()[0] == 126


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_program_whose_client_is_cut_off_is_hung_up(api: Api, idle: task_pb2.Task) -> None:
    script = "trap 'echo hup > /tmp/hup; exit' HUP; echo ready; while :; do sleep 0.1; done"
    run = api.exec(idle, "sh", "-c", script)
    pid = run.started().pid
    run.read_until(b"ready")
    run.answers.cancel()
    until(lambda: gone(pid))
    assert api.exec(idle, "cat", "/tmp/hup").finish() == (0, b"hup\n")
    with_children = api.exec(idle, "sh", "-c", "sleep 1234 & echo ready; wait")
    with_children.read_until(b"ready")
    with_children.answers.cancel()
    until(lambda: b"sleep 1234" not in api.exec(idle, "ps").finish()[1])


def test_a_program_that_does_not_heed_it_is_killed(api: Api, idle: task_pb2.Task) -> None:
    run = api.exec(idle, "sh", "-c", "trap '' HUP; echo ready; while :; do sleep 0.1; done", tty=True)
    pid = run.started().pid
    run.read_until(b"ready")
    run.answers.cancel()
    time.sleep(1)
    assert not gone(pid)
    until(lambda: gone(pid), 60)


def test_a_detached_program_goes_on(api: Api, idle: task_pb2.Task) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; dd if=/dev/zero bs=1M count=8; echo done > /tmp/detached"
    run = api.exec(idle, "sh", "-c", script, detach=True)
    assert [answer.WhichOneof("message") for answer in run.answers] == ["started"]
    until(lambda: api.exec(idle, "cat", "/tmp/detached").finish()[1] == b"done\n")


# -- flow control -------------------------------------------------------------------------------------------


def rss(pid: int) -> int:
    """Resident bytes of a process (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def between(node: Node, task: task_pb2.Task) -> dict[str, int]:
    """The processes between a container's program and its reader."""
    daemons = node.daemons()
    return {"manager": daemons["manager"], "agent": daemons["agent"], "shim": node.shims()[task.id]}


def watch_growth(processes: dict[str, int], seconds: float) -> dict[str, int]:
    """By how much each process grew at most in a time."""
    before = {name: rss(pid) for name, pid in processes.items()}
    most = dict.fromkeys(before, 0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, pid in processes.items():
            most[name] = max(most[name], rss(pid) - before[name])
        time.sleep(0.05)
    return most


def written(pid: int) -> int:
    """Bytes that a process has written so far (proc_pid_io(5))."""
    found = re.search(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())
    assert found is not None
    return int(found[1])


def test_a_reader_that_stands_still_holds_the_program_and_no_memory(api: Api, idle: task_pb2.Task) -> None:
    """A producer of 1 GiB and a reader that pauses: nothing between them grows; then every byte arrives."""
    processes = between(api.node, idle)
    run = api.exec(idle, "dd", "if=/dev/zero", "bs=64k", "count=16384")
    pid = run.started().pid
    growth = watch_growth(processes, 5.0)
    assert max(growth.values()) < ROOM, growth
    held = written(pid)
    assert held < 64 * MIB
    time.sleep(1)
    assert written(pid) == held, "the producer waits"
    total = 0
    deadline = time.monotonic() + 20
    for answer in run.answers:
        total += len(answer.stdout)
        if total > 256 * MIB or time.monotonic() > deadline:
            break
    assert total > held
    growth = {name: rss(pid) for name, pid in processes.items()}
    run.answers.cancel()
    until(lambda: gone(pid))


def test_soak_every_byte_of_a_slow_transfer_arrives(api: Api, idle: task_pb2.Task, many: Callable[[int], int]) -> None:
    size = many(1024)  # MiB
    run = api.exec(idle, "dd", "if=/dev/zero", "bs=1M", f"count={size}")
    total = pieces = 0
    code = -1
    for answer in run.answers:
        if answer.WhichOneof("message") == "stdout":
            total += len(answer.stdout)
            pieces += 1
            if pieces % 500 == 0:
                time.sleep(0.05)
        elif answer.WhichOneof("message") == "exited":
            code = answer.exited.exit_code
    assert (total, code) == (size * MIB, 0)


def test_the_rest_of_an_output_waits_for_its_reader(api: Api, idle: task_pb2.Task) -> None:
    """The program has ended while its reader stood still: output and exit status are all there later."""
    run = api.exec(idle, "sh", "-c", "dd if=/dev/zero bs=1k count=200 2>/dev/null; echo end; exit 4")
    run.started()
    time.sleep(3)
    code, out = run.finish()
    assert (code, len(out), out[-4:]) == (4, 200 * 1024 + 4, b"end\n")


def test_a_program_that_does_not_read_holds_its_sender_and_no_memory(api: Api, idle: task_pb2.Task) -> None:
    """A client that sends for ever to a program that does not read is held; a signal is heard all the same."""
    processes = between(api.node, idle)
    run = api.exec(idle, "sh", "-c", "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done", stdin=True)
    run.read_until(b"ready")
    for _ in range(4):  # less than what waits for a program before the client does
        run.send(stdin=bytes(200 * 1024))
    run.send(signal="INT")
    assert run.finish()[0] == 9

    run = api.exec(idle, "sleep", "1000", stdin=True)
    run.started()
    before = {name: rss(pid) for name, pid in processes.items()}
    sent = send_until_held(run)
    growth = {name: rss(pid) - before[name] for name, pid in processes.items()}
    assert max(growth.values()) < ROOM, growth
    assert sent < 64
    run.answers.cancel()


def send_until_held(run: Exec) -> int:
    """Send input until nobody takes more; returns how many MiB that were."""
    for sent in range(1024):
        try:
            run.send(timeout=3, stdin=bytes(MIB))
        except queue.Full:
            return sent
    return 1024


# -- attach -------------------------------------------------------------------------------------------------


def attach(api: Api, task: task_pb2.Task, **start: Any) -> Exec:
    return Exec(api.access.Attach, pb.AttachRequest, pb.AttachStart(task_id=task.id, **start))


def test_attach_feeds_and_reads_and_ends_with_the_run(api: Api) -> None:
    script = "echo up; while read line; do echo got $line; [ $line = stop ] && exit 6; done"
    task = api.service("attached", script, open_stdin=True)[0]
    first, second = attach(api, task, stdin=True), attach(api, task)
    first.started()
    second.started()
    first.send(stdin=b"one\n")
    second.read_until(b"got one\n")
    first.answers.cancel()  # leaving changes nothing
    third = attach(api, task, stdin=True)
    third.started()
    third.send(stdin=b"stop\n")
    assert third.finish() == (6, b"got stop\n")
    assert second.finish() == (6, b"got one\ngot stop\n")


def test_an_attached_reader_that_stands_still_holds_the_container_and_no_memory(api: Api) -> None:
    task = api.service("flood", "read start; exec dd if=/dev/zero bs=64k count=16384", open_stdin=True)[0]
    processes = between(api.node, task)
    pid = api.node.pids()[task.id]
    reader = attach(api, task, stdin=True)
    reader.started()
    reader.send(stdin=b"start\n")
    growth = watch_growth(processes, 4.0)
    assert max(growth.values()) < ROOM, growth
    held = written(pid)
    time.sleep(1)
    assert written(pid) == held, "the container waits for its reader"
    reader.answers.cancel()
    until(lambda: written(pid) > held)


def test_who_attaches_first_has_a_terminals_output_from_the_start(api: Api) -> None:
    script = "echo first; read word; echo $word; while :; do sleep 0.1; done"
    task = api.service("early", script, tty=True, open_stdin=True)[0]
    until(lambda: b"first" in b"".join(data for _, data in lines(api, [task])))
    run = attach(api, task, stdin=True, from_start=True)
    assert run.started().from_start
    run.send(stdin=b"second\n")
    run.read_until(b"second\r\nsecond\r\n")
    assert run.out["stdout"] == b"first\r\nsecond\r\nsecond\r\n"
    again = attach(api, task, from_start=True)
    started = again.started()
    assert not started.from_start
    assert started.at.ToNanoseconds()
    earlier = api.access.ReadLogs(pb.ReadLogsRequest(task_ids=[task.id], until=started.at))
    assert b"".join(entry.data for answer in earlier for entry in answer.entries) == run.out["stdout"]


def test_a_terminals_output_that_nobody_takes_is_kept_no_longer_than_it_is_short(api: Api) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo $(printf '%0100d' $i); i=$((i+1)); done; echo over; sleep 1000"
    task = api.service("much", script, tty=True)[0]
    until(lambda: b"over" in b"".join(data for _, data in lines(api, [task], tail=1)))
    assert not attach(api, task, from_start=True).started().from_start


# -- logs ---------------------------------------------------------------------------------------------------


def lines(api: Api, tasks: list[task_pb2.Task], **fields: Any) -> list[tuple[str, bytes]]:
    names = {task.id: task.name for task in tasks}
    request = pb.ReadLogsRequest(task_ids=[task.id for task in tasks], **fields)
    stream = api.access.ReadLogs(request, timeout=60)
    return [(names[entry.task_id], entry.data) for answer in stream for entry in answer.entries]


def test_logs_of_several_tasks_by_time(api: Api) -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.25; done; echo last >&2; sleep 1000"
    tasks = api.service("chatty", script, replicas=2)
    until(lambda: [data for _, data in lines(api, tasks)].count(b"last\n") == 2)
    request = pb.ReadLogsRequest(task_ids=[task.id for task in tasks])
    entries = [entry for answer in api.access.ReadLogs(request) for entry in answer.entries]
    assert len(entries) == 14
    moments = [entry.time.ToNanoseconds() for entry in entries]
    assert moments == sorted(moments)
    for task in tasks:
        own = [entry.data for entry in entries if entry.task_id == task.id]
        assert own == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"last\n"]
    assert {entry.stream for entry in entries if entry.data == b"last\n"} == {pb.OUTPUT_STREAM_STDERR}

    assert sorted(lines(api, tasks, tail=1)) == [("chatty-1", b"last\n"), ("chatty-2", b"last\n")]
    assert lines(api, tasks, tail=0) == []
    middle = entries[7].time
    late, early = lines(api, tasks, since=middle), lines(api, tasks, until=middle)
    assert len(late) + len(early) >= 14
    assert late[0][1] == entries[7].data
    assert early[-1][1] == entries[7].data


def test_logs_followed_until_the_container_ends(api: Api) -> None:
    task = api.service("short", "for i in 1 2 3; do echo $i; sleep 0.5; done")[0]
    assert lines(api, [task], follow=True, until_exit=True) == [("short", b"%d\n" % n) for n in (1, 2, 3)]
    soon = pb.ReadLogsRequest(task_ids=[task.id], follow=True)
    soon.until.FromNanoseconds(time.time_ns() + 10**9)
    assert len([entry for answer in api.access.ReadLogs(soon, timeout=60) for entry in answer.entries]) == 3


def test_a_log_reader_that_stands_still_costs_nothing(api: Api) -> None:
    """A container that writes without end, a follower that does not read: the container goes on, nothing grows."""
    task = api.service("babble", "while :; do head -c 8000 /dev/zero | tr '\\0' x; echo; done")[0]
    processes = between(api.node, task)
    stream = api.access.ReadLogs(pb.ReadLogsRequest(task_ids=[task.id], follow=True), timeout=60)
    next(iter(stream))
    growth = watch_growth(processes, 4.0)
    assert max(growth.values()) < ROOM, growth
    stream.cancel()


# -- refusals -----------------------------------------------------------------------------------------------


def refusal(stream: Any) -> tuple[grpc.StatusCode, Any]:
    """Code and first detail of a call that must be refused."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    encoded = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    found = status_pb2.Status.FromString(encoded).details[0]
    detail = getattr(error_details_pb2, found.type_url.rpartition(".")[2])()
    assert found.Unpack(detail)
    return caught.value.code(), detail


def test_what_is_wrong_is_said_with_details(api: Api, idle: task_pb2.Task) -> None:
    nobody = task_pb2.Task(id="f" * 64)
    code, detail = refusal(api.exec(nobody, "true").answers)
    assert (code, detail.resource_type) == (grpc.StatusCode.NOT_FOUND, "container")
    code, detail = refusal(api.access.ReadLogs(pb.ReadLogsRequest(task_ids=[nobody.id])))
    assert (code, detail.resource_type) == (grpc.StatusCode.NOT_FOUND, "container")
    code, detail = refusal(api.access.ReadLogs(pb.ReadLogsRequest()))
    assert (code, detail.field_violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "task_ids")
    for start, field in (({"args": []}, "start.args"), ({"args": ["true"], "working_dir": "x"}, "start.working_dir")):
        code, detail = refusal(api.access.Exec(iter([pb.ExecRequest(start=pb.ExecStart(task_id=idle.id, **start))])))
        assert (code, detail.field_violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    code, detail = refusal(api.access.Exec(iter([pb.ExecRequest(stdin=b"first")])))
    assert (code, detail.field_violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "start")
    run = api.exec(idle, "sleep", "1000")
    pid = run.started().pid
    run.send(signal="SIGNOTHING")
    code, detail = refusal(run.answers)
    assert (code, detail.field_violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "signal")
    until(lambda: gone(pid))

    ended = api.service("ended", "exit 0")[0]
    until(lambda: api.control.GetTask(control_pb2.GetTaskRequest(task=ended.id)).task.status.HasField("exit_code"))
    for call in (api.exec(ended, "true").answers, attach(api, ended).answers):
        code, detail = refusal(call)
        assert (code, detail.violations[0].type) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_RUNNING")


def test_usage_counts_the_network_too(api: Api, idle: task_pb2.Task) -> None:
    sample = next(iter(api.access.WatchStats(pb.WatchStatsRequest(task_ids=[idle.id], once=True)))).stats[0]
    assert sample.pids >= 1
    assert sample.memory_bytes > 0
    assert sample.online_cpus == os.cpu_count()
