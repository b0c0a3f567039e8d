"""The runtime's pure pieces: users, logs, profile, mount options."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pycompose.worker.runtime import capabilities, logs, oci, users
from pycompose.worker.runtime.errors import ConfigError
from pycompose.worker.runtime.jsonlog import JsonLog, timestamp
from pycompose.worker.runtime.mounts import NOSUID, RDONLY, MountOptions

PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:100:101::/srv:/bin/sh\n1000:x:0:0::/:/bin/sh\nbad:x:4294967296:0::/:\n"
GROUP = "root:x:0:\napp:x:101:\nweb:x:33:app\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (), "/root")),
        ("app", (100, 101, (33,), "/srv")),
        ("100", (100, 101, (33,), "/srv")),
        ("app:web", (100, 33, (), "/srv")),
        ("1000", (1000, 0, (), "/")),
        ("1000:1000", (1000, 1000, (), "/")),
    ],
)
def test_users(text: str, expected: tuple[int, int, tuple[int, ...], str]) -> None:
    found = users.resolve(text, PASSWD, GROUP)
    assert (found.uid, found.gid, found.groups, found.home) == expected


@pytest.mark.parametrize("text", ["nobody", "bad", "4294967295", "+0", "-1", "٠", "0x0", "app:none", "9" * 5000])
def test_users_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        users.resolve(text, PASSWD, GROUP)


def test_account_file_is_read_inside_the_layer_only(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for layer in (upper, lower):
        (layer / "etc").mkdir(parents=True)
    (lower / "etc/passwd").write_text("low")
    assert users.read_account_file([upper, lower], "/etc/passwd") == "low"
    os.mkfifo(upper / "etc/passwd")
    assert users.read_account_file([upper, lower], "/etc/passwd") == ""
    (upper / "etc/passwd").unlink()
    (tmp_path / "secret").write_text("secret")
    (upper / "etc/passwd").symlink_to("../../secret")
    assert users.read_account_file([upper], "/etc/passwd") == ""


def test_log_lines_are_dockers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 0, 1)
    log.write("stdout", b"one\ntw", 1_000_000_001)
    log.write("stdout", b"o\n" + b"x" * 20_000 + b"\n\xff", 2_000_000_000)
    log.close(3_000_000_000)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    texts = [record["log"] for record in records]
    assert texts == ["one\n", "two\n", "x" * 16384, "x" * 3616 + "\n", "\ufffd"]
    assert records[0] == {"log": "one\n", "stream": "stdout", "time": "1970-01-01T00:00:01.000000001Z"}


def test_times_round_trip() -> None:
    moment = 1_795_523_367_971_252_463
    assert logs.parse_time(timestamp(moment)) == moment


def test_mount_options() -> None:
    options = MountOptions(["rbind", "ro", "nosuid", "rslave", "size=64k", "rro"])
    assert (options.set, options.rbind, options.recursive_set) == (RDONLY | NOSUID, True, RDONLY)
    assert options.data == [("size", "64k")]
    assert MountOptions(["ro", "rw"]).set == 0


def test_capability_masks() -> None:
    assert capabilities.mask(oci.DEFAULT_CAPABILITIES, 40) == 0xA80425FB
    with pytest.raises(ConfigError, match="CAP_NOPE"):
        capabilities.mask(["CAP_NOPE"], 40)
