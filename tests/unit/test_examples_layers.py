"""How the examples' images are put together: differences of root file systems, layers of ours, docker's archive."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from images import layers
from node.images import entry, folder, hardlink, symlink, tar

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nredis:x:101:102::/data:/bin/false\n"


def named(data: bytes) -> dict[str, tarfile.TarInfo]:
    """The entries of a tar by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


@pytest.fixture
def layer(tmp_path: Path) -> bytes:
    """The layer between two small root file systems."""
    below = [folder("./etc"), entry("./etc/kept", data=b"1"), entry("./etc/passwd", data=b"root:x:0:0::/:/bin/sh\n")]
    below += [folder("./old"), entry("./old/inside"), entry("./gone"), entry("./mode", mode=0o644)]
    above = [folder("./etc", mtime=9), entry("./etc/kept", data=b"1"), entry("./etc/passwd", data=PASSWD)]
    above += [
        entry("./mode", mode=0o600),
        folder("./made"),
        entry("./made/new", data=b"new"),
        symlink("new", "./made/s"),
    ]
    above += [hardlink("./etc/kept", "./made/link"), folder("./log"), entry("./log/of-the-package")]
    for name, entries in (("below", below), ("above", above)):
        (tmp_path / name).write_bytes(tar(entries))
    layers.difference(tmp_path / "below", tmp_path / "above", tmp_path / "layer", ["log"])
    return (tmp_path / "layer").read_bytes()


def test_a_layer_has_what_is_new_or_other_and_whiteouts_for_what_is_gone(layer: bytes) -> None:
    new = ["./made", "./made/new", "./made/s", "./made/link", "./log"]
    assert sorted(named(layer)) == sorted(["./etc/passwd", "./mode", *new, "./.wh.old", "./.wh.gone"])
    assert named(layer)["./made/link"].linkname == "./etc/kept"


def test_files_of_ours_belong_to_root_and_folders_to_whom_the_recipe_says(layer: bytes, tmp_path: Path) -> None:
    (tmp_path / "packages").write_bytes(layer)
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "run").write_text("#!/bin/sh\n")
    (source / "bin" / "run").chmod(0o700)
    users = layers.users_of(tmp_path / "below", tmp_path / "packages")
    layers.own_files(tmp_path / "own", source, {"data": ("redis", 0o750)}, users)
    found = named((tmp_path / "own").read_bytes())
    assert {name: (info.uid, info.gid, info.mode) for name, info in found.items()} == {
        "bin": (0, 0, 0o755),
        "bin/run": (0, 0, 0o755),
        "data": (101, 102, 0o750),
    }


def test_an_archive_has_each_layer_once(layer: bytes, tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(layer)
    (tmp_path / "more").write_bytes(tar([entry("more")]))
    base, more, out = tmp_path / "base", tmp_path / "more", io.BytesIO()
    layers.save(out, {"example/one": ([base], {"User": "redis"}), "example/two": ([base, more], {})}, "amd64")
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        content = {info.name: archive.extractfile(info) for info in archive}
        listed = json.loads(content["manifest.json"].read())
        assert sum(name.endswith("layer.tar") for name in content) == 2
        assert [item["RepoTags"] for item in listed] == [["example/one:latest"], ["example/two:latest"]]
        config = json.loads(content[listed[0]["Config"]].read())
        assert config["config"] == {"User": "redis"}
        assert config["rootfs"]["diff_ids"] == [f"sha256:{layers.digest(base)}"]
