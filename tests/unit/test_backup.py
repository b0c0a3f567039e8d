"""A backup's file: whatever is cut, changed or added is found; what is different on another machine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pycompose.manager.backup.rehome import Move, rehomed, replaces
from pycompose.manager.backup.sealed import Reader, Writer
from pycompose.manager.model import NODE, SERVICE, TASK, VOLUME
from pycompose.manager.sealing import Sealer
from pycompose.proto.backup import END, FORMAT, HEAD, MAGIC, BackupError, Frames, Head, Passphrase, frame
from pycompose.proto.v1 import node_pb2, service_pb2, task_pb2, volume_pb2
from pycompose.proto.v1.backup_pb2 import BackupEntries, BackupEntry, BackupKeys, BackupPart

OUTER = Sealer(b"k" * 32)
HEADING = Head(FORMAT, "1.0", 1e9, "test", "", True)
PARTS = [
    BackupPart(keys=BackupKeys(data_key=b"d" * 32)),
    BackupPart(entries=BackupEntries(entries=[BackupEntry(key="/object/a", value=b"hidden-value")])),
    BackupPart(entries=BackupEntries(entries=[BackupEntry(key="/object/a", deleted=True), BackupEntry(key="/name/b")])),
]


def written(head: Head = HEADING) -> bytes:
    writer = Writer(head, OUTER)
    return b"".join([writer.begin(), *map(writer.part, PARTS), writer.end()])


def read(data: bytes, outer: Sealer = OUTER, piece: int = 1 << 20) -> list[BackupPart]:
    reader = Reader(lambda head: outer)
    found = [part for at in range(0, len(data), piece) for part in reader.feed(data[at : at + piece])]
    reader.finish()
    return found


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_what_was_written_is_read_in_pieces_of_any_size(piece: int) -> None:
    data = written()
    assert read(data, piece=piece) == PARTS
    assert b"hidden-value" not in data
    assert b"d" * 32 not in data


def test_a_file_that_was_cut_anywhere_is_refused() -> None:
    data = written()
    for size in range(len(data)):
        with pytest.raises(BackupError, match="was cut off"):
            read(data[:size])


def test_a_changed_byte_is_found_wherever_it_is() -> None:
    data = written()
    for at in range(len(data)):
        with pytest.raises(BackupError):
            read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(BackupError, match="behind its end"):
        read(written() + b"x")


def test_parts_that_are_exchanged_left_out_or_of_another_backup_are_refused() -> None:
    """Checksums can be made by anybody; the seals cannot."""

    def remade(frames: list[tuple[bytes, bytes]]) -> bytes:
        import hashlib

        body = MAGIC + b"".join(frame(kind, body) for kind, body in frames[:-1])
        end = json.loads(frames[-1][1]) | {"digest": hashlib.sha256(body).hexdigest(), "parts": len(frames) - 2}
        return body + frame(END, json.dumps(end).encode())

    frames, others = list(Frames().feed(written())), list(Frames().feed(written()))
    head, first, second, third, end = frames
    assert head[0] == HEAD
    for wrong in (
        [head, second, first, third, end],
        [head, first, second, end],
        [head, first, others[2], third, end],
        [others[0], first, second, third, end],
        [head, first, second, third, third, end],
    ):
        with pytest.raises(BackupError, match="is damaged"):
            read(remade(wrong))


def test_a_newer_format_is_told_before_anything_else_is_asked() -> None:
    data = written(replace(HEADING, format=FORMAT + 1, version="9.9"))
    with pytest.raises(BackupError, match=r"made by pycompose 9\.9.*upgrade this pycompose"):
        read(data, Sealer(b"x" * 32))


def test_another_key_is_told() -> None:
    with pytest.raises(BackupError, match="cannot be opened with this passphrase"):
        read(written(), Sealer(b"x" * 32))
    with pytest.raises(BackupError, match="another data key"):
        read(written(replace(HEADING, with_keys=False)), Sealer(b"x" * 32))


def test_other_files_are_none() -> None:
    for data in (b"#!/bin/sh\n", b"\0" * 4096, b"pycompose backdown\n"):
        with pytest.raises(BackupError, match="is none"):
            read(data)


def test_a_frame_that_says_it_is_huge_is_not_waited_for() -> None:
    with pytest.raises(BackupError, match="damaged"):
        read(MAGIC + b"H\xff\xff\xff\xff")


def test_a_passphrase_makes_the_same_key_again() -> None:
    made = Passphrase("00" * 16, 2**10)
    assert Passphrase.of(made.note()).key("word") == made.key("word") != made.key("Word")
    assert len(made.key("word")) == 32
    for note in ("", "{}", '{"scrypt": {"salt": "zz"}}', '{"scrypt": {"salt": "00", "cost": 4294967296}}'):
        with pytest.raises(BackupError):
            Passphrase.of(note)


OLD, HERE, OTHER = "o" * 25, "h" * 25, "t" * 25
MOVE = Move(HERE, OLD, 10**18)


def task(state: int, desired: int = task_pb2.DESIRED_STATE_RUNNING, node: str = OLD) -> task_pb2.Task:
    made = task_pb2.Task(id="1", node_id=node, desired_state=desired, run_request=3)  # type: ignore[arg-type]
    made.status.state, made.status.run, made.status.run_request = state, 2, 3  # type: ignore[assignment]
    return made


def moved(made: task_pb2.Task, move: Move = MOVE) -> task_pb2.Task | None:
    found = rehomed(TASK, made.id, made, move)
    return None if found is None else found[1]


def test_one_node_that_is_another_machine_is_replaced() -> None:
    assert replaces(HERE, [OLD]) == OLD
    assert replaces(HERE, [HERE]) == ""
    assert replaces(HERE, [OLD, OTHER]) == ""
    assert replaces(HERE, []) == ""


def test_what_ran_is_started_anew_on_the_machine_that_replaces_its_own() -> None:
    found = moved(task(task_pb2.TASK_STATE_RUNNING))
    assert found is not None
    assert (found.node_id, found.desired_state) == (HERE, task_pb2.DESIRED_STATE_RUNNING)
    assert (found.status.state, found.status.run) == (task_pb2.TASK_STATE_ASSIGNED, 0)


def test_what_had_ended_or_was_stopped_stays_so() -> None:
    done = moved(task(task_pb2.TASK_STATE_COMPLETE))
    assert done is not None
    assert (done.desired_state, done.status.state) == (task_pb2.DESIRED_STATE_STOPPED, task_pb2.TASK_STATE_COMPLETE)
    stopped = moved(task(task_pb2.TASK_STATE_SHUTDOWN, task_pb2.DESIRED_STATE_STOPPED))
    assert stopped is not None
    assert stopped.status.state == task_pb2.TASK_STATE_SHUTDOWN


def test_what_waited_for_its_restart_is_started() -> None:
    made = task(task_pb2.TASK_STATE_FAILED)
    made.status.next_restart_at.GetCurrentTime()
    found = moved(made)
    assert found is not None
    assert (found.desired_state, found.status.state) == (
        task_pb2.DESIRED_STATE_RUNNING,
        task_pb2.TASK_STATE_ASSIGNED,
    )


def test_what_was_to_go_is_gone_here_and_told_again_elsewhere() -> None:
    assert moved(task(task_pb2.TASK_STATE_RUNNING, task_pb2.DESIRED_STATE_REMOVED)) is None
    elsewhere = moved(task(task_pb2.TASK_STATE_RUNNING, task_pb2.DESIRED_STATE_REMOVED, OTHER), Move(HERE, "", 0))
    assert elsewhere is not None
    assert (elsewhere.node_id, elsewhere.status.run) == (OTHER, 0)


def test_what_waits_for_a_node_waits_on() -> None:
    made = task(task_pb2.TASK_STATE_PENDING, node="")
    before = task_pb2.Task.FromString(made.SerializeToString())
    assert moved(made) == before


def test_a_node_keeps_what_its_operator_said_and_is_down_until_it_connects() -> None:
    node = node_pb2.Node(id=OLD)
    node.spec.labels["disk"], node.status.state = "ssd", node_pb2.NODE_STATE_READY
    found = rehomed(NODE, OLD, node, MOVE)
    assert found is not None
    assert (found[0], found[1].id, dict(found[1].spec.labels)) == (HERE, HERE, {"disk": "ssd"})
    assert found[1].status.state == node_pb2.NODE_STATE_DOWN


def test_a_volume_is_not_where_the_old_machine_was() -> None:
    volume = volume_pb2.Volume(id="data")
    for node in (OLD, OTHER):
        volume.locations.add(node_id=node)
    found = rehomed(VOLUME, "data", volume, MOVE)
    assert found is not None
    assert [place.node_id for place in found[1].locations] == [OTHER]


def test_numbers_of_the_old_epoch_are_forgotten() -> None:
    service = service_pb2.Service(id="s")
    service.meta.version.number, service.meta.spec_after = 7, 6
    found = rehomed(SERVICE, "s", service, MOVE)
    assert found is not None
    assert (found[1].meta.version.number, found[1].meta.spec_after) == (0, 0)
