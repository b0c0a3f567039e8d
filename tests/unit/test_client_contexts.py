"""Contexts: their files, which one is talked to, and what `context` says about them."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pycompose.compose.cli import main
from pycompose.compose.client.addresses import Address, parse
from pycompose.compose.client.connection import target_of
from pycompose.compose.client.contextfiles import pack, unpack
from pycompose.compose.client.contexts import Context, ContextError, Contexts, choose, config_folder
from pycompose.compose.client.errors import AddressError


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("unix:///run/a/../api.sock", "unix", "unix:///run/api.sock"),
        ("unix:/run/api.sock", "unix", "unix:///run/api.sock"),
        ("node-1", "tcp", "node-1:7420"),
        ("tcp://10.0.0.1:7000", "tcp", "10.0.0.1:7000"),
        ("[fd00::1]", "tcp", "[fd00::1]:7420"),
        ("[fd00::1]:9", "tcp", "[fd00::1]:9"),
        ("ssh://root@node-1", "ssh", "ssh://root@node-1"),
        ("ssh://node-1:2222/run/x/api.sock", "ssh", "ssh://node-1:2222/run/x/api.sock"),
    ],
)
def test_addresses(text: str, kind: str, shown: str) -> None:
    found = parse(text)
    assert (found.kind, str(found)) == (kind, shown)
    assert parse(shown) == found


@pytest.mark.parametrize(
    "text",
    ["", "unix://relative", "a:b", "a:0", "a:70000", "a/b", "[zz]:1", "ssh://", "ssh://-oProxyCommand=x", "ssh://-x@h"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse(text)


def test_which_one_is_talked_to() -> None:
    host, context = {"PYCOMPOSE_HOST": "h:1"}, {"PYCOMPOSE_CONTEXT": "c"}
    assert choose("", "", {}, "").context == "default"
    assert choose("", "", {}, "used").context == "used"
    assert choose("", "", context, "used").context == "c"
    assert choose("", "", {**host, **context}, "used").host == "h:1"
    assert choose("", "flag:1", {**host, **context}, "used").host == "flag:1"
    found = choose("flag", "", {**host, **context}, "used")
    assert (found.context, found.host) == ("flag", "")
    with pytest.raises(ContextError, match="contradict"):
        choose("a", "b:1", {}, "")


def test_where_they_are() -> None:
    assert config_folder({"XDG_CONFIG_HOME": "/x"}) == Path("/x/pycompose")
    assert config_folder({"XDG_CONFIG_HOME": "relative"}).name == "pycompose"
    assert config_folder({"XDG_CONFIG_HOME": "relative"}).is_absolute()


PROOFS = {"cert.pem": b"-----BEGIN a", "key.pem": b"-----BEGIN b", "ca.pem": b"-----BEGIN c"}


def test_kept_and_removed(tmp_path: Path) -> None:
    contexts = Contexts(tmp_path)
    contexts.save(Context("prod", (parse("a"), parse("b")), "live", "id1"), PROOFS)
    found = contexts.get("prod")
    assert found.addresses == (Address("tcp", "a", 7420), Address("tcp", "b", 7420))
    assert (found.description, found.cluster, found.proves()) == ("live", "id1", True)
    assert found.folder is not None
    for name in PROOFS:
        assert stat.S_IMODE((found.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(found.folder.parent.stat().st_mode) == 0o700
    with pytest.raises(ContextError, match="already"):
        contexts.save(Context("prod", (parse("c"),)), {})
    contexts.use("prod")
    assert contexts.current() == "prod"
    assert contexts.names() == ["prod"]
    contexts.remove("prod")
    assert (contexts.current(), contexts.names()) == ("", [])
    with pytest.raises(ContextError, match="there are default"):
        contexts.get("prod")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-f", "default"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(ContextError):
        Contexts(tmp_path).save(Context(name, (parse("a"),)), {})
    assert list(tmp_path.rglob("context.json")) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "endpoints": []}', '{"format": 1, "endpoints": [1]}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "contexts" / "x"
    folder.mkdir(parents=True)
    (folder / "context.json").write_text(text)
    with pytest.raises(ContextError, match=r"x/context\.json: .*make it anew"):
        Contexts(tmp_path).get("x")


def test_one_file_and_back() -> None:
    context = Context("prod", (parse("a"),), "live", "id1")
    assert unpack("copy", pack(context, PROOFS)) == (Context("copy", (parse("a"),), "live", "id1"), PROOFS)


def _tar(*names: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar",
        b"x" * (2 << 20),
        _tar("../../escape"),
        _tar("/etc/cron.d/x"),
        _tar("context.json", kind=tarfile.SYMTYPE),
        _tar("context.json", "context.json"),
        pack(Context("x", (parse("a"),)), {"cert.pem": b"1"}),
        pack(Context("x"), PROOFS),
        pack(Context("x", (parse("a"),)), {}),
    ],
)
def test_files_that_are_none(data: bytes) -> None:
    with pytest.raises(ContextError):
        unpack("x", data)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs command lines of a user with no contexts, and no node."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYCOMPOSE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("PYCOMPOSE_HOST", raising=False)
    monkeypatch.delenv("PYCOMPOSE_CONTEXT", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = main.run(words)
        return (status, *capfd.readouterr())

    return run


def test_commands(cli: Any, tmp_path: Path) -> None:
    for name, data in PROOFS.items():
        (tmp_path / name).write_bytes(data)
    proofs = ("--cert", "cert.pem", "--key", "key.pem", "--ca", "ca.pem")
    assert cli("context", "create", "prod", "--endpoint", "m1", "--endpoint", "m2", *proofs)[:2] == (0, "prod\n")
    assert cli("context", "create", "lab", "--docker", "host=ssh://root@lab", "--description", "for trying")[0] == 0
    assert cli("context", "show")[1] == "default\n"
    assert cli("context", "use", "prod")[1] == "prod\n"
    assert cli("context", "show")[1] == "prod\n"
    assert cli("-c", "lab", "context", "show")[1] == "lab\n"
    out = cli("context", "ls")[1]
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["default", "this"], ["lab", "for"], ["prod", "*"]]
    assert json.loads(cli("context", "inspect")[1])[0]["Endpoints"] == ["m1:7420", "m2:7420"]
    status, out, err = cli("context", "rm", "prod")
    assert status == 1
    assert "in use" in err
    assert cli("context", "export", "prod")[1] == "prod.pycontext\n"
    assert stat.S_IMODE((tmp_path / "prod.pycontext").stat().st_mode) == 0o600
    assert cli("context", "export", "prod")[0] == 1  # nothing is overwritten
    assert cli("context", "import", "copy", "prod.pycontext")[0] == 0
    assert Contexts.of_user().get("copy").proves()
    assert cli("context", "update", "copy", "--endpoint", "m3")[0] == 0
    assert [str(one) for one in target_of("copy").addresses] == ["m3:7420"]
    assert cli("context", "rm", "-f", "prod", "copy")[1] == "prod\ncopy\n"
    assert cli("context", "show")[1] == "default\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("context create x", 2, "name a manager"),
        ("context create x --endpoint m1", 1, "takes a certificate"),
        ("context create x --endpoint m1 --cert f --key f", 1, "f: No such file"),
        ("context create x --docker port=1", 2, "want KEY=VALUE"),
        ("context create default --endpoint ssh://h", 1, "choose another name"),
        ("context use nothing", 1, 'no context "nothing"; there are default'),
        ("context import x nothing.pycontext", 1, "nothing.pycontext: No such file"),
        ("-c nothing -p x ps", 1, 'no context "nothing"'),
        ("-c x -H y:1 -p x ps", 1, "contradict"),
        ("-H far.example.com:7420 -p x ps", 2, "takes a certificate"),
        ("-H unix:///nowhere/api.sock -p x ps", 1, "no node answers at /nowhere/api.sock"),
        ("-H unix:///nowhere/api.sock node start", 1, "about this machine's node"),
    ],
)
def test_wrong_words(cli: Any, words: str, status: int, said: str) -> None:
    code, out, err = cli(*words.split())
    assert (code, out) == (status, "")
    assert said in err


def test_a_socket_elsewhere_never_starts_a_node(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}\n")
    status, _, err = cli("-H", f"unix://{tmp_path}/other.sock", "up", "-d")
    assert status == 1
    assert f"no node answers at {tmp_path}/other.sock" in err
    assert not (tmp_path / "run").exists()
