"""The image store on a real file system: import, save, load, remove, and layers that try to leave their root."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pycompose.worker.images import ImageStore
from pycompose.worker.images.errors import BadArchive, ImageInUse, ImageNotFound


def tar_file(path: Path, entries: list[tuple[str, bytes | tarfile.TarInfo]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(content), 0o4755, 1_000
                tar.addfile(info, io.BytesIO(content))
    return path


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, link, 0o750
    return info


async def test_import_save_load_remove(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    entries: list[tuple[str, bytes | tarfile.TarInfo]] = [
        ("./", special(tarfile.DIRTYPE)),
        ("bin/tool", b"#!x"),
        ("bin/same", special(tarfile.LNKTYPE, "bin/tool")),
        ("bin/link", special(tarfile.SYMTYPE, "/etc/passwd")),
        ("etc/.wh.gone", b""),
        ("var/.wh..wh..opq", b""),
    ]
    image = await store.import_(tar_file(tmp_path / "r.tar", entries), "example/tool", {"Cmd": ["/bin/tool"]})
    assert image.references == ("example/tool:latest",)
    (layer,) = store.layers(image.id)
    assert stat.S_IMODE((layer / "bin/tool").stat().st_mode) == 0o4755
    assert (layer / "bin/tool").stat().st_mtime == 1_000
    assert (layer / "bin/same").stat().st_ino == (layer / "bin/tool").stat().st_ino
    whiteout = (layer / "etc/gone").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(layer / "var", "trusted.overlay.opaque") == b"y"

    await store.save(["example/tool"], tmp_path / "out.tar")
    other = ImageStore(tmp_path / "b")
    (loaded,) = await other.load(tmp_path / "out.tar")
    assert loaded.id == image.id
    assert ImageStore(tmp_path / "b").require("example/tool").config["config"]["Cmd"] == ["/bin/tool"]

    with pytest.raises(ImageInUse, match="used by web-1"):
        await other.remove("example/tool", force=False, in_use={image.id: ["web-1"]})
    await other.remove("example/tool", force=False, in_use={})
    assert not list((tmp_path / "b/layers").iterdir())
    assert not list((tmp_path / "b/blobs/sha256").iterdir())
    with pytest.raises(ImageNotFound):
        other.require("example/tool")


@pytest.mark.parametrize(
    "entries",
    [
        [("../outside", b"x")],
        [("a", special(tarfile.SYMTYPE, "/../../..")), ("a/../../outside", b"x")],
        [("a", special(tarfile.LNKTYPE, "../../outside"))],
    ],
)
async def test_a_layer_does_not_leave_its_root(tmp_path: Path, entries: list[tuple[str, bytes]]) -> None:
    store = ImageStore(tmp_path / "s")
    (tmp_path / "outside").write_text("mine")
    with pytest.raises(BadArchive, match="refused"):
        await store.import_(tar_file(tmp_path / "r.tar", list(entries)), "bad", {})
    assert (tmp_path / "outside").read_text() == "mine"
    assert store.all() == []
    assert not list((tmp_path / "s/layers").iterdir())


async def test_a_link_out_leads_nowhere(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "s")
    (tmp_path / "target").mkdir()
    entries: list[tuple[str, bytes | tarfile.TarInfo]] = [
        ("door", special(tarfile.SYMTYPE, str(tmp_path / "target"))),
        ("door/file", b"x"),
    ]
    await store.import_(tar_file(tmp_path / "r.tar", entries), "odd", {})
    assert not list((tmp_path / "target").iterdir())
