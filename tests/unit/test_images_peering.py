"""Images from other nodes: who is sent where, and what comes of nodes that die, are silent, or send something else."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.manager.routing.holders import WAVE, Holders, waves
from pycompose.proto.v1 import image_pb2
from pycompose.worker.images import ImageStore, intake
from pycompose.worker.images.errors import BadAnswer, CutOff, ImageNotFound
from pycompose.worker.images.peering import Offer, Peering
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.spreading import Holder, Spreading, sent_on

A, B, C, D = (Holder(name, f"10.0.0.{number}:7422") for number, name in enumerate("abcd"))


def test_one_is_served_whole_two_on_the_way_and_the_others_are_sent_to_them() -> None:
    def asked(serving: dict[Holder, int], *, whole: bool, insist: bool = False) -> Holder | None:
        return sent_on(serving, D, whole=whole, insist=insist, asked_before=0)

    assert asked({}, whole=True) is None
    assert asked({A: 1}, whole=True) == A
    assert asked({A: 1}, whole=False) is None
    assert asked({A: 1, B: 1}, whole=False) == A
    assert asked({A: 1, B: 1}, whole=False, insist=True) is None
    assert asked({D: 1}, whole=True) is None  # a call of its own that was cut
    assert sent_on({A: 1, B: 1}, D, whole=False, insist=False, asked_before=1) == B


@given(st.integers(2, 200))
def test_whoever_comes_finds_a_place_in_a_tree_that_is_not_deep(count: int) -> None:
    nodes = [Holder(str(number), "") for number in range(count)]
    below: dict[Holder, dict[Holder, int]] = {node: {} for node in nodes}
    turns = dict.fromkeys(nodes, 0)
    deepest = 0
    for node in nodes[1:]:
        at, depth = nodes[0], 1
        while (
            other := sent_on(below[at], node, whole=at == nodes[0], insist=False, asked_before=turns[at])
        ) is not None:
            turns[at] += 1
            at, depth = other, depth + 1
        below[at][node] = 1
        deepest = max(deepest, depth)
    assert len(below[nodes[0]]) == 1
    assert deepest <= 2 + count.bit_length()


@given(st.lists(st.sampled_from(list(map(str, range(200))))), st.sets(st.sampled_from(list(map(str, range(200))))))
def test_every_node_that_answers_is_asked_once(likely: list[str], everyone: set[str]) -> None:
    asked = [node for wave in waves(likely, sorted(everyone)) for node in wave]
    assert sorted(asked) == sorted(everyone)
    assert all(len(wave) <= WAVE for wave in waves(likely, sorted(everyone)))


class Asked(Holders):
    """Nodes that answer after a while: seconds, and when the image was named there (None: it is not there)."""

    def __init__(self, answers: dict[str, tuple[float, int | None]]) -> None:
        self.answers = answers
        self._workers = self  # type: ignore[assignment]

    def using(self, reference: str) -> list[str]:
        return []

    def answering(self) -> list[str]:
        return sorted(self.answers)

    def holder(self, node_id: str) -> image_pb2.Holder:
        return image_pb2.Holder(node_id=node_id)

    async def _named_at(self, node_id: str, reference: str) -> int | None:
        seconds, when = self.answers[node_id]
        await asyncio.sleep(seconds)
        return when


def test_a_slow_node_is_waited_for_unless_another_has_the_image() -> None:
    def found(answers: dict[str, tuple[float, int | None]]) -> list[str]:
        return [one.node_id for one in asyncio.run(Asked(answers).of("app"))]

    assert found({"a": (0, 1), "b": (0.01, 3), "c": (0, None), "d": (0, 2)}) == ["b", "d", "a"]
    assert found({"a": (0, None), "b": (1.0, 3)}) == ["b"]
    assert found({"a": (0, 1), "b": (3600, 3)}) == ["a"]
    assert found({"a": (0, None)}) == []


# A node that fetches from others that are stores of this process.


@dataclass
class Others:
    """The other nodes; `spoil` says what a node does at its next blob: "cut", "hang", "lie" or "more"."""

    nodes: dict[Holder, Spreading]
    store: ImageStore
    caller: Holder = D
    spoil: dict[Holder, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def find(self, image_id: str) -> list[Holder]:
        return [one for one in self.nodes if one != self.caller]

    async def offer(self, holder: Holder, image_id: str) -> Offer:
        image = self.store.require(image_id)
        config = self.store.blobs.read(image.id)
        if "offer" in self.spoil.get(holder, ()):
            config = b'{"other": 1}'
        return Offer(self.store.manifest(image).raw, config, {"docker.io/library/big:latest": 5})

    async def blob(
        self, holder: Holder, digest: str, offset: int, *, insist: bool
    ) -> AsyncGenerator[bytes | Holder, None]:
        self.asked.append((holder.node_id, offset))
        spreading = self.nodes[holder]
        todo = self.spoil.get(holder, [])
        how = todo.pop(0) if todo else ""
        try:
            other = spreading.elsewhere(digest, self.caller, insist=insist)
            if other is not None:
                yield other
                return
            async for piece in spreading.send(digest, offset, self.caller):
                yield bytes(len(piece)) if how == "lie" else piece
                if how == "more":
                    yield bytes(100 << 20)
                if how == "cut":
                    raise CutOff(f"{holder.address}: Socket closed")
                if how == "hang":
                    await asyncio.sleep(3600)
        except ImageNotFound as error:
            raise CutOff(str(error)) from None


SIZE = 5 << 20


async def made(folder: Path) -> tuple[ImageStore, str]:
    """A store with an image of one layer that is not compressed, and the image's id."""
    store = ImageStore(folder)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("ballast")
        info.size = SIZE
        archive.addfile(info, io.BytesIO(hashlib.shake_128(b"seed").digest(SIZE)))
    image = await intake.import_root(store, io.BytesIO(out.getvalue()), "big", {})
    return store, image.id


def peering(folder: Path, others: Others, silent_seconds: float = 60.0) -> Peering:
    """The node that fetches: it asks in the order of the names, so that a test knows whom."""
    store = ImageStore(folder)
    return Peering(store, Shared(), Spreading(store.blobs), others, sorted, silent_seconds)


@pytest.mark.parametrize("how", ["cut", "hang", "more"])
def test_a_node_that_fails_is_left_and_the_next_goes_on_from_the_byte_that_is_there(tmp_path: Path, how: str) -> None:
    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        others = Others({A: Spreading(source.blobs), B: Spreading(source.blobs)}, source, spoil={A: [how]})
        own = peering(tmp_path / "own", others, 0.5 if how == "hang" else 60.0)
        image = await own.fetch(image_id)
        assert image is not None
        assert image.references == ("big:latest",)
        assert image.named["big:latest"] == 5
        assert (own.store.layers(image_id)[0] / "ballast").stat().st_size == SIZE
        assert [node for node, _ in others.asked] == ["a", "b"]
        assert others.asked[1][1] == 1 << 20

    asyncio.run(run())


def test_content_with_another_digest_is_never_kept_and_a_right_node_is_asked(tmp_path: Path) -> None:
    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        others = Others({A: Spreading(source.blobs), B: Spreading(source.blobs)}, source, spoil={A: ["lie"]})
        own = peering(tmp_path / "own", others)
        assert await own.fetch(image_id) is not None
        assert [node for node, _ in others.asked] == ["a", "b"]
        liars = Others({A: Spreading(source.blobs)}, source, spoil={A: ["lie"] * 9})
        deceived = peering(tmp_path / "deceived", liars)
        with pytest.raises(BadAnswer, match=A.address):
            await deceived.fetch(image_id)
        assert deceived.store.find(image_id) is None
        assert not list((tmp_path / "deceived" / "blobs" / "sha256").iterdir())

    asyncio.run(run())


def test_an_offer_that_is_not_what_was_asked_for_is_passed_over(tmp_path: Path) -> None:
    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        others = Others({A: Spreading(source.blobs)}, source, spoil={A: ["offer"]})
        assert await peering(tmp_path / "own", others).fetch(image_id) is None

    asyncio.run(run())


def test_nodes_that_fail_again_and_again_are_given_up_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycompose.worker.images.peering.PAUSES", (0.0,))

    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        empty = ImageStore(tmp_path / "empty")
        others = Others({A: Spreading(empty.blobs)}, source)
        with pytest.raises(CutOff, match=r"no node sends layer .* whole .*: .* is not on this node"):
            await peering(tmp_path / "own", others).fetch(image_id)

    asyncio.run(run())


def test_what_comes_is_given_on_while_it_comes_and_the_source_sends_it_once(tmp_path: Path) -> None:
    """Seven nodes want an image at the same moment."""

    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        root = Spreading(source.blobs)
        nodes = [Holder(f"n{number}", f"10.0.1.{number}:7422") for number in range(7)]
        table = {A: root}
        fetching = []
        for node in nodes:
            others = Others(table, source, caller=node)
            own = peering(tmp_path / node.node_id, others)
            others.find = lambda _: asyncio.sleep(0, [A])  # type: ignore[method-assign,assignment]
            table[node] = own.spreading
            fetching.append(own.fetch(image_id))
        images = await asyncio.gather(*fetching)
        assert all(image is not None for image in images)
        blob = source.manifest(source.require(image_id)).layers[0].size
        assert root.sent_bytes < 2 * blob
        assert sum(one.sent_bytes for one in table.values()) < 8 * blob
        assert not any(one.serving or one.growing for one in table.values())

    asyncio.run(run())


def test_names_come_along_unless_this_node_gave_them_to_another_image_later(tmp_path: Path) -> None:
    async def run() -> None:
        source, image_id = await made(tmp_path / "source")
        others = Others({A: Spreading(source.blobs)}, source)
        own = peering(tmp_path / "own", others)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w"):
            pass
        mine = await intake.import_root(own.store, io.BytesIO(archive.getvalue()), "big", {})
        image = await own.fetch(image_id)
        assert image is not None
        assert image.references == ()
        assert own.store.require("big").id == mine.id
        assert json.loads((tmp_path / "own" / "index.json").read_text())["images"].keys() == {mine.id, image_id}

    asyncio.run(run())
