"""A rootless node's decisions: where its files are, which ids it has, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycompose.proto import places
from pycompose.worker.rootless import inside, preconditions, way_out


def test_places(tmp_path: Path) -> None:
    session = {"HOME": "/home/a", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert places.state_dir(1000, session) == "/home/a/.local/share/pycompose"
    assert places.state_dir(1000, session | {"XDG_DATA_HOME": "/data"}) == "/data/pycompose"
    assert places.run_dir(1000, session) == f"{tmp_path}/pycompose"
    assert places.run_dir(4_000_000_000, {"HOME": "/home/a"}) == "/home/a/.local/share/pycompose/run"
    assert (places.state_dir(0, session), places.run_dir(0, session)) == ("/var/lib/pycompose", "/run/pycompose")
    given = {"PYCOMPOSE_STATE_DIR": "/s", "PYCOMPOSE_RUN_DIR": "/r"}
    assert (places.state_dir(0, given), places.run_dir(1000, given)) == ("/s", "/r")


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("a:100000:65536\nb:165536:65536\n", (165_536, 65_536)),
        ("1000:7:65536\n", (7, 65_536)),
        ("b:1:10\nb:500000:70000\n", (500_000, 70_000)),
        ("b:1:65535\n", None),
        ("# b:1:65536\n\nb:x:65536\nbb:1:65536\n", None),
        ("", None),
    ],
)
def test_a_range_of_the_user(table: str, found: tuple[int, int] | None) -> None:
    assert preconditions.given(table, ("b", "1000")) == found


def test_the_remedy_names_ids_that_nobody_has() -> None:
    assert preconditions.free("") == 131_072
    assert preconditions.free("a:100000:65536\nb:300000:65536\n") == 393_216


def test_a_switch_that_forbids_namespaces(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "unprivileged_userns_clone").write_text("0\n")
    assert any("kernel.unprivileged_userns_clone=1" in line for line in preconditions.missing(tmp_path))
    (tmp_path / "kernel" / "unprivileged_userns_clone").write_text("1\n")
    assert not any("sysctl" in line for line in preconditions.missing(tmp_path))


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "chmod 700" in preconditions.directory(tmp_path)
    tmp_path.chmod(0o700)
    assert preconditions.directory(tmp_path / "new") == ""


def test_name_servers_on_loopback() -> None:
    assert inside.only_loopback("nameserver 127.0.0.53\noptions edns0\n")
    assert inside.only_loopback("")
    assert not inside.only_loopback("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")


def test_no_way_out_leads_to_the_machines_loopback() -> None:
    pasta, slirp = (command for _, command in way_out.commands(7, "/pid"))
    assert "--no-map-gw" in pasta
    assert [pasta[pasta.index(flag) + 1] for flag in ("-t", "-u", "-T", "-U")] == ["none"] * 4
    assert "--disable-host-loopback" in slirp
