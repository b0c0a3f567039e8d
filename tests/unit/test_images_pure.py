"""The pure parts of images: references, platforms, manifests, the index, tars, and pull policies."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycompose.compose.cli import imagerows
from pycompose.compose.plan.images import Local, Verdict, decide, fits
from pycompose.proto.v1 import container_pb2, image_pb2
from pycompose.worker.agent.provision import wants_pull
from pycompose.worker.images import compression, limits, manifests, platforms
from pycompose.worker.images.changes import Refused, clean
from pycompose.worker.images.errors import BadArchive, BadReference, ImageError, ImageInUse, ImageNotFound
from pycompose.worker.images.index import Index, load
from pycompose.worker.images.instructions import config_of
from pycompose.worker.images.layers import chain_ids
from pycompose.worker.images.references import familiar, full, parse
from pycompose.worker.images.tarstream import TarError, TarStream, number, records

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole", "short"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("redis:7", "docker.io/library/redis:7", "redis:7"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1", "team/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("host:5000/a/b/c:x_Y-1.0", "host:5000/a/b/c:x_Y-1.0", "host:5000/a/b/c:x_Y-1.0"),
        ("Host.example/app", "Host.example/app:latest", "Host.example/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        (f"redis@{D}", f"docker.io/library/redis@{D}", f"redis@{D}"),
        (f"redis:7@{D}", f"docker.io/library/redis@{D}", f"redis@{D}"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest", "a__b/c--d.e:latest"),
    ],
)
def test_references_in_full_and_in_short(text: str, whole: str, short: str) -> None:
    assert full(text) == whole
    assert familiar(whole) == short
    assert full(short) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER",
        "a b",
        "a:b:c",
        "..",
        "a/../b",
        "a//b",
        "-a",
        "a_",
        "a___b",
        "a:",
        "a:.x",
        f"a:{'x' * 129}",
        "http://host/a",
        "host:port/a",
        "a@sha256:123",
        "a@",
        f"a@md5:{'a' * 32}",
        f"a@sha256:{'A' * 64}",
        f"a@sha256:{'a' * 64}/x",
        "a@sha256:../../etc",
        "a%2e%2e/b",
        "f" * 64,
        f"host/{'a' * 300}",
        "hôst.example/a",
        "a\nb",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(BadReference):
        parse(text)


@given(st.text(max_size=40))
def test_a_reference_reads_the_same_again_or_is_refused(text: str) -> None:
    try:
        found = parse(text)
    except BadReference:
        return
    assert parse(str(found)) == found
    assert ".." not in str(found).split("/")


def test_hub_has_another_host_for_its_api() -> None:
    assert parse("redis").api == "registry-1.docker.io"
    assert parse("quay.io/x/y").api == "quay.io"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms_have_one_form(text: str, name: str) -> None:
    assert str(platforms.parse(text)) == name


@pytest.mark.parametrize(
    ("offered", "machine", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", 1),
        (["linux/386", "windows/amd64"], "linux/amd64", 0),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm64", 1),
        (["linux/arm/v7", "linux/arm/v5"], "linux/arm/v6", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3", 1),
        (["linux/amd64/v3"], "linux/amd64", None),
        (["linux/arm64"], "linux/amd64", None),
    ],
)
def test_choice_of_a_platform(offered: list[str], machine: str, chosen: int | None) -> None:
    assert platforms.choose([platforms.parse(each) for each in offered], platforms.parse(machine)) == chosen


def descriptor(**more: Any) -> dict[str, Any]:
    return {"mediaType": manifests.OCI_CONFIG, "digest": D, "size": 1, **more}


def manifest(**more: Any) -> bytes:
    layers = [descriptor(mediaType=manifests.LAYER_TYPES["gzip"])]
    return json.dumps({"schemaVersion": 2, "config": descriptor(), "layers": layers, **more}).encode()


def test_manifests_and_indexes() -> None:
    found = manifests.parse(manifest(), manifests.DOCKER_MANIFEST)
    assert isinstance(found, manifests.Manifest)
    assert found.media_type == manifests.DOCKER_MANIFEST
    entries = [
        descriptor(platform={"os": "linux", "architecture": "arm64"}),
        descriptor(platform={"os": "unknown", "architecture": "unknown"}),
        descriptor(size=7, platform={"os": "linux", "architecture": "amd64"}),
    ]
    index = manifests.parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    assert isinstance(index, manifests.Index)
    chosen = index.choose(platforms.parse("linux/amd64"))
    assert chosen is not None
    assert chosen.size == 7
    assert index.choose(platforms.parse("linux/s390x")) is None
    assert index.offers() == "linux/arm64, linux/amd64"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no container image"),
        (manifest(manifests=[]), "read in two ways"),
        (manifest(schemaVersion=1), "schema 1"),
        (manifest(mediaType=manifests.OCI_INDEX), "neither layers nor manifests"),
        (manifest(config=descriptor(mediaType="application/vnd.cncf.helm.config.v1+json")), "no container image, but"),
        (manifest(layers=[descriptor()]), "cannot be unpacked"),
        (manifest(config=descriptor(digest="sha256:../../../../tmp/canary")), "where a sha256 digest should be"),
        (manifest(config=descriptor(digest="sha256:")), "where a sha256 digest"),
        (manifest(config=descriptor(digest="sha256:" + "A" * 64)), "where a sha256 digest"),
        (manifest(config=descriptor(digest="md5:" + "a" * 32)), "where a sha256 digest"),
        (manifest(config=descriptor(digest=D + "/x")), "where a sha256 digest"),
        (manifest(config=descriptor(digest=None)), "where a sha256 digest"),
        (manifest(config=descriptor(size=-1)), "impossible size"),
        (manifest(config=descriptor(size=True)), "impossible size"),
        (manifest(config=descriptor(size=1 << 60)), "impossible size"),
        (manifest(layers=[descriptor()] * 501), "at most 500"),
        (b" " * (limits.MANIFEST_BYTES + 1), "more than 4 MiB"),
    ],
)
def test_manifests_that_are_none(raw: bytes, words: str) -> None:
    with pytest.raises(BadArchive, match=words):
        manifests.parse(raw)


def test_a_manifest_does_not_come_as_what_it_does_not_say() -> None:
    with pytest.raises(BadArchive, match="says it is"):
        manifests.parse(manifest(mediaType=manifests.OCI_MANIFEST), manifests.DOCKER_MANIFEST)


def test_chain_ids_are_the_specification_s() -> None:
    # image-spec, config.md: ChainID(A) = A; ChainID(A|B) = sha256(A + " " + B)
    import hashlib

    two = "sha256:" + hashlib.sha256(f"{D} {D}".encode()).hexdigest()
    assert chain_ids([D, D]) == (D, two)
    assert chain_ids([]) == ()


ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_names_move_and_images_go_with_their_last_name() -> None:
    index = Index()
    index.put(ONE, D, ["docker.io/library/a:1", "docker.io/library/b:1"], ["docker.io/library/a@" + D], 10)
    index.put(TWO, D, ["docker.io/library/a:1"], [], 20)
    assert index.find("a:1") == TWO
    assert index.find("b:1") == ONE == index.find("1111") == index.find(ONE) == index.find(f"a@{D}")
    assert index.find("111") is None
    index.put("sha256:" + "1" * 63 + "2", D, [], [], 30)
    with pytest.raises(ImageNotFound, match="beginning of 2 images"):
        index.require("1111")
    assert load(index.dump()) == index
    with pytest.raises(ImageInUse, match="web-1"):
        index.remove("a:1", ["web-1"], force=False)
    assert index.remove("a:1", [], force=False) == ["Untagged: a:1", f"Deleted: {TWO}"]
    assert index.remove("b:1", [], force=False) == ["Untagged: b:1", f"Untagged: a@{D}", f"Deleted: {ONE}"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (b"a/b", [b"a", b"b"]),
        (b"/a//./b/", [b"a", b"b"]),
        (b"../../a", [b"a"]),
        (b"a/../../../b", [b"b"]),
        (b"..", []),
        (b"", []),
        (b"\xff/\xfe", [b"\xff", b"\xfe"]),
        (b".wh." + b"n" * 255, [b".wh." + b"n" * 255]),
    ],
)
def test_names_below_the_root(name: bytes, parts: list[bytes]) -> None:
    assert clean(name) == parts


@pytest.mark.parametrize("name", [b"n" * 256, b"a/" * 3000])
def test_names_that_no_file_can_have(name: bytes) -> None:
    with pytest.raises(Refused):
        clean(name)


def entries(data: bytes, step: int = 700) -> list[tuple[Any, bytes]]:
    """What a tar has, read in pieces of `step` bytes."""
    source = io.BytesIO(data)
    stream = TarStream(lambda: source.read(step))
    found = []
    for entry in stream:
        content = b""
        while piece := stream.data(333):
            content += bytes(piece)
        found.append((entry, content))
    return found


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=2000), NAMES), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 2000),
)
def test_tars_are_read_as_the_standard_library_writes_them(
    members: list[tuple[str, bytes, str]], form: int, step: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number_, (name, data, link) in enumerate(members):
            info = tarfile.TarInfo("f/" + name)
            info.size, info.uid, info.gid, info.mode, info.mtime = len(data), number_, 2**21 + number_, 0o4755, number_
            archive.addfile(info, io.BytesIO(data))
            info = tarfile.TarInfo("l/" + name)
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    found = entries(out.getvalue(), step)
    expected = [each for name, data, link in members for each in (("f/" + name, data, ""), ("l/" + name, b"", link))]
    assert [(e.name.decode(), data, e.link.decode()) for e, data in found] == expected
    assert [e.gid for e, _ in found[::2]] == [2**21 + number_ for number_ in range(len(members))]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1200), st.integers(0, 511), st.integers(0, 255))
def test_damaged_tars_are_refused_in_words(data: bytes, at: int, byte: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a" * 120)
        info.size = 10
        archive.addfile(info, io.BytesIO(b"0123456789"))
    whole = bytearray(out.getvalue()[:2048])
    whole[at] = byte
    for text in (bytes(whole), bytes(whole[: at + 1]), data):
        with contextlib.suppress(TarError):
            entries(text)


def test_numbers_and_records_of_tars() -> None:
    assert number(b"0000644\0") == 0o644
    assert number(b"\x80" + bytes(7) + b"\0\0\1\0") == 256
    assert number(b"\xff" * 12, signed=True) == -1
    for text in (b"\xff" * 12, b"9", b"\x80" + b"\xff" * 11):
        with pytest.raises(TarError):
            number(text)
    assert records(b"11 a=\n=\0bc\n6 b=c\n") == [(b"a", b"\n=\0bc"), (b"b", b"c")]
    for text in (b"5 a=b\n", b"x a=b\n", b"-1 a=b\n", b"6 ab\n\n", b"99999999 a=b\n", b"0 a=b\n"):
        with pytest.raises(TarError):
            records(text)


def test_compression_is_seen_from_the_first_bytes() -> None:
    import gzip

    assert compression.kind_of(gzip.compress(b"x")[:8]) == "gzip"
    assert compression.kind_of(bytes.fromhex("28b52ffd2000")) == "zstd"
    assert compression.kind_of(b"\x5f\x2a\x4d\x18") == "zstd"
    assert compression.kind_of(b"") == "tar"


@pytest.mark.parametrize(
    ("policy", "local", "buildable", "verdict"),
    [
        (container_pb2.PULL_POLICY_UNSPECIFIED, 0, False, Verdict.KEEP),
        (container_pb2.PULL_POLICY_UNSPECIFIED, None, False, Verdict.PULL),
        (container_pb2.PULL_POLICY_UNSPECIFIED, None, True, Verdict.BUILD),
        (container_pb2.PULL_POLICY_MISSING, None, True, Verdict.PULL),
        (container_pb2.PULL_POLICY_MISSING, 0, True, Verdict.KEEP),
        (container_pb2.PULL_POLICY_ALWAYS, 0, True, Verdict.PULL),
        (container_pb2.PULL_POLICY_NEVER, 0, False, Verdict.KEEP),
        (container_pb2.PULL_POLICY_NEVER, None, False, Verdict.NEVER),
        (container_pb2.PULL_POLICY_REFRESH, 990, False, Verdict.KEEP),
        (container_pb2.PULL_POLICY_REFRESH, 800, False, Verdict.PULL),
        (container_pb2.PULL_POLICY_REFRESH, None, False, Verdict.PULL),
    ],
)
def test_pull_policies(policy: int, local: int | None, buildable: bool, verdict: Verdict) -> None:
    """`local` is when its name was compared with the registry; now is 1000, and it may be 100 seconds old."""
    have = Local("id", "linux/amd64", local) if local is not None else None
    assert decide(policy, 100.0, have, "", buildable=buildable, now=1000.0) is verdict
    if verdict is Verdict.KEEP:
        other = decide(policy, 100.0, have, "linux/arm64", buildable=False, now=1000.0)
        assert other is (Verdict.NEVER if policy == container_pb2.PULL_POLICY_NEVER else Verdict.PULL)


def test_platforms_that_fit() -> None:
    assert fits("linux/arm64/v8", "linux/arm64")
    assert fits("linux/arm64", "linux/arm64/v8")
    assert fits("linux/amd64", "x86_64")
    assert fits("linux/amd64", "")
    assert not fits("linux/arm/v6", "linux/arm/v7")


def test_what_a_worker_pulls_by_itself() -> None:
    spec = container_pb2.ContainerSpec(image="redis")
    assert wants_pull(spec, None, 0)
    spec.pull_policy = container_pb2.PULL_POLICY_NEVER
    assert not wants_pull(spec, None, 0)


def image(name: str = "", digest: str = "", built: int = 0, **more: Any) -> image_pb2.Image:
    found = image_pb2.Image(id=ONE, references=[name] if name else [], digests=[digest] if digest else [], **more)
    found.created_at.FromSeconds(built)
    return found


def test_rows_of_image_ls_are_docker_s() -> None:
    one = image("host:5000/a:1", f"host:5000/a@{D}", size_bytes=1_500_000)
    (row,) = imagerows.rows(one, 3600.0, digests=True)
    assert (row["Repository"], row["Tag"], row["Digest"], row["Size"]) == ("host:5000/a", "1", D, "1.5MB")
    assert row["CreatedSince"] == "About an hour ago"
    assert row["CreatedAt"] == "1970-01-01 00:00:00 +0000 UTC"
    (row,) = imagerows.rows(image(digest=f"a@{D}"), 0.0, digests=False)
    assert (row["Repository"], row["Tag"], row["Digest"]) == ("a", "<none>", D)
    (row,) = imagerows.rows(image(), 0.0, digests=False)
    assert (row["Repository"], row["Tag"]) == ("<none>", "<none>")


@pytest.mark.parametrize(
    ("pattern", "names", "match"),
    [
        ("a", ["a:1"], True),
        ("a:*", ["a:1"], True),
        ("a:2", ["a:1"], False),
        ("*", ["team/a:1"], False),
        ("*/a", ["team/a:1"], True),
        ("host:5000/a", ["host:5000/a:1"], True),
        ("[ab]:?", ["b:1"], True),
        ("a.b", ["axb:1"], False),
    ],
)
def test_patterns_of_references(pattern: str, names: list[str], match: bool) -> None:
    assert imagerows.matches(pattern, names) is match


def test_filters_of_image_ls() -> None:
    images = [image("a:1", built=10), image(built=20), image("b:1", built=30)]

    def shown(filters: dict[str, list[str]], before: int | None = None, after: int | None = None) -> list[Any]:
        return [list(one.references) for one in imagerows.wanted(images, filters, before, after)]

    assert shown({}) == [["b:1"], [], ["a:1"]]
    assert shown({"dangling": ["true"]}) == [[]]
    assert shown({"reference": ["a", "b:*"]}) == [["b:1"], ["a:1"]]
    assert shown({}, before=30_000_000_000, after=10_000_000_000) == [[]]
    assert imagerows.canonical("redis") == "docker.io/library/redis:latest"
    assert imagerows.canonical("h:5/x@" + D) == "h:5/x@" + D


@pytest.mark.parametrize(
    ("line", "config"),
    [
        ("CMD nginx -g x", {"Cmd": ["/bin/sh", "-c", "nginx -g x"]}),
        ('HEALTHCHECK CMD ["probe", "-q"]', {"Healthcheck": {"Test": ["CMD", "probe", "-q"]}}),
        (
            "healthcheck --interval=1m30s --timeout=500ms --retries=4 CMD curl -f x || exit 1",
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "curl -f x || exit 1"],
                    "Interval": 90_000_000_000,
                    "Timeout": 500_000_000,
                    "Retries": 4,
                }
            },
        ),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        ("ONBUILD RUN make", {"OnBuild": ["RUN make"]}),
    ],
)
def test_instructions_that_change_an_image(line: str, config: dict[str, Any]) -> None:
    assert config_of([line]) == config


@pytest.mark.parametrize(
    "line",
    [
        "HEALTHCHECK",
        "HEALTHCHECK probe",
        "HEALTHCHECK --retries=x CMD a",
        "HEALTHCHECK --every=1s CMD a",
        "HEALTHCHECK --interval=soon CMD a",
        "HEALTHCHECK --interval=1s NONE",
        "FROM a",
        "CMD [1]",
    ],
)
def test_instructions_that_are_none(line: str) -> None:
    with pytest.raises(ImageError, match="change"):
        config_of([line])
