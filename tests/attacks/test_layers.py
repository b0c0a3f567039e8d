"""Attacks by layers, each with its benign twin: names and links that leave the root, whiteouts, devices, bombs, kills.

B01, B02, B03, B05, B06, B08, B11. The cases of B02, B03 and B05 are those of containerd's TestBreakouts, each as one
layer and, where it has a base, as two.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import random
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from node.images import build, entry, folder, hardlink, symlink, tar
from node.test_images_store import import_, load, merged

from pycompose.worker.images import ImageStore, limits
from pycompose.worker.images.changes import Changes, Refused
from pycompose.worker.images.errors import BadArchive, DiskFull, ImageError
from pycompose.worker.images.tarstream import Entry

Entries = list[tuple[Any, bytes]]
INSIDE = [folder("etc", mode=0o770), entry("etc/passwd", data=b"inside")]
LINKED = [folder("etc"), entry("etc/passwd", data=b"all users"), symlink("/etc", "localetc")]


@pytest.fixture(autouse=True)
def canaries(tmp_path: Path) -> Iterator[None]:
    """Files beside the store and of the machine, which stay as they are."""
    for name in ("victim", "store-victim"):
        (tmp_path / name).write_text("mine")
    watched = [tmp_path / "victim", tmp_path / "store-victim", Path("/etc/passwd"), Path("/dev/null")]

    def seen() -> list[Any]:
        states = [path.lstat() for path in watched]
        kept = [(s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_rdev) for s in states]
        return [*kept, sorted(os.listdir(tmp_path / "..")), (tmp_path / "victim").read_text()]

    before = seen()
    yield
    assert seen() == before
    assert not Path("/pwned").exists()


def raw(
    name: bytes, kind: bytes = b"0", data: bytes = b"", size: bytes | None = None, link: bytes = b"", **at: bytes
) -> bytes:
    """A header that no library would write, and its data; `at` replaces fields by their offset: o329=b"…"."""
    block = bytearray(512)
    block[0 : len(name[:100])] = name[:100]
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136] = size if size is not None else b"%011o\0" % len(data)
    block[136:148], block[156:157] = b"00000001000\0", kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    for key, value in at.items():
        offset = int(key[1:])
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    """A PAX header."""
    out = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        out += str(length).encode() + body
    return raw(b"pax", b"x", out)


END = bytes(1024)


async def attempt(store: ImageStore, data: bytes) -> Path | None:
    """Import a layer; None when it was refused, and then nothing of it is left."""
    try:
        (layer,) = store.layers((await import_(store, data)).id)
    except BadArchive:
        assert not list((store.root / "layers").iterdir())
        assert not list((store.root / "blobs/sha256").iterdir())
        return None
    return layer


@pytest.mark.twin("B01", "B02", "B03", "B05", "B06", "B08", "B11")
async def test_an_ordinary_image(tmp_path: Path) -> None:
    """Two layers with links out of their folder, hard links, whiteouts, an opaque folder, a FIFO and a device."""
    below = [
        *INSIDE, folder("run"), symlink("/run", "var-run"), hardlink("etc/passwd", "etc/same"), folder("old"),
        entry("old/a", data=b"a"), entry("gone", data=b"g"), entry("fifo", tarfile.FIFOTYPE),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    ]  # fmt: skip
    above = [
        entry(".wh.gone"),
        folder("old"),
        entry("old/.wh..wh..opq"),
        entry("old/b"),
        entry("var-run/pid", data=b"1"),
    ]
    store = ImageStore(tmp_path / "store")
    archive = build([tar(below), tar(above)]).docker_archive("it:1")
    for image in [await load(store, archive) for _ in range(2)]:  # a second time it is there already
        (one,) = image
    root = merged(store, one, tmp_path / "merged")
    assert sorted(os.listdir(root / "old")) == ["b"]
    assert not (root / "gone").exists()
    assert (root / "run/pid").read_bytes() == b"1"
    assert (root / "etc/passwd").samefile(root / "etc/same")
    assert (root / "fifo").is_fifo()
    assert (root / "null").is_char_device()
    assert len(store.all()) == 1


@pytest.mark.attack("B01")
@pytest.mark.parametrize(
    "name",
    [
        b"../victim",
        b"/victim",
        b"a/../../victim",
        b"./../victim",
        b"..",
        b".",
        b"",
        b"//victim",
        b"/../../../victim",
        b"/./.././../victim",
    ],
)
async def test_b01_names_that_leave_the_root(tmp_path: Path, name: bytes) -> None:
    """Raw, and behind a safe name in a PAX header."""
    store = ImageStore(tmp_path / "store")
    for data in (raw(name, data=b"pwned"), pax(path=name.decode()) + raw(b"safe", data=b"pwned")):
        layer = await attempt(store, data + END)
        if layer is not None and name.endswith(b"victim"):
            assert (layer / "victim").read_bytes() == b"pwned"
        for image in store.all():
            await store.remove(image.id, force=True, in_use={})
    assert await attempt(store, raw(b"dir/", b"0") + raw(b"dir/f", data=b"x") + END) is not None


@pytest.mark.attack("B01")
@pytest.mark.parametrize(
    "data",
    [
        pax(path="a" * 4097) + raw(b"safe"),
        pax(path="a/" * 2000 + "b" * 256) + raw(b"safe"),
        pax(path="a\0b") + raw(b"safe"),
        raw(b"x", b"0", size=b"\xff" * 12),
        raw(b"x", b"0", size=b"77777777777\0"),
        pax(size="-1") + raw(b"x"),
        raw(b"x", b"Z"),
        b"\1" * 512,
        pax(**{"SCHILY.xattr.trusted.overlay.opaque": "y"}) + raw(b"d", b"5"),
        pax(**{"SCHILY.xattr.user.overlay.opaque": "y"}) + raw(b"d", b"5"),
        pax(uid="4294967295") + raw(b"x"),
        raw(b"x", b"2"),
    ],
)
async def test_b01_entries_that_no_layer_needs(tmp_path: Path, data: bytes) -> None:
    """Headers, PAX records and names that no tool writes; next to them one at the limits."""
    store = ImageStore(tmp_path / "store")
    assert await attempt(store, data + END) is None
    assert await attempt(store, pax(path="a" * 255 + "/b", uid="4294967294") + raw(b"safe") + END) is not None


def same(first: str, second: str) -> Callable[[Path], bool]:
    return lambda root: inside(root, first).samefile(inside(root, second))


def inside(root: Path, name: str) -> Path:
    """Resolve a path as a container would."""
    parts, path, hops = name.strip("/").split("/"), root, 0
    while parts:
        part = parts.pop(0)
        path = path.parent if part == ".." and path != root else path if part in ("..", ".", "") else path / part
        if path.is_symlink():
            hops += 1
            assert hops < 40
            target = os.readlink(path)
            parts = target.split("/") + parts
            path = root if target.startswith("/") else path.parent
    return path


def holds(name: str, data: bytes) -> Callable[[Path], bool]:
    return lambda root: inside(root, name).read_bytes() == data


def gone(name: str) -> Callable[[Path], bool]:
    return lambda root: not os.path.lexists(root / name)


UNBROKEN = entry("/localetc/unbroken", data=b"unbroken")
BREAKOUTS: dict[str, tuple[Entries, Entries, Callable[[Path], bool] | None]] = {
    "SymlinkAbsolute": ([], [folder("etc"), symlink("/etc", "localetc"), UNBROKEN], holds("etc/unbroken", b"unbroken")),
    "SymlinkUpAndOut": (
        [],
        [folder("etc"), folder("dummy"), symlink("/dummy/../etc", "localetc"), UNBROKEN],
        holds("etc/unbroken", b"unbroken"),
    ),
    "SymlinkMultipleAbsolute": (
        [],
        [folder("etc"), folder("dummy"), symlink("/etc", "/dummy/etc"), symlink("/dummy/etc", "localetc"), UNBROKEN],
        holds("etc/unbroken", b"unbroken"),
    ),
    "SymlinkMultipleRelative": (
        [],
        [folder("etc"), folder("dummy"), symlink("/etc", "/dummy/etc"), symlink("./dummy/etc", "localetc"), UNBROKEN],
        holds("etc/unbroken", b"unbroken"),
    ),
    "SymlinkEmptyFile": (
        [],
        [folder("etc"), entry("etc/e", data=b"notempty"), symlink("/etc", "localetc"), entry("/localetc/e")],
        holds("etc/e", b""),
    ),
    "HardlinkRelative": (
        [],
        [*INSIDE, folder("b"), symlink("../../etc", "b/d1"), hardlink("/b/d1/passwd", "b/mine")],
        same("b/mine", "etc/passwd"),
    ),
    "HardlinkDownAndOut": (
        [],
        [
            *INSIDE,
            folder("b"),
            folder("down"),
            symlink("../down/../../etc", "b/d1"),
            hardlink("/b/d1/passwd", "b/mine"),
        ],
        same("b/mine", "etc/passwd"),
    ),
    "HardlinkAbsolute": (
        [],
        [*INSIDE, symlink("/etc", "localetc"), hardlink("/localetc/passwd", "mine")],
        same("mine", "etc/passwd"),
    ),
    "HardlinkRelativeLong": (
        [],
        [*INSIDE, symlink("../../../../../../../etc", "localetc"), hardlink("/localetc/passwd", "mine")],
        same("mine", "etc/passwd"),
    ),
    "HardlinkDirectRelative": (
        [],
        [*INSIDE, hardlink("../../../../../etc/passwd", "mine")],
        same("mine", "etc/passwd"),
    ),
    "HardlinkDirectAbsolute": ([], [*INSIDE, hardlink("/etc/passwd", "mine")], same("mine", "etc/passwd")),
    "SymlinkParentDirectory": (
        [],
        [*INSIDE, symlink("/etc/", ".."), hardlink("/etc/passwd", "mine")],
        same("mine", "etc/passwd"),
    ),
    "SymlinkEmptyFilename": (
        [],
        [*INSIDE, symlink("/etc/", ""), hardlink("/etc/passwd", "mine")],
        same("mine", "etc/passwd"),
    ),
    "SymlinkParentRelative": (
        [],
        [*INSIDE, symlink("/etc/", "localetc/sub/.."), hardlink("/etc/passwd", "/localetc/mine")],
        same("localetc/mine", "etc/passwd"),
    ),
    "SymlinkSlashEnded": (
        [],
        [*INSIDE, folder("localetc/"), hardlink("/etc/passwd", "/localetc/mine")],
        same("localetc/mine", "etc/passwd"),
    ),
    "SymlinkOverrideDirectory": (
        [*INSIDE, folder("localetc")],
        [symlink("/etc", "localetc"), hardlink("/etc/passwd", "/localetc/mine")],
        same("localetc/mine", "etc/passwd"),
    ),
    "SymlinkOverrideDirectoryRelative": (
        [*INSIDE, folder("localetc")],
        [symlink("../../etc", "localetc"), hardlink("/etc/passwd", "/localetc/mine")],
        same("localetc/mine", "etc/passwd"),
    ),
    "DirectoryOverrideSymlink": (
        [*INSIDE, symlink("/etc", "localetc")],
        [folder("localetc"), hardlink("/etc/passwd", "/localetc/mine")],
        same("localetc/mine", "etc/passwd"),
    ),
    "DirectoryOverrideSymlinkAndHardlink": (
        [*INSIDE, symlink("etc", "localetc"), hardlink("/etc/passwd", "/localetc/mine")],
        [folder("localetc"), entry("/localetc/mine", data=b"different")],
        lambda root: holds("localetc/mine", b"different")(root) and holds("etc/passwd", b"inside")(root),
    ),
    "WhiteoutRootParent": (INSIDE, [entry(".wh...")], None),
    "WhiteoutParent": (INSIDE, [entry("etc/.wh...")], None),
    "WhiteoutRoot": (INSIDE, [entry(".wh..")], None),
    "WhiteoutCurrentDirectory": (INSIDE, [entry("etc/.wh..")], None),
    "WhiteoutNothing": (INSIDE, [entry("etc/.wh.")], None),
    "WhiteoutSymlink": (
        LINKED,
        [entry(".wh.localetc")],
        lambda root: holds("etc/passwd", b"all users")(root) and gone("localetc")(root),
    ),
    "WhiteoutSymlinkPath": (
        [*LINKED, entry("etc/out", data=b"x")],
        [entry("localetc/.wh.out")],
        lambda root: holds("etc/passwd", b"all users")(root) and gone("etc/out")(root),
    ),
    "WhiteoutDirectoryName": (
        LINKED,
        [entry(".wh.etc/somefile", data=b"non-empty")],
        lambda root: holds("etc/passwd", b"all users")(root) and holds(".wh.etc/somefile", b"non-empty")(root),
    ),
    "WhiteoutDeadSymlinkParent": (
        [*INSIDE, symlink("/dne", "localetc")],
        [entry("localetc/.wh.etc")],
        holds("etc/passwd", b"inside"),
    ),
    "WhiteoutRelativePath": (INSIDE, [entry("dne/../.wh.etc")], gone("etc/passwd")),
    "WhiteoutAsDirectory": (INSIDE, [folder("etc/.wh.passwd")], gone("etc/passwd")),
    "WhiteoutAsSymlink": (INSIDE, [symlink("/x", "etc/.wh.passwd")], gone("etc/passwd")),
    "WhiteoutWithContent": (INSIDE, [entry("etc/.wh.passwd", data=b"content")], gone("etc/passwd")),
    "WhiteoutOfALongName": (
        [entry("n" * 252, data=b"x"), *INSIDE],
        [entry(".wh." + "n" * 252)],
        gone("n" * 252),
    ),
    "OpaqueRoot": (INSIDE, [entry(".wh..wh..opq"), entry("own")], lambda root: os.listdir(root) == ["own"]),
    "HardlinkSymlinkBeforeCreateTarget": (
        [],
        [folder("etc"), symlink("/etc/passwd", "l"), hardlink("l", "dup"), entry("/etc/passwd", data=b"after")],
        same("dup", "etc/passwd"),
    ),
    "HardlinkSymlinkRelative": (
        [],
        [*INSIDE, symlink("../../../../../etc/passwd", "link"), hardlink("/link", "mine")],
        lambda root: os.readlink(root / "mine") == os.readlink(root / "link"),
    ),
    "HardlinkSymlinkChmod": (
        [],
        [symlink("/etc/passwd", "/also/outside"), hardlink("/also/outside", "sketchy")],
        lambda root: (root / "sketchy").is_symlink(),
    ),
    "HardlinkToDirectory": ([], [folder("etc"), hardlink("etc", "mine")], None),
    "HardlinkToNothing": ([], [hardlink("later", "mine"), entry("later")], None),
    "HardlinkToItself": ([], [entry("a", data=b"a"), hardlink("a", "a")], holds("a", b"a")),
    "DeviceOverlayWhiteout": (INSIDE, [entry("etc/passwd", tarfile.CHRTYPE, devmajor=0, devminor=0)], None),
    "LoopOfLinks": ([], [symlink("b", "a"), symlink("a", "b"), entry("a/file")], None),
}


@pytest.mark.attack("B02", "B03", "B05")
@pytest.mark.parametrize("name", BREAKOUTS)
async def test_b02_b03_b05_breakouts(tmp_path: Path, name: str) -> None:
    """containerd's TestBreakouts and more, each as one layer and, where it has a base, as two."""
    base, entries, check = BREAKOUTS[name]
    store = ImageStore(tmp_path / "store")
    layers = [tar(base), tar(entries)] if base else [tar(entries)]
    if check is None:
        with pytest.raises(BadArchive, match="was refused"):
            await load(store, build(layers).docker_archive("it:1"))
        assert not store.all()
        return
    (image,) = await load(store, build(layers).docker_archive("it:1"))
    root = merged(store, image, tmp_path / "merged")
    assert check(root)


@pytest.mark.attack("B06")
@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (raw(b"dev", b"4", o329=b"0000376\0", o337=b"0000000\0"), True),
        (raw(b"dev", b"3", o329=b"0000001\0", o337=b"0000001\0"), True),
        (raw(b"dev", b"6"), True),
        (raw(b"dev", b"3", o329=b"0000000\0", o337=b"0000000\0"), False),
        (raw(b"dev", b"3", o329=b"\x80\0\0\1\0\0\0\1", o337=b"0000000\0"), False),
        (raw(b"dev", b"3", o329=b"\xff" * 8, o337=b"0000000\0"), False),
        (raw(b"dev", b"3", o329=b"0010000\0", o337=b"0000000\0"), False),
    ],
)
async def test_b06_devices(tmp_path: Path, header: bytes, accepted: bool) -> None:
    """Numbers out of range, an overlay whiteout, a FIFO, a socket, and a hard link to each; the others are taken."""
    store = ImageStore(tmp_path / "store")
    link = raw(b"again", b"1", link=b"dev")
    layer = await attempt(store, header + link + END)
    assert (layer is not None) is accepted
    # nobody but root gets at them by way of the store
    assert store.root.stat().st_mode & 0o077 == 0


def zeros(size: int) -> Iterator[bytes]:
    """A tar of one file of zeros."""
    yield raw(b"zeros", size=b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big"))
    for _ in range(size >> 20):
        yield bytes(1 << 20)
    yield END


def packed(kind: str, pieces: Iterator[bytes]) -> bytes:
    if kind == "gzip":
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
            for piece in pieces:
                file.write(piece)
        return out.getvalue()
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join([packer.compress(piece) for piece in pieces] + [packer.flush()])


@pytest.mark.attack("B08")
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_b08_bombs_of_zeros(tmp_path: Path, kind: str) -> None:
    """512 MiB of zeros in less than 4 MiB of gzip and zstd; 64 MiB are taken."""
    store = ImageStore(tmp_path / "store")
    bomb = packed(kind, zeros(512 << 20))
    assert len(bomb) < 4 << 20
    with pytest.raises(BadArchive, match=r"unpacks to more than [\d,]+ bytes, too much for its size"):
        await import_(store, bomb)
    assert not list((store.root / "layers").iterdir())
    fine = packed(kind, zeros(64 << 20))
    assert (await import_(store, fine)).size == 64 << 20


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"}


@pytest.mark.attack("B08")
@pytest.mark.parametrize(
    "data",
    [
        pax(**SPARSE, **{"GNU.sparse.realsize": str(1 << 40)}) + raw(b"s", data=b"1\n0\n0\n".ljust(512, b"\0")),
        pax(**SPARSE, **{"GNU.sparse.realsize": "1"}) + raw(b"s", data=b"9999999999\n".ljust(512, b"\0")),
        pax(**SPARSE, **{"GNU.sparse.realsize": "10"}) + raw(b"s", data=b"1\n5\n10\n".ljust(512, b"\0") + b"x" * 10),
        raw(b"pax", b"x", size=b"%011o\0" % (1 << 30)),
        raw(b"pax", b"x", b"1" * 2_000_000),
        raw(b"long", b"L", b"n" * 2_000_000),
    ],
)
async def test_b08_headers_that_promise_too_much(tmp_path: Path, data: bytes) -> None:
    """Sparse files of 1 TiB, PAX headers of 1 GiB, names of 2 MB."""
    store = ImageStore(tmp_path / "store")
    assert await attempt(store, data + END) is None


@pytest.mark.attack("B08")
async def test_b08_windows_members_and_what_comes_after(tmp_path: Path) -> None:
    """Wide zstd windows, trailing zeros, cut and nested gzip; 20,000 empty members are taken."""
    store = ImageStore(tmp_path / "store")
    plain = raw(b"file", data=b"x") + END
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    ).compressobj()
    with pytest.raises(BadArchive, match="cannot be decompressed"):
        await import_(store, wide.compress(plain * 100) + wide.flush())
    with pytest.raises(BadArchive, match="too much for its size"):
        await import_(store, packed("zstd", iter([plain, *[bytes(1 << 20)] * 400])))
    with pytest.raises(BadArchive, match="cannot be decompressed"):
        await import_(store, gzip.compress(plain)[:-9])
    with pytest.raises(BadArchive):
        await import_(store, gzip.compress(gzip.compress(plain)))
    many = b"".join([gzip.compress(b"")] * 20_000) + gzip.compress(plain[:700]) + gzip.compress(plain[700:])
    assert (await import_(store, many)).size == 1


@pytest.mark.attack("B08")
async def test_b08_more_entries_than_a_layer_may_have(tmp_path: Path) -> None:
    """A million entries and one; folders 1,900 deep are taken."""
    changes = Changes(10, layered=False)
    changes.entries = limits.LAYER_ENTRIES
    with pytest.raises(Refused, match="more than 1,000,000 entries"):
        changes.apply(Entry(b"x", "file"), lambda _: memoryview(b""))
    store = ImageStore(tmp_path / "store")
    image = await import_(store, tar([folder("/".join(["d"] * depth)) for depth in (500, 1000, 1900)]))
    await store.remove(image.id, force=False, in_use={})
    assert not list((store.root / "layers").iterdir())


@pytest.mark.attack("J02")
async def test_a_full_disk_says_so_and_heals(tmp_path: Path) -> None:
    """A store on a file system that is too small for the layer."""
    place = tmp_path / "small"
    place.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place))
    assert await mount.wait() == 0
    try:
        store = ImageStore(place / "store")
        big = tar([entry("big", data=random.Random(1).randbytes(30 << 20))])
        with pytest.raises(DiskFull, match="make room: pycompose image prune"):
            await import_(store, big)
        assert not list((store.root / "layers").iterdir())
        assert (await import_(store, tar([entry("small", data=b"x")]))).size == 1
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(place))).wait()


@pytest.mark.attack("B11")
async def test_b11_an_unpacker_killed_at_any_moment(tmp_path: Path) -> None:
    """The image is whole or absent, and the next try works."""
    rounds = 60 if os.environ.get("PYCOMPOSE_SOAK") == "full" else 4
    chance = random.Random(5)
    entries = [entry(f"d{n % 7}/f{n}", data=chance.randbytes(20_000)) for n in range(600)]
    archive = build([tar(entries), tar([entry("top", data=b"t")])]).docker_archive("it:1")
    store = ImageStore(tmp_path / "store")
    for _ in range(rounds):
        loading = asyncio.create_task(load(store, archive))
        await asyncio.sleep(chance.uniform(0.02, 0.6))
        for pid in unpackers(store):
            os.kill(pid, signal.SIGKILL)
        try:
            (image,) = await loading
        except ImageError:
            assert not store.all()
            assert not list((store.root / "layers").iterdir())
            continue
        await store.remove(image.id, force=True, in_use={})
    (image,) = await load(store, archive)
    base = store.layers(image.id)[1]
    assert {str(path.relative_to(base)): sha(path) for path in base.rglob("f*")} == {
        info.name: hashlib.sha256(data).hexdigest() for info, data in entries
    }


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpackers(store: ImageStore) -> list[int]:
    """Processes that unpack into a store."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"pycompose.worker.images.unpack" in words and Path(f"/proc/{pid}/stat").read_text().split()[3] == str(
                os.getpid()
            ):
                found.append(int(pid))
        except OSError:
            continue
    return found
