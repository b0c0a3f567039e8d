"""The image store on a real file system: import, save, load, derive, remove, and layers of every kind of file."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node.images import Built, build, entry, folder, hardlink, skopeo, symlink, tar

from pycompose.worker.images import Image, ImageStore, archives, intake
from pycompose.worker.images.errors import BadArchive, ImageInUse, ImageNotFound


async def import_(store: ImageStore, data: bytes, name: str = "example/it", **settings: object) -> Image:
    return await intake.import_root(store, io.BytesIO(data), name, settings)


async def load(store: ImageStore, data: bytes) -> list[Image]:
    return await intake.load(store, io.BytesIO(data))


def save(store: ImageStore, *names: str) -> bytes:
    out = io.BytesIO()
    archives.write(out, store.blobs, intake.saved(store, names))
    return out.getvalue()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


def program(*words: str) -> bytes:
    return subprocess.run(words, check=True, capture_output=True).stdout


def merged(store: ImageStore, image: Image, at: Path) -> Path:
    """Extract what a container would see, by the kernel's own overlay and GNU tar."""
    at.mkdir()
    layers = ":".join(map(str, store.layers(image.id)))
    (at / "empty").mkdir()
    (at / "root").mkdir()
    script = (
        f"mount -t overlay overlay -o ro,lowerdir={layers}:{at / 'empty'} {at / 'root'} && "
        f"mkdir {at / 'copy'} && cp -a {at / 'root'}/. {at / 'copy'}"
    )
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True)
    return at / "copy"


async def test_every_kind_of_file(tmp_path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # CAP_NET_BIND_SERVICE, VFS_CAP_REVISION_2
    long = "/".join(["directory-of-a-path"] * 12) + "/" + "n" * 200
    tool = entry("bin/tool", data=b"#!x", mode=0o4755, uid=12, gid=34)
    tool[0].pax_headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    plain = entry("etc/attribute", data=b"x")
    plain[0].pax_headers = {"SCHILY.xattr.user.comment": "words"}
    entries = [
        folder("./", mode=0o751, uid=5),
        tool,
        hardlink("bin/tool", "bin/same"),
        symlink("/etc/passwd", "bin/link"),
        symlink("nowhere/" * 20, "bin/dangling"),
        plain,
        entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("run/pipe", tarfile.FIFOTYPE),
        entry(long, data=b"long"),
        folder("sticky", mode=0o1777, mtime=77),
        entry("sticky/set", data=b"", mode=0o2711),
        folder("owned", uid=4_000_000_000, gid=4_000_000_000),
        entry("caf\udce9", data=b"latin"),
    ]
    store = ImageStore(tmp_path / "a")
    (layer,) = store.layers((await import_(store, tar(entries))).id)
    assert (stat.S_IMODE(layer.stat().st_mode), layer.stat().st_uid) == (0o751, 5)
    found = (layer / "bin/tool").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o4755, 12, 34, 1_000)
    assert found.st_ino == (layer / "bin/same").stat().st_ino
    assert os.getxattr(layer / "bin/tool", "security.capability") == capability
    assert os.getxattr(layer / "etc/attribute", "user.comment") == b"words"
    assert os.readlink(layer / "bin/link") == "/etc/passwd"
    assert len(os.readlink(layer / "bin/dangling")) == 160
    assert (layer / "dev/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((layer / "run/pipe").stat().st_mode)
    assert (layer / long).read_bytes() == b"long"
    assert (stat.S_IMODE((layer / "sticky").stat().st_mode), (layer / "sticky").stat().st_mtime) == (0o1777, 77)
    assert stat.S_IMODE((layer / "sticky/set").stat().st_mode) == 0o2711
    assert (layer / "owned").stat().st_uid == 4_000_000_000
    assert (os.fsencode(layer) + b"/caf\xe9") in [
        os.path.join(os.fsencode(layer), each) for each in os.listdir(os.fsencode(layer))
    ]
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("form", [["--format=gnu"], ["--format=pax"], ["--format=pax", "--sparse-version=0.1"]])
async def test_sparse_files_keep_their_holes(tmp_path: Path, form: list[str]) -> None:
    path = tmp_path / "root/disk"
    path.parent.mkdir()
    with path.open("wb") as file:
        for number in range(30):
            file.seek(number << 20)
            file.write(bytes([number]) * 5_000)
        file.truncate(64 << 20)
    archive = tmp_path / "root.tar"
    program("tar", "-cSf", str(archive), *form, "-C", str(path.parent), ".")
    store = ImageStore(tmp_path / "store")
    (layer,) = store.layers((await import_(store, archive.read_bytes())).id)
    assert (layer / "disk").read_bytes() == path.read_bytes()
    assert (layer / "disk").stat().st_blocks * 512 < 4 << 20


async def test_whiteouts_hide_what_is_below_and_keep_times(tmp_path: Path) -> None:
    base = [
        folder("etc", mtime=10),
        entry("etc/gone", data=b"x"),
        entry("etc/kept", data=b"y"),
        folder("cache", mtime=20),
        folder("cache/deep"),
        entry("cache/deep/old", data=b"o"),
        entry("cache/old", data=b"o"),
        folder("opt", mtime=30),
        entry("opt/a", data=b"a"),
        symlink("opt", "link"),
    ]
    upper = [
        entry("etc/.wh.gone"),
        entry("etc/.wh.gone"),
        entry("etc/.wh.never"),
        entry("cache/new", data=b"n"),
        entry("cache/deep/mine", data=b"m"),
        entry("cache/.wh..wh..opq"),
        entry("etc/own", data=b"own"),
        entry("etc/.wh.own"),
        entry("link/.wh.a"),
        entry("link/b", data=b"b"),
        entry("no/where/.wh.x"),
    ]
    store = ImageStore(tmp_path / "store")
    (image,) = await load(store, build([tar(base), tar(upper)]).docker_archive("it:1"))
    root = merged(store, image, tmp_path / "merged")
    assert sorted(os.listdir(root / "etc")) == ["kept", "own"]
    assert (root / "etc").stat().st_mtime == 10
    assert sorted(str(path.relative_to(root / "cache")) for path in (root / "cache").rglob("*")) == [
        "deep",
        "deep/mine",
        "new",
    ]
    assert (root / "link").is_symlink()
    assert os.listdir(root / "opt") == ["b"]
    assert not (root / "no").exists()


async def test_save_and_load_and_what_skopeo_makes_of_it(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    built = build([tar([entry("one", data=b"1" * 100_000)]), tar([entry("two", data=b"2")])], Cmd=["/one"])
    (image,) = await load(store, built.docker_archive("it:1", "registry.test:5000/team/it:2"))
    assert image.references == ("it:1", "registry.test:5000/team/it:2")
    archive = tmp_path / "out.tar"
    archive.write_bytes(save(store, "it:1", "registry.test:5000/team/it:2"))
    for form in (f"docker-archive:{archive}:it:1", f"oci-archive:{archive}:1"):
        skopeo("copy", form, f"dir:{tmp_path / 'dir'}")
        for path in (tmp_path / "dir").iterdir():
            path.unlink()
    # other programs' archives, compressed as well
    for form, packer in (
        ("docker-archive", "gzip"),
        ("oci-archive", "zstd"),
        ("docker-archive", "xz"),
        ("oci-archive", "bzip2"),
    ):
        again = tmp_path / f"{form}.tar"
        again.unlink(missing_ok=True)
        skopeo("copy", f"docker-archive:{archive}:it:1", f"{form}:{again}:example/again:3")
        packed = program(packer, "-c", str(again))
        other = ImageStore(tmp_path / f"{form}-{packer}")
        (loaded,) = await load(other, packed)
        assert loaded.references == ("example/again:3",)
        assert loaded.diff_ids == image.diff_ids
        assert loaded.settings["Cmd"] == ["/one"]
    other = ImageStore(tmp_path / "b")
    (loaded,) = await load(other, archive.read_bytes())
    assert (loaded.id, loaded.manifest, loaded.references) == (image.id, image.manifest, image.references)


async def test_remove_names_and_images(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    image = await import_(store, tar([entry("one", data=b"1")]), "it:1")
    await store.tag("it:1", "it:2")
    await store.tag("it:1", "team/it:1")
    with pytest.raises(ImageInUse, match="names in several repositories"):
        await store.remove(image.id[7:19], force=False, in_use={})
    assert await store.remove("team/it:1", force=False, in_use={image.id: ["web-1"]}) == ["Untagged: team/it:1"]
    assert await store.remove("it:2", force=False, in_use={}) == ["Untagged: it:2"]
    with pytest.raises(ImageInUse, match="used by web-1"):
        await store.remove("it:1", force=False, in_use={image.id: ["web-1"]})
    assert await store.remove("it:1", force=True, in_use={image.id: ["web-1"]}) == ["Untagged: it:1"]
    assert store.layers(image.id)[0].is_dir()
    assert await store.remove(image.id, force=False, in_use={}) == [f"Deleted: {image.id}"]
    assert not list((tmp_path / "a/layers").iterdir())
    assert not list((tmp_path / "a/blobs/sha256").iterdir())
    with pytest.raises(ImageNotFound):
        store.require("it:1")


async def test_a_layer_above_another_image(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    base = await import_(store, tar([entry("etc/one", data=b"1"), entry("etc/two", data=b"2")]), "base")
    made = await intake.derive(
        store, base.id, pieces(tar([entry("etc/.wh.one"), entry("three", data=b"3")])), "made:1", {"Cmd": ["x"]}
    )
    root = merged(store, made, tmp_path / "merged")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["etc", "etc/two", "three"]
    assert made.diff_ids[0] == base.diff_ids[0]
    assert store.layers(made.id)[1] == store.layers(base.id)[0]


async def test_the_store_opens_again_and_forgets_what_is_damaged(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    good = await import_(store, tar([entry("one", data=b"1")]), "good")
    torn = await import_(store, tar([entry("two", data=b"2")]), "torn")
    (store.root / ".load-left").write_bytes(b"x")
    (store.root / "blobs/sha256/.new-left").write_bytes(b"x")
    (store.root / "layers/.new-left").mkdir()
    (store.root / "layers" / ("0" * 32)).mkdir()
    blob = store.blobs.path(store.manifest(torn).layers[0].digest)
    blob.write_bytes(b"")
    opened = ImageStore(tmp_path / "a")
    assert [image.id for image in opened.all()] == [good.id]
    assert [path.name for path in (store.root / "layers").iterdir()] == [opened.layers(good.id)[0].name]
    assert not list(store.root.rglob(".*"))
    assert not blob.exists()
    index = store.root / "index.json"
    index.write_text(index.read_text().replace('"unsafe_since": ""', '"unsafe_since": "another boot"'))
    assert ImageStore(tmp_path / "a").all() == []
    index.write_bytes(b"")
    assert ImageStore(tmp_path / "a").all() == []


def spoiled(built: Built, **changes: object) -> bytes:
    """A docker archive whose configuration was changed after its parts were made."""
    built.config["config"] = {**built.config["config"], **changes}
    return built.docker_archive("bad:1")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("Entrypoint", "str", "Entrypoint is no list"),
        ("Env", ["A"], "Env has 'A'"),
        ("Env", ["=x"], "Env has '=x'"),
        ("Env", ["A\nB=1"], "Env has"),
        ("Volumes", {"/../../etc": {}}, "Volumes has"),
        ("ExposedPorts", {"99999/tcp": {}}, "ExposedPorts has '99999/tcp'"),
        ("StopSignal", "SIGBOGUS", "StopSignal is 'SIGBOGUS'"),
        ("Healthcheck", {"Test": ["CMD", "x"], "Interval": 1}, "Healthcheck.Interval is 1 ns"),
        ("Labels", ["a"], "Labels is no object"),
    ],
)
async def test_nonsense_in_a_configuration_names_the_field(
    tmp_path: Path, field: str, value: object, words: str
) -> None:
    store = ImageStore(tmp_path / "a")
    with pytest.raises(BadArchive, match=words):
        await load(store, spoiled(build([tar([entry("x")])]), **{field: value}))
    assert store.all() == []
    fine = {"Entrypoint": ["str"], "Env": ["A=", "B=1\n2"], "Volumes": {"/a": {}}, "StopSignal": "SIGRTMIN+3"}
    await load(store, spoiled(build([tar([entry("x")])]), **fine))


async def test_archives_that_are_none(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "a")
    built = build([tar([entry("x")])])
    other = built.docker_archive("x:1").replace(b'"Layers": ["0/layer.tar"]', b'"Layers": ["9/layer.tar"]')
    for data in (b"", b"no tar at all", tar([entry("readme", data=b"x")]), built.docker_archive("x:1")[:700], other):
        with pytest.raises(BadArchive):
            await load(store, data)
    assert store.all() == []
    assert not list((tmp_path / "a/blobs/sha256").iterdir())
    assert not list((tmp_path / "a/layers").iterdir())
